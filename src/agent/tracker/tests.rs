use super::super::envoy::ServerInfo;
use super::*;

const ADDRESS: &str = "240.11.0.1:80";
const NAME: &str = "vip/240.11.0.1:80";

fn address() -> Option<SocketAddr> {
    Some(ADDRESS.parse().unwrap())
}

fn observation(state: Option<ListenerState>) -> Observation {
    let error = if state == Some(ListenerState::Failed) { "cannot bind" } else { "" };
    let seen = |state| (NAME.to_owned(), Seen { state, address: address(), error: error.into() });
    Observation {
        server: ServerInfo { node_id: "gw-1".into(), uptime_s: 10 },
        phase: Phase::Live,
        counters: Counters::default(),
        listeners: state.map(seen).into_iter().collect(),
    }
}

/// The one listener's state, and whether it could be bound.
fn told(tracker: &Tracker) -> Option<(ListenerState, Option<bool>)> {
    let view = tracker.view();
    assert!(view.listeners.len() <= 1);
    view.listeners.first().map(|l| (l.state, l.bindable))
}

fn after(ms: u64, start: Instant) -> Instant {
    start + Duration::from_millis(ms)
}

#[test]
fn nothing_is_up_before_it_was_seen() {
    assert_eq!(Tracker::default().view(), View::default());
    let mut tracker = Tracker::default();
    tracker.silent(Silence::Unclear, Instant::now());
    assert!(!tracker.view().envoy_up);
}

#[test]
fn a_refused_connection_counts_at_once_and_a_slow_answer_after_a_while() {
    let start = Instant::now();
    let mut tracker = Tracker::default();
    tracker.observed(observation(Some(ListenerState::Active)), start);
    tracker.silent(Silence::Unclear, after(2999, start));
    assert_eq!(told(&tracker), Some((ListenerState::Active, None)));
    tracker.silent(Silence::Unclear, after(3000, start));
    assert_eq!(tracker.view(), View { node_id: Some("gw-1".into()), envoy_up: false, listeners: Vec::new() });
    tracker.observed(observation(Some(ListenerState::Active)), after(4000, start));
    assert!(tracker.view().envoy_up);
    tracker.silent(Silence::Refused, after(4001, start));
    assert!(!tracker.view().envoy_up);
}

#[test]
fn active_listeners_count_only_while_the_server_serves() {
    for (phase, stopped, expected) in [
        (Phase::Live, 0, ListenerState::Active),
        (Phase::Initializing, 0, ListenerState::Warming),
        (Phase::Draining, 0, ListenerState::Draining),
        (Phase::Live, 3, ListenerState::Draining),
    ] {
        let mut tracker = Tracker::default();
        let counters = Counters { stopped, ..Counters::default() };
        let active = observation(Some(ListenerState::Active));
        tracker.observed(Observation { phase, counters, ..active }, Instant::now());
        assert_eq!(told(&tracker), Some((expected, None)), "{phase:?} {stopped}");
    }
}

#[test]
fn a_failure_that_envoy_forgets_is_remembered_until_the_listener_is_there() {
    let now = Instant::now();
    let mut tracker = Tracker::default();
    tracker.observed(observation(Some(ListenerState::Failed)), now);
    assert_eq!(tracker.to_try(), [(NAME.to_owned(), address().unwrap())]);
    tracker.tried(NAME, Some(false), now);
    tracker.observed(observation(None), now);
    assert_eq!(told(&tracker), Some((ListenerState::Failed, Some(false))));
    assert_eq!(tracker.view().listeners[0].error, "cannot bind");
    tracker.tried(NAME, Some(true), now);
    assert_eq!(told(&tracker), Some((ListenerState::Failed, Some(true))));
    tracker.observed(observation(Some(ListenerState::Warming)), now);
    assert_eq!(told(&tracker), Some((ListenerState::Warming, None)));
    assert!(tracker.to_try().is_empty());
}

#[test]
fn a_failure_that_nobody_wants_any_more_is_forgotten() {
    let start = Instant::now();
    let mut tracker = Tracker::default();
    tracker.observed(observation(Some(ListenerState::Failed)), start);
    tracker.tried(NAME, Some(true), start);
    tracker.tried(NAME, Some(true), after(61_000, start));
    assert!(told(&tracker).is_some(), "Envoy still shows it");
    tracker.observed(observation(None), after(61_000, start));
    tracker.tried(NAME, Some(false), after(61_000, start));
    tracker.tried(NAME, Some(true), after(62_000, start));
    tracker.tried(NAME, Some(true), after(122_000, start));
    assert!(told(&tracker).is_some(), "it could not be bound in between");
    tracker.tried(NAME, Some(true), after(122_001, start));
    assert_eq!(told(&tracker), None);
}

#[test]
fn a_restarted_envoy_has_no_past() {
    let now = Instant::now();
    let mut tracker = Tracker::default();
    tracker.observed(observation(Some(ListenerState::Failed)), now);
    let restarted = Observation { server: ServerInfo { node_id: "gw-2".into(), uptime_s: 1 }, ..observation(None) };
    tracker.observed(restarted, now);
    assert_eq!(told(&tracker), None);
    assert_eq!(tracker.view().node_id.as_deref(), Some("gw-2"));
}

#[test]
fn a_listener_that_vanished_with_a_failure_could_not_listen() {
    let failing = |rejected| {
        let counters = Counters { create_failure: 1, update_rejected: rejected, ..Counters::default() };
        Observation { counters, ..observation(None) }
    };
    for (before, after, expected) in [
        (ListenerState::Warming, failing(0), true),
        (ListenerState::Active, failing(0), true),
        (ListenerState::Draining, failing(0), false),
        // Another listener's update was rejected, and this one was removed.
        (ListenerState::Active, failing(1), false),
        (ListenerState::Active, observation(None), false),
    ] {
        let mut tracker = Tracker::default();
        tracker.observed(observation(Some(before)), Instant::now());
        tracker.observed(after.clone(), Instant::now());
        assert_eq!(told(&tracker), expected.then_some((ListenerState::Failed, None)), "{before:?} {after:?}");
        assert_eq!(tracker.to_try().len(), usize::from(expected));
    }
}

#[test]
fn memory_is_bounded() {
    let mut tracker = Tracker::default();
    for n in 0..MAX_REMEMBERED + 10 {
        let mut seen = observation(None);
        let failed = Seen { state: ListenerState::Failed, address: address(), error: "x".into() };
        seen.listeners.insert(format!("vip/{n}"), failed);
        tracker.observed(seen, Instant::now());
    }
    let view = tracker.view();
    assert_eq!(view.listeners.len(), MAX_REMEMBERED);
    let newest = format!("vip/{}", MAX_REMEMBERED + 9);
    assert!(view.listeners.iter().any(|l| l.name == newest));
    assert!(view.listeners.is_sorted_by(|a, b| a.name < b.name));
}
