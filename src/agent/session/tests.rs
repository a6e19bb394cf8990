use super::super::proto;
use super::super::report::ListenerState;
use super::*;

fn session() -> (Session, Instant) {
    let now = Instant::now();
    (Session::new(AgentId(7), now), now)
}

fn message(body: Body) -> AgentMessage {
    AgentMessage { body: Some(body) }
}

fn hello(version: u32, node: &str, ranges: &[&str]) -> AgentMessage {
    message(Body::Hello(proto::Hello {
        protocol_version: version,
        node_id: node.into(),
        ranges: ranges.iter().map(|range| range.to_string()).collect(),
        agent_version: "0.1.0".into(),
    }))
}

fn greeted() -> (Session, Instant) {
    let (mut session, now) = session();
    assert!(matches!(session.received(hello(1, "gw", &[]), now), Ok(Step::Hello(_))));
    (session, now)
}

fn listener(name: &str, address: &str, state: i32) -> proto::Listener {
    proto::Listener { name: name.into(), address: address.into(), state, error: String::new(), bindable: None }
}

fn report(envoy_up: bool, listeners: Vec<proto::Listener>) -> AgentMessage {
    message(Body::Listeners(proto::Listeners { envoy_up, listeners }))
}

#[test]
fn hello_comes_first_and_once() {
    let (mut first, now) = session();
    let refused = first.received(message(Body::Heartbeat(proto::Heartbeat {})), now).unwrap_err();
    assert_eq!(refused, Refused::NotHello);
    let (mut session, now) = greeted();
    assert_eq!(session.received(hello(1, "other", &[]), now).unwrap_err(), Refused::HelloAgain);
}

#[test]
fn hello_is_checked() {
    let long = "x".repeat(257);
    for (node, ranges, expected) in [
        ("", &[][..], "node_id"),
        (&long, &[][..], "node_id"),
        ("gw", &["240.11.0.0"][..], "ranges"),
        ("gw", &["240.11.0.0/33"][..], "ranges"),
        ("gw", &["240.11.0.0/24"; 65][..], "65 entries"),
    ] {
        let (mut session, now) = session();
        let refused = session.received(hello(1, node, ranges), now).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    let (mut session, now) = session();
    let Ok(Step::Hello(hello)) = session.received(hello(1, "gw", &["240.11.0.9/24"]), now) else { panic!("refused") };
    assert_eq!(hello.ranges, ["240.11.0.0/24".parse().unwrap()]);
}

#[test]
fn another_version_is_refused_with_both_named() {
    for version in [0, 2] {
        let (mut session, now) = session();
        let refused = session.received(hello(version, "gw", &[]), now).unwrap_err();
        assert_eq!(refused, Refused::Version(version));
        let status = Status::from(refused);
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        assert!(status.message().contains(&format!("version {version}")) && status.message().contains("version 1"));
    }
}

#[test]
fn every_message_is_a_sign_of_life() {
    let (mut session, start) = greeted();
    assert_eq!(session.deadline(), start + SILENCE);
    let later = start + Duration::from_secs(9);
    assert!(matches!(session.received(message(Body::Heartbeat(proto::Heartbeat {})), later), Ok(Step::Nothing)));
    assert_eq!(session.deadline(), later + SILENCE);
    let latest = later + Duration::from_secs(1);
    assert!(matches!(session.received(AgentMessage { body: None }, latest), Ok(Step::Nothing)), "of a later agent");
    assert_eq!(session.deadline(), latest + SILENCE);
}

#[test]
fn listeners_are_checked_and_passed_on() {
    let (mut session, now) = greeted();
    let good = vec![listener("a", "[fd00::1]:80", 1), listener("b", "", 4)];
    let Ok(Step::Event(Event::Listeners { agent, node_id, envoy_up, listeners })) =
        session.received(report(true, good.clone()), now)
    else {
        panic!("refused")
    };
    assert_eq!((agent, node_id.as_str(), envoy_up), (AgentId(7), "gw", true));
    assert_eq!(listeners[0].address, Some("[fd00::1]:80".parse().unwrap()));
    assert_eq!((listeners[1].address, listeners[1].state), (None, ListenerState::Failed));
    let Ok(Step::Event(Event::Listeners { listeners, .. })) = session.received(report(false, good), now) else {
        panic!("refused")
    };
    assert!(listeners.is_empty(), "of an Envoy that is down");

    for (bad, expected) in [
        (vec![listener("", "", 1)], "listeners.name"),
        (vec![listener("a", "240.11.0.1", 1)], "listeners.address"),
        (vec![listener("a", "", 0)], "listeners.state"),
        (vec![listener("a", "", 9)], "listeners.state"),
        (vec![listener("a", "", 1), listener("b", "", 1), listener("a", "", 2)], "twice"),
        (vec![listener("a", "", 1); 65_537], "65537 entries"),
    ] {
        let refused = session.received(report(true, bad), now).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn long_texts_are_cut_and_bad_addresses_refused() {
    let (mut session, now) = greeted();
    let failed = proto::AssignFailed { slot: "s".into(), reason: "ä".repeat(5000) };
    let Ok(Step::Event(Event::AssignFailed { reason, .. })) =
        session.received(message(Body::AssignFailed(failed)), now)
    else {
        panic!("refused")
    };
    assert_eq!(reason.len(), 2048);
    let assigned = proto::Assigned { slot: "s".into(), address: "nowhere".into() };
    assert!(session.received(message(Body::Assigned(assigned)), now).unwrap_err().to_string().contains("nowhere"));
}
