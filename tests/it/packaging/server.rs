//! What is in `deploy/`, given to a real API server by kubectl and by Helm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::chart::ALL;
use super::kustomize::monitored;
use crate::support::apiserver::{ApiServer, Room};
use crate::support::built;
use crate::support::helm::{CHART, on};

/// Installs the Prometheus operator's own definition.
fn install_service_monitors(server: &ApiServer) {
    let path = built("tests/prometheus-operator/definitions.sh").join("monitoring.coreos.com_servicemonitors.yaml");
    server.apply(&fs::read_to_string(path).expect("the module has it"));
    wait_established(server, "servicemonitors.monitoring.coreos.com");
}

fn wait_established(server: &ApiServer, definition: &str) {
    let definition = format!("crd/{definition}");
    server.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &definition]);
}

/// Applies a folder, without a warning; then nothing is left that would change.
fn apply(server: &ApiServer, folder: &Path) {
    let folder = folder.to_str().expect("a path");
    for arguments in [
        &["apply", "--server-side", "--warnings-as-errors", "-k", folder][..],
        &["diff", "--server-side", "-k", folder],
    ] {
        let output = server.kubectl_with(arguments, "");
        let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {errors}\n{out}");
    }
}

fn get(server: &ApiServer, namespace: &str, kind: &str, name: &str) -> Option<Value> {
    let output = server.kubectl_with(&["-n", namespace, "get", kind, name, "-o", "json"], "");
    output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// Whether a namespace with this pod security standard takes the pods of a DaemonSet or Deployment.
fn is_taken(server: &ApiServer, standard: &str, owner: &Value) -> Result<(), String> {
    let mut pod = owner["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("one");
    let output = server.kubectl_with(&["-n", standard, "create", "--dry-run=server", "-f", "-"], &pod.to_string());
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn the_kustomizations_apply_without_a_warning_and_change_nothing_the_second_time() {
    let _room = Room::take(1);
    let server = ApiServer::start_own("packaged");
    install_service_monitors(server);
    let deploy = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize");
    for folder in ["primary", "sub-cluster", "member", "gateway"] {
        apply(server, &deploy.join(folder));
    }
    let monitored = monitored();
    apply(server, monitored.path());
    assert!(get(server, "causeway-system", "servicemonitor", "causeway").is_some());

    for standard in ["restricted", "baseline", "privileged"] {
        let label = format!("pod-security.kubernetes.io/enforce={standard}");
        server.kubectl(&["create", "namespace", standard]);
        server.kubectl(&["label", "namespace", standard, &label]);
    }
    for name in ["causeway", "causeway-member"] {
        let deployment = get(server, "causeway-system", "deployment", name).expect("it is applied");
        assert_eq!(is_taken(server, "restricted", &deployment), Ok(()), "{name}");
    }
    // The nodes' network is what only `privileged` allows; but for that the gateway is as strict as the others.
    let mut gateway = get(server, "causeway-gateway", "daemonset", "causeway-gateway").expect("it is applied");
    assert_eq!(is_taken(server, "privileged", &gateway), Ok(()));
    let refused = is_taken(server, "baseline", &gateway).expect_err("it is on the nodes' network");
    assert!(refused.contains("host namespaces (hostNetwork=true)"), "{refused}");
    let pod = &mut gateway["spec"]["template"]["spec"];
    pod["hostNetwork"] = json!(false);
    for container in pod["containers"].as_array_mut().expect("containers") {
        for probe in ["readinessProbe", "livenessProbe"] {
            container.as_object_mut().expect("a container").remove(probe);
        }
    }
    assert_eq!(is_taken(server, "restricted", &gateway), Ok(()));
    server.stop();
    server.etcd().stop();
}

const NAMESPACE: &str = "fleet";
const COLUMNS: &str = "/spec/versions/0/additionalPrinterColumns";

/// The chart of an earlier version, whose definition of ClusterInfos lacks its columns. It is whole, as packaged ones are.
fn older_chart() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let copied = Command::new("cp").args(["-rL", CHART]).arg(dir.path()).status().expect("cp runs");
    assert!(copied.success(), "cp");
    let path = dir.path().join("causeway/files/crds/clusterinfos.yaml");
    let mut definition: Value =
        serde_yaml_ng::from_str(&fs::read_to_string(&path).expect("it is there")).expect("YAML");
    definition["spec"]["versions"][0].as_object_mut().expect("a version").remove("additionalPrinterColumns");
    fs::write(&path, serde_yaml_ng::to_string(&definition).expect("YAML")).expect("it is written");
    dir
}

fn helm(server: &ApiServer, verb: &[&str], settings: &[&str]) -> String {
    let set = settings.iter().flat_map(|setting| ["--set", *setting]);
    let arguments: Vec<&str> = verb.iter().copied().chain(["--namespace", NAMESPACE]).chain(set).collect();
    on(server.kubeconfig(), &arguments)
}

#[test]
fn a_release_is_installed_upgraded_and_taken_away_and_leaves_what_users_have() {
    let _room = Room::take(1);
    let server = ApiServer::start_own("chart");
    install_service_monitors(server);
    let all = [ALL, &["serviceMonitor.enabled=false"]].concat();
    helm(server, &["install", "causeway", CHART, "--create-namespace", "--dry-run=server"], &all);
    assert!(get(server, NAMESPACE, "deployment", "causeway").is_none(), "that was only a trial");

    let older = older_chart();
    let older = older.path().join("causeway");
    let install = ["install", "causeway", older.to_str().expect("a path"), "--create-namespace"];
    let said = helm(server, &install, &["serviceMonitor.enabled=true"]);
    assert!(said.contains("kind: ClusterInfo") && said.contains("causeway.dev/xds: client"), "{said}");
    wait_established(server, "clusterinfos.causeway.dev");
    let own = format!("system:serviceaccount:{NAMESPACE}:causeway");
    for (namespace, may) in [(NAMESPACE, "yes"), ("default", "no")] {
        let arguments = ["auth", "can-i", "list", "secrets", "-n", namespace, "--as", &own];
        let output = server.kubectl_with(&arguments, "");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), may, "secrets in {namespace}");
    }
    server.apply(
        "apiVersion: causeway.dev/v1alpha1\nkind: ClusterInfo\nmetadata: {name: primary}\n\
         spec: {role: Primary, network: flat}\n",
    );

    let columns = |server: &ApiServer| {
        let definition = get(server, NAMESPACE, "crd", "clusterinfos.causeway.dev").expect("it is there");
        definition.pointer(COLUMNS).is_some()
    };
    assert!(!columns(server), "the older version has none");
    helm(server, &["upgrade", "causeway", CHART], &all);
    assert!(columns(server), "definitions are upgraded");
    let service = get(server, NAMESPACE, "service", "causeway").expect("it is there");
    let ports = service["spec"]["ports"].as_array().expect("ports");
    assert!(ports.iter().any(|port| port["port"] == 18443), "{service}");
    for (kind, name) in
        [("daemonset", "causeway-gateway"), ("pdb", "causeway-gateway"), ("networkpolicy", "causeway-member")]
    {
        assert!(get(server, NAMESPACE, kind, name).is_some(), "{kind} {name}");
    }
    // What is switched off goes.
    assert!(get(server, NAMESPACE, "servicemonitor", "causeway").is_none());

    helm(server, &["uninstall", "causeway"], &[]);
    assert!(get(server, NAMESPACE, "deployment", "causeway").is_none());
    assert!(get(server, NAMESPACE, "clusterrole", "causeway").is_none());
    assert!(get(server, NAMESPACE, "clusterinfo", "primary").is_some(), "what users wrote stays");
    assert!(get(server, NAMESPACE, "pvc", "causeway-data").is_some(), "the ledger stays");
    // And can be taken up again.
    helm(server, &["install", "causeway", CHART], &["primary.storage.className=fast"]);
    server.stop();
    server.etcd().stop();
}
