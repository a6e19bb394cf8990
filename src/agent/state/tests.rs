use std::net::IpAddr;

use super::super::assign::Cooling;
use super::*;

fn leases() -> Leases {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    Leases {
        slots: [("a".to_owned(), address("240.11.0.1")), ("b".to_owned(), address("fd00::1"))].into(),
        cooling: [(address("240.11.0.2"), Cooling { slot: "c".into(), until: 7 })].into(),
    }
}

#[test]
fn what_was_saved_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/state");
    let state = StateDir::open(&path).unwrap();
    assert_eq!(state.load().unwrap(), None);
    state.save(&leases()).unwrap();
    state.save(&leases()).unwrap();
    drop(state);
    assert_eq!(StateDir::open(&path).unwrap().load().unwrap(), Some(leases()));
}

#[test]
fn a_directory_has_one_agent() {
    let dir = tempfile::tempdir().unwrap();
    let _first = StateDir::open(dir.path()).unwrap();
    let error = StateDir::open(dir.path()).unwrap_err();
    assert!(matches!(error, StateError::InUse(_)));
    assert!(error.to_string().contains("is used by another agent"));
}

#[test]
fn damage_is_told_with_the_file_and_the_reason() {
    for (content, reason) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "expected"),
        (r#"{"slots": {}, "cooling": {}}"#, "version"),
        (r#"{"version": 1, "slots": {"a": "x"}, "cooling": {}}"#, "invalid"),
        (r#"{"version": 1, "slots": {"a": "10.0.0.1"}}"#, "cooling"),
        (r#"{"version": 1, "slots": {"a": "10.0.0.1", "b": "10.0.0.1"}, "cooling": {}}"#, "two slots"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        std::fs::write(dir.path().join(FILE), content).unwrap();
        let error = state.load().unwrap_err();
        assert!(matches!(error, StateError::Corrupt { .. }), "{content}");
        let text = error.to_string();
        assert!(text.contains("addresses.json is damaged") && text.contains(reason), "{content}: {text}");
    }
}

#[test]
fn a_newer_agents_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    std::fs::write(dir.path().join(FILE), r#"{"version": 2, "more": true}"#).unwrap();
    assert!(matches!(state.load(), Err(StateError::Newer { version: 2, .. })));
}

#[test]
fn an_unfinished_write_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    state.save(&leases()).unwrap();
    std::fs::write(dir.path().join("addresses.json.new"), "{").unwrap();
    assert_eq!(state.load().unwrap(), Some(leases()));
}
