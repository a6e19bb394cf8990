//! One test for each rule that a machine keeps; those of the shell are in `tests/it/ads.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use xds_api::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use xds_api::pb::google::rpc::Status;

use super::client::*;
use crate::ads::stream::{Report, Request};
use crate::ads::{Limits, Protocol, Versioned, Violation};
use crate::snapshot::{ResourceType, SnapshotBuilder};

fn delta(ty: ResourceType) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: ty.type_url().to_owned(), ..DeltaDiscoveryRequest::default() }
}

fn sotw(ty: ResourceType) -> DiscoveryRequest {
    DiscoveryRequest { type_url: ty.type_url().to_owned(), ..DiscoveryRequest::default() }
}

fn of(ty: ResourceType, resources: &[(&str, &str)]) -> Vec<Versioned> {
    let one = |(name, body): &(&str, &str)| (Arc::from(*name), res(ty, name, body).version().clone());
    resources.iter().map(one).collect()
}

fn acked(ty: ResourceType, resources: &[(&str, &str)], removed: &[&str]) -> Report {
    let removed = removed.iter().map(|name| Arc::from(*name)).collect();
    Report::Acked { ty, resources: of(ty, resources), removed }
}

#[test]
fn rule_01_a_stale_nonce_answers_nothing_in_sotw() {
    let mut client = Client::on(Protocol::Sotw, &snapshot(&[(Endpoint, "a", "1"), (Endpoint, "b", "1")]));
    client.subscribe(Endpoint, &["a"]);
    let first = client.flush();
    let mut stale = sotw(Endpoint);
    stale.resource_names = names(&["a", "b"]);
    stale.response_nonce = "0.0".to_owned();
    client.request(Request::from(stale)).expect("ignored");
    assert!(client.flush().is_empty());
    assert!(client.take_reports().is_empty(), "nothing was acknowledged");
    client.answer(&first[0]);
    assert_eq!(client.take_reports(), [acked(Endpoint, &[("a", "1")], &[])]);
}

#[test]
fn rule_01_a_stale_nonce_loses_no_subscription_in_delta() {
    let mut client = Client::on(Protocol::Delta, &snapshot(&[(Endpoint, "a", "1"), (Endpoint, "b", "1")]));
    client.subscribe(Endpoint, &["a"]);
    let first = client.flush();
    let mut stale = delta(Endpoint);
    stale.response_nonce = "0.0".to_owned();
    stale.resource_names_subscribe = names(&["b"]);
    stale.error_detail = Some(Status { message: "a: no".to_owned(), ..Status::default() });
    client.request(Request::from(stale)).expect("taken");
    assert!(client.take_reports().is_empty(), "neither an ACK nor a NACK");
    client.answer(&first[0]);
    client.take_log();
    let next = client.flush();
    assert_eq!(next.iter().map(line).collect::<Vec<_>>(), ["endpoint: b"]);
}

#[test]
fn rule_02_what_was_refused_is_not_sent_again_until_it_changes() {
    for protocol in BOTH {
        let mut builder = SnapshotBuilder::new();
        builder.update(|edit| {
            edit.set(res(Listener, "a", "1")).set(res(Listener, "b", "bad"));
        });
        let mut client = Client::on(protocol, builder.latest());
        client.subscribe(Listener, &["*"]);
        client.settle();
        assert_eq!(client.take_log(), ["listener: a b", "listener: a"], "{protocol:?}");
        client.now += 3_600_000;
        assert!(client.flush().is_empty());
        // Another listener changes: the refused one stays away.
        builder.update(|edit| _ = edit.set(res(Listener, "a", "2")));
        client.publish(builder.latest());
        client.settle();
        assert_eq!(client.take_log(), ["listener: a"], "{protocol:?}");
        // It changes: it is offered again.
        builder.update(|edit| _ = edit.set(res(Listener, "b", "2")));
        client.publish(builder.latest());
        client.settle();
        let expected = if protocol == Protocol::Sotw { "listener: a b" } else { "listener: b" };
        assert_eq!(client.take_log(), [expected]);
        assert_eq!(client.holds(Listener), ["a=2", "b=2"]);
        // And once more as it was when it was refused: that was refused.
        builder.update(|edit| _ = edit.set(res(Listener, "b", "bad")));
        client.publish(builder.latest());
        client.settle();
        assert_eq!(client.holds(Listener), ["a=2", "b=2"], "what it accepted stays");
        assert!(client.take_log().is_empty(), "{protocol:?}");
    }
}

#[test]
fn rule_02_a_nack_is_its_error_and_never_a_version() {
    let mut client = Client::on(Protocol::Sotw, &snapshot(&[(Listener, "a", "1")]));
    client.subscribe(Listener, &["*"]);
    let sent = client.flush();
    let mut ack = client.sotw_request(Listener);
    ack.response_nonce.clone_from(&sent[0].nonce);
    ack.version_info = "of another replica".to_owned();
    client.request(Request::from(ack)).expect("an ACK");
    assert_eq!(client.take_reports(), [acked(Listener, &[("a", "1")], &[])]);

    let mut client = Client::on(Protocol::Sotw, &snapshot(&[(Listener, "a", "1")]));
    client.subscribe(Listener, &["*"]);
    let sent = client.flush();
    let mut nack = client.sotw_request(Listener);
    nack.response_nonce.clone_from(&sent[0].nonce);
    nack.version_info.clone_from(&sent[0].version);
    nack.error_detail = Some(Status::default());
    client.request(Request::Sotw(nack)).expect("a NACK");
    let reports = client.take_reports();
    let [Report::Rejected { refused, .. }] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(*refused, of(Listener, &[("a", "1")]), "alone in its response, it is meant");
}

#[test]
fn rule_03_siblings_of_what_was_refused_are_unknown_until_they_are_acknowledged() {
    for protocol in BOTH {
        let mut client = Client::on(
            protocol,
            &snapshot(&[(Listener, "a", "1"), (Listener, "b", "bad"), (Listener, "c", "1"), (Listener, "d", "bad")]),
        );
        client.subscribe(Listener, &["*"]);
        client.settle();
        let reports = client.take_reports();
        let [Report::Rejected { refused, unknown, detail, details, .. }, ack] = &reports[..] else {
            panic!("{protocol:?}: {reports:?}")
        };
        assert_eq!(*refused, of(Listener, &[("b", "bad"), ("d", "bad")]));
        assert_eq!(*unknown, of(Listener, &[("a", "1"), ("c", "1")]));
        assert!(detail.contains("b: cannot"));
        assert_eq!(details.get("b").map(String::as_str), Some("cannot"));
        assert_eq!(*ack, acked(Listener, &[("a", "1"), ("c", "1")], &[]), "{protocol:?}");
        assert_eq!(client.take_log(), ["listener: a b c d", "listener: a c"]);
    }
}

#[test]
fn rule_03_a_refused_change_leaves_what_was_accepted_before() {
    for protocol in BOTH {
        let mut builder = SnapshotBuilder::new();
        builder.update(|edit| {
            edit.set(res(Listener, "a", "1")).set(res(Listener, "b", "1"));
        });
        let mut client = Client::on(protocol, builder.latest());
        client.subscribe(Listener, &["*"]);
        client.settle();
        builder.update(|edit| _ = edit.set(res(Listener, "a", "bad")));
        client.publish(builder.latest());
        client.settle();
        assert_eq!(client.holds(Listener), ["a=1", "b=1"], "{protocol:?}");
        client.take_log();
        // Nothing was left unknown, so nothing had to be offered again.
        let rejected = client.take_reports();
        assert!(matches!(&rejected[..], [_, Report::Rejected { unknown, .. }] if unknown.is_empty()), "{rejected:?}");
        builder.update(|edit| _ = edit.set(res(Listener, "b", "2")));
        client.publish(builder.latest());
        client.settle();
        assert_eq!(client.holds(Listener), ["a=1", "b=2"], "{protocol:?}: a sibling's change deletes nothing");
    }
}

#[test]
fn rule_03_a_nack_that_names_nobody_is_narrowed_down() {
    for protocol in BOTH {
        let many: Vec<String> = (0..64).map(|n| format!("l{n:02}")).collect();
        let resources: Vec<_> =
            many.iter().map(|n| (Listener, n.as_str(), if n == "l41" { "bad" } else { "1" })).collect();
        let mut client = Client::on(protocol, &snapshot(&resources));
        client.wording = Wording::Nameless;
        client.subscribe(Listener, &["*"]);
        client.settle();
        assert_eq!(client.holds(Listener).len(), 63);
        let responses = client.take_log().len();
        assert!(responses <= 1 + 2 * 7, "{protocol:?}: {responses} responses for one culprit of 64");
        let refusals = client.take_reports().into_iter().filter_map(|report| match report {
            Report::Rejected { refused, .. } => Some(refused),
            Report::Acked { .. } => None,
        });
        assert_eq!(refusals.flatten().collect::<Vec<_>>(), of(Listener, &[("l41", "bad")]), "{protocol:?}");
    }
}

#[test]
fn rule_05_a_changed_cluster_is_followed_by_its_unchanged_endpoints() {
    for protocol in BOTH {
        let mut builder = SnapshotBuilder::new();
        builder.update(|edit| {
            for name in ["a", "b"] {
                edit.set(res(Cluster, name, "1")).set(res(Endpoint, name, "1"));
            }
        });
        let mut client = Client::on(protocol, builder.latest());
        client.subscribe(Cluster, &["*"]);
        client.settle();
        client.subscribe(Endpoint, &["a", "b"]);
        client.settle();
        client.take_log();
        builder.update(|edit| _ = edit.set(res(Cluster, "a", "2")));
        client.publish(builder.latest());
        client.settle();
        let clusters = if protocol == Protocol::Sotw { "cluster: a b" } else { "cluster: a" };
        assert_eq!(client.take_log(), [clusters, "endpoint: a"], "{protocol:?}");
    }
}

/// Envoy acknowledges clusters only when they are warm, so their endpoints cannot wait for that.
#[test]
fn rule_05_the_endpoints_do_not_wait_for_the_ack_of_their_clusters() {
    for protocol in BOTH {
        let mut builder = SnapshotBuilder::new();
        builder.update(|edit| _ = edit.set(res(Cluster, "a", "1")).set(res(Endpoint, "a", "1")));
        let mut client = Client::on(protocol, builder.latest());
        client.subscribe(Cluster, &["*"]);
        client.subscribe(Endpoint, &["a"]);
        client.settle();
        client.take_log();
        builder.update(|edit| _ = edit.set(res(Cluster, "a", "2")).set(res(Endpoint, "a", "2")));
        client.publish(builder.latest());
        let sent = client.flush();
        assert_eq!(sent.iter().map(line).collect::<Vec<_>>(), ["cluster: a", "endpoint: a"], "{protocol:?}");
        client.answer(&sent[1]);
        client.answer(&sent[0]);
        assert!(client.flush().is_empty(), "and once is enough");
    }
}

#[test]
fn rule_05_after_a_reconnection_only_the_endpoints_of_touched_clusters_follow() {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        for name in ["a", "b"] {
            edit.set(res(Cluster, name, "1")).set(res(Endpoint, name, "1"));
        }
    });
    let mut client = Client::on(Protocol::Delta, builder.latest());
    client.subscribe(Cluster, &["*"]);
    client.subscribe(Endpoint, &["a", "b"]);
    client.settle();
    builder.update(|edit| _ = edit.set(res(Cluster, "a", "2")));
    client.reconnect(builder.latest());
    client.settle();
    assert_eq!(client.take_log(), ["cluster: a", "endpoint: a"]);

    // A SotW client says nothing of what it has; it is sent all clusters, and so all their endpoints.
    let mut client = Client::on(Protocol::Sotw, builder.latest());
    client.subscribe(Cluster, &["*"]);
    client.subscribe(Endpoint, &["a", "b"]);
    client.settle();
    client.reconnect(builder.latest());
    client.settle();
    assert_eq!(client.take_log(), ["cluster: a b", "endpoint: a b"]);
}

/// An Envoy whose clusters are warming asks for endpoints first, and for clusters when they are warm.
#[test]
fn rule_05_a_client_that_reconnects_while_clusters_are_warming_gets_their_endpoints() {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| _ = edit.set(res(Cluster, "a", "1")).set(res(Endpoint, "a", "1")));
    let version = res(Endpoint, "a", "1").version().to_string();
    let mut first = delta(Endpoint);
    first.resource_names_subscribe = names(&["a"]);
    first.initial_resource_versions = HashMap::from([("a".to_owned(), version)]);
    let mut client = Client::on(Protocol::Delta, builder.latest());
    client.request(Request::from(first.clone())).expect("taken");
    assert_eq!(client.flush().iter().map(line).collect::<Vec<_>>(), ["endpoint: a"]);

    let mut client = Client::on(Protocol::Delta, builder.latest());
    let mut clusters = delta(Cluster);
    let version = res(Cluster, "a", "1").version().to_string();
    clusters.initial_resource_versions = HashMap::from([("a".to_owned(), version)]);
    client.request(Request::from(clusters)).expect("taken");
    client.request(Request::from(first)).expect("taken");
    assert!(client.flush().is_empty(), "one whose clusters are warm has all it needs");
}

#[test]
fn rule_06_names_that_the_snapshot_lacks_do_not_withhold_an_answer() {
    for protocol in BOTH {
        let mut client = Client::on(protocol, &snapshot(&[(Endpoint, "a", "1"), (Endpoint, "x", "1")]));
        client.subscribe(Endpoint, &["a", "missing"]);
        client.settle();
        let expected = if protocol == Protocol::Sotw { "endpoint: a" } else { "endpoint: a -missing" };
        assert_eq!(client.take_log(), [expected]);
    }
    let mut client = Client::on(Protocol::Sotw, &snapshot(&[]));
    client.subscribe(Endpoint, &["missing"]);
    client.settle();
    assert_eq!(client.take_log(), ["endpoint:"], "even an empty one");
}

#[test]
fn rule_07_wildcards() {
    let both = snapshot(&[(Cluster, "a", "1"), (Cluster, "b", "1"), (Endpoint, "a", "1")]);
    // Naming nothing at first means everything, for the types whose lists are complete.
    let mut client = Client::on(Protocol::Sotw, &both);
    client.request(Request::from(sotw(Cluster))).expect("taken");
    client.request(Request::from(sotw(Endpoint))).expect("taken");
    assert_eq!(client.flush().iter().map(line).collect::<Vec<_>>(), ["cluster: a b", "endpoint:"]);
    // Once a name was given, nothing means nothing.
    let mut client = Client::on(Protocol::Sotw, &both);
    client.subscribe(Cluster, &["a"]);
    client.settle();
    client.unsubscribe(Cluster, &["a"]);
    client.settle();
    assert_eq!(client.take_log(), ["cluster: a"], "no wildcard by the back door");

    let mut client = Client::on(Protocol::Delta, &both);
    client.request(Request::from(delta(Cluster))).expect("taken");
    let sent = client.flush();
    assert_eq!(sent.iter().map(line).collect::<Vec<_>>(), ["cluster: a b"]);
    // `*` and names combine, and `*` can be taken back alone.
    let mut client = Client::on(Protocol::Delta, &both);
    client.subscribe(Cluster, &["*", "a", "c"]);
    client.settle();
    assert_eq!(client.take_log(), ["cluster: a b -c"]);
    client.unsubscribe(Cluster, &["*"]);
    client.settle();
    assert!(client.take_log().is_empty());
    let changed = snapshot(&[(Cluster, "a", "2"), (Cluster, "b", "2")]);
    client.publish(&changed);
    client.settle();
    assert_eq!(client.take_log(), ["cluster: a"]);
}

#[test]
fn rule_07_a_wildcard_over_nothing_is_answered() {
    for protocol in BOTH {
        let mut client = Client::on(protocol, &snapshot(&[]));
        client.subscribe(Listener, &["*"]);
        client.settle();
        assert_eq!(client.take_log(), ["listener:"], "or an Envoy that starts waits");
    }
}

#[test]
fn rule_08_a_new_subscription_to_what_did_not_change_is_answered() {
    for protocol in BOTH {
        let mut client = Client::on(protocol, &snapshot(&[(Route, "a", "1"), (Route, "b", "1")]));
        client.subscribe(Route, &["a"]);
        client.settle();
        client.subscribe(Route, &["b"]);
        client.settle();
        assert_eq!(client.take_log(), ["route: a", "route: b"], "{protocol:?}");
        client.unsubscribe(Route, &["b"]);
        client.settle();
        client.subscribe(Route, &["b"]);
        client.settle();
        assert_eq!(client.take_log(), ["route: b"], "{protocol:?}");
    }
}

#[test]
fn rule_09_unsubscribing_is_answered_only_where_the_wildcard_still_covers() {
    let mut client = Client::on(Protocol::Delta, &snapshot(&[(Cluster, "a", "1")]));
    client.subscribe(Cluster, &["*", "a", "gone"]);
    client.settle();
    client.take_log();
    client.unsubscribe(Cluster, &["a"]);
    client.unsubscribe(Cluster, &["gone"]);
    client.settle();
    assert_eq!(client.take_log(), ["cluster: a -gone"]);
    client.unsubscribe(Cluster, &["never"]);
    client.settle();
    assert!(client.take_log().is_empty());

    let mut client = Client::on(Protocol::Delta, &snapshot(&[(Endpoint, "a", "1")]));
    client.subscribe(Endpoint, &["a"]);
    client.settle();
    client.take_log();
    client.take_reports();
    client.unsubscribe(Endpoint, &["a"]);
    client.settle();
    assert!(client.take_log().is_empty());
    assert_eq!(client.take_reports(), [acked(Endpoint, &[], &["a"])], "what is not wanted is not there");
}

#[test]
fn rule_10_lists_are_complete_and_nothing_is_said_before_there_is_a_snapshot() {
    let mut client = Client::new(Protocol::Sotw);
    for ty in [Cluster, Listener] {
        client.subscribe(ty, &["*"]);
    }
    client.subscribe(Endpoint, &["a", "b"]);
    assert!(client.stream.snapshot_changed(None).is_empty());
    client.now += 3_600_000;
    assert!(client.flush().is_empty(), "unknown is not empty");
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        for name in ["a", "b"] {
            edit.set(res(Cluster, name, "1")).set(res(Endpoint, name, "1"));
        }
    });
    client.publish(builder.latest());
    client.settle();
    assert_eq!(client.take_log(), ["cluster: a b", "endpoint: a b", "listener:"]);
    // One of each changes: of clusters all are sent, of endpoints the one.
    builder.update(|edit| _ = edit.set(res(Endpoint, "b", "2")));
    client.publish(builder.latest());
    client.settle();
    assert_eq!(client.take_log(), ["endpoint: b"]);
    builder.update(|edit| _ = edit.remove(Cluster, "b").remove(Endpoint, "b"));
    client.publish(builder.latest());
    client.settle();
    assert_eq!(client.take_log(), ["cluster: a"]);
    assert_eq!(client.holds(Cluster), ["a=1"]);
}

#[test]
fn rule_11_a_name_that_does_not_exist_is_answered_and_sent_when_it_does() {
    let mut builder = SnapshotBuilder::new();
    let mut client = Client::on(Protocol::Delta, builder.latest());
    client.subscribe(Endpoint, &["later"]);
    client.settle();
    assert_eq!(client.take_log(), ["endpoint: -later"]);
    builder.update(|edit| _ = edit.set(res(Endpoint, "later", "1")));
    client.publish(builder.latest());
    client.settle();
    assert_eq!(client.take_log(), ["endpoint: later"]);
}

#[test]
fn rule_12_a_delta_client_that_reconnects_is_sent_what_differs() {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        for name in ["a", "b", "c"] {
            edit.set(res(Cluster, name, "1")).set(res(Endpoint, name, "1")).set(res(Listener, name, "1"));
        }
    });
    let mut client = Client::on(Protocol::Delta, builder.latest());
    client.subscribe(Cluster, &["*"]);
    client.subscribe(Endpoint, &["a", "b", "c"]);
    client.subscribe(Listener, &["*"]);
    client.settle();
    // Nothing changed: nothing is sent, and what the client has is proved all the same.
    client.reconnect(builder.latest());
    client.settle();
    assert!(client.take_log().is_empty());
    let all = [("a", "1"), ("b", "1"), ("c", "1")];
    let expected = [Cluster, Endpoint, Listener].map(|ty| acked(ty, &all, &[]));
    assert_eq!(client.take_reports(), expected);
    // A replica that knows nothing yet proves it later.
    client.reconnect(builder.latest());
    let (versions, mut late) = (client.has(Listener), Client::new(Protocol::Delta));
    let mut request = delta(Listener);
    request.initial_resource_versions =
        versions.iter().map(|(n, r)| (n.to_string(), r.version().to_string())).collect();
    late.request(Request::from(request)).expect("taken");
    assert!(late.take_reports().is_empty());
    late.publish(builder.latest());
    assert_eq!(late.take_reports(), [acked(Listener, &all, &[])]);
    assert!(late.flush().is_empty());
    // One changed, one gone, meanwhile.
    builder.update(|edit| _ = edit.set(res(Listener, "b", "2")).remove(Listener, "c"));
    client.reconnect(builder.latest());
    client.settle();
    assert_eq!(client.take_log(), ["listener: b -c"]);
    assert_eq!(client.take_reports().pop(), Some(acked(Listener, &[("b", "2")], &["c"])));
}

#[test]
fn rule_12_only_the_first_request_says_what_the_client_has() {
    let mut client = Client::on(Protocol::Delta, &snapshot(&[(Endpoint, "a", "1"), (Endpoint, "b", "1")]));
    client.subscribe(Endpoint, &["a"]);
    client.settle();
    client.take_log();
    let mut later = delta(Endpoint);
    later.resource_names_subscribe = names(&["b"]);
    let version = res(Endpoint, "b", "1").version().to_string();
    later.initial_resource_versions = HashMap::from([("b".to_owned(), version)]);
    client.request(Request::from(later)).expect("taken");
    assert_eq!(client.flush().iter().map(line).collect::<Vec<_>>(), ["endpoint: b"]);
}

#[test]
fn rule_13_the_node_is_bound_by_the_first_message() {
    let mut client = Client::on(Protocol::Delta, &snapshot(&[]));
    let with = |id: &str| Request::from(DeltaDiscoveryRequest { node: Some(node(id)), ..delta(Cluster) });
    assert_eq!(client.request(with("n")), Ok(()), "saying it again is no change");
    let refused = client.request(with("other"));
    assert!(matches!(refused, Err(Violation::NodeChanged { .. })), "{refused:?}");
}

#[test]
fn rule_14_requests_without_a_type_are_errors_and_unknown_types_are_answered_empty() {
    for protocol in BOTH {
        let mut client = Client::on(protocol, &snapshot(&[(Cluster, "a", "1")]));
        let request = |type_url: &str, names: Vec<String>| {
            let type_url = type_url.to_owned();
            match protocol {
                Protocol::Sotw => {
                    Request::from(DiscoveryRequest { type_url, resource_names: names, ..DiscoveryRequest::default() })
                }
                Protocol::Delta => Request::from(DeltaDiscoveryRequest {
                    type_url,
                    resource_names_subscribe: names,
                    ..DeltaDiscoveryRequest::default()
                }),
            }
        };
        assert_eq!(client.request(request("", Vec::new())), Err(Violation::NoTypeUrl));
        let secrets = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
        client.request(request(secrets, names(&["s"]))).expect("answered");
        client.subscribe(Cluster, &["*"]);
        let sent = client.flush();
        let expected = if protocol == Protocol::Sotw { format!("{secrets}:") } else { format!("{secrets}: -s") };
        assert_eq!(sent.iter().map(line).collect::<Vec<_>>(), [expected.as_str(), "cluster: a"]);
        // A NACK of the empty answer does not start a conversation.
        let mut nack = request(secrets, names(&["s"]));
        match &mut nack {
            Request::Sotw(nack) => nack.response_nonce.clone_from(&sent[0].nonce),
            Request::Delta(nack) => {
                nack.response_nonce.clone_from(&sent[0].nonce);
                nack.subscribe = [].into_iter().collect();
            }
        }
        client.request(nack).expect("taken");
        assert!(client.flush().is_empty());
        // Nor can the types be without number.
        let refused = (0..100).find_map(|n| client.request(request(&format!("type/{n}"), Vec::new())).err());
        assert!(matches!(refused, Some(Violation::TooManyTypes { .. })), "{refused:?}");
    }
}

#[test]
fn rule_16_names_of_the_other_scheme_are_refused_clearly() {
    let glob = "xdstp://authority/envoy.config.cluster.v3.Cluster/foo/*";
    let mut client = Client::on(Protocol::Delta, &snapshot(&[(Cluster, "a", "1")]));
    client.subscribe(Cluster, &["a", glob]);
    client.settle();
    assert_eq!(client.take_log(), [format!("cluster: a -{glob}")]);
    let debug = client.stream.debug();
    assert_eq!(debug.types[&Cluster].names.len(), 1, "it is not subscribed to");
    assert_eq!(&*debug.types[&Cluster].not_understood[0], glob);
}

#[test]
fn rule_17_orphans_are_answered_as_removed() {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| _ = edit.set(res(Cluster, "a", "1")).set(res(Endpoint, "a", "1")));
    let mut client = Client::on(Protocol::Delta, builder.latest());
    client.subscribe(Cluster, &["*"]);
    client.subscribe(Endpoint, &["a"]);
    client.settle();
    builder.update(|edit| _ = edit.remove(Cluster, "a").remove(Endpoint, "a"));
    client.publish(builder.latest());
    client.settle();
    client.take_log();
    client.subscribe(Endpoint, &["a"]);
    client.settle();
    assert_eq!(client.take_log(), ["endpoint: -a"]);
}

#[test]
fn rule_18_subscriptions_are_bounded() {
    let limits = Limits { max_names: 10, max_name_bytes: 20, ..Limits::default() };
    let ask =
        |names: Vec<String>| Request::from(DeltaDiscoveryRequest { resource_names_subscribe: names, ..delta(Route) });
    let mut client = Client::with_limits(Protocol::Delta, limits.clone());
    let refused = client.request(ask((0..11).map(|n| n.to_string()).collect()));
    assert!(matches!(refused, Err(Violation::TooManyNames { count: 11, limit: 10, .. })), "{refused:?}");
    let refused = client.request(ask(vec!["x".repeat(21)]));
    assert!(matches!(refused, Err(Violation::NameTooLong { bytes: 21, limit: 20 })), "{refused:?}");

    // Ever other names under a wildcard, without reading an answer, cost no more memory either.
    let mut client = Client::with_limits(Protocol::Delta, limits);
    client.subscribe(Route, &["*"]);
    let refused = (0..1000).find_map(|n: u32| {
        let mut churn = delta(Route);
        churn.resource_names_subscribe = vec![n.to_string()];
        churn.resource_names_unsubscribe = vec![n.wrapping_sub(1).to_string()];
        client.request(Request::from(churn)).err()
    });
    assert!(matches!(refused, Some(Violation::TooManyNames { .. })), "{refused:?}");
}

#[test]
fn rule_18_a_client_that_does_not_answer_is_noticed() {
    let limits = Limits { ack_timeout: std::time::Duration::from_secs(5), ..Limits::default() };
    let mut client = Client::with_limits(Protocol::Delta, limits);
    client.publish(&snapshot(&[(Listener, "a", "1")]));
    client.subscribe(Listener, &["*"]);
    client.flush();
    assert_eq!(client.stream.next_deadline(), Some(client.now + 5_000));
    assert_eq!(client.stream.overdue(client.now + 4_999), None);
    assert_eq!(client.stream.overdue(client.now + 5_000), Some(Listener));
}

#[test]
fn rule_20_delta_responses_are_split() {
    let many: Vec<String> = (0..10).map(|n| format!("c{n}")).collect();
    let body = "x".repeat(300);
    let resources: Vec<_> = many.iter().map(|name| (Cluster, name.as_str(), body.as_str())).collect();
    let limits = Limits { max_response_bytes: 1000, ..Limits::default() };
    let mut client = Client::with_limits(Protocol::Delta, limits);
    client.publish(&snapshot(&resources));
    client.subscribe(Cluster, &["*"]);
    client.settle();
    assert_eq!(client.take_log(), ["cluster: c0 c1 c2", "cluster: c3 c4 c5", "cluster: c6 c7 c8", "cluster: c9"]);
    // One that is larger than the limit goes alone.
    let limits = Limits { max_response_bytes: 10, ..Limits::default() };
    let mut client = Client::with_limits(Protocol::Delta, limits);
    client.publish(&snapshot(&resources[..2]));
    client.subscribe(Cluster, &["*"]);
    client.settle();
    assert_eq!(client.take_log(), ["cluster: c0", "cluster: c1"]);
}

#[test]
fn rule_21_newer_generations_coalesce_behind_the_response_in_flight() {
    for protocol in BOTH {
        let mut builder = SnapshotBuilder::new();
        builder.update(|edit| _ = edit.set(res(Endpoint, "a", "0")));
        let mut client = Client::on(protocol, builder.latest());
        client.subscribe(Endpoint, &["a"]);
        let sent = client.flush();
        for n in 1..100 {
            builder.update(|edit| _ = edit.set(res(Endpoint, "a", &n.to_string())));
            client.publish(builder.latest());
            assert!(client.flush().is_empty());
        }
        client.answer(&sent[0]);
        client.settle();
        assert_eq!(client.take_log(), ["endpoint: a", "endpoint: a"]);
        assert_eq!(client.holds(Endpoint), ["a=99"]);
    }
}
