//! What the simulation found, each the shortest that shows it.

use super::client::*;
use crate::ads::Protocol;
use crate::snapshot::SnapshotBuilder;

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
