//! What the simulation found, each the shortest that shows it.

use super::client::*;
use crate::ads::stream::Report;
use crate::ads::{Limits, Protocol};
use crate::snapshot::{Reference, ResourceType, SnapshotBuilder};

/// The requests of a client that reconnects are read one by one, and a response may be decided between them.
#[test]
fn rule_05_clusters_that_are_sent_before_the_client_asks_for_endpoints_are_followed_by_them() {
    for protocol in BOTH {
        let mut builder = SnapshotBuilder::new();
        builder.update(|edit| {
            for name in ["a", "b"] {
                edit.set(res(Cluster, name, "1")).set(res(Endpoint, name, "1"));
            }
        });
        let mut client = Client::on(protocol, builder.latest());
        client.subscribe(Cluster, &["*"]);
        client.subscribe(Endpoint, &["a", "b"]);
        client.settle();
        builder.update(|edit| _ = edit.set(res(Cluster, "a", "2")));
        client.reconnect_slowly(builder.latest());
        let expected = match protocol {
            Protocol::Sotw => ["cluster: a b", "endpoint: a b"],
            Protocol::Delta => ["cluster: a", "endpoint: a"],
        };
        assert_eq!(client.take_log(), expected, "{protocol:?}");
    }
}

#[test]
fn rule_04_routes_do_not_wait_for_clusters_that_the_client_gave_up_or_that_are_gone() {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        for name in ["a", "b"] {
            edit.set(res(Cluster, name, "1")).set(res(Endpoint, name, "1"));
        }
        edit.set(res(Listener, "l", "1"));
    });
    // Of a, whose assignment is never asked for, the client thinks better.
    let mut client = Client::on(Protocol::Delta, builder.latest());
    client.subscribe(Cluster, &["a"]);
    client.subscribe(Endpoint, &["b"]);
    client.subscribe(Listener, &["*"]);
    client.settle();
    client.take_log();
    assert!(client.holds(Listener).is_empty(), "it waits for the endpoints of a");
    client.unsubscribe(Cluster, &["a"]);
    client.settle();
    assert_eq!(client.take_log(), ["listener: l"]);

    // Its cluster goes while the assignment, which another one shares, stays.
    for protocol in BOTH {
        let mut client = Client::on(protocol, builder.latest());
        client.subscribe(Cluster, &["*"]);
        client.subscribe(Endpoint, &["b"]);
        client.subscribe(Listener, &["*"]);
        client.settle();
        assert!(client.holds(Listener).is_empty(), "it waits for the endpoints of a");
        let mut without = builder.latest().edit();
        without.remove(Cluster, "a");
        client.publish(&without.finish().expect("a change"));
        client.settle();
        assert_eq!(client.holds(Listener), ["l=1"], "{protocol:?}");
    }
}

/// The requests of a client that reconnects are read one by one, those for clusters first.
#[test]
fn rule_04_clusters_go_only_when_a_reconnected_client_has_asked_for_its_routes() {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        for ty in ResourceType::ALL {
            edit.set(res(ty, "a", "1"));
        }
    });
    let mut client = Client::on(Protocol::Delta, builder.latest());
    for ty in ResourceType::ALL {
        client.subscribe(ty, &["*"]);
    }
    client.settle();
    builder.update(|edit| {
        for ty in [Cluster, Endpoint] {
            edit.set(res(ty, "b", "1")).remove(ty, "a");
        }
        edit.set(res(Route, "a", "2"));
    });
    client.reconnect_slowly(builder.latest());
    assert_eq!(client.take_log(), ["cluster: b", "endpoint: b", "route: a", "cluster: -a", "endpoint: -a"]);

    // One that never asks for routes is waited for no longer than any other.
    let mut client = Client::on(Protocol::Delta, builder.latest());
    client.subscribe(Cluster, &["*"]);
    client.settle();
    builder.update(|edit| _ = edit.remove(Cluster, "b"));
    client.reconnect_slowly(builder.latest());
    assert_eq!(client.holds(Cluster), ["b=1"]);
    client.now += 10_000;
    client.settle();
    assert!(client.holds(Cluster).is_empty());
}

/// While the culprit is looked for, a cluster is left out of a list, and is new to the client afterwards.
#[test]
fn rule_05_a_cluster_that_a_list_left_out_is_followed_by_its_endpoints_when_it_is_back() {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        for (name, body) in [("a", "1"), ("b", "1"), ("c", "bad"), ("d", "1")] {
            edit.set(res(Cluster, name, body)).set(res(Endpoint, name, "1"));
        }
    });
    let mut client = Client::on(Protocol::Sotw, builder.latest());
    client.wording = Wording::Nameless;
    client.subscribe(Cluster, &["*"]);
    client.subscribe(Endpoint, &["a", "b", "c", "d"]);
    client.settle();
    let log = client.take_log();
    assert_eq!(log[log.len() - 3..], ["cluster: a b c", "cluster: a b d", "endpoint: d"], "{log:?}");
}

#[test]
fn rule_12_what_a_client_comes_with_is_proved_even_if_it_becomes_current_later() {
    let with = |body| snapshot(&[(Listener, "a", body)]);
    let mut client = Client::on(Protocol::Delta, &with("1"));
    client.subscribe(Listener, &["*"]);
    client.settle();
    client.reconnect(&with("2"));
    client.publish(&with("1"));
    assert!(client.flush().is_empty(), "it has what there is");
    let version = res(Listener, "a", "1").version().clone();
    let expected = Report::Acked { ty: Listener, resources: vec![("a".into(), version)], removed: Vec::new() };
    assert_eq!(client.take_reports(), [expected]);
}

#[test]
fn rule_03_what_a_refused_response_removed_is_unknown_and_comes_back() {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| _ = edit.set(res(Listener, "a", "1")));
    let mut client = Client::on(Protocol::Delta, builder.latest());
    client.subscribe(Listener, &["*"]);
    client.settle();
    client.take_reports();
    builder.update(|edit| _ = edit.remove(Listener, "a").set(res(Listener, "b", "bad")));
    client.publish(builder.latest());
    let sent = client.flush();
    client.answer(&sent[0]);
    let reports = client.take_reports();
    let [Report::Rejected { unknown, .. }] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(&*unknown[0].0, "a");
    // Before it is removed once more it is there again, first in a bad version.
    for body in ["bad", "1"] {
        builder.update(|edit| _ = edit.set(res(Listener, "a", body)));
        client.publish(builder.latest());
        client.settle();
    }
    assert_eq!(client.holds(Listener), ["a=1"]);
}

#[test]
fn rule_10_an_assignment_that_went_unsaid_is_reported_when_the_client_drops_it() {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| _ = edit.set(res(Endpoint, "a", "1")));
    let mut client = Client::on(Protocol::Sotw, builder.latest());
    client.subscribe(Endpoint, &["a"]);
    client.settle();
    builder.update(|edit| _ = edit.remove(Endpoint, "a"));
    client.publish(builder.latest());
    client.settle();
    client.take_reports();
    client.unsubscribe(Endpoint, &["a"]);
    let expected = Report::Acked { ty: Endpoint, resources: Vec::new(), removed: vec!["a".into()] };
    assert_eq!(client.take_reports(), [expected]);
}

#[test]
fn rule_04_routes_wait_for_a_new_cluster_whose_assignment_got_another_name() {
    let with = |name| res(Cluster, "a", name).with_refs([Reference::new(Endpoint, name)]);
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        edit.set(with("blue")).set(res(Endpoint, "blue", "1")).set(res(Listener, "l", "1"));
    });
    let mut client = Client::on(Protocol::Delta, builder.latest());
    client.subscribe(Cluster, &["*"]);
    client.subscribe(Listener, &["*"]);
    client.subscribe(Endpoint, &["other"]);
    client.settle();
    builder.update(|edit| {
        edit.set(with("green")).set(res(Endpoint, "green", "1")).remove(Endpoint, "blue");
    });
    client.publish(builder.latest());
    client.settle();
    assert!(client.holds(Listener).is_empty(), "neither blue nor green has come");
    client.subscribe(Endpoint, &["green"]);
    client.settle();
    assert_eq!(client.holds(Listener), ["l=1"]);
}

/// Where more changes between two answers than fits into a response, every name has its turn.
#[test]
fn rule_20_what_does_not_fit_comes_before_what_was_sent_already() {
    let names: Vec<String> = (0..10).map(|n| format!("s{n}")).collect();
    let change_all = |builder: &mut SnapshotBuilder, round: usize| {
        builder.update(|edit| {
            for name in &names {
                edit.set(res(Endpoint, name, &round.to_string()));
            }
        });
    };
    for protocol in BOTH {
        let mut builder = SnapshotBuilder::new();
        change_all(&mut builder, 0);
        // Three of these names with their bodies.
        let limits = Limits { max_response_bytes: 9, ..Limits::default() };
        let mut client = Client::with_limits(protocol, limits);
        client.publish(builder.latest());
        client.subscribe(Endpoint, &names.iter().map(String::as_str).collect::<Vec<_>>());
        client.settle();
        client.take_log();
        for round in 1..=4 {
            change_all(&mut builder, round);
            client.publish(builder.latest());
            for response in client.flush() {
                client.answer(&response);
            }
        }
        let expected = ["endpoint: s0 s1 s2", "endpoint: s3 s4 s5", "endpoint: s6 s7 s8", "endpoint: s9 s0 s1"];
        assert_eq!(client.take_log(), expected, "{protocol:?}");
        client.settle();
        assert!(
            client.holds(Endpoint).iter().all(|held| held.ends_with("=4")),
            "{protocol:?}: {:?}",
            client.holds(Endpoint)
        );
    }
}
