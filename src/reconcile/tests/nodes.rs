use serde_json::{Value, json};

use crate::ads::{NodeInfo, Protocol};
use crate::model::decision::NodeRole;
use crate::reconcile::nodes::{Nodes, identify};
use crate::snapshot::XdsSnapshot;

fn info(id: &str, metadata: Value) -> NodeInfo {
    NodeInfo {
        id: id.to_owned(),
        cluster: String::new(),
        metadata: metadata.as_object().cloned().unwrap_or_default(),
        region: "eu".to_owned(),
        zone: "a".to_owned(),
        user_agent_version: "envoy 1.40.0".to_owned(),
    }
}

#[test]
fn a_node_is_who_its_metadata_says() {
    let metadata = json!({"role": "gateway", "cluster": "east", "network": "flat", "tier": "edge", "n": 1, "x": ""});
    let facts = identify(&info("gw", metadata), Protocol::Delta).unwrap();
    assert_eq!((facts.view.role, facts.id.as_str()), (NodeRole::Gateway, "gw"));
    assert_eq!(facts.view.cluster, Some("east".into()));
    assert_eq!(facts.view.network.as_deref(), Some("flat"));
    assert_eq!(&*facts.view.locality.zone, "a");
    assert_eq!(facts.labels.keys().map(|key| &**key).collect::<Vec<_>>(), ["cluster", "network", "role", "tier", "x"]);
    let bare = identify(&info("s", json!({"role": "sidecar", "cluster": ""})), Protocol::Sotw).unwrap();
    assert_eq!((bare.view.role, bare.view.cluster, bare.view.network), (NodeRole::Sidecar, None, None));
}

#[test]
fn a_node_that_does_not_say_what_it_is_is_refused_with_a_remedy() {
    for (node, wrong) in [
        (info("", json!({"role": "gateway"})), "no id"),
        (info("gw", json!({})), "no `role`"),
        (info("gw", json!({"role": 1})), "no `role`"),
        (info("gw", json!({"role": "router"})), "`router`"),
    ] {
        let message = identify(&node, Protocol::Sotw).unwrap_err();
        assert!(message.contains(wrong) && message.contains("causeway bootstrap"), "{message}");
    }
}

#[test]
fn each_stream_of_a_node_is_given_each_snapshot_once() {
    let mut nodes = Nodes::default();
    let (mut first, mut second) = (nodes.connect(1, &"gw".into()), nodes.connect(2, &"gw".into()));
    assert!(first.borrow_and_update().is_none());
    let snapshot = XdsSnapshot::empty();
    let send = |nodes: &mut Nodes| nodes.iter_mut().for_each(|(_, node)| node.send(&snapshot));
    send(&mut nodes);
    assert!(first.has_changed().unwrap() && second.has_changed().unwrap());
    assert!(first.borrow_and_update().is_some() && second.borrow_and_update().is_some());
    send(&mut nodes);
    assert!(!first.has_changed().unwrap());
    assert_eq!(nodes.disconnect(1), Some(("gw".into(), false)));
    assert!(first.has_changed().is_err(), "the stream is told that nothing comes any more");
    assert_eq!(nodes.of_stream(1), None);
    assert_eq!(nodes.disconnect(2), Some(("gw".into(), true)));
    assert_eq!(nodes.disconnect(2), None);
    assert_eq!(nodes.iter_mut().count(), 0);
}
