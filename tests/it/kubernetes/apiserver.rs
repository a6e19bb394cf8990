//! The clusters that the other tests stand on.

use crate::support::apiserver::shared;

#[test]
fn shared_clusters_are_apart() {
    let namespace = shared(0).namespace("apart");
    assert!(shared(0).kubectl(&["get", "namespaces", "-o", "name"]).contains(&namespace));
    assert!(!shared(1).kubectl(&["get", "namespaces", "-o", "name"]).contains(&namespace));
}
