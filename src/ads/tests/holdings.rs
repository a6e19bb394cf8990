//! A stream that is at rest keeps what is special about its client, and nothing for each resource.

use super::client::*;
use crate::ads::Protocol;
use crate::snapshot::{ResourceType, SnapshotBuilder};

fn world(builder: &mut SnapshotBuilder, services: usize) {
    builder.update(|edit| {
        for n in 0..services {
            edit.set(res(Cluster, &format!("s{n}"), "1")).set(res(Endpoint, &format!("s{n}"), "1"));
        }
    });
}

fn told_apart(client: &Client) -> usize {
    ResourceType::ALL.into_iter().map(|ty| client.stream.told_apart(ty)).sum()
}

/// A client that follows all clusters and their assignments.
fn running(protocol: Protocol, builder: &SnapshotBuilder) -> Client {
    let mut client = Client::on(protocol, builder.latest());
    client.subscribe(Cluster, &["*"]);
    let names: Vec<String> = builder.latest().resources(Endpoint).map(|r| r.name().to_string()).collect();
    client.subscribe(Endpoint, &names.iter().map(String::as_str).collect::<Vec<_>>());
    client.settle();
    client
}

#[test]
fn at_rest_nothing_is_kept_for_each_resource() {
    for protocol in BOTH {
        let mut builder = SnapshotBuilder::new();
        world(&mut builder, 50);
        let mut client = running(protocol, &builder);
        assert_eq!(told_apart(&client), 0, "{protocol:?}: served");

        builder.update(|edit| _ = edit.set(res(Endpoint, "s7", "2")).remove(Endpoint, "s8"));
        client.publish(builder.latest());
        client.settle();
        // In SotW nothing tells that an assignment is gone.
        let gone = usize::from(protocol == Protocol::Sotw);
        assert_eq!(told_apart(&client), gone, "{protocol:?}: after a change");
        client.unsubscribe(Endpoint, &["s8"]);
        client.settle();
        assert_eq!(told_apart(&client), 0, "{protocol:?}: after the client gave it up");

        // What it refused is apart from what all others have, until there is something that it takes.
        builder.update(|edit| _ = edit.set(res(Endpoint, "s7", "bad")));
        client.publish(builder.latest());
        client.settle();
        assert_eq!(told_apart(&client), 1, "{protocol:?}: refused");
        for number in 3..6 {
            builder.update(|edit| _ = edit.set(res(Endpoint, "s9", &number.to_string())));
            client.publish(builder.latest());
            client.settle();
        }
        assert_eq!(told_apart(&client), 1, "{protocol:?}: others go on");
        builder.update(|edit| _ = edit.set(res(Endpoint, "s7", "3")));
        client.publish(builder.latest());
        client.settle();
        assert_eq!(told_apart(&client), 0, "{protocol:?}: taken");

        client.unsubscribe(Endpoint, &["s1"]);
        client.settle();
        client.subscribe(Endpoint, &["s1"]);
        client.settle();
        assert_eq!(told_apart(&client), 0, "{protocol:?}: unsubscribed and subscribed again");

        client.reconnect(builder.latest());
        client.settle();
        assert_eq!(told_apart(&client), 0, "{protocol:?}: reconnected");
    }
}

#[test]
fn a_lineage_that_ends_is_compared_once_and_forgotten() {
    for protocol in BOTH {
        let mut builder = SnapshotBuilder::new();
        world(&mut builder, 50);
        let mut client = running(protocol, &builder);
        client.take_log();
        let mut other = SnapshotBuilder::new();
        world(&mut other, 51);
        other.update(|edit| _ = edit.set(res(Endpoint, "s3", "2")));
        client.publish(other.latest());
        client.settle();
        let log = client.take_log();
        assert!(log.contains(&"endpoint: s3".to_owned()), "{protocol:?}: {log:?}");
        assert_eq!(told_apart(&client), 0, "{protocol:?}");
    }
}

#[test]
fn a_client_that_learns_of_its_endpoints_late_gets_them() {
    for protocol in BOTH {
        let mut builder = SnapshotBuilder::new();
        world(&mut builder, 3);
        let mut client = Client::on(protocol, builder.latest());
        client.subscribe(Cluster, &["*"]);
        client.subscribe(Listener, &["*"]);
        client.settle();
        client.subscribe(Endpoint, &["s0", "s1", "s2"]);
        client.settle();
        let log = client.take_log();
        assert!(log.contains(&"endpoint: s0 s1 s2".to_owned()), "{protocol:?}: {log:?}");
        for number in 2..5 {
            builder.update(|edit| _ = edit.set(res(Endpoint, "s0", &number.to_string())));
            client.publish(builder.latest());
            client.settle();
            assert!(client.take_log().contains(&"endpoint: s0".to_owned()), "{protocol:?}");
        }
    }
}
