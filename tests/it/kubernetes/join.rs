//! `causeway cluster join`, `leave` and `list`, with the binary, and with a control plane that may only what its role says.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use causeway::kube::connect::Credential;
use serde_json::{Value, json};

use super::setup::{Setup, get, install_crds, wait_cluster};
use super::writes::DNS_ENDPOINT;
use crate::e2e::{clusterset, resolve};
use crate::support::apiserver::{ApiServer, shared};
use crate::support::fleet::{ControlPlane, causeway};
use crate::support::traffic::{self, Stream};
use crate::support::{eventually, free_addr};

const WITHIN: Duration = Duration::from_secs(30);

/// Runs `causeway cluster …` against the primary.
fn cluster(primary: &ApiServer, arguments: &[&str]) -> Output {
    causeway().arg("cluster").args(arguments).arg("--kubeconfig").arg(primary.kubeconfig()).output().expect("it runs")
}

/// The same, which must succeed; what it printed.
fn done(primary: &ApiServer, arguments: &[&str]) -> String {
    let output = cluster(primary, arguments);
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {errors}\n{out}");
    println!("{out}{errors}");
    out.into_owned()
}

fn path(server: &ApiServer) -> String {
    server.kubeconfig().display().to_string()
}

/// A service account of the primary that has exactly the control plane's roles, as a kubeconfig in a file.
pub fn as_control_plane(setup: &Setup) -> PathBuf {
    let primary = setup.primary();
    let roles = causeway().args(["rbac", "primary"]).output().expect("the binary runs").stdout;
    primary.apply(std::str::from_utf8(&roles).expect("YAML"));
    let token = primary.kubectl(&["-n", "causeway-system", "create", "token", "causeway"]);
    let file = setup.dir.path().join("control-plane.kubeconfig");
    fs::write(&file, primary.kubeconfig_for(token.trim())).expect("the kubeconfig is written");
    file
}

/// The kubeconfig that a cluster joined with.
fn joined_kubeconfig(setup: &Setup, kind: &str, name: &str) -> Option<String> {
    let get = ["-n", "causeway-system", "get", kind, name, "--output=jsonpath={.data.kubeconfig}"];
    let output = setup.primary().kubectl_with(&get, "");
    let text = output.status.success().then(|| String::from_utf8(output.stdout).expect("text"))?;
    Some(text).filter(|text| !text.is_empty())
}

/// Whether somebody may do something, in the words of `kubectl auth can-i`.
fn may(server: &ApiServer, who: &str, what: &str) -> bool {
    let mut arguments = vec!["auth", "can-i"];
    arguments.extend(what.split(' '));
    let who = format!("--as=system:serviceaccount:{who}");
    arguments.push(&who);
    let output = server.kubectl_with(&arguments, "");
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => true,
        "no" => false,
        _ => panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_join_rotate_and_leave_under_a_control_plane_with_its_role_alone() {
    let setup = Setup::unjoined(&["primary", "east", "west"]);
    setup.deploy("checkout", 2).await;
    let primary = setup.primary();
    let kubeconfig = as_control_plane(&setup).display().to_string();
    let mut plane = ControlPlane::new(setup.dir.path(), &["--kubeconfig", &kubeconfig], free_addr(), &[]);
    plane.restart();
    plane.wait_ready();
    let east = path(setup.server("east"));
    let said = done(primary, &["join", "east", "--sub-kubeconfig", &east, "--network", "flat"]);
    for line in [
        "serviceaccount/causeway-reader created",
        "clusterrole.rbac.authorization.k8s.io/causeway-reader created",
        "clusterrolebinding.rbac.authorization.k8s.io/causeway-reader created",
        "token for serviceaccount/causeway-reader created, ends ",
        "configmap/east created",
        "clusterinfo.causeway.dev/east created",
        "clusterinfo.causeway.dev/east connected v1.",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    done(
        primary,
        &["join", "west", "--sub-kubeconfig", &path(setup.server("west")), "--network", "flat", "--wait", "0"],
    );
    for name in ["primary", "east", "west"] {
        assert_eq!(wait_cluster(&plane, name, "Synced", WITHIN)["endpoints"], 2);
    }
    let _gateway = setup.gateway(&plane);
    let (to, host) = (resolve(&plane, "checkout"), clusterset("checkout"));
    let tally = traffic::send(to, &host, 60).await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(tally.answered_by("-east-") && tally.answered_by("-west-"), "{:?}", tally.answered);

    // Again, and without saying the network again: another credential, the same cluster, nothing lost on the way.
    let stream = Stream::start(to, &host, 50);
    let first = joined_kubeconfig(&setup, "configmap", "east").expect("a kubeconfig");
    let said = done(primary, &["join", "east", "--sub-kubeconfig", &east]);
    assert!(said.contains("clusterinfo.causeway.dev/east connected v1."), "{said}");
    assert!(said.contains("serviceaccount/causeway-reader unchanged"), "{said}");
    assert!(said.contains("configmap/east configured"), "{said}");
    assert!(said.contains("clusterinfo.causeway.dev/east unchanged"), "{said}");
    assert_ne!(joined_kubeconfig(&setup, "configmap", "east").expect("a kubeconfig"), first);
    let takes_over = |times: usize| {
        eventually("the new kubeconfig to take over", WITHIN, || {
            (plane.log().matches("a new kubeconfig takes over").count() >= times).then_some(())
        });
    };
    assert!(plane.log().contains("a new kubeconfig takes over"), "the one before would have answered");
    // And once more, into a Secret, from which it does not move back by itself.
    let said = done(primary, &["join", "east", "--sub-kubeconfig", &east, "--wait", "0", "--secret"]);
    assert!(
        said.contains("secret/east created") && said.contains("configmap/east in causeway-system deleted"),
        "{said}"
    );
    takes_over(2);
    done(primary, &["join", "east", "--sub-kubeconfig", &east, "--wait", "0"]);
    takes_over(3);
    assert!(joined_kubeconfig(&setup, "secret", "east").is_some());
    assert_eq!(setup.get("clusterinfo", "east").unwrap()["spec"]["network"], "flat");
    assert_eq!(wait_cluster(&plane, "east", "Synced", WITHIN)["endpoints"], 2);
    assert_eq!(stream.stop().await.failed, Vec::<String>::new());

    // One that leads nowhere is told, and the one in use stays.
    let west = path(setup.server("west"));
    let nowhere = format!("https://{}", free_addr());
    let output = cluster(primary, &["join", "west", "--sub-kubeconfig", &west, "--server", &nowhere]);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{errors}");
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("west is not connected: Unreachable: ") && errors.contains("stays in use"), "{errors}");
    assert_eq!(wait_cluster(&plane, "west", "Synced", WITHIN)["endpoints"], 2);
    done(primary, &["join", "west", "--sub-kubeconfig", &west]);

    // What the role lets it write is there for people to see.
    let table = done(primary, &["list", "--no-headers"]);
    for name in ["east", "west"] {
        assert!(table.lines().any(|line| line.starts_with(name) && line.contains("Synced")), "{name}: {table}");
    }
    let snapshots = || {
        let get = ["snapshot", "get", "-n", "shop", "--no-headers", "--owner", "System", "--kubeconfig"];
        let output = causeway().args(get).arg(primary.kubeconfig()).output().expect("the binary runs");
        String::from_utf8(output.stdout).expect("text")
    };
    eventually("the pods and the VIP of each cluster to be shown", WITHIN, || {
        let table = snapshots();
        let is_whole =
            |name: &str| table.lines().any(|line| line.contains(name) && line.contains(&to.ip().to_string()));
        ["primary", "east", "west"].into_iter().all(is_whole).then_some(())
    });
    assert_eq!(primary.kubectl(&["get", "virtualips", "-o", "name"]).lines().count(), 1);
    primary.apply(DNS_ENDPOINT);
    let wishes =
        r#"{"spec": {"hostnames": ["checkout.example.com"], "publish": {"serviceStatus": true, "dnsEndpoint": true}}}"#;
    primary.kubectl(&["-n", "shop", "patch", "clusteraccess", "checkout", "--type=merge", "-p", wishes]);
    let balanced = r#"{"spec": {"type": "LoadBalancer", "loadBalancerClass": "causeway.dev/vip"}}"#;
    primary.kubectl(&["-n", "shop", "patch", "service", "checkout", "--type=merge", "-p", balanced]);
    eventually("the Service to be told", 2 * WITHIN, || {
        let ingress = get(primary, "service", "checkout")?["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
        (ingress == to.ip().to_string()).then_some(())
    });
    eventually("ExternalDNS to be told", 2 * WITHIN, || get(primary, "dnsendpoint", "checkout"));
    primary.kubectl(&["-n", "shop", "delete", "clusteraccess", "checkout"]);
    eventually("what belongs to the access to go with it", 2 * WITHIN, || {
        (snapshots().is_empty() && primary.kubectl(&["get", "virtualips", "-o", "name"]).is_empty()).then_some(())
    });

    let said = done(primary, &["leave", "east", "--sub-kubeconfig", &east]);
    for line in [
        "clusterinfo.causeway.dev/east deleted",
        "secret/east in causeway-system deleted",
        "clusterrolebinding.rbac.authorization.k8s.io/causeway-reader deleted",
        "clusterrole.rbac.authorization.k8s.io/causeway-reader deleted",
        "serviceaccount/causeway-reader deleted",
        "namespace/causeway-system deleted",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    eventually("east to be gone", WITHIN, || plane.row("/api/v1/clusters", "name", "east").is_none().then_some(()));
    let said = done(primary, &["leave", "east", "--sub-kubeconfig", &east]);
    assert!(said.contains("clusterinfo.causeway.dev/east not found"), "{said}");
    assert_eq!(wait_cluster(&plane, "west", "Synced", WITHIN)["endpoints"], 2);
}

#[test]
fn the_credential_reads_what_is_served_and_nothing_else() {
    let setup = Setup::unjoined(&["primary", "east"]);
    let east = setup.server("east");
    done(setup.primary(), &["join", "east", "--sub-kubeconfig", &path(east), "--wait", "0", "--token-ttl", "30m"]);
    let text = joined_kubeconfig(&setup, "configmap", "east").expect("a kubeconfig");
    let credential = Credential::parse(&text).expect("one that is taken");
    assert_eq!(credential.long_lived, None);
    let left = credential.expires_at.unwrap().duration_since(jiff::Timestamp::now()).as_secs();
    assert!((1_700..=1_800).contains(&left), "{left} s");

    let file = setup.dir.path().join("joined.kubeconfig");
    fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    for readable in ["services", "pods", "endpointslices"] {
        east.kubectl(&["--kubeconfig", &file, "get", readable, "-A"]);
    }
    east.kubectl(&["--kubeconfig", &file, "get", "nodes"]);
    east.kubectl(&["--kubeconfig", &file, "get", "namespace", "kube-system"]);
    let refused = east.kubectl_with(&["--kubeconfig", &file, "get", "secrets", "-A"], "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("forbidden"), "{refused:?}");

    let reader = "causeway-system:causeway-reader";
    for what in
        ["list services -A", "watch pods -A", "watch endpointslices -A", "list nodes", "get namespaces/kube-system"]
    {
        assert!(may(east, reader, what), "{what}");
    }
    let kinds = ["secrets", "configmaps", "serviceaccounts", "roles", "deployments.apps", "leases"];
    for kind in kinds {
        for verb in ["get", "list", "watch"] {
            assert!(!may(east, reader, &format!("{verb} {kind} -A")), "{verb} {kind}");
        }
    }
    // What comes down is written, and nothing else.
    for kind in ["services", "endpointslices", "endpointsnapshots.causeway.dev"] {
        for verb in ["create", "update", "delete"] {
            assert!(may(east, reader, &format!("{verb} {kind} -A")), "{verb} {kind}");
        }
        assert!(!may(east, reader, &format!("deletecollection {kind} -A")), "{kind}");
    }
    for kind in ["pods", "nodes", "namespaces", "secrets", "pods/exec", "serviceaccounts/token"] {
        for verb in ["create", "update", "patch", "delete"] {
            assert!(!may(east, reader, &format!("{verb} {kind} -A")), "{verb} {kind}");
        }
    }
    assert!(!may(east, reader, "* * -A"));
}

/// Starts joining in the background.
fn start_join(setup: &Setup, wait: &str) -> Child {
    causeway()
        .args(["cluster", "join", "east", "--wait", wait])
        .arg("--kubeconfig")
        .arg(setup.primary().kubeconfig())
        .arg("--sub-kubeconfig")
        .arg(setup.server("east").kubeconfig())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs")
}

/// Waits until another kubeconfig than `before` is there, and says when it ends.
fn new_ending(setup: &Setup, before: Option<&String>) -> (String, String) {
    eventually("a kubeconfig", WITHIN, || {
        let text = joined_kubeconfig(setup, "configmap", "east").filter(|text| Some(text) != before)?;
        setup.get("clusterinfo", "east")?;
        let ends = Credential::parse(&text).expect("one that is taken").expires_at.expect("it ends");
        Some((text, ends.to_string()))
    })
}

/// Says of the cluster what a control plane would say.
fn say(setup: &Setup, ends: &str, accepted: (&str, &str, &str), connected: (&str, &str, &str)) {
    let condition = |kind: &str, (status, reason, message): (&str, &str, &str)| {
        json!({ "type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z" })
    };
    let conditions = [condition("CredentialAccepted", accepted), condition("Connected", connected)];
    let status = json!({ "status": {
        "state": "Synced", "credentialExpiresAt": ends, "serverVersion": "v1.35.4", "conditions": conditions,
        "counts": { "services": 3, "pods": 7, "endpoints": 8, "nodes": 2 },
    } });
    let patch = status.to_string();
    setup.primary().kubectl(&["patch", "clusterinfo", "east", "--subresource=status", "--type=merge", "-p", &patch]);
}

#[test]
fn joining_waits_for_what_the_control_plane_says() {
    let setup = Setup::unjoined(&["primary", "east"]);
    let texts = |output: &Output| {
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // Nobody says anything: that is no failure.
    let output = start_join(&setup, "1s").wait_with_output().unwrap();
    let (_, errors) = texts(&output);
    assert!(output.status.success() && errors.contains("no control plane has said anything of it yet"), "{errors}");

    let first = joined_kubeconfig(&setup, "configmap", "east");
    let joining = start_join(&setup, "60s");
    let (second, ends) = new_ending(&setup, first.as_ref());
    let refused = ("False", "Unauthorized", "the API server does not accept the credential; write another");
    say(&setup, &ends, refused, refused);
    let output = joining.wait_with_output().unwrap();
    let (_, errors) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("east is not connected: Unauthorized: the API server does not accept"), "{errors}");

    // What was said of the one before is not taken for the answer.
    let joining = start_join(&setup, "60s");
    let (_, ends) = new_ending(&setup, Some(&second));
    say(&setup, &ends, ("False", "Rehearsing", "the new kubeconfig is tried"), ("True", "Connected", ""));
    say(&setup, &ends, ("True", "InUse", ""), ("True", "Connected", ""));
    let output = joining.wait_with_output().unwrap();
    let (out, errors) = texts(&output);
    assert!(
        output.status.success() && out.contains("clusterinfo.causeway.dev/east connected v1.35.4"),
        "{out}{errors}"
    );

    // What was said is what is listed.
    let table = done(setup.primary(), &["list"]);
    let rows: BTreeMap<&str, Vec<&str>> = table
        .lines()
        .filter_map(|line| {
            Some((
                line.split_whitespace().next()?,
                line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect(),
            ))
        })
        .collect();
    let heads = ["NAME", "ROLE", "STATE", "SERVICES", "PODS", "VERSION", "KUBECONFIG", "CREDENTIAL-ENDS", "AGE"];
    assert_eq!(rows["NAME"], heads);
    assert_eq!(rows["east"][..7], ["east", "Sub", "Synced", "3", "7", "v1.35.4", "configmap/causeway-system/east"]);
    assert_eq!(rows["east"][7], "in 89d");
    assert_eq!(rows["primary"][..4], ["primary", "Primary", "<none>", "<none>"]);
    assert!(done(setup.primary(), &["list", "-o", "wide"]).contains("MESSAGE"));
    assert_eq!(done(setup.primary(), &["list", "-o", "name", "east"]), "clusterinfo.causeway.dev/east\n");
    let rows: Value = serde_json::from_str(&done(setup.primary(), &["list", "-o", "json"])).unwrap();
    assert_eq!(rows[0]["kind"], "ClusterInfo");
    assert_eq!(rows[0]["metadata"].get("managedFields"), None);
    let missing = cluster(setup.primary(), &["list", "nowhere"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("clusterinfo.causeway.dev/nowhere not found"));

    // A cluster that was made anew has another uid, and is not quietly taken for the one that it was.
    let patch = json!({ "status": { "clusterUid": "another" } }).to_string();
    setup.primary().kubectl(&["patch", "clusterinfo", "east", "--subresource=status", "--type=merge", "-p", &patch]);
    let output = start_join(&setup, "0").wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains("is another cluster: its kube-system has the uid another"), "{output:?}");
}

#[test]
fn what_cannot_join_is_told_why_and_nothing_is_made() {
    let (primary, sub) = (shared(0), shared(1));
    install_crds(primary);
    let namespace = primary.namespace("join");
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let nobody = write("nobody", &sub.kubeconfig_for("no-such-token"));
    let (own, other) = (path(primary), path(sub));
    sub.kubectl_with(&["-n", "default", "create", "serviceaccount", "powerless"], "");
    let token = sub.kubectl(&["-n", "default", "create", "token", "powerless"]);
    let powerless = write("powerless", &sub.kubeconfig_for(token.trim()));
    let address = sub.address().to_string();
    let away = write("away", &sub.kubeconfig_for("admin-token").replace(&address, &free_addr().to_string()));
    let nonsense = write("nonsense", "clusters: 3\n");
    let missing = dir.path().join("missing").display().to_string();

    let join = |name: &'static str, primary: &str, sub: &str, more: &[&str]| {
        let mut all = vec!["cluster", "join", name, "--kubeconfig", primary, "--sub-kubeconfig", sub, "-n", &namespace];
        all.extend(more);
        all.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()
    };
    let cases: Vec<(Vec<String>, i32, &[&str])> = vec![
        (join("East", &own, &other, &[]), 2, &["NAME `East` has upper case letters"]),
        (join("a.b", &own, &other, &[]), 2, &["NAME `a.b` has characters other than"]),
        (join("east", &own, &other, &["--exclude-namespace", "kube-*"]), 2, &["--exclude-namespace `kube-*`"]),
        (join("east", &own, &other, &["--network", " "]), 2, &["--network ` ` is empty"]),
        (join("east", &own, &other, &["--token-ttl", "1m"]), 2, &["--token-ttl", "at least 10m"]),
        (join("east", &own, &other, &["--server", "east:6443"]), 2, &["--server", "https://host:6443"]),
        (join("east", &own, &other, &["--secret", "--config-map"]), 2, &["cannot be used with"]),
        (vec!["cluster".to_owned(), "join".to_owned(), "east".to_owned()], 2, &["--sub-kubeconfig"]),
        (join("east", &own, &own, &[]), 1, &["lead to the same cluster", "--force"]),
        (
            join("east", &other, &own, &[]),
            1,
            &["has no kind clusterinfos.causeway.dev", "causeway crds | kubectl apply"],
        ),
        (join("east", &own, &missing, &[]), 1, &["--sub-kubeconfig", "missing", "No such file"]),
        (join("east", &own, &nonsense, &[]), 1, &["--sub-kubeconfig", "nonsense"]),
        (join("east", &own, &other, &["--sub-context", "moon"]), 1, &["moon"]),
        (join("east", &own, &nobody, &[]), 1, &["the sub-cluster (https://", "does not accept", "--sub-kubeconfig"]),
        (join("east", &own, &powerless, &[]), 1, &["namespace/kube-system", "forbidden", "--sub-kubeconfig"]),
        (join("east", &own, &away, &[]), 1, &["the sub-cluster (https://", "cannot be reached", "efused"]),
    ];
    for (arguments, code, parts) in cases {
        let output = causeway().args(&arguments).output().expect("the binary runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        println!("{}", errors.trim_end());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        for part in parts {
            assert!(errors.contains(part), "{arguments:?}: {part}: {errors}");
        }
    }
    assert_eq!(
        sub.kubectl(&["get", "namespaces", "--field-selector", &format!("metadata.name={namespace}"), "-o", "name"]),
        ""
    );
    assert_eq!(primary.kubectl(&["-n", &namespace, "get", "configmaps,secrets", "-o", "name"]), "");
}

#[test]
fn a_dry_run_prints_objects_that_an_api_server_takes() {
    let (primary, sub) = (shared(0), shared(1));
    install_crds(primary);
    let printed = done(
        primary,
        &[
            "join",
            "dry",
            "--sub-kubeconfig",
            &path(sub),
            "--dry-run",
            "-n",
            "default",
            "--zone",
            "a",
            "--server",
            "https://dry:6443",
        ],
    );
    let (of_sub, of_primary) = printed.split_once("# On the primary:").unwrap();
    assert!(of_primary.contains("server: https://dry:6443") && of_primary.contains("token: <token>"), "{of_primary}");
    for (server, text) in [(sub, of_sub), (primary, of_primary)] {
        let output = server.kubectl_with(&["apply", "--server-side", "--dry-run=server", "-f", "-"], text);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
