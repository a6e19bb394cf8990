//! Streams of one type: the same rules, and nothing that waits for other types.

use std::sync::Arc;

use xds_api::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

use super::client::*;
use crate::ads::stream::Request;
use crate::ads::{DiscoveryService, Protocol, Violation};
use crate::snapshot::{Resource, ResourceType, XdsSnapshot};

const OF: [(ResourceType, DiscoveryService); 4] = [
    (Cluster, DiscoveryService::Cluster),
    (Endpoint, DiscoveryService::Endpoint),
    (Listener, DiscoveryService::Listener),
    (Route, DiscoveryService::Route),
];

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

fn ask(protocol: Protocol, type_url: &str, name: &str) -> Request {
    let (type_url, names) = (type_url.to_owned(), names(&[name]));
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
}

fn all(body: &str) -> Arc<XdsSnapshot> {
    snapshot(&[(Cluster, "a", body), (Endpoint, "a", body), (Listener, "a", body), (Route, "a", body)])
}

#[test]
fn a_stream_of_one_type_takes_it_for_granted() {
    for protocol in BOTH {
        for (ty, service) in OF {
            for type_url in ["", ty.type_url()] {
                let mut client = Client::of_one(protocol, service, &all("1"));
                client.request(ask(protocol, type_url, "a")).expect("its own type");
                let sent = client.flush();
                assert_eq!(sent.iter().map(line).collect::<Vec<_>>(), [format!("{ty}: a")], "{protocol:?}");
                assert_eq!(&*sent[0].type_url, ty.type_url());
            }
        }
    }
}

#[test]
fn a_stream_of_one_type_ends_when_it_is_asked_for_another() {
    for protocol in BOTH {
        for (ty, service) in OF {
            for other in OF.map(|(other, _)| other.type_url()).into_iter().chain([SECRET]) {
                if other == ty.type_url() {
                    continue;
                }
                let mut client = Client::of_one(protocol, service, &all("1"));
                let refused = client.request(ask(protocol, other, "a")).expect_err("another type");
                assert!(matches!(refused, Violation::WrongType { .. }), "{refused:?}");
                let text = refused.to_string();
                assert!(text.contains(ty.type_url()) && text.contains(other), "{text}");
            }
        }
    }
}

#[test]
fn secrets_are_answered_that_there_are_none() {
    for protocol in BOTH {
        let mut client = Client::of_one(protocol, DiscoveryService::Secret, &all("1"));
        client.request(ask(protocol, "", "tls")).expect("its own type");
        let sent = client.flush();
        assert_eq!(sent.len(), 1);
        assert_eq!((&*sent[0].type_url, sent[0].resources.len()), (SECRET, 0));
    }
}

/// All at once, in any state: what comes, changes and goes is sent as soon as the client has answered.
#[test]
fn nothing_on_a_stream_of_one_type_waits_for_another() {
    for protocol in BOTH {
        for (ty, service) in OF {
            let mut client = Client::of_one(protocol, service, &all("1"));
            let wanted: &[&str] = if ty.is_complete_list() { &["*"] } else { &["a", "b"] };
            client.subscribe(ty, wanted);
            client.settle();
            assert_eq!(client.holds(ty), ["a=1"]);
            let more = snapshot(&[
                (Cluster, "a", "2"),
                (Cluster, "b", "1"),
                (Endpoint, "b", "1"),
                (Listener, "b", "1"),
                (Route, "b", "1"),
            ]);
            client.publish(&more);
            client.settle();
            let expected: Vec<String> = more.resources(ty).map(|r| format!("{}={}", r.name(), text(r))).collect();
            if protocol == Protocol::Delta || ty.is_complete_list() {
                assert_eq!(client.holds(ty), expected, "{protocol:?} {ty}");
            }
            assert!(client.stream.debug().awaited.is_empty());
            // It comes back while what it has goes: the removal waits for nobody.
            client.reconnect(&snapshot(&[]));
            client.settle();
            if protocol == Protocol::Delta || ty.is_complete_list() {
                assert_eq!(client.holds(ty), Vec::<String>::new(), "{protocol:?} {ty}");
            }
            let due = client.stream.next_deadline();
            assert!(due.is_none() || ty == Listener, "{protocol:?} {ty} waits for something until {due:?}");
        }
    }
}

fn text(resource: &Resource) -> String {
    String::from_utf8_lossy(resource.body()).into_owned()
}

/// Rule 12. An aggregated stream sends endpoints again where their clusters may be warming; here each cluster has its own
/// subscription, which begins with nothing.
#[test]
fn rule_12_endpoints_alone_are_not_sent_again() {
    let held = all("1");
    let mut client = Client::of_one(Protocol::Delta, DiscoveryService::Endpoint, &held);
    client.subscribe(Endpoint, &["a"]);
    client.settle();
    client.take_log();
    client.reconnect(&held);
    client.settle();
    assert_eq!(client.take_log(), Vec::<String>::new());
}
