use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};

use super::*;
use crate::kube::connect::Credential;
use crate::kube::kinds::ClusterInfoStatus;

fn join() -> Join {
    Join { name: "east".to_owned(), ..Join::default() }
}

fn info(spec: Value) -> ClusterInfoResource {
    ClusterInfoResource::new("east", serde_json::from_value(spec).unwrap())
}

/// The same, as if an earlier joining had said these fields.
fn said_by(manager: &str, fields: Value, mut info: ClusterInfoResource) -> ClusterInfoResource {
    info.metadata.managed_fields = Some(vec![ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some("Apply".to_owned()),
        fields_v1: Some(FieldsV1(json!({ "f:spec": fields }))),
        ..ManagedFieldsEntry::default()
    }]);
    info
}

fn spec(join: &Join, before: Option<&ClusterInfoResource>) -> Value {
    join.cluster_info(&join.place(before), before).object.data["spec"].clone()
}

#[test]
fn a_kubeconfig_is_one_that_the_control_plane_takes() {
    let address = Address { server: "https://east:6443".to_owned(), ca: Some("Q0E=".to_owned()), ..Address::default() };
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"iat":1700000000,"exp":1700007200}"#);
    let text = kubeconfig("east", &address, &format!("x.{claims}.y")).unwrap();
    let credential = Credential::parse(&text).unwrap();
    assert_eq!(credential.expires_at.map(Timestamp::as_second), Some(1_700_007_200));
    assert_eq!(credential.long_lived, None);
    assert!(text.contains("certificate-authority-data: Q0E="), "{text}");
    let blind = Address { skips_verification: true, tls_server_name: Some("kube".to_owned()), ..address };
    let text = kubeconfig("east", &blind, "t").unwrap();
    assert!(!text.contains("certificate-authority") && text.contains("insecure-skip-tls-verify: true"), "{text}");
    assert!(text.contains("tls-server-name: kube"), "{text}");
}

#[test]
fn a_first_joining_says_only_what_is_asked_for() {
    let place = json!({ "kubeconfig": { "configMapKeyRef": { "namespace": "causeway-system", "name": "east", "key": "kubeconfig" } } });
    assert_eq!(spec(&join(), None), json!({ "role": "Sub", "source": place }));
    let full = Join {
        network: Some("flat".to_owned()),
        zone: Some("a".to_owned()),
        excluded: Some(vec!["kube-system".to_owned()]),
        store: Some(Store::Secret),
        namespace: Some("keys".to_owned()),
        ..join()
    };
    let expected = json!({
        "role": "Sub", "network": "flat", "locality": { "zone": "a" }, "namespaces": { "exclude": ["kube-system"] },
        "source": { "kubeconfig": { "secretKeyRef": { "namespace": "keys", "name": "east", "key": "kubeconfig" } } },
    });
    assert_eq!(spec(&full, None), expected);
}

#[test]
fn joining_again_keeps_what_was_said_and_leaves_what_others_said_to_them() {
    let there = json!({
        "role": "Sub", "network": "flat", "locality": { "region": "eu", "zone": "a" }, "namespaces": { "exclude": ["x"] },
        "source": { "kubeconfig": { "secretKeyRef": { "namespace": "keys", "name": "all", "key": "east" } } },
    });
    let fields = json!({ "f:network": {}, "f:locality": { "f:zone": {} }, "f:namespaces": { "f:exclude": {} } });
    let ours = said_by(MANAGER, fields.clone(), info(there.clone()));
    let again = spec(&join(), Some(&ours));
    assert_eq!(again["network"], "flat");
    assert_eq!(again["locality"], json!({ "zone": "a" }));
    assert_eq!(again["namespaces"], json!({ "exclude": ["x"] }));
    assert_eq!(again["source"], there["source"]);
    let other = spec(&Join { network: Some("n2".to_owned()), ..join() }, Some(&ours));
    assert_eq!(other["network"], "n2");
    let theirs = said_by("kubectl", fields, info(there));
    assert_eq!(spec(&join(), Some(&theirs)).as_object().unwrap().keys().collect::<Vec<_>>(), ["role", "source"]);
}

#[test]
fn a_kubeconfig_moves_only_where_that_is_asked_for() {
    let secret = json!({ "namespace": "keys", "name": "all", "key": "east" });
    let before = info(json!({ "source": { "kubeconfig": { "secretKeyRef": secret } } }));
    let short = |join: Join| {
        let place = join.place(Some(&before));
        format!("{}#{}", place.short(), place.key.key)
    };
    assert_eq!(short(join()), "secret/keys/all#east");
    assert_eq!(short(Join { store: Some(Store::Secret), ..join() }), "secret/keys/all#east");
    assert_eq!(short(Join { store: Some(Store::ConfigMap), ..join() }), "configmap/keys/east#kubeconfig");
    assert_eq!(short(Join { namespace: Some("n".to_owned()), ..join() }), "secret/n/east#kubeconfig");
}

#[test]
fn an_object_goes_with_its_only_kubeconfig() {
    let place = join().place(None);
    let of = |data: Value| place.manifest("east", "text").object.data(json!({ "data": data }));
    assert_eq!(of_leaving(None, &place), Removal::NotThere);
    assert_eq!(of_leaving(Some(&of(json!({ "kubeconfig": "x" }))), &place), Removal::Whole);
    assert_eq!(of_leaving(Some(&of(json!({}))), &place), Removal::Whole);
    assert_eq!(of_leaving(Some(&of(json!({ "kubeconfig": "x", "west": "y" }))), &place), Removal::Shared);
}

#[test]
fn clusters_that_are_here_already_are_objected_to() {
    let with_uid = |name: &str, role: &str, uid: &str| {
        let mut info = info(json!({ "role": role }));
        info.metadata.name = Some(name.to_owned());
        info.status = Some(ClusterInfoStatus { cluster_uid: Some(uid.to_owned()), ..ClusterInfoStatus::default() });
        info
    };
    let infos = [with_uid("primary", "Primary", "u0"), with_uid("east", "Sub", "u1"), with_uid("new", "Sub", "")];
    for (name, uid, part) in [
        ("west", "u0", "lead to the same cluster"),
        ("primary", "u9", "is the primary"),
        ("east", "u2", "is another cluster"),
        ("west", "u1", "joined already, as east"),
    ] {
        let why = objection(name, uid, "u0", &infos).unwrap();
        assert!(why.contains(part), "{name} {uid}: {why}");
    }
    for (name, uid) in [("east", "u1"), ("west", "u2"), ("new", "u2")] {
        assert_eq!(objection(name, uid, "u0", &infos), None, "{name} {uid}");
    }
}

fn condition(kind: &str, status: &str, reason: &str, generation: i64) -> StatusCondition {
    StatusCondition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        observed_generation: generation,
        ..StatusCondition::default()
    }
}

#[test]
fn conditions_say_how_joining_went() {
    let ends: Timestamp = "2026-05-01T10:00:00Z".parse().unwrap();
    let ours = Some("2026-05-01T10:00:00Z");
    let another = Some("2026-04-01T10:00:00Z");
    let yes = |kind: &str| condition(kind, "True", "InUse", 2);
    let accepted_not = |reason: &str| condition("CredentialAccepted", "False", reason, 2);
    let connected_not = |reason: &str| condition("Connected", "False", reason, 2);
    let both = |first: StatusCondition, second: StatusCondition| vec![second, first];
    let trying = |reason: &str| format!("Trying {reason}");
    let failing = |reason: &str| format!("Failing {reason}");
    let well = || both(yes("CredentialAccepted"), yes("Connected"));
    let refused = || both(accepted_not("Unauthorized"), connected_not("Unauthorized"));
    let old = both(condition("CredentialAccepted", "True", "InUse", 1), condition("Connected", "True", "Connected", 1));
    for (what, conditions, end, before, expected) in [
        ("nothing is said", vec![], None, vec![], "Silent".to_owned()),
        ("half is said", vec![yes("Connected")], ours, vec![], "Silent".to_owned()),
        ("it is in use", well(), ours, vec![], "Connected".to_owned()),
        ("the one before is in use", well(), another, well(), trying("NotSeen")),
        ("an older generation is spoken of", old, ours, vec![], trying("NotSeen")),
        ("it is rehearsed", both(accepted_not("Rehearsing"), yes("Connected")), another, vec![], trying("Rehearsing")),
        ("it connects", both(accepted_not("NotTried"), connected_not("Connecting")), ours, vec![], trying("NotTried")),
        ("it is refused", refused(), ours, vec![], failing("Unauthorized")),
        (
            "it is refused beside another",
            both(accepted_not("Forbidden"), yes("Connected")),
            another,
            well(),
            failing("Forbidden"),
        ),
        ("what was refused before", refused(), another, refused(), trying("Unauthorized")),
        ("it is refused as the one before", refused(), ours, refused(), failing("Unauthorized")),
        (
            "no answer",
            both(yes("CredentialAccepted"), connected_not("Unreachable")),
            ours,
            vec![],
            failing("Unreachable"),
        ),
    ] {
        let mut info = info(json!({}));
        info.metadata.generation = Some(2);
        info.status = Some(ClusterInfoStatus {
            conditions,
            credential_expires_at: end.map(str::to_owned),
            ..ClusterInfoStatus::default()
        });
        let found = match word(&info, &before, Some(ends)) {
            Word::Silent => "Silent".to_owned(),
            Word::Connected => "Connected".to_owned(),
            Word::Trying(said) => trying(&said.reason),
            Word::Failing(said) => failing(&said.reason),
        };
        assert_eq!(found, expected, "{what}");
    }
}
