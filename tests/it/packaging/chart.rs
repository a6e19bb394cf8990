//! The chart without a cluster.

use std::process::Command;

use serde_json::Value;

use super::{containers, find, objects, pods, printed, takes, text, words};
use crate::golden::check_file;
use crate::support::envoy_binary;
use crate::support::helm::{CHART, run, template};

/// All that can be switched on.
pub(super) const ALL: &[&str] = &[
    "primary.members.enabled=true",
    "primary.extraArgs={--drain=10s}",
    "primary.store.url=postgres://causeway@db/causeway",
    "primary.store.passwordSecret.name=store",
    "primary.service.annotations.owner=net",
    "primary.storage.className=fast",
    "imagePullSecrets={registry}",
    "serviceMonitor.enabled=true",
    "serviceMonitor.labels.team=net",
    "member.enabled=true",
    "gateway.enabled=true",
    "gateway.cluster=east",
    "gateway.region=eu-1",
    "gateway.zone=a",
    "gateway.controlPlane.host=causeway.example",
    "gateway.controlPlane.port=18001",
    "gateway.localRanges={240.11.0.0/16,240.13.0.0/16}",
    "gateway.assign={240.12.0.0/24,fd00:12::/112}",
    "gateway.privilegedPorts=true",
    "gateway.tolerations[0].operator=Exists",
    "networkPolicy.xdsFrom[0].ipBlock.cidr=10.0.0.0/16",
];

#[test]
fn the_chart_is_of_this_version_and_lints() {
    let chart: Value = serde_yaml_ng::from_str(include_str!("../../../deploy/helm/causeway/Chart.yaml")).unwrap();
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field} of Chart.yaml");
    }
    for settings in [&[][..], ALL, &["primary.enabled=false"]] {
        let set = settings.iter().flat_map(|setting| ["--set", setting]);
        let arguments: Vec<&str> = ["lint", "--strict", "--quiet", CHART].into_iter().chain(set).collect();
        let output = run(&arguments);
        let said = [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat();
        assert!(output.status.success(), "{settings:?}: {said}");
    }
}

#[test]
fn values_that_are_wrong_are_refused() {
    for (setting, said) in [
        ("primry.enabled=true", "'primry' not allowed"),
        ("gateway.envoy.imag=x", "at '/gateway/envoy': additional properties 'imag' not allowed"),
        ("primary.service.type=ExternalName", "at '/primary/service/type': value must be one of"),
        ("gateway.controlPlane.port=0", "at '/gateway/controlPlane/port'"),
        ("gateway.localRanges={fd00::/112}", "at '/gateway/localRanges/0'"),
        ("primary.extraArgs={serve}", "at '/primary/extraArgs/0'"),
        ("primary.store.url=mysql://db", "at '/primary/store/url'"),
        ("serviceMonitor.interval=often", "at '/serviceMonitor/interval'"),
        ("networkPolicy.dnsFrom[0].podSelektor.a=b", "at '/networkPolicy/dnsFrom/0'"),
        ("gateway.enabled=true", "gateway.cluster: say the name of the cluster that the gateways run in"),
    ] {
        let output = run(&["template", "causeway", CHART, "--set", setting]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(said), "{setting}: {errors}");
    }
}

/// The words in capitals are those that the chart replaces.
const IN_CAPITALS: &str = "bootstrap --role gateway --node-id NODE --cluster CLUSTER --network NETWORK --region REGION \
                           --zone ZONE --xds XDS.HOST:18000";

#[test]
fn a_gateways_bootstrap_is_what_the_command_prints() {
    let words = |line: &'static str| line.split(' ').collect::<Vec<_>>();
    check_file("deploy/helm/causeway/files/bootstrap.yaml", &printed(&words(IN_CAPITALS)));

    let rendered = objects(&template("edge", ALL));
    let bootstrap = text(find(&rendered, "ConfigMap", "causeway-gateway"), "/data/envoy.yaml");
    let own =
        "bootstrap --role gateway --node-id NODE --cluster east --region eu-1 --zone a --xds causeway.example:18001";
    assert_eq!(bootstrap, printed(&words(own)));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("envoy.yaml");
    std::fs::write(&path, bootstrap).unwrap();
    let output = Command::new(envoy_binary()).args(["--mode", "validate", "-c"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let gateway = find(&rendered, "DaemonSet", "causeway-gateway");
    let envoy = &gateway["spec"]["template"]["spec"]["containers"][0];
    // Envoy's own flags; the rest of its life is not of interest here.
    let mut flags = words_of_envoy(envoy);
    flags[1] = path.to_str().unwrap().to_owned();
    let output = Command::new(envoy_binary()).args(flags).args(["--mode", "validate"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn words_of_envoy(container: &Value) -> Vec<String> {
    words(&container["args"]).into_iter().map(|word| word.replace("$(NODE_NAME)", "node-1")).collect()
}

#[test]
fn containers_have_no_more_than_they_need_and_flags_that_are_known() {
    let rendered = objects(&template("edge", ALL));
    let found = pods(&rendered);
    assert_eq!(found.len(), 3, "a control plane, a member and a gateway");
    let mut mighty = Vec::new();
    for (name, pod) in found {
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(pod["automountServiceAccountToken"], name != "causeway-gateway", "{name}");
        assert_eq!(pod["imagePullSecrets"][0]["name"], "registry", "{name}");
        for container in containers(pod) {
            let who = format!("{name}/{}", text(container, "/name"));
            let own = &container["securityContext"];
            assert_eq!(own["readOnlyRootFilesystem"], true, "{who}");
            assert_eq!(own["allowPrivilegeEscalation"], false, "{who}");
            assert_eq!(words(&own["capabilities"]["drop"]), ["ALL"], "{who}");
            assert!(container["resources"]["requests"]["memory"].is_string(), "{who}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{who}");
            let added = words(&own["capabilities"]["add"]);
            assert_eq!(own["runAsUser"] == 0, !added.is_empty(), "{who}");
            mighty.extend(added.into_iter().map(|capability| format!("{who} {capability}")));

            if text(container, "/image").starts_with("causeway:") && container["args"].is_array() {
                takes(&words(&container["args"]));
            }
            let before_its_end = words(&container["lifecycle"]["preStop"]["exec"]["command"]);
            if let Some((program, arguments)) = before_its_end.split_first() {
                assert_eq!(*program, "/usr/local/bin/causeway", "{who}");
                takes(arguments);
            }
        }
    }
    assert_eq!(
        mighty,
        [
            "causeway-gateway/local NET_ADMIN",
            "causeway-gateway/envoy NET_BIND_SERVICE",
            "causeway-gateway/agent NET_ADMIN",
        ]
    );
    let alone = objects(&template("edge", &["primary.enabled=false", "gateway.enabled=true", "gateway.cluster=east"]));
    for container in pods(&alone).into_iter().flat_map(|(_, pod)| containers(pod)) {
        assert!(container["securityContext"]["capabilities"]["add"].is_null(), "none is asked for: {container}");
    }
}
