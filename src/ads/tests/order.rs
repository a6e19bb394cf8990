//! Rule 4: make before break, across ACKs, and no longer than a silent client deserves.

use std::time::Duration;

use super::client::*;
use crate::ads::{Limits, Protocol};
use crate::snapshot::{ResourceType, SnapshotBuilder};

/// A client that runs service `a`: cluster, endpoints, listener and route.
fn running(protocol: Protocol) -> (Client, SnapshotBuilder) {
    running_with(protocol, Limits::default())
}

fn running_with(protocol: Protocol, limits: Limits) -> (Client, SnapshotBuilder) {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        for ty in ResourceType::ALL {
            edit.set(res(ty, "a", "1"));
        }
    });
    let mut client = Client::with_limits(protocol, limits);
    client.publish(builder.latest());
    client.subscribe(Cluster, &["*"]);
    client.subscribe(Listener, &["*"]);
    client.subscribe(Endpoint, &["a"]);
    client.subscribe(Route, &["a"]);
    client.settle();
    client.take_log();
    (client, builder)
}

fn lines(client: &mut Client) -> Vec<String> {
    client.flush().iter().map(line).collect()
}

#[test]
fn rule_04_listeners_and_routes_wait_for_the_endpoints_of_new_clusters() {
    let (mut client, mut builder) = running(Protocol::Delta);
    builder.update(|edit| {
        for ty in [Cluster, Endpoint, Listener] {
            edit.set(res(ty, "b", "1"));
        }
        edit.set(res(Route, "a", "2"));
    });
    client.publish(builder.latest());
    let clusters = client.flush();
    assert_eq!(clusters.iter().map(line).collect::<Vec<_>>(), ["cluster: b"]);
    client.answer(&clusters[0]);
    assert!(client.flush().is_empty(), "the endpoints of b are not asked for yet");
    client.subscribe(Endpoint, &["b"]);
    let endpoints = client.flush();
    assert_eq!(endpoints.iter().map(line).collect::<Vec<_>>(), ["endpoint: b"]);
    client.answer(&endpoints[0]);
    let listeners = client.flush();
    assert_eq!(listeners.iter().map(line).collect::<Vec<_>>(), ["listener: b"]);
    client.answer(&listeners[0]);
    assert_eq!(lines(&mut client), ["route: a"]);
}

#[test]
fn rule_04_clusters_go_after_what_led_to_them() {
    let (mut client, mut builder) = running(Protocol::Delta);
    builder.update(|edit| {
        for ty in [Cluster, Endpoint, Listener] {
            edit.set(res(ty, "b", "1"));
            edit.remove(ty, "a");
        }
        edit.set(res(Route, "a", "2"));
    });
    client.publish(builder.latest());
    client.subscribe(Endpoint, &["b"]);
    client.settle();
    let expected = ["cluster: b", "endpoint: b", "listener: b -a", "route: a", "cluster: -a", "endpoint: -a"];
    assert_eq!(client.take_log(), expected);
}

#[test]
fn rule_04_in_sotw_the_list_keeps_a_cluster_until_it_may_go() {
    let (mut client, mut builder) = running(Protocol::Sotw);
    builder.update(|edit| {
        for ty in [Cluster, Endpoint, Listener] {
            edit.set(res(ty, "b", "1"));
            edit.remove(ty, "a");
        }
        edit.set(res(Route, "a", "2"));
    });
    client.publish(builder.latest());
    client.subscribe(Endpoint, &["b"]);
    client.settle();
    assert_eq!(client.take_log(), ["cluster: a b", "endpoint: b", "listener: b", "route: a", "cluster: b"]);
}

#[test]
fn rule_04_a_change_of_endpoints_holds_nothing_back() {
    for protocol in BOTH {
        let (mut client, mut builder) = running(protocol);
        builder.update(|edit| {
            edit.set(res(Endpoint, "a", "2")).set(res(Listener, "a", "2"));
        });
        client.publish(builder.latest());
        assert_eq!(lines(&mut client), ["endpoint: a", "listener: a"], "{protocol:?}");
    }
}

#[test]
fn rule_04_a_silent_client_holds_nothing_back_for_ever() {
    for protocol in BOTH {
        let (mut client, mut builder) = running(protocol);
        builder.update(|edit| {
            edit.set(res(Cluster, "b", "1")).set(res(Endpoint, "b", "1")).set(res(Listener, "a", "2"));
            edit.set(res(Route, "a", "2"));
        });
        client.publish(builder.latest());
        assert_eq!(client.flush().len(), 1, "{protocol:?}: the clusters, never answered");
        assert_eq!(client.stream.next_deadline(), Some(client.now + 10_000));
        client.now += 9_999;
        assert!(client.flush().is_empty());
        client.now += 1;
        assert_eq!(lines(&mut client), ["listener: a", "route: a"], "{protocol:?}");
    }
}

#[test]
fn rule_04_a_refused_cluster_is_not_waited_for() {
    for protocol in BOTH {
        let (mut client, mut builder) = running(protocol);
        builder.update(|edit| {
            edit.set(res(Cluster, "b", "bad")).set(res(Endpoint, "b", "1")).set(res(Listener, "a", "2"));
        });
        client.publish(builder.latest());
        client.settle();
        assert_eq!(client.holds(Listener), ["a=2"], "{protocol:?}");
    }
}

#[test]
fn rule_04_a_client_whose_endpoints_come_from_elsewhere_waits_once() {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| _ = edit.set(res(Cluster, "a", "1")).set(res(Endpoint, "a", "1")));
    let mut client = Client::on(Protocol::Delta, builder.latest());
    client.subscribe(Cluster, &["*"]);
    client.subscribe(Listener, &["*"]);
    client.settle();
    assert_eq!(client.take_log(), ["cluster: a"]);
    client.now += 10_000;
    client.settle();
    assert_eq!(client.take_log(), ["listener:"]);
    builder.update(|edit| {
        edit.set(res(Cluster, "b", "1")).set(res(Endpoint, "b", "1")).set(res(Listener, "b", "1"));
    });
    client.publish(builder.latest());
    client.settle();
    assert_eq!(client.take_log(), ["cluster: b", "listener: b"]);
}

#[test]
fn rule_04_what_a_draining_listener_leads_to_outlives_it() {
    for protocol in BOTH {
        let limits = Limits { drain_timeout: Duration::from_secs(60), ..Limits::default() };
        let (mut client, mut builder) = running_with(protocol, limits);
        builder.update(|edit| {
            ResourceType::ALL.into_iter().for_each(|ty| {
                edit.remove(ty, "a");
            });
        });
        client.publish(builder.latest());
        client.settle();
        assert!(client.holds(Listener).is_empty(), "{protocol:?}");
        assert_eq!(client.holds(Cluster), ["a=1"], "{protocol:?}");

        // Meanwhile what is new is held back by nothing.
        client.now += 30_000;
        builder.update(|edit| {
            edit.set(res(Cluster, "b", "1")).set(res(Endpoint, "b", "1")).set(res(Listener, "b", "1"));
        });
        client.publish(builder.latest());
        client.subscribe(Endpoint, &["b"]);
        client.settle();
        assert_eq!(
            (client.holds(Listener), client.holds(Cluster)),
            (vec!["b=1".into()], vec!["a=1".into(), "b=1".into()])
        );

        client.now += 30_001;
        client.settle();
        assert_eq!(client.holds(Cluster), ["b=1"], "{protocol:?}");
    }
}
