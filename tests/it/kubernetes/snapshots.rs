//! `causeway snapshot`, with the binary on a real API server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::Value;

use super::setup::install_crds;
use crate::support::apiserver::{ApiServer, shared};
use crate::support::fleet::causeway;

/// A namespace of the API server, and the command in it.
struct At {
    server: &'static ApiServer,
    namespace: String,
}

impl At {
    fn new() -> Self {
        let server = shared(0);
        install_crds(server);
        Self { server, namespace: server.namespace("snapshots") }
    }

    fn with_editor(&self, editor: &str, arguments: &[&str]) -> Output {
        causeway()
            .arg("snapshot")
            .args(arguments)
            .args(["-n", &self.namespace, "--kubeconfig"])
            .arg(self.server.kubeconfig())
            .env("KUBE_EDITOR", editor)
            .output()
            .expect("the binary runs")
    }

    fn done(&self, arguments: &[&str]) -> String {
        self.edited("false", arguments)
    }

    fn edited(&self, editor: &str, arguments: &[&str]) -> String {
        let output = self.with_editor(editor, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.with_editor("false", arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let errors = String::from_utf8(output.stderr).expect("text");
        println!("{}", errors.trim_end());
        (output.status.code().expect("it ended"), errors)
    }

    fn spec(&self, name: &str) -> Value {
        let text = self.server.kubectl(&["-n", &self.namespace, "get", "endpointsnapshot", name, "-o", "json"]);
        serde_json::from_str::<Value>(&text).expect("JSON")["spec"].clone()
    }
}

const VM: &str = "name=vm-1,address=10.1.2.3,port=http:8080,weight=3,zone=a";

#[test]
fn entries_are_made_shown_changed_and_deleted() {
    let at = At::new();
    let title = format!("endpointsnapshot.causeway.dev/vm in {}", at.namespace);
    let made =
        at.done(&["create", "vm", "--access", "checkout", "--cluster", "east", "--pod", VM, "--pod", "name=p-2,drain"]);
    assert_eq!(made, format!("{title} created\n"));
    let spec = at.spec("vm");
    assert_eq!(
        (&spec["owner"], &spec["access"], &spec["cluster"]),
        (&"User".into(), &"checkout".into(), &"east".into())
    );
    let pod = serde_json::json!({ "name": "vm-1", "addresses": ["10.1.2.3"], "ports": { "http": 8080 }, "weight": 3, "zone": "a" });
    assert_eq!(spec["pods"], serde_json::json!([pod, { "name": "p-2", "drain": true }]));

    at.done(&["create", "idle", "--access", "cart", "--pod", "name=a,address=fd00::3"]);
    let table = at.done(&["get"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let heads = ["NAME", "OWNER", "ACCESS", "CLUSTER", "PODS", "READY", "DRAINING", "VIPS", "AGE"];
    assert_eq!(lines[0], heads);
    assert_eq!(lines[1][..8], ["idle", "User", "cart", "<none>", "1", "1", "0", "<none>"]);
    assert_eq!(lines[2][..8], ["vm", "User", "checkout", "east", "2", "1", "1", "<none>"]);
    assert_eq!(
        at.done(&["get", "-o", "name", "--access", "checkout"]),
        format!("endpointsnapshot.causeway.dev/{}\n", "vm")
    );
    assert_eq!(at.done(&["get", "-o", "name", "--cluster", "west"]), "");
    assert_eq!(at.done(&["get", "-o", "name", "--owner", "system"]), "");
    let pods = at.done(&["get", "vm", "--pods", "--no-headers"]);
    let lines: Vec<Vec<&str>> = pods.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["vm", "vm-1", "east", "10.1.2.3", "http:8080", "true", "false", "3", "a"]);
    assert_eq!(lines[1], ["vm", "p-2", "east", "<none>", "<none>", "true", "true", "<none>", "<none>"]);
    let objects: Vec<Value> = serde_json::from_str(&at.done(&["get", "-o", "json"])).unwrap();
    assert_eq!(objects[1]["spec"]["pods"][0]["weight"], 3);

    assert_eq!(at.done(&["edit", "vm", "--pod", "vm-1", "--weight", "9", "--drain"]), format!("{title} edited\n"));
    assert_eq!(at.done(&["edit", "vm", "--pod", "vm-1", "--weight", "9"]), format!("{title} unchanged\n"));
    at.done(&["edit", "vm", "--pod", "p-2", "--remove"]);
    at.done(&["edit", "vm", "--pod", "p-3", "--add", "--ready=false"]);
    let pods = at.spec("vm")["pods"].clone();
    assert_eq!((&pods[0]["weight"], &pods[0]["drain"]), (&9.into(), &true.into()));
    assert_eq!(pods[1], serde_json::json!({ "name": "p-3", "ready": false }));

    assert_eq!(at.done(&["delete", "vm", "idle"]).lines().count(), 2);
    assert_eq!(at.done(&["get", "-o", "name"]), "");
}

#[test]
fn an_editor_opens_until_the_entry_is_accepted() {
    let at = At::new();
    at.done(&["create", "vm", "--access", "checkout", "--pod", VM]);
    assert!(at.edited("true", &["edit", "vm"]).contains("unchanged"));
    assert!(at.edited("sed -i 's/weight: 3/weight: 7/'", &["edit", "vm"]).contains("edited"));
    assert_eq!(at.spec("vm")["pods"][0]["weight"], 7);

    // Three tries: a field that is not known, a value that the API server refuses, and at last a good one.
    let dir = tempfile::tempdir().unwrap();
    let (script, seen) = (dir.path().join("editor"), dir.path().join("seen"));
    let text = format!(
        "#!/bin/sh\ncat \"$1\" >> {0}\nif ! grep -q wieght \"$1\" && ! grep -q 'not accepted' \"$1\"; then sed -i s/weight/wieght/ \
         \"$1\"\nelif grep -q 'wieght: 7' \"$1\"; then sed -i 's/^\\(.*\\)wieght: 7/\\1weight: 5000/' \"$1\"\nelse sed -i 's/weight: \
         5000/weight: 8/' \"$1\"; fi\n",
        seen.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(at.edited(&script.display().to_string(), &["edit", "vm"]).contains("edited"));
    assert_eq!(at.spec("vm")["pods"][0]["weight"], 8);
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("unknown field `wieght`"), "{seen}");
    assert!(seen.contains("# endpointsnapshot.causeway.dev/vm:") && seen.contains("1000"), "{seen}");

    // Whoever gives up is told where the text is.
    let output = at.with_editor("sed -i 's/weight: 8/weight: many/'", &["edit", "vm"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("what was written is in "), "{errors}");
    let (code, errors) = at.refused(&["edit", "vm"]);
    assert!(
        code == 1 && errors.contains("the editor `false` ended with") && errors.contains("KUBE_EDITOR"),
        "{errors}"
    );
}

#[test]
fn files_of_entries_are_made() {
    let at = At::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("entries.yaml");
    let entry = |name: &str| {
        format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: EndpointSnapshot\nmetadata: {{name: {name}}}\nspec: {{access: a, pods: [{{name: p}}]}}\n"
        )
    };
    fs::write(&file, entry("one") + "---\n" + &entry("two")).unwrap();
    let file = file.display().to_string();
    let printed = at.done(&["create", "-f", &file, "--dry-run"]);
    assert_eq!(printed.matches("kind: EndpointSnapshot").count(), 2);
    assert_eq!(at.done(&["create", "-f", &file]).lines().count(), 2);
    let (_, errors) = at.refused(&["create", "-f", &file]);
    assert!(errors.contains("already there") && errors.contains("causeway snapshot edit one"), "{errors}");
}

#[test]
fn what_is_wrong_is_told_with_its_remedy() {
    let at = At::new();
    at.server.apply(&format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: EndpointSnapshot\nmetadata: {{namespace: {}, name: ours}}\nspec: {{owner: System, access: \
         checkout, service: checkout, cluster: east, pods: [{{name: p-1, addresses: [10.1.1.1]}}]}}\n",
        at.namespace
    ));
    at.done(&["create", "vm", "--access", "checkout", "--pod", VM]);
    let remedy = format!(
        "causeway snapshot create NAME -n {} --access checkout --service checkout --cluster east --pod name=p-1,weight=5",
        at.namespace
    );
    let cases: [(&[&str], i32, &[&str]); 14] = [
        (&["edit", "ours", "--pod", "p-1", "--weight", "5"], 1, &["is Causeway's own, which restores it", &remedy]),
        (&["edit", "ours"], 1, &["is Causeway's own, which restores it", "--pod name=POD,drain"]),
        (&["delete", "ours"], 1, &["would be made again", "ClusterAccess"]),
        (&["edit", "vm", "--pod", "nobody", "--drain"], 1, &["it has no pod `nobody`, but vm-1", "--add"]),
        (&["edit", "vm", "--pod", "vm-1"], 2, &["nothing is said to change"]),
        (&["edit", "vm", "--weight", "3"], 2, &["--pod"]),
        (&["edit", "vm", "--pod", "vm-1", "--weight", "0"], 2, &["1..=1000"]),
        (&["edit", "nothing"], 1, &["endpointsnapshot.causeway.dev/nothing in ", "not found"]),
        (&["delete", "nothing"], 1, &["not found"]),
        (&["get", "nothing"], 1, &["not found"]),
        (&["create", "vm", "--access", "a", "--pod", "name=p"], 1, &["already there", "causeway snapshot edit vm"]),
        (&["create", "b", "--access", "a", "--pod", "name=p,port=x"], 2, &["--pod name=p,port=x", "port=http:8080"]),
        (&["create", "b", "--access", "Not Good", "--pod", "name=p"], 1, &["spec.access", "ClusterAccess"]),
        (
            &["create", "b", "--access", "a", "--pod", "name=p,address=224.0.0.1"],
            1,
            &["spec.pods[0].addresses[0]", "unicast"],
        ),
    ];
    for (arguments, code, parts) in cases {
        let (found, errors) = at.refused(arguments);
        assert_eq!(found, code, "{arguments:?}: {errors}");
        for part in parts {
            assert!(errors.contains(part), "{arguments:?}: {part}: {errors}");
        }
    }
    // The remedy is a command that works.
    let arguments: Vec<&str> =
        remedy.split(' ').skip(2).filter(|word| *word != "-n" && *word != at.namespace).collect();
    let arguments: Vec<&str> = arguments.iter().map(|&word| if word == "NAME" { "mine" } else { word }).collect();
    at.done(&arguments);
    assert_eq!(at.spec("mine")["pods"][0]["weight"], 5);
}
