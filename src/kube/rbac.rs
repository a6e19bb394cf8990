//! Who may do what, as small as it can be: what the code asks API servers for, as roles. What is read of every cluster
//! follows from the kinds that are watched; what is written stands here beside its reason. Pure.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use serde_json::{Value, json};

use super::kinds::MCS_GROUP;
use super::manifest::Manifest;
use super::watch::{OF_ALL, OF_PRIMARY};
use crate::model::object::ObjectKind;

/// Where Causeway's own objects live unless told otherwise.
pub const NAMESPACE: &str = "causeway-system";
/// The service account by which a sub-cluster is read, and its role.
pub const READER: &str = "causeway-reader";
/// The service account of the control plane in the primary, and its role.
pub const CONTROL_PLANE: &str = "causeway";
/// The role by which clusters are given what others have. Where it is not bound, they are only read.
const SYNC_DOWN: &str = "causeway-sync-down";
/// The role by which the control plane finds kubeconfigs.
const KUBECONFIGS: &str = "causeway-kubeconfigs";

const CAUSEWAY: &str = "causeway.dev";
/// What a watch asks for.
const WATCHED: &[&str] = &["list", "watch"];
const READ: &[&str] = &["get", "list", "watch"];
/// What is done with objects that Causeway makes.
const MADE: &[&str] = &["get", "list", "watch", "create", "update", "delete"];

/// Something that the control plane does on the primary beside watching.
struct Right {
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

/// What is done on the primary beside watching what is watched everywhere.
const ON_PRIMARY: &[Right] = &[
    // What became of what users ask for.
    Right {
        group: CAUSEWAY,
        resources: &["clusteraccesses/status", "clusterinfos/status", "policies/status", "vippools/status"],
        verbs: &["patch"],
    },
    // The pods of each access, in objects of Causeway's own beside those of users.
    Right {
        group: CAUSEWAY,
        resources: &["endpointsnapshots"],
        verbs: &["list", "watch", "create", "patch", "delete"],
    },
    Right { group: CAUSEWAY, resources: &["endpointsnapshots/status"], verbs: &["patch"] },
    // The ledger: creating one is what allocates; where the address has one already, it is looked at.
    Right {
        group: CAUSEWAY,
        resources: &["virtualips"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Right { group: CAUSEWAY, resources: &["virtualips/status"], verbs: &["patch"] },
    // `publish.serviceStatus`: published VIPs in the Service's `status.loadBalancer`.
    Right { group: "", resources: &["services/status"], verbs: &["patch"] },
    // `publish.dnsEndpoint`: published VIPs for ExternalDNS.
    Right {
        group: "externaldns.k8s.io",
        resources: &["dnsendpoints"],
        verbs: &["list", "watch", "create", "patch", "delete"],
    },
];

/// What is done on every cluster that is given names, VIPs and pods of others (`down`).
const DOWN: &[Right] = &[
    // Which namespaces there are, and which ask for Services.
    Right { group: "", resources: &["namespaces"], verbs: WATCHED },
    Right { group: CAUSEWAY, resources: &["endpointsnapshots"], verbs: MADE },
    Right { group: CAUSEWAY, resources: &["endpointsnapshots/status"], verbs: &["patch"] },
    Right { group: MCS_GROUP, resources: &["serviceimports"], verbs: MADE },
    Right { group: MCS_GROUP, resources: &["serviceimports/status"], verbs: &["patch"] },
    // What became of exports.
    Right { group: MCS_GROUP, resources: &["serviceexports/status"], verbs: &["patch"] },
    // Only in namespaces that ask for them, by the label causeway.dev/sync-services.
    Right { group: "", resources: &["services"], verbs: MADE },
    Right { group: "discovery.k8s.io", resources: &["endpointslices"], verbs: MADE },
];

/// The API group and the plural of a kind that is watched.
fn resource_of(kind: ObjectKind) -> (&'static str, &'static str) {
    match kind {
        ObjectKind::Node => ("", "nodes"),
        ObjectKind::Service => ("", "services"),
        ObjectKind::Pod => ("", "pods"),
        ObjectKind::EndpointSlice => ("discovery.k8s.io", "endpointslices"),
        ObjectKind::ClusterInfo => (CAUSEWAY, "clusterinfos"),
        ObjectKind::VipPool => (CAUSEWAY, "vippools"),
        ObjectKind::ClusterAccess => (CAUSEWAY, "clusteraccesses"),
        ObjectKind::EndpointSnapshot => (CAUSEWAY, "endpointsnapshots"),
        ObjectKind::Policy => (CAUSEWAY, "policies"),
        ObjectKind::ServiceExport => (MCS_GROUP, "serviceexports"),
    }
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let texts = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(texts(resources)),
        verbs: texts(verbs),
        ..PolicyRule::default()
    }
}

/// What is read of every cluster: the kinds that are watched, which cluster it is, and its version.
fn read_of_all() -> Vec<PolicyRule> {
    let mut rules = vec![
        PolicyRule { resource_names: Some(vec!["kube-system".to_owned()]), ..rule("", &["namespaces"], &["get"]) },
        PolicyRule {
            non_resource_urls: Some(vec!["/version".to_owned()]),
            verbs: vec!["get".to_owned()],
            ..PolicyRule::default()
        },
    ];
    rules.extend(watched(&OF_ALL));
    rules
}

/// The kinds as rules, those of one group together.
fn watched(kinds: &[ObjectKind]) -> Vec<PolicyRule> {
    let mut by_group: Vec<(&str, Vec<&str>)> = Vec::new();
    for (group, plural) in kinds.iter().map(|kind| resource_of(*kind)) {
        match by_group.iter_mut().find(|(known, _)| *known == group) {
            Some((_, plurals)) => plurals.push(plural),
            None => by_group.push((group, vec![plural])),
        }
    }
    by_group.into_iter().map(|(group, plurals)| rule(group, &plurals, WATCHED)).collect()
}

fn on_primary() -> Vec<PolicyRule> {
    let mut rules = read_of_all();
    // What is written is watched too, and has its verbs together.
    let rights: Vec<PolicyRule> =
        ON_PRIMARY.iter().map(|right| rule(right.group, right.resources, right.verbs)).collect();
    let is_covered = |kind: &ObjectKind| {
        let (group, plural) = resource_of(*kind);
        ON_PRIMARY.iter().any(|right| {
            right.group == group
                && right.resources.contains(&plural)
                && WATCHED.iter().all(|verb| right.verbs.contains(verb))
        })
    };
    let rest: Vec<ObjectKind> = OF_PRIMARY.iter().filter(|kind| !is_covered(kind)).copied().collect();
    rules.extend(watched(&rest));
    rules.extend(rights);
    rules
}

fn named(manifest: Manifest) -> Manifest {
    manifest.labelled("app.kubernetes.io/name", "causeway")
}

/// The namespace of Causeway's objects.
pub fn namespace(name: &str) -> Manifest {
    named(Manifest::of::<Namespace>(name, json!({})))
}

fn subject(account: &str, namespace: &str) -> Value {
    json!([{ "kind": "ServiceAccount", "namespace": namespace, "name": account }])
}

fn role_ref(kind: &str, name: &str) -> Value {
    json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name })
}

/// Only who asks for a token gets one: pods of that account are not given one.
fn account(name: &str, namespace: &str) -> Manifest {
    let data = json!({ "automountServiceAccountToken": false });
    named(Manifest::of::<ServiceAccount>(name, data).within(namespace))
}

fn cluster_role(name: &str, rules: &[PolicyRule]) -> Manifest {
    named(Manifest::of::<ClusterRole>(name, json!({ "rules": rules })))
}

fn cluster_role_for(account: &str, namespace: &str, rules: &[PolicyRule]) -> [Manifest; 2] {
    let binding = json!({ "roleRef": role_ref("ClusterRole", account), "subjects": subject(account, namespace) });
    [cluster_role(account, rules), named(Manifest::of::<ClusterRoleBinding>(account, binding))]
}

/// The credential of a sub-cluster: it reads what is served, and by a role of its own writes what comes down. Without the
/// namespace.
pub fn sub_cluster(namespace: &str) -> Vec<Manifest> {
    let mut manifests = vec![account(READER, namespace)];
    manifests.extend(cluster_role_for(READER, namespace, &read_of_all()));
    manifests.extend(down_role(READER, namespace));
    manifests
}

fn down_role(account: &str, namespace: &str) -> [Manifest; 2] {
    let rules: Vec<PolicyRule> = DOWN.iter().map(|right| rule(right.group, right.resources, right.verbs)).collect();
    let binding = json!({ "roleRef": role_ref("ClusterRole", SYNC_DOWN), "subjects": subject(account, namespace) });
    [cluster_role(SYNC_DOWN, &rules), named(Manifest::of::<ClusterRoleBinding>(SYNC_DOWN, binding))]
}

/// The control plane's own identity in the primary. Without the namespace.
pub fn primary(namespace: &str) -> Vec<Manifest> {
    let mut manifests = vec![account(CONTROL_PLANE, namespace)];
    manifests.extend(cluster_role_for(CONTROL_PLANE, namespace, &on_primary()));
    manifests.extend(down_role(CONTROL_PLANE, namespace));
    // Only of this namespace: what lies in others is not Causeway's.
    let kubeconfigs = json!({ "rules": [
        rule("", &["configmaps", "secrets"], WATCHED),
        // Components of policies.
        rule("", &["configmaps"], &["get"]),
    ] });
    manifests.push(named(Manifest::of::<Role>(KUBECONFIGS, kubeconfigs).within(namespace)));
    let binding = json!({ "roleRef": role_ref("Role", KUBECONFIGS), "subjects": subject(CONTROL_PLANE, namespace) });
    manifests.push(named(Manifest::of::<RoleBinding>(KUBECONFIGS, binding).within(namespace)));
    manifests
}

/// What users of namespaces get, as parts of Kubernetes' own roles `view`, `edit` and `admin`.
pub fn users() -> Vec<Manifest> {
    const CHANGE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
    let part_of = |manifest: Manifest, roles: &[&str]| {
        roles.iter().fold(manifest, |manifest, role| {
            manifest.labelled(&format!("rbac.authorization.k8s.io/aggregate-to-{role}"), "true")
        })
    };
    let all = ["clusteraccesses", "clusterinfos", "endpointsnapshots", "policies", "vippools", "virtualips"];
    vec![
        part_of(cluster_role("causeway-view", &[rule(CAUSEWAY, &all, READ)]), &["view", "edit", "admin"]),
        part_of(cluster_role("causeway-edit", &[rule(CAUSEWAY, &["clusteraccesses"], CHANGE)]), &["edit", "admin"]),
        // By itself, so that it can be taken away: an entry with an address leads traffic to wherever that is, and for
        // that reason Kubernetes' own `edit` may not write EndpointSlices (CVE-2021-25740).
        part_of(
            cluster_role("causeway-edit-snapshots", &[rule(CAUSEWAY, &["endpointsnapshots"], CHANGE)]),
            &["edit", "admin"],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(manifest: &Manifest) -> Vec<PolicyRule> {
        serde_json::from_value(manifest.object.data["rules"].clone()).unwrap()
    }

    fn of<'a>(manifests: &'a [Manifest], kind: &str) -> &'a Manifest {
        manifests.iter().find(|manifest| manifest.resource.kind == kind).unwrap()
    }

    fn names(rule: &PolicyRule, resource: &str) -> bool {
        rule.resources.iter().flatten().any(|named| named == resource)
    }

    #[test]
    fn a_sub_clusters_credential_reads_no_secrets_and_writes_nothing() {
        let manifests = sub_cluster(NAMESPACE);
        assert!(manifests.iter().all(|manifest| manifest.resource.kind != "Role"));
        for rule in rules(of(&manifests, "ClusterRole")) {
            assert!(rule.verbs.iter().all(|verb| ["get", "list", "watch"].contains(&verb.as_str())), "{rule:?}");
            assert!(!["secrets", "configmaps", "*"].iter().any(|resource| names(&rule, resource)), "{rule:?}");
        }
    }

    #[test]
    fn the_control_plane_reads_secrets_of_its_own_namespace_only() {
        let manifests = primary("elsewhere");
        assert!(
            rules(of(&manifests, "ClusterRole"))
                .iter()
                .all(|rule| !names(rule, "secrets") && !names(rule, "configmaps"))
        );
        let role = of(&manifests, "Role");
        assert_eq!(role.namespace(), Some("elsewhere"));
        assert!(rules(role).iter().any(|rule| names(rule, "secrets") && rule.verbs == WATCHED));
    }

    #[test]
    fn whatever_is_watched_may_be_watched() {
        let may = |rules: &[PolicyRule], kind: ObjectKind| {
            let (group, plural) = resource_of(kind);
            rules.iter().any(|rule| {
                rule.api_groups.iter().flatten().any(|known| known == group)
                    && names(rule, plural)
                    && WATCHED.iter().all(|verb| rule.verbs.iter().any(|known| known == verb))
            })
        };
        let reader = rules(of(&sub_cluster(NAMESPACE), "ClusterRole"));
        let control_plane = rules(of(&primary(NAMESPACE), "ClusterRole"));
        for kind in OF_ALL {
            assert!(may(&reader, kind) && may(&control_plane, kind), "{kind:?}");
        }
        for kind in OF_PRIMARY {
            assert!(may(&control_plane, kind) && !may(&reader, kind), "{kind:?}");
        }
    }
}
