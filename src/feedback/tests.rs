use crate::model::decision::{ClientView, NodeRole};
use crate::model::object::{Labels, Locality};

use super::*;

const L: &str = "vip/240.0.0.1:80";

struct Fold(Feedback);

fn facts(protocol: Protocol) -> NodeFacts {
    let view = ClientView { role: NodeRole::Gateway, cluster: None, network: None, locality: Locality::default() };
    NodeFacts { id: "gw".into(), view, labels: Labels::new(), version: "1.40.0".into(), protocol }
}

fn named(pairs: &[(&str, &str)]) -> Vec<NameVersion> {
    pairs.iter().map(|(name, version)| (Arc::from(*name), Arc::from(*version))).collect()
}

fn listener(name: &str, state: AgentListenerState, bindable: Option<bool>) -> AgentListener {
    let error = if state == AgentListenerState::Failed { "listen() failed" } else { "" };
    AgentListener { name: name.into(), state, error: error.into(), bindable }
}

impl Fold {
    fn new() -> Self {
        Self(Feedback::new(0))
    }

    fn connected(stream: u64, protocol: Protocol) -> Self {
        let mut fold = Self::new();
        fold.connect(stream, protocol, 0);
        fold
    }

    fn connect(&mut self, stream: u64, protocol: Protocol, now: Timestamp) -> Touched {
        self.0.fold(Report::NodeConnected { node: facts(protocol), stream, scope: Scope::Everything }, now)
    }

    fn connect_by(&mut self, scope: Scope, stream: u64, now: Timestamp) {
        self.0.fold(Report::NodeConnected { node: facts(Protocol::Delta), stream, scope }, now);
    }

    fn gone(&mut self, stream: u64, now: Timestamp) -> Touched {
        self.0.fold(Report::NodeGone { node: "gw".into(), stream }, now)
    }

    fn ack(&mut self, stream: u64, listeners: &[(&str, &str)], removed: &[&str]) -> Touched {
        let removed = removed.iter().map(|name| Arc::from(*name)).collect();
        self.0.fold(Report::Acked { node: "gw".into(), stream, listeners: named(listeners), removed }, 0)
    }

    fn nack(&mut self, stream: u64, refused: &[(&str, &str)], unknown: &[(&str, &str)], now: Timestamp) -> Touched {
        let (listeners, unknown) = (named(refused), named(unknown));
        self.0
            .fold(Report::Rejected { node: "gw".into(), stream, listeners, unknown, detail: "cannot bind".into() }, now)
    }

    fn agent(&mut self) {
        self.0.fold(Report::AgentConnected { node: "gw".into(), stream: 9, ranges: vec![] }, 0);
    }

    fn sees(&mut self, listeners: Vec<AgentListener>, envoy_up: bool, now: Timestamp) -> Touched {
        self.0.fold(Report::AgentListeners { node: "gw".into(), stream: 9, listeners, envoy_up }, now)
    }

    fn node(&self) -> NodeRef<'_> {
        self.0.node(&"gw".into()).unwrap()
    }

    fn evidence(&self) -> Evidence {
        self.node().evidence(L)
    }
}

use AgentListenerState::{Active, Draining, Failed, Warming};

#[test]
fn an_ack_is_evidence_until_the_stream_ends() {
    let mut fold = Fold::connected(1, Protocol::Delta);
    assert_eq!(fold.evidence(), Evidence::None);
    assert!(!fold.ack(1, &[(L, "1")], &[]).is_empty());
    assert_eq!(fold.evidence(), Evidence::Acked);
    assert!(fold.ack(1, &[(L, "1")], &[]).is_empty(), "what is repeated touches nothing");
    fold.gone(1, 5);
    assert_eq!(fold.evidence(), Evidence::None);
    assert_eq!(fold.node().holding(L), Holding::Unsure { since: 5 });
    assert_eq!(fold.node().since(), 5);
}

#[test]
fn a_new_stream_proves_itself_and_the_end_of_the_old_one_does_not_end_it() {
    let mut fold = Fold::connected(1, Protocol::Delta);
    fold.ack(1, &[(L, "1")], &[]);
    fold.connect(2, Protocol::Delta, 10);
    assert_eq!(fold.evidence(), Evidence::None, "the weakest stream counts for evidence");
    assert_eq!(fold.node().holding(L), Holding::Held, "the strongest for holding");
    assert!(fold.ack(7, &[(L, "1")], &[]).is_empty(), "a stream that nobody knows says nothing");
    fold.gone(1, 11);
    assert!(fold.node().connected());
    assert_eq!(fold.node().holding(L), Holding::Unsure { since: 10 });
    fold.ack(2, &[(L, "1")], &[]);
    assert_eq!((fold.evidence(), fold.node().holding(L)), (Evidence::Acked, Holding::Held));
}

#[test]
fn streams_of_other_types_neither_prove_nor_disprove_listeners() {
    let mut fold = Fold::new();
    fold.connect_by(Scope::Others, 1, 5);
    assert!(!fold.node().connected() && fold.node().present());
    fold.connect_by(Scope::Listeners, 2, 6);
    fold.connect_by(Scope::Others, 3, 7);
    fold.ack(2, &[(L, "1")], &[]);
    assert_eq!((fold.evidence(), fold.node().holding(L)), (Evidence::Acked, Holding::Held));
    fold.connect_by(Scope::Others, 4, 8);
    fold.gone(1, 9);
    assert_eq!(fold.evidence(), Evidence::Acked);
    assert_eq!((fold.node().shared_since(), fold.node().accepted_listeners()), (None, 1));
    fold.agent();
    fold.sees(vec![listener(L, Active, None)], true, 9);
    assert_eq!(fold.evidence(), Evidence::Active);
    fold.connect_by(Scope::Others, 5, 10);
    assert_eq!(fold.evidence(), Evidence::Active, "the agent's report is as fresh as before");
    fold.gone(2, 20);
    fold.sees(vec![], true, 20);
    assert_eq!(fold.evidence(), Evidence::None);
    assert!(!fold.node().connected() && fold.node().present(), "nothing can bring it listeners");
    assert_eq!((fold.node().since(), fold.node().holding(L)), (20, Holding::Unsure { since: 20 }));
    fold.gone(3, 21);
    fold.gone(4, 22);
    fold.gone(5, 23);
    assert!(!fold.node().present());
}

#[test]
fn an_aggregated_stream_beside_one_of_listeners_says_nothing_of_them() {
    let mut fold = Fold::new();
    fold.connect_by(Scope::Everything, 1, 1);
    fold.connect_by(Scope::Listeners, 2, 2);
    fold.ack(2, &[(L, "1")], &[]);
    assert_eq!((fold.evidence(), fold.node().accepted_listeners()), (Evidence::Acked, 1));
    assert_eq!((fold.node().streams(), fold.node().shared_since()), (1, None), "they are of one Envoy");
    // It comes back without the other: what was refused on the other waits on for its next attempt.
    fold.nack(2, &[(L, "2")], &[], 3);
    let due = fold.0.next_deadline();
    fold.gone(1, 4);
    fold.connect_by(Scope::Everything, 3, 5);
    assert_eq!((fold.evidence(), fold.0.next_deadline()), (Evidence::Acked, due));
    // The stream of listeners ends: the node may have them still, and that counts from its end.
    fold.gone(2, 30);
    assert_eq!((fold.evidence(), fold.node().holding(L)), (Evidence::None, Holding::Unsure { since: 30 }));
    fold.connect_by(Scope::Listeners, 4, 40);
    assert_eq!((fold.evidence(), fold.node().holding(L)), (Evidence::None, Holding::Unsure { since: 40 }));
    fold.ack(4, &[(L, "1")], &[]);
    assert_eq!((fold.evidence(), fold.node().holding(L)), (Evidence::Acked, Holding::Held));
    // Two Envoys with one id: one takes its listeners from the aggregated stream.
    fold.ack(3, &[("other", "1")], &[]);
    assert_eq!(fold.evidence(), Evidence::None, "it has not this one");
    fold.connect_by(Scope::Listeners, 5, 50);
    assert_eq!((fold.node().streams(), fold.node().shared_since()), (2, Some(50)));
}

#[test]
fn a_refused_update_leaves_the_earlier_version_bound() {
    let mut fold = Fold::connected(1, Protocol::Delta);
    fold.ack(1, &[(L, "1")], &[]);
    fold.nack(1, &[(L, "2")], &[], 3);
    assert_eq!(fold.evidence(), Evidence::Acked);
    assert_eq!(&*fold.node().rejection(L).unwrap().version, "2");
    // SotW: the earlier version comes again with its siblings.
    fold.ack(1, &[(L, "1")], &[]);
    assert!(fold.node().rejection(L).is_some());
    fold.ack(1, &[(L, "3")], &[]);
    assert!(fold.node().rejection(L).is_none());
}

#[test]
fn the_rest_of_a_refused_batch_is_unknown_until_the_next_ack() {
    let mut fold = Fold::connected(1, Protocol::Delta);
    fold.nack(1, &[("vip/240.0.0.9:80", "1")], &[(L, "1")], 3);
    assert!(fold.node().is_unknown(L));
    assert_eq!(fold.evidence(), Evidence::Offered);
    assert_eq!(fold.node().holding(L), Holding::Unsure { since: 3 });
    fold.ack(1, &[(L, "1")], &[]);
    assert!(!fold.node().is_unknown(L));
    assert_eq!(fold.evidence(), Evidence::Acked);
}

#[test]
fn a_sotw_ack_is_of_the_whole_list() {
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let mut fold = Fold::connected(1, protocol);
        fold.ack(1, &[(L, "1"), ("vip/240.0.0.2:80", "1")], &[]);
        fold.ack(1, &[("vip/240.0.0.2:80", "1")], &[]);
        let (evidence, holding) = match protocol {
            Protocol::Sotw => (Evidence::None, Holding::Removed),
            Protocol::Delta => (Evidence::Acked, Holding::Held),
        };
        assert_eq!((fold.evidence(), fold.node().holding(L)), (evidence, holding), "{protocol:?}");
        fold.ack(1, &[], &[L]);
        assert_eq!((fold.evidence(), fold.node().holding(L)), (Evidence::None, Holding::Removed));
    }
}

#[test]
fn the_agent_says_more_than_an_ack() {
    type Case = (Option<Vec<AgentListener>>, bool, Evidence);
    let cases: [Case; 7] = [
        (None, true, Evidence::Acked),
        (Some(vec![listener(L, Active, None)]), true, Evidence::Active),
        (Some(vec![listener(L, Draining, None), listener(L, Active, None)]), true, Evidence::Active),
        (Some(vec![listener(L, Warming, None)]), true, Evidence::Acked),
        (Some(vec![listener(L, Failed, None)]), true, Evidence::Offered),
        (Some(vec![]), true, Evidence::Offered),
        (Some(vec![listener(L, Active, None)]), false, Evidence::Offered),
    ];
    for (seen, envoy_up, expected) in cases {
        let mut fold = Fold::connected(1, Protocol::Delta);
        fold.ack(1, &[(L, "1")], &[]);
        fold.agent();
        assert!(!fold.node().agent_has_reported(), "an agent that has not reported takes no evidence away");
        if let Some(seen) = seen.clone() {
            fold.sees(seen.clone(), envoy_up, 1);
            assert!(fold.sees(seen, envoy_up, 2).is_empty(), "a heartbeat touches nothing");
        }
        assert_eq!(fold.evidence(), expected, "{seen:?} {envoy_up}");
    }
}

#[test]
fn a_contradicted_ack_counts_for_nothing_though_the_agent_goes() {
    let mut fold = Fold::connected(1, Protocol::Delta);
    fold.agent();
    fold.ack(1, &[(L, "1")], &[]);
    fold.sees(vec![listener(L, Failed, None)], true, 1);
    fold.0.fold(Report::AgentGone { node: "gw".into(), stream: 9 }, 2);
    assert_eq!(fold.evidence(), Evidence::Offered);
    assert_eq!(&*fold.node().rejection(L).unwrap().detail, "listen() failed");
    assert_eq!(fold.node().rejected_listeners(), 1);
    fold.ack(1, &[(L, "1")], &[]);
    assert_eq!(fold.evidence(), Evidence::Offered, "the same version again proves nothing");
    fold.0.tick(6_000);
    assert_eq!(fold.node().attempt(L), 1);
    fold.ack(1, &[(L, "1, attempt 1")], &[]);
    assert_eq!(fold.evidence(), Evidence::Acked);
}

#[test]
fn an_agents_report_from_before_a_binding_says_nothing_of_it() {
    let mut fold = Fold::connected(1, Protocol::Delta);
    fold.agent();
    fold.ack(1, &[(L, "1")], &[]);
    fold.sees(vec![listener(L, Active, None)], true, 1);
    fold.ack(1, &[], &[L]);
    assert_eq!(fold.evidence(), Evidence::None, "removed, though the agent has not looked again");
    fold.ack(1, &[(L, "1")], &[]);
    assert_eq!(fold.evidence(), Evidence::Acked);
    let touched = fold.sees(vec![listener(L, Active, None)], true, 2);
    assert!(touched.listeners.contains(L), "the same words say more now");
    assert_eq!(fold.evidence(), Evidence::Active);
    assert!(fold.sees(vec![listener(L, Active, None)], true, 2).is_empty());
    fold.ack(1, &[(L, "2")], &[]);
    assert_eq!(fold.evidence(), Evidence::Active, "an accepted update keeps what was proved");
    // Envoy restarts: what the agent saw of the earlier process counts for nothing.
    fold.gone(1, 3);
    fold.connect(2, Protocol::Delta, 3);
    assert_eq!(fold.evidence(), Evidence::None);
    fold.ack(2, &[(L, "2")], &[]);
    assert_eq!(fold.evidence(), Evidence::Acked);
}

#[test]
fn a_probe_counts_while_the_listener_stands() {
    let mut fold = Fold::connected(1, Protocol::Delta);
    let probe = |outcome| Report::Probed { node: "gw".into(), listener: L.into(), outcome };
    assert!(fold.0.fold(probe(ProbeOutcome::Reached), 0).is_empty(), "nothing is known of the listener");
    fold.ack(1, &[(L, "1")], &[]);
    assert!(!fold.0.fold(probe(ProbeOutcome::Reached), 0).is_empty());
    assert_eq!(fold.evidence(), Evidence::Probed);
    fold.0.fold(probe(ProbeOutcome::Failed("refused".into())), 0);
    assert_eq!(fold.evidence(), Evidence::Acked);
    fold.0.fold(probe(ProbeOutcome::Reached), 0);
    fold.ack(1, &[], &[L]);
    fold.ack(1, &[(L, "1")], &[]);
    assert_eq!(fold.evidence(), Evidence::Acked);
}

#[test]
fn without_an_agent_attempts_follow_doubling_pauses() {
    let mut fold = Fold::connected(1, Protocol::Delta);
    let mut now = 0;
    for (attempt, pause) in (1..).zip([5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]) {
        fold.nack(1, &[(L, &format!("v{attempt}"))], &[], now);
        fold.nack(1, &[(L, &format!("v{attempt}"))], &[], now + 1);
        assert_eq!(fold.0.next_deadline(), Some(now + pause), "told twice, it failed once");
        assert!(fold.0.tick(now + pause - 1).is_empty());
        now += pause;
        assert!(fold.0.tick(now).listeners.contains(L));
        assert_eq!(fold.0.attempts(&"gw".into()), BTreeMap::from([(Arc::from(L), attempt)]));
        assert_eq!(fold.0.next_deadline(), None, "the outcome decides");
    }
    fold.ack(1, &[(L, "good")], &[]);
    assert_eq!(fold.node().attempt(L), 8, "a listener that serves is not changed");
    fold.nack(1, &[(L, "worse")], &[], now);
    assert_eq!(fold.0.next_deadline(), Some(now + 5_000), "pauses begin anew");
    fold.gone(1, now);
    assert!(fold.0.tick(now + 5_000).is_empty(), "a node that is gone is offered nothing");
    fold.connect(2, Protocol::Delta, now);
    fold.nack(2, &[(L, "still worse")], &[], now);
    fold.ack(2, &[], &[L]);
    assert_eq!(fold.0.next_deadline(), None);
    assert_eq!(fold.node().attempt(L), 9, "what this stream refused is never sent on it again");
    fold.gone(2, now);
    fold.connect(3, Protocol::Delta, now);
    assert_eq!(fold.node().attempt(L), 0);
}

#[test]
fn the_agent_says_when_to_try_again() {
    let mut fold = Fold::connected(1, Protocol::Delta);
    fold.agent();
    fold.nack(1, &[(L, "1")], &[], 0);
    fold.sees(vec![listener(L, Failed, Some(false))], true, 1);
    assert_eq!(fold.0.next_deadline(), None, "while the address cannot be bound there is no point");
    fold.sees(vec![listener(L, Failed, Some(true))], true, 2);
    assert!(!fold.0.tick(2).is_empty());
    // Refused although it can be bound: then something else is wrong, and pauses are kept.
    fold.nack(1, &[(L, "2")], &[], 3);
    for now in 4..10 {
        fold.sees(vec![listener(L, Failed, Some(true))], true, now);
        assert!(fold.0.tick(now).is_empty());
    }
    assert_eq!(fold.0.next_deadline(), Some(3 + 10_000));
    fold.sees(vec![listener(L, Failed, Some(false))], true, 11);
    fold.0.fold(Report::AgentGone { node: "gw".into(), stream: 9 }, 12);
    assert_eq!(fold.0.next_deadline(), Some(12 + 10_000), "nobody is there to say when");
}

#[test]
fn what_will_not_come_back_is_forgotten() {
    let mut fold = Fold::connected(1, Protocol::Delta);
    fold.nack(1, &[(L, "1")], &[], 0);
    fold.ack(1, &[("vip/240.0.0.2:80", "1")], &[]);
    fold.0.retain_listeners(|_| false);
    assert_eq!(fold.0.next_deadline(), None);
    assert!(fold.node().rejection(L).is_none());
    assert_eq!(fold.node().evidence("vip/240.0.0.2:80"), Evidence::Acked, "what a node has is kept");
    fold.gone(1, 10);
    assert!(fold.0.prune(100, 110).is_empty());
    assert!(!fold.0.prune(100, 111).is_empty());
    assert!(fold.0.node(&"gw".into()).is_none());
}

#[test]
fn a_late_end_of_an_agents_connection_does_not_end_its_successor() {
    let mut fold = Fold::connected(1, Protocol::Delta);
    fold.agent();
    assert!(fold.0.fold(Report::AgentGone { node: "gw".into(), stream: 8 }, 0).is_empty());
    assert!(fold.node().has_agent());
    let stale = Report::AgentListeners { node: "gw".into(), stream: 8, listeners: vec![], envoy_up: false };
    assert!(fold.0.fold(stale, 0).is_empty());
}
