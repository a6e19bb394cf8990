//! What `deploy/` holds for people to apply is what the code says, and what API servers take.

use causeway::kube::crd;
use serde_json::Value;

use super::setup::install_crds;
use crate::golden::check_file;
use crate::support::apiserver::{ApiServer, Etcd, shared};
use crate::support::fleet::causeway;

#[test]
fn the_definitions_in_deploy_are_current() {
    let kustomization = include_str!("../../../deploy/crds/Kustomization");
    for definition in crd::all() {
        let plural = &definition.spec.names.plural;
        check_file(&format!("deploy/crds/{plural}.yaml"), &serde_yaml_ng::to_string(&definition).unwrap());
        assert!(kustomization.contains(&format!("- {plural}.yaml\n")), "deploy/crds/Kustomization lacks {plural}.yaml");
    }
}

pub fn printed(arguments: &[&str]) -> String {
    let output = causeway().args(arguments).output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("YAML")
}

#[test]
fn the_roles_in_deploy_are_current() {
    for (path, which) in [("primary/rbac", "primary"), ("primary/users", "users"), ("sub-cluster/rbac", "sub-cluster")]
    {
        check_file(&format!("deploy/kustomize/{path}.yaml"), &printed(&["rbac", which]));
    }
}

/// Applies a folder of `deploy/kustomize`, as the README says it; gives what kubectl says.
fn apply(server: &ApiServer, folder: &str) -> String {
    let path = format!("{}/deploy/kustomize/{folder}", env!("CARGO_MANIFEST_DIR"));
    let output = server.kubectl_with(&["apply", "--server-side", "-k", &path], "");
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && errors.is_empty(), "{folder}: {errors}\n{out}");
    out.into_owned()
}

fn may(server: &ApiServer, who: &str, what: &str) -> bool {
    let who = format!("--as={who}");
    let arguments: Vec<&str> = ["auth", "can-i"].into_iter().chain(what.split(' ')).chain([who.as_str()]).collect();
    String::from_utf8_lossy(&server.kubectl_with(&arguments, "").stdout).trim() == "yes"
}

#[test]
fn the_kustomizations_apply_to_api_servers() {
    let etcd: &'static Etcd = Box::leak(Box::new(Etcd::start()));
    let server = ApiServer::start("kustomized", etcd);
    let said = apply(&server, "primary");
    for object in [
        "namespace/causeway-system",
        "customresourcedefinition.apiextensions.k8s.io/clusterinfos.causeway.dev",
        "deployment.apps/causeway",
        "persistentvolumeclaim/causeway-data",
        "service/causeway",
    ] {
        assert!(said.contains(&format!("{object} serverside-applied")), "{object}: {said}");
    }
    // Again, and a sub-cluster's beside it: nothing is in the way of the other.
    apply(&server, "primary");
    apply(&server, "sub-cluster");
    let said = apply(&server, "member");
    assert!(said.contains("deployment.apps/causeway-member serverside-applied"), "{said}");

    // The strictest of Kubernetes' pod security standards takes such pods.
    server.kubectl(&["create", "namespace", "strict"]);
    server.kubectl(&["label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted"]);
    for (name, account) in [("causeway", "causeway"), ("causeway-member", "causeway-reader")] {
        let text = server.kubectl(&["-n", "causeway-system", "get", "deployment", name, "-o", "json"]);
        let deployment: Value = serde_json::from_str(&text).unwrap();
        let pod = &deployment["spec"]["template"];
        assert_eq!(pod["spec"]["containers"][0]["image"], format!("causeway:{}", env!("CARGO_PKG_VERSION")));
        assert_eq!(pod["spec"]["serviceAccountName"], account);
        let mut alone = pod.clone();
        alone["apiVersion"] = "v1".into();
        alone["kind"] = "Pod".into();
        alone["metadata"]["name"] = name.into();
        let create = ["-n", "strict", "create", "--dry-run=server", "-f", "-"];
        let output = server.kubectl_with(&create, &alone.to_string());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        alone["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
        let output = server.kubectl_with(&create, &alone.to_string());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("violates PodSecurity"), "the standard is not enforced: {errors}");
    }

    let own = "system:serviceaccount:causeway-system:causeway";
    for what in [
        "watch pods -A",
        "watch clusterinfos.causeway.dev",
        "patch clusterinfos.causeway.dev --subresource=status",
        "create virtualips.causeway.dev",
        "patch endpointsnapshots.causeway.dev -A",
        "patch services -A --subresource=status",
        "list secrets -n causeway-system",
        "watch configmaps -n causeway-system",
    ] {
        assert!(may(&server, own, what), "{what}");
    }
    for what in [
        "list secrets -A",
        "list configmaps -n default",
        "get secrets -n causeway-system",
        "create secrets -n causeway-system",
        "patch services -A",
        "create pods -A",
        "patch clusterinfos.causeway.dev",
        "delete clusteraccesses.causeway.dev -A",
        "list namespaces",
    ] {
        assert!(!may(&server, own, what), "{what}");
    }
}

/// The only one of several documents.
fn deployment(text: &str) -> Value {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .find(|object: &Value| object["kind"] == "Deployment")
        .expect("a Deployment")
}

#[test]
fn the_control_planes_flags_in_deploy_are_ones_that_it_takes() {
    let deployment = deployment(include_str!("../../../deploy/kustomize/primary/control-plane.yaml"));
    let dir = tempfile::tempdir().unwrap();
    let address = || crate::support::free_addr().to_string();
    let flags: Vec<String> = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|flag| flag.as_str().unwrap())
        .map(|flag| match flag.split_once('=') {
            Some(("--data-dir", _)) => format!("--data-dir={}", dir.path().display()),
            Some((name @ ("--xds-addr" | "--dns-addr"), _)) => format!("{name}={}", address()),
            _ => flag.to_owned(),
        })
        .chain([format!("--admin-addr={}", address())])
        .collect();
    let output = causeway().args(&flags).output().expect("the binary runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains("this is no pod with a service account"), "{errors}");
}

#[test]
fn the_members_flags_in_deploy_are_ones_that_it_takes() {
    let deployment = deployment(include_str!("../../../deploy/kustomize/member/member.yaml"));
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let flags = container["args"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap());
    let output = causeway().args(flags).output().expect("the binary runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains("/etc/causeway/member.yaml: "), "{errors}");
}

#[test]
fn users_of_a_namespace_work_with_accesses_and_snapshots_there() {
    let server = shared(0);
    install_crds(server);
    server.apply(&printed(&["rbac", "users"]));
    let namespace = server.namespace("users");
    for role in ["view", "edit", "edit-snapshots"] {
        let (binding, role) = (format!("causeway-{role}"), format!("--clusterrole=causeway-{role}"));
        let user = if role.ends_with("view") { "--user=viewer" } else { "--user=editor" };
        server.kubectl(&["-n", &namespace, "create", "rolebinding", &binding, &role, user]);
    }
    let in_own = |what: &str| format!("{what} -n {namespace}");
    for kind in ["clusteraccesses.causeway.dev", "endpointsnapshots.causeway.dev"] {
        assert!(may(server, "viewer", &in_own(&format!("list {kind}"))), "{kind}");
        for verb in ["create", "update", "patch", "delete"] {
            let what = format!("{verb} {kind}");
            assert!(may(server, "editor", &in_own(&what)), "{what}");
            assert!(!may(server, "viewer", &in_own(&what)), "{what}");
            assert!(!may(server, "editor", &format!("{what} -n default")), "{what}");
            assert!(!may(server, "editor", &in_own(&format!("{what} --subresource=status"))), "{what}");
        }
    }
    assert!(!may(server, "editor", "create virtualips.causeway.dev"));
    // Kubernetes' own roles have them where its controllers run.
    let text = server.kubectl(&["get", "clusterrole", "causeway-edit", "-o", "jsonpath={.metadata.labels}"]);
    assert!(text.contains("rbac.authorization.k8s.io/aggregate-to-edit"), "{text}");
}
