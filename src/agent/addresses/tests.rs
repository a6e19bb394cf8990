use std::net::IpAddr;

use super::*;
use crate::model::id::NamespacedName;
use crate::model::object::Family;

fn request(slot: &str, current: Option<&str>) -> Control {
    Control::Assign(AssignRequest {
        slot: slot.into(),
        access: NamespacedName::new("shop", "checkout"),
        service: NamespacedName::new("shop", "checkout"),
        pod: None,
        ports: Vec::new(),
        hostnames: Vec::new(),
        family: Family::V4,
        current: current.map(|text| text.parse().unwrap()),
        rules_json: String::new(),
    })
}

fn open(dir: &Path) -> Addresses {
    Addresses::open(dir, &["240.11.0.0/30".parse().unwrap()], 5).unwrap()
}

/// Slot and address, or slot and nothing.
fn shown(answers: Vec<Body>) -> Vec<(String, Option<IpAddr>)> {
    let show = |answer| match answer {
        Body::Assigned(assigned) => (assigned.slot, Some(assigned.address.parse().unwrap())),
        Body::AssignFailed(failed) => (failed.slot, None),
        other => panic!("{other:?} answers nothing"),
    };
    answers.into_iter().map(show).collect()
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn an_address_is_durable_before_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut addresses = open(dir.path());
    addresses.connected(0);
    let answers = shown(addresses.handle(vec![request("a", Some("240.11.0.2"))], 1));
    assert_eq!(answers, [("a".to_owned(), ip("240.11.0.2"))]);
    drop(addresses);
    let mut addresses = open(dir.path());
    addresses.connected(10);
    assert_eq!(addresses.deadline(), None, "with a memory there is nothing to wait for");
    assert_eq!(shown(addresses.handle(vec![request("a", None)], 11)), [("a".to_owned(), ip("240.11.0.2"))]);
}

#[test]
fn damaged_memory_is_set_aside_and_the_ledger_is_heard_first() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("addresses.json"), "not JSON").unwrap();
    let mut addresses = open(dir.path());
    let kept = std::fs::read_to_string(dir.path().join("addresses.json.damaged-5")).unwrap();
    assert_eq!(kept, "not JSON");
    addresses.connected(100);
    // `new` would hash to some address of two; it may not take the one that the ledger gives to `old`.
    assert_eq!(shown(addresses.handle(vec![request("new", None), request("gone", None)], 100)), []);
    let release = Control::Release { slot: "gone".into(), address: "240.11.0.1".parse().unwrap() };
    assert_eq!(shown(addresses.handle(vec![release], 150)), []);
    let answers = shown(addresses.handle(vec![request("old", Some("240.11.0.1"))], 200));
    assert_eq!(answers, [("old".to_owned(), ip("240.11.0.1"))]);
    let deadline = addresses.deadline().unwrap();
    assert_eq!(deadline, 100 + LEARN_MS);
    assert_eq!(shown(addresses.handle(Vec::new(), deadline - 1)), []);
    let answers = shown(addresses.handle(Vec::new(), deadline));
    assert_eq!(answers, [("new".to_owned(), ip("240.11.0.2"))]);
    assert_eq!(addresses.deadline(), None);
}

#[test]
fn what_an_earlier_connection_asked_is_not_answered_on_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut addresses = open(dir.path());
    addresses.connected(0);
    assert_eq!(shown(addresses.handle(vec![request("a", None)], 1)), []);
    addresses.connected(1000);
    assert_eq!(shown(addresses.handle(Vec::new(), 1000 + LEARN_MS)), []);
}

#[test]
fn what_cannot_be_kept_is_not_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut addresses = open(dir.path());
    addresses.connected(0);
    // A directory in the place of the file makes the write fail, for root too.
    let place = dir.path().join("addresses.json.new");
    std::fs::create_dir(&place).unwrap();
    let answers = addresses.handle(vec![request("a", Some("240.11.0.1"))], 1);
    assert!(
        matches!(&answers[..], [Body::AssignFailed(failed)] if failed.reason.starts_with("the agent cannot write")),
        "{answers:?}"
    );
    std::fs::remove_dir(&place).unwrap();
    let answers = shown(addresses.handle(vec![request("b", Some("240.11.0.1"))], 2));
    assert_eq!(answers, [("b".to_owned(), ip("240.11.0.1"))], "nothing of the failed one is left");
}

#[test]
fn a_full_range_fails_only_for_the_slot_that_finds_it_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut addresses = open(dir.path());
    addresses.connected(0);
    let batch = ["a", "b", "c"].map(|slot| request(slot, None)).to_vec();
    let answers = shown(addresses.handle(batch, LEARN_MS));
    assert_eq!(answers.iter().filter(|(_, address)| address.is_some()).count(), 2);
    assert_eq!(answers[2], ("c".to_owned(), None));
}
