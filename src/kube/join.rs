//! What makes a cluster one of Causeway's: the objects that joining makes in the primary and in the sub-cluster, and how
//! it is told from a `ClusterInfo`'s status how joining went. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::apiserver::MANAGER;
use super::kinds::{ClusterInfoResource, ClusterInfoSpec, KeyRef, KubeconfigSource, StatusCondition};
use super::manifest::{Manifest, title};

/// The label by which what a command made is told from what people made.
pub const MADE_BY: &str = "app.kubernetes.io/managed-by";
/// The label that says of which cluster a kubeconfig is.
pub const CLUSTER: &str = "causeway.dev/cluster";
/// The key of a kubeconfig within its object, unless told otherwise.
const KEY: &str = "kubeconfig";

/// Where an API server is and how its certificate is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// Its URL.
    pub server: String,
    /// The certificate authority in PEM, in base64; the machine's own ones where there is none.
    pub ca: Option<String>,
    /// The certificate is not verified.
    pub skips_verification: bool,
    /// The name that the certificate is verified for, where it is not the URL's.
    pub tls_server_name: Option<String>,
}

/// The text of a kubeconfig for a cluster.
///
/// # Errors
/// None that is known: a map of texts can be said in YAML.
pub fn kubeconfig(cluster: &str, address: &Address, token: &str) -> Result<String, serde_yaml_ng::Error> {
    let mut place = BTreeMap::from([("server", json!(address.server))]);
    if address.skips_verification {
        // An API server's client refuses both at once.
        place.insert("insecure-skip-tls-verify", json!(true));
    } else if let Some(ca) = &address.ca {
        place.insert("certificate-authority-data", json!(ca));
    }
    if let Some(name) = &address.tls_server_name {
        place.insert("tls-server-name", json!(name));
    }
    let user = super::rbac::READER;
    serde_yaml_ng::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": cluster, "cluster": place }],
        "users": [{ "name": user, "user": { "token": token } }],
        "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": user } }],
        "current-context": cluster,
    }))
}

/// In which kind of object a kubeconfig lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In a ConfigMap.
    ConfigMap,
    /// In a Secret.
    Secret,
}

/// Where a kubeconfig lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// In what.
    pub store: Store,
    /// Where exactly.
    pub key: KeyRef,
}

impl Place {
    /// Where a ClusterInfo says that the kubeconfig lies, if it does.
    pub fn of(spec: &ClusterInfoSpec) -> Option<Self> {
        let source = spec.source.as_ref()?.kubeconfig.as_ref()?;
        let config_map = source.config_map_key_ref.as_ref().map(|key| (Store::ConfigMap, key));
        let (store, key) = config_map.or(source.secret_key_ref.as_ref().map(|key| (Store::Secret, key)))?;
        Some(Self { store, key: key.clone() })
    }

    /// What kubectl calls the object, with its namespace.
    pub fn title(&self) -> String {
        let kind = match self.store {
            Store::ConfigMap => "configmap",
            Store::Secret => "secret",
        };
        format!("{kind}/{} in {}", self.key.name, self.key.namespace)
    }

    /// The same in one word, for a table.
    pub fn short(&self) -> String {
        let kind = match self.store {
            Store::ConfigMap => "configmap",
            Store::Secret => "secret",
        };
        format!("{kind}/{}/{}", self.key.namespace, self.key.name)
    }

    fn source(&self) -> KubeconfigSource {
        let (config_map, secret) = match self.store {
            Store::ConfigMap => (Some(self.key.clone()), None),
            Store::Secret => (None, Some(self.key.clone())),
        };
        KubeconfigSource { config_map_key_ref: config_map, secret_key_ref: secret }
    }

    /// The object that holds this kubeconfig.
    pub fn manifest(&self, cluster: &str, kubeconfig: &str) -> Manifest {
        let KeyRef { namespace, name, key } = &self.key;
        let object = match self.store {
            Store::ConfigMap => Manifest::of::<ConfigMap>(name, json!({ "data": { key: kubeconfig } })),
            Store::Secret => {
                let data = json!({ "type": "Opaque", "data": { key: STANDARD.encode(kubeconfig) } });
                Manifest::of::<Secret>(name, data)
            }
        };
        object.within(namespace).labelled(MADE_BY, MANAGER).labelled(CLUSTER, cluster)
    }
}

/// What a sub-cluster has beside the namespace of Causeway's objects: the rights by which it is read and given what others
/// have, and the definition of what it is given.
///
/// # Errors
/// None that is known: a definition can be said in JSON.
pub fn of_sub_cluster(namespace: &str) -> Result<Vec<Manifest>, serde_json::Error> {
    let mut manifests = super::rbac::sub_cluster(namespace);
    manifests.push(Manifest::of_object(&super::crd::snapshot())?);
    Ok(manifests)
}

/// The Secret that holds what a member is given, and its key there.
pub const MEMBER: &str = "causeway-member";
const MEMBER_KEY: &str = "member.yaml";

/// The Secret of a member's file, in the sub-cluster.
pub fn member_secret(cluster: &str, namespace: &str, file: &str) -> Manifest {
    let data = json!({ "type": "Opaque", "data": { MEMBER_KEY: STANDARD.encode(file) } });
    Manifest::of::<Secret>(MEMBER, data).within(namespace).labelled(MADE_BY, MANAGER).labelled(CLUSTER, cluster)
}

/// What becomes of a kubeconfig's object when its cluster leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// There is none.
    NotThere,
    /// It holds nothing else, and goes.
    Whole,
    /// It holds other things as well, and stays.
    Shared,
}

/// What becomes of the object in which a kubeconfig lies when its cluster leaves.
pub fn of_leaving(object: Option<&DynamicObject>, place: &Place) -> Removal {
    let Some(object) = object else { return Removal::NotThere };
    let mut keys = ["data", "binaryData"].iter().filter_map(|field| object.data[field].as_object()).flatten();
    if keys.all(|(key, _)| *key == place.key.key) { Removal::Whole } else { Removal::Shared }
}

/// What is asked for when a cluster joins. What is `None` stays what an earlier joining made it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Join {
    /// The cluster's name.
    pub name: String,
    /// The network that its pods are in.
    pub network: Option<String>,
    /// The region of nodes that say none.
    pub region: Option<String>,
    /// The zone of nodes that say none.
    pub zone: Option<String>,
    /// Namespaces that are not read.
    pub excluded: Option<Vec<String>>,
    /// The namespace of its kubeconfig.
    pub namespace: Option<String>,
    /// In what its kubeconfig lies.
    pub store: Option<Store>,
}

impl Join {
    /// Where the kubeconfig will lie.
    pub fn place(&self, before: Option<&ClusterInfoResource>) -> Place {
        let before = before.and_then(|info| Place::of(&info.spec));
        let is_other = |place: &Place| {
            self.store.is_some_and(|store| store != place.store)
                || self.namespace.as_ref().is_some_and(|namespace| *namespace != place.key.namespace)
        };
        if let Some(place) = before.clone().filter(|place| !is_other(place)) {
            return place;
        }
        let known_store = before.as_ref().map(|place| place.store);
        let known_namespace = before.map(|place| place.key.namespace);
        Place {
            store: self.store.or(known_store).unwrap_or(Store::ConfigMap),
            key: KeyRef {
                namespace: self
                    .namespace
                    .clone()
                    .or(known_namespace)
                    .unwrap_or_else(|| super::rbac::NAMESPACE.to_owned()),
                name: self.name.clone(),
                key: KEY.to_owned(),
            },
        }
    }

    /// The ClusterInfo. A field that is not asked for is said again where an earlier joining said it, since what an
    /// applier no longer says is taken away; what others said stays theirs.
    pub fn cluster_info(&self, place: &Place, before: Option<&ClusterInfoResource>) -> Manifest {
        self.info_of(&json!({ "kubeconfig": place.source() }), before)
    }

    /// The same where the cluster's own manager dials in.
    pub fn pushed_info(&self, before: Option<&ClusterInfoResource>) -> Manifest {
        self.info_of(&json!({ "member": {} }), before)
    }

    fn info_of(&self, source: &Value, before: Option<&ClusterInfoResource>) -> Manifest {
        let spec = before.map(|info| &info.spec);
        let kept = |path: &[&str]| before.filter(|info| is_ours(info, path)).and(spec);
        let network = self.network.clone().or_else(|| kept(&["f:network"])?.network.clone());
        let region = || kept(&["f:locality", "f:region"])?.locality.as_ref()?.region.clone();
        let zone = || kept(&["f:locality", "f:zone"])?.locality.as_ref()?.zone.clone();
        let locality =
            json!({ "region": self.region.clone().or_else(region), "zone": self.zone.clone().or_else(zone) });
        let excluded = || kept(&["f:namespaces", "f:exclude"])?.namespaces.as_ref()?.exclude.clone();
        let excluded = self.excluded.clone().or_else(excluded);
        let mut spec = json!({
            "role": "Sub",
            "network": network,
            "locality": super::manifest::without_nulls(locality),
            "namespaces": excluded.map(|exclude| json!({ "exclude": exclude })),
            "source": source,
        });
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|_, field| field.as_object().is_none_or(|inner| !inner.is_empty()));
        }
        let data = super::manifest::without_nulls(json!({ "spec": spec }));
        Manifest::of::<ClusterInfoResource>(&self.name, data)
    }
}

/// Whether a field of the spec, as `managedFields` names it, was said by an earlier joining.
fn is_ours(info: &ClusterInfoResource, path: &[&str]) -> bool {
    info.managed_fields().iter().any(|entry| {
        let is_command = entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply");
        let fields: Option<&Value> = entry.fields_v1.as_ref().map(|fields| &fields.0);
        let found =
            fields.and_then(|fields| path.iter().try_fold(fields.get("f:spec")?, |field, part| field.get(part)));
        is_command && found.is_some()
    })
}

/// Why a cluster should not join under a name, given what else there is; `None` where nothing speaks against it.
pub fn objection(name: &str, sub_uid: &str, primary_uid: &str, infos: &[ClusterInfoResource]) -> Option<String> {
    use crate::model::object::ClusterRole;
    if sub_uid == primary_uid {
        return Some(format!(
            "--sub-kubeconfig and --kubeconfig lead to the same cluster (kube-system has the uid {sub_uid}), which is \
             read already as the primary"
        ));
    }
    let uid = |info: &ClusterInfoResource| info.status.as_ref()?.cluster_uid.clone().filter(|uid| !uid.is_empty());
    let named = infos.iter().find(|info| info.name_any() == name);
    if named.is_some_and(|info| info.spec.role == Some(ClusterRole::Primary)) {
        return Some(format!("{} is the primary", info_title(name)));
    }
    if let Some(known) = named.and_then(uid).filter(|known| known != sub_uid) {
        return Some(format!(
            "{} is another cluster: its kube-system has the uid {known}, that of --sub-kubeconfig has {sub_uid}; join \
             under another name, or `causeway cluster leave {name}` first",
            info_title(name)
        ));
    }
    let twin = infos.iter().find(|info| info.name_any() != name && uid(info).as_deref() == Some(sub_uid))?;
    Some(format!("the cluster has joined already, as {}, and its pods would count twice", twin.name_any()))
}

/// What kubectl calls a ClusterInfo.
pub fn info_title(name: &str) -> String {
    title(&kube::core::ApiResource::erase::<ClusterInfoResource>(&()), name)
}

/// What a ClusterInfo's status says of a kubeconfig that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nothing: no control plane has said anything yet.
    Silent,
    /// It is not decided.
    Trying(Said),
    /// It does not work; that may still change, since rights take a moment to be known everywhere.
    Failing(Said),
    /// It is in use.
    Connected,
}

/// A condition's reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// In CamelCase.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gap = if self.message.is_empty() { "" } else { ": " };
        write!(f, "{}{gap}{}", self.reason, self.message)
    }
}

/// Reasons for which a condition does not hold yet.
const NOT_DECIDED: [&str; 4] = ["Connecting", "NotTried", "Rehearsing", "Waiting"];

/// Reads a ClusterInfo for what it says of a kubeconfig whose credential ends at `expires_at`. `before` is what it said
/// before that was written.
pub fn word(info: &ClusterInfoResource, before: &[StatusCondition], expires_at: Option<Timestamp>) -> Word {
    let Some(status) = info.status.as_ref().filter(|status| !status.conditions.is_empty()) else {
        return Word::Silent;
    };
    let generation = info.metadata.generation.unwrap_or_default();
    let find = |kind: &str| status.conditions.iter().find(|condition| condition.kind == kind);
    let seconds = |text: &String| text.parse::<Timestamp>().ok().map(Timestamp::as_second);
    let in_use = status.credential_expires_at.as_ref().and_then(seconds);
    let is_in_use = in_use.is_some() && in_use == expires_at.map(Timestamp::as_second);
    let not_seen = Said { reason: "NotSeen".to_owned(), message: "the control plane has not read it yet".to_owned() };
    for kind in ["CredentialAccepted", "Connected"] {
        let Some(condition) = find(kind) else { return Word::Silent };
        if condition.observed_generation < generation {
            return Word::Trying(not_seen);
        }
        if condition.status == "True" {
            continue;
        }
        let said = Said { reason: condition.reason.clone(), message: condition.message.clone() };
        if NOT_DECIDED.contains(&condition.reason.as_str()) {
            return Word::Trying(said);
        }
        // Where it said the same before, it may be the kubeconfig before that it speaks of.
        return if before.contains(condition) && !is_in_use { Word::Trying(said) } else { Word::Failing(said) };
    }
    if is_in_use { Word::Connected } else { Word::Trying(not_seen) }
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
