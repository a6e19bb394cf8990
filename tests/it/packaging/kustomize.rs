//! The kustomizations are the chart with its defaults, and so they say the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{objects, text};
use crate::golden::check_file;
use crate::support::apiserver::binaries;
use crate::support::helm::template;

/// The chart's own files are links to these, so that only what is not in them is rendered.
const WITHOUT_ROLES: [&str; 2] = ["crds.install=false", "rbac.create=false"];

/// What is rendered: the file, its namespace, and which part of the chart it is.
const MEMBER: (&str, &str, &[&str]) =
    ("member/member", "causeway-system", &["primary.enabled=false", "member.enabled=true"]);
const GATEWAY: (&str, &str, &[&str]) = (
    "gateway/gateway",
    "causeway-gateway",
    &["primary.enabled=false", "gateway.enabled=true", "gateway.cluster=primary"],
);
const PRIMARY: (&str, &str, &[&str]) = ("primary/control-plane", "causeway-system", &[]);

fn with<'a>(one: &[&'a str], other: &[&'a str]) -> Vec<&'a str> {
    [one, other].concat()
}

#[test]
fn what_is_rendered_in_deploy_is_current() {
    let head = "# Rendered from the chart in deploy/helm, with its default values.\n";
    for (path, namespace, settings) in [PRIMARY, MEMBER, GATEWAY] {
        let rendered = template(namespace, &with(settings, &WITHOUT_ROLES));
        check_file(&format!("deploy/kustomize/{path}.yaml"), &format!("{head}{rendered}"));
    }
    let monitor = with(&["serviceMonitor.enabled=true", "networkPolicy.enabled=false"], &WITHOUT_ROLES);
    let rendered = template("causeway-system", &monitor);
    let documents =
        rendered.split("---\n# Source: ").filter(|text| text.starts_with("causeway/templates/service-monitor"));
    let documents: String = documents.map(|text| format!("---\n# Source: {text}")).collect();
    check_file("deploy/kustomize/components/service-monitor/service-monitor.yaml", &format!("{head}{documents}"));
}

/// What kubectl makes of a folder.
fn built(folder: &Path) -> Vec<Value> {
    let output = Command::new(binaries().join("kubectl")).arg("kustomize").arg(folder).output().expect("kubectl runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{}: {errors}", folder.display());
    objects(std::str::from_utf8(&output.stdout).expect("YAML"))
}

/// A folder with the primary's kustomization and the component for Prometheus, as a user would write it.
pub(super) fn monitored() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    // Kustomize wants other folders to be told from here.
    let up = "../".repeat(dir.path().canonicalize().expect("it is there").components().count() - 1);
    let deploy = format!("{up}{}/deploy/kustomize", env!("CARGO_MANIFEST_DIR").trim_start_matches('/'));
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{deploy}/primary]\ncomponents: \
         [{deploy}/components/service-monitor]\n"
    );
    fs::write(dir.path().join("kustomization.yaml"), text).expect("it is written");
    dir
}

/// Objects by what they are, without what only one of both has: the namespace is not the chart's, and what Helm keeps
/// when a release goes is marked for Helm. Policies of the network list their rules in any order.
fn comparable(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for mut object in objects.into_iter().filter(|object| text(object, "/kind") != "Namespace") {
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("helm.sh/resource-policy");
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
        for pointer in
            ["/spec/ingress", "/spec/template/spec/containers/0/args", "/spec/template/spec/containers/0/ports"]
        {
            if let Some(list) = object.pointer_mut(pointer).and_then(Value::as_array_mut) {
                list.sort_by_key(ToString::to_string);
            }
        }
        let name = format!(
            "{} {}/{}",
            text(&object, "/kind"),
            text(&object, "/metadata/namespace"),
            text(&object, "/metadata/name")
        );
        assert!(found.insert(name.clone(), object).is_none(), "{name} is there twice");
    }
    found
}

#[test]
fn the_chart_and_the_kustomizations_say_the_same() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize");
    let monitored = monitored();
    let monitor = with(PRIMARY.2, &["serviceMonitor.enabled=true"]);
    for (folder, namespace, settings) in [
        (deploy.join("primary"), PRIMARY.1, PRIMARY.2),
        (deploy.join("member"), MEMBER.1, MEMBER.2),
        (deploy.join("gateway"), GATEWAY.1, GATEWAY.2),
        (monitored.path().to_owned(), PRIMARY.1, &monitor),
    ] {
        let charts = comparable(objects(&template(namespace, settings)));
        let kustomized = comparable(built(&folder));
        let names = |of: &BTreeMap<String, Value>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&charts), names(&kustomized), "{}", folder.display());
        for (name, object) in charts {
            check_same(&folder, &name, &object, &kustomized[&name]);
        }
    }
}

fn check_same(folder: &Path, name: &str, chart: &Value, kustomized: &Value) {
    let pretty = |object| serde_yaml_ng::to_string(object).expect("YAML");
    let (one, other) = (pretty(chart), pretty(kustomized));
    assert!(one == other, "{name} in {}\n--- chart\n{one}\n--- kustomize\n{other}", folder.display());
}
