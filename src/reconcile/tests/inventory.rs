use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::build::id;
use crate::model::object::{Locality, Pod};
use crate::model::world::PodChange;
use crate::reconcile::{Inventory, now};
use crate::store::{NodeEvent, Store};

fn upsert(cluster: &str, name: &str) -> PodChange {
    let pod = Pod {
        id: id(name),
        uid: name.into(),
        resource_version: "".into(),
        node: Some("n1".into()),
        addresses: Default::default(),
        phase: "Running".into(),
        ready: true,
        labels: Arc::default(),
        weight: 1,
        created_at: 0,
    };
    PodChange::Upsert { cluster: cluster.into(), pod: Arc::new(pod) }
}

/// Writes what waits, and ends.
async fn write(inventory: &Inventory, store: &Store) {
    let ended = CancellationToken::new();
    ended.cancel();
    inventory.clone().write(store.clone(), ended).await;
}

#[tokio::test]
async fn pods_that_went_while_nobody_looked_are_removed_once_their_cluster_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    store.apply_pods(vec![upsert("east", "old"), upsert("east", "stays"), upsert("west", "old")], 1).await.unwrap();
    let inventory = Inventory::default();
    let started_at = now();
    inventory.pods(vec![upsert("east", "stays"), upsert("east", "new")]);
    inventory.kube_nodes(BTreeMap::from([(("east".into(), "n1".into()), Some(Locality::default()))]));
    inventory.prune("east".into(), started_at);
    write(&inventory, &store).await;
    assert_eq!(store.count_pods().await.unwrap(), 3, "east's two, and west's, which was not read yet");
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later_and_gives_way_to_what_came_since() {
    let dir = tempfile::tempdir().unwrap();
    let closed = Store::open(dir.path()).await.unwrap();
    closed.close().await;
    let inventory = Inventory::default();
    inventory.pods(vec![upsert("east", "a"), upsert("east", "b"), upsert("west", "c")]);
    write(&inventory, &closed).await;
    inventory.pods(vec![PodChange::Delete { cluster: "east".into(), id: id("b") }]);
    write(&inventory, &closed).await;
    inventory.pods(vec![PodChange::ForgetCluster { cluster: "west".into() }, upsert("west", "d")]);
    let store = Store::open(dir.path()).await.unwrap();
    write(&inventory, &store).await;
    assert_eq!(store.count_pods().await.unwrap(), 2, "east's a and west's d");
}

#[tokio::test]
async fn events_are_written_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let inventory = Inventory::default();
    for event in ["Connected", "Gone"] {
        let (node, event) = ("gw".into(), event.to_owned());
        inventory.event(NodeEvent { node, at: 1, event, detail: String::new() });
    }
    write(&inventory, &store).await;
    let told: Vec<_> = store.node_events(None, 9).await.unwrap().into_iter().map(|event| event.event).collect();
    assert_eq!(told, ["Gone", "Connected"]);
}
