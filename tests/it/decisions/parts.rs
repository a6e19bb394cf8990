//! Each part of the nodes has a view of its own, and so a subset of the endpoints.

use std::collections::BTreeSet;

use causeway::model::id::NodeId;
use causeway::model::object::Protocol;

use super::{Pod, Stage, decision, group};

/// The two of four pods that the part's nodes are to reach.
fn subset(pods: &[Pod], bucket: usize) -> [usize; 2] {
    let mut subset = [bucket, (bucket + 1) % pods.len()];
    subset.sort_unstable();
    subset
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_of_a_part_reach_its_pods_and_no_other() {
    let stage = Stage::new().await;
    let pods = stage.pods(4).await;
    // The first two nodes of each of three parts out of four.
    let mut nodes: Vec<(String, usize)> = Vec::new();
    for id in (0..).map(|number| format!("gw-part-{number}")) {
        let bucket = NodeId::from(id.as_str()).bucket(4) as usize;
        if bucket < 3 && nodes.iter().filter(|(_, of)| *of == bucket).count() < 2 {
            nodes.push((id, bucket));
        }
        if nodes.len() == 6 {
            break;
        }
    }
    let mut reached = BTreeSet::new();
    for (id, bucket) in &nodes {
        let subset = subset(&pods, *bucket);
        let decided = decision(vec![group(0, "east", 1, subset.map(|pod| (&pods[pod], 1)))]);
        let proxy = stage.envoy(id, Protocol::Http, &decided);
        assert!(proxy.land(100).await.is_at(&subset), "{id} of part {bucket}");
        reached.extend(subset);
    }
    assert_eq!(reached.len(), 4, "together they reach all");
}
