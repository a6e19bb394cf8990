//! An API server as a person's command talks to it: with the kubeconfig that kubectl would use, one request after
//! another, and with errors that name the object and say what to do.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{Cluster, Config, KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, Status};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::connect;
use super::down;
use super::join::Address;
use super::manifest::{Manifest, title};

/// As whom commands write.
pub const MANAGER: &str = "causeway-cli";

/// Which of the clusters that a command talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Where Causeway's objects live.
    Primary,
    /// One that is read.
    Sub,
}

impl Who {
    /// The flag that names its kubeconfig.
    pub fn flag(self) -> &'static str {
        match self {
            Who::Primary => "--kubeconfig",
            Who::Sub => "--sub-kubeconfig",
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Who::Primary => "the primary",
            Who::Sub => "the sub-cluster",
        })
    }
}

/// Which API server is meant, as kubectl's flags say it.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Which cluster it is.
    pub who: Who,
    /// The file; else `KUBECONFIG`, else `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// The context; else the current one.
    pub context: Option<String>,
    /// How long each answer is waited for.
    pub patience: Duration,
}

/// What became of an object that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there before.
    Created,
    /// It differs from what was there before.
    Configured,
    /// It was there as it should be.
    Unchanged,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Created => "created",
            Outcome::Configured => "configured",
            Outcome::Unchanged => "unchanged",
        })
    }
}

/// Why a request did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The kubeconfig makes no sense.
    Kubeconfig,
    /// There is no such object.
    NotFound,
    /// The API server does not know the kind.
    KindUnknown,
    /// There is such an object already.
    Exists,
    /// Somebody else changed the object meanwhile.
    Conflict,
    /// The user may not.
    Forbidden,
    /// The API server does not know the user.
    Unauthorized,
    /// The API server does not take the object.
    Invalid,
    /// There is no answer.
    Unreachable,
    /// Something else.
    Other,
}

/// A request that did not succeed, for people.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}{}{remedy}", if remedy.is_empty() { "" } else { "; " })]
pub struct ApiError {
    /// Why.
    pub reason: Reason,
    /// What is wrong, with the object's name.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// A token of a service account.
pub struct Token {
    /// The token itself.
    pub text: String,
    /// When it ends; it may be sooner than was asked for.
    pub expires_at: Timestamp,
}

/// An API server.
pub struct ApiServer {
    client: Client,
    who: Who,
    patience: Duration,
    /// The namespace that the kubeconfig's context says; `default` where it says none.
    pub namespace: String,
    /// Where it is, as its own kubeconfig says; `None` inside a pod of the cluster.
    pub address: Option<Address>,
}

impl ApiServer {
    /// Reads the kubeconfig. Nothing is sent yet.
    ///
    /// # Errors
    /// Where it cannot be read or makes no sense.
    pub async fn open(choice: &Choice) -> Result<Self, ApiError> {
        let flag = choice.who.flag();
        let wrong = |error: &dyn fmt::Display| ApiError {
            reason: Reason::Kubeconfig,
            message: match &choice.kubeconfig {
                Some(path) => format!("{flag} {}: {error}", path.display()),
                None => format!("the kubeconfig of {}: {error}", choice.who),
            },
            remedy: format!("name one with {flag}"),
        };
        let file = match &choice.kubeconfig {
            Some(path) => Kubeconfig::read_from(path).map(Some).map_err(|error| wrong(&error))?,
            // A pod has none, but a service account.
            None if choice.context.is_none() => Kubeconfig::read().ok(),
            None => Kubeconfig::read().map(Some).map_err(|error| wrong(&error))?,
        };
        let options = KubeConfigOptions { context: choice.context.clone(), ..KubeConfigOptions::default() };
        let (mut config, address) = match file {
            Some(file) => {
                let address = address(&file, choice.context.as_ref()).map_err(|error| wrong(&error))?;
                let config = Config::from_custom_kubeconfig(file, &options).await.map_err(|error| wrong(&error))?;
                (config, address)
            }
            None => (Config::infer().await.map_err(|error| wrong(&error))?, None),
        };
        config.connect_timeout = Some(choice.patience);
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| wrong(&error))?;
        Ok(Self { client, who: choice.who, patience: choice.patience, namespace, address })
    }

    /// Where it is, for people.
    pub fn shown(&self) -> String {
        let place = self.address.as_ref().map(|address| format!(" ({})", address.server)).unwrap_or_default();
        format!("{}{place}", self.who)
    }

    /// By which the cluster is told from others: `metadata.uid` of its namespace `kube-system`.
    ///
    /// # Errors
    /// Where it is not told.
    pub async fn uid(&self) -> Result<String, ApiError> {
        let found = self.get::<Namespace>(None, "kube-system").await?;
        Ok(found.and_then(|namespace| namespace.uid()).unwrap_or_default())
    }

    /// Makes the object what the manifest says, by server-side apply; other fields stay as they are.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub async fn apply(&self, manifest: &Manifest) -> Result<Outcome, ApiError> {
        let api = self.api(&manifest.resource, manifest.namespace());
        let params = PatchParams::apply(MANAGER).force();
        let before = self.ask(&manifest.title(), &manifest.resource, api.get_opt(manifest.name())).await?;
        let patch = Patch::Apply(&manifest.object);
        let after =
            self.ask(&manifest.title(), &manifest.resource, api.patch(manifest.name(), &params, &patch)).await?;
        let is_same = before.map(|before| said(before) == said(after));
        Ok(match is_same {
            None => Outcome::Created,
            Some(true) => Outcome::Unchanged,
            Some(false) => Outcome::Configured,
        })
    }

    /// Makes an object that must not be there yet.
    ///
    /// # Errors
    /// [`Reason::Exists`] where it is there, or where the API server refuses.
    pub async fn create(&self, manifest: &Manifest) -> Result<(), ApiError> {
        let api = self.api(&manifest.resource, manifest.namespace());
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.ask(&manifest.title(), &manifest.resource, api.create(&params, &manifest.object)).await?;
        Ok(())
    }

    /// Replaces an object by what was made of it; its `resourceVersion` says of what.
    ///
    /// # Errors
    /// [`Reason::Conflict`] where it changed meanwhile, or where the API server refuses.
    pub async fn replace(&self, manifest: &Manifest) -> Result<Outcome, ApiError> {
        let Manifest { resource, object } = manifest;
        let api = self.api(resource, manifest.namespace());
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let after = self.ask(&manifest.title(), resource, api.replace(manifest.name(), &params, object)).await?;
        let is_same = after.resource_version() == object.resource_version();
        Ok(if is_same { Outcome::Unchanged } else { Outcome::Configured })
    }

    /// Deletes an object; says whether it was there.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub async fn delete<K: Resource<DynamicType = ()>>(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<bool, ApiError> {
        self.delete_of(&ApiResource::erase::<K>(&()), namespace, name).await
    }

    /// Deletes the object that a manifest names; says whether it was there.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub async fn remove(&self, manifest: &Manifest) -> Result<bool, ApiError> {
        self.delete_of(&manifest.resource, manifest.namespace(), manifest.name()).await
    }

    /// Deletes all that came down from other clusters (`down`); says how much of which kind.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub async fn remove_what_came_down(&self) -> Result<Vec<(String, usize)>, ApiError> {
        let mut removed = Vec::new();
        for resource in down::Kind::ALL.into_iter().flat_map(down::Kind::resources) {
            let api = self.api(&resource, None);
            let what = format!("{}.{}", resource.plural, resource.group);
            let labelled = ListParams::default().labels(&format!("{}=true", down::LABEL));
            let list = match self.ask(&what, &resource, api.list(&labelled)).await {
                Err(error) if error.reason == Reason::KindUnknown => continue,
                answer => answer?,
            };
            let mut count = 0;
            for object in list.items {
                let name = object.name_any();
                count += usize::from(self.delete_of(&resource, object.namespace().as_deref(), &name).await?);
            }
            if count > 0 {
                removed.push((what.trim_end_matches('.').to_owned(), count));
            }
        }
        Ok(removed)
    }

    /// The object that a manifest names, as the API server has it, with whatever this version does not know.
    ///
    /// # Errors
    /// Where it is not told.
    pub async fn whole(&self, manifest: &Manifest) -> Result<Option<DynamicObject>, ApiError> {
        self.get_of(&manifest.resource, manifest.namespace(), manifest.name()).await
    }

    /// A label of the object that a manifest names, if it is there.
    ///
    /// # Errors
    /// Where it is not told.
    pub async fn label(&self, manifest: &Manifest, key: &str) -> Result<Option<String>, ApiError> {
        Ok(self.whole(manifest).await?.and_then(|object| object.labels().get(key).cloned()))
    }

    /// An object.
    ///
    /// # Errors
    /// Where it is not told or cannot be read.
    pub async fn get<K>(&self, namespace: Option<&str>, name: &str) -> Result<Option<K>, ApiError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let found = self.get_of(&ApiResource::erase::<K>(&()), namespace, name).await?;
        found.map(parse).transpose()
    }

    /// All objects of a kind, of one namespace or of all.
    ///
    /// # Errors
    /// Where they are not told or one cannot be read.
    pub async fn list<K>(&self, namespace: Option<&str>) -> Result<Vec<K>, ApiError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let resource = ApiResource::erase::<K>(&());
        let api = self.api(&resource, namespace);
        let list = self.ask(&resource.plural, &resource, api.list(&ListParams::default())).await?;
        list.items
            .into_iter()
            // Items of a list do not say their kind.
            .map(|mut object| {
                object.types = Some(kube::core::TypeMeta {
                    api_version: resource.api_version.clone(),
                    kind: resource.kind.clone(),
                });
                parse(object)
            })
            .collect()
    }

    /// Asks for a token of a service account that lives for about `lifetime`.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub async fn token(&self, namespace: &str, account: &str, lifetime: Duration) -> Result<Token, ApiError> {
        let resource = ApiResource::erase::<ServiceAccount>(&());
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        let spec = TokenRequestSpec { expiration_seconds: Some(seconds), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let object = format!("token of {}", title(&resource, account));
        let params = PostParams::default();
        let answer = self.ask(&object, &resource, api.create_token_request(account, &params, &request)).await?;
        let status = answer.status.ok_or_else(|| ApiError {
            reason: Reason::Other,
            message: format!("{object}: {} answers without a token", self.who),
            remedy: "is this a Kubernetes API server?".to_owned(),
        })?;
        Ok(Token { text: status.token, expires_at: status.expiration_timestamp.0 })
    }

    fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }

    async fn get_of(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<DynamicObject>, ApiError> {
        match self.ask(&title(resource, name), resource, self.api(resource, namespace).get(name)).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.reason == Reason::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete_of(&self, resource: &ApiResource, namespace: Option<&str>, name: &str) -> Result<bool, ApiError> {
        let api = self.api(resource, namespace);
        match self.ask(&title(resource, name), resource, api.delete(name, &DeleteParams::default())).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.reason, Reason::NotFound | Reason::KindUnknown) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ask<T>(
        &self,
        object: &str,
        resource: &ApiResource,
        work: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ApiError> {
        match tokio::time::timeout(self.patience, work).await {
            Ok(answer) => answer.map_err(|error| self.explain(object, resource, &error)),
            Err(_) => Err(ApiError {
                reason: Reason::Unreachable,
                message: format!("{} has not answered within {:?}", self.shown(), self.patience),
                remedy: "check the network to it".to_owned(),
            }),
        }
    }

    fn explain(&self, object: &str, resource: &ApiResource, error: &kube::Error) -> ApiError {
        let kube::Error::Api(status) = error else {
            let why = connect::explain(error);
            let message = format!("{} cannot be reached: {}", self.shown(), why.message);
            return ApiError { reason: Reason::Unreachable, message, remedy: why.remedy.to_owned() };
        };
        let (who, flag, told) = (self.who, self.who.flag(), &status.message);
        let (reason, message, remedy) = match status.code {
            401 => (
                Reason::Unauthorized,
                format!("{} does not accept the kubeconfig's credential: {told}", self.shown()),
                format!("log in anew, or name another kubeconfig with {flag}"),
            ),
            403 if told.contains("is being terminated") => {
                (Reason::Forbidden, format!("{object}: {told}"), "try again when it is gone".to_owned())
            }
            403 => (
                Reason::Forbidden,
                format!("{object}: {who} says: {told}"),
                format!("name the kubeconfig of somebody who may with {flag}"),
            ),
            404 if is_kind_unknown(status) => {
                let message = format!("{who} has no kind {}.{}", resource.plural, resource.group);
                let remedy = "install the definitions: `causeway crds | kubectl apply --server-side -f -`";
                (Reason::KindUnknown, message, remedy.to_owned())
            }
            404 => (Reason::NotFound, format!("{told} on {who}"), String::new()),
            409 if status.reason == "AlreadyExists" => {
                (Reason::Exists, format!("{object} is already there on {who}"), String::new())
            }
            409 => (Reason::Conflict, format!("{object}: {told}"), "try again".to_owned()),
            400 | 422 => (Reason::Invalid, format!("{object}: {told}"), String::new()),
            code => (
                Reason::Other,
                format!("{object}: {who} answers {code}: {told}"),
                "see the API server's log".to_owned(),
            ),
        };
        ApiError { reason, message, remedy }
    }
}

/// What people said of an object; its status is written by others meanwhile.
fn said(mut object: DynamicObject) -> DynamicObject {
    (object.metadata.resource_version, object.metadata.managed_fields) = (None, None);
    if let Some(fields) = object.data.as_object_mut() {
        fields.remove("status");
    }
    object
}

fn parse<K>(object: DynamicObject) -> Result<K, ApiError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let shown = title(&ApiResource::erase::<K>(&()), &object.name_any());
    object.try_parse().map_err(|error| ApiError {
        reason: Reason::Invalid,
        message: format!("{shown} cannot be read: {error}"),
        remedy: "correct it, and install this version's definitions: `causeway crds`".to_owned(),
    })
}

/// A path that is not served is answered without an object's name.
fn is_kind_unknown(status: &Status) -> bool {
    status.details.as_ref().is_none_or(|details| details.name.is_empty())
}

/// Where a kubeconfig's API server is, with the content of files.
fn address(file: &Kubeconfig, context: Option<&String>) -> Result<Option<Address>, std::io::Error> {
    let named = |name: &String| file.contexts.iter().find(|known| known.name == *name);
    let context = context.or(file.current_context.as_ref()).and_then(named).and_then(|known| known.context.as_ref());
    let cluster = context.and_then(|context| file.clusters.iter().find(|known| known.name == context.cluster));
    // Where a part is missing, whoever makes a client of it says so.
    let Some(Cluster { server: Some(server), certificate_authority, certificate_authority_data, .. }) =
        cluster.and_then(|known| known.cluster.as_ref())
    else {
        return Ok(None);
    };
    let ca = match (certificate_authority_data, certificate_authority) {
        (Some(data), _) => Some(data.clone()),
        (None, Some(path)) => Some(STANDARD.encode(std::fs::read(path)?)),
        (None, None) => None,
    };
    let cluster = cluster.and_then(|known| known.cluster.as_ref());
    Ok(Some(Address {
        server: server.clone(),
        ca,
        skips_verification: cluster.and_then(|cluster| cluster.insecure_skip_tls_verify).unwrap_or(false),
        tls_server_name: cluster.and_then(|cluster| cluster.tls_server_name.clone()),
    }))
}
