//! Nodes that are divided into parts for a policy.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::views::{DB, WEB, desired, everyone, turn, two_offers, two_services};
use crate::feedback::{Feedback, NodeFacts, Protocol, Report, Scope};
use crate::model::decision::{ClientView, NodeRole};
use crate::model::id::NodeId;
use crate::model::object::{Labels, Locality};
use crate::reconcile::views::{AudienceKey, Desired, ViewKey, Views};
use crate::snapshot::{Resource, ResourceType, XdsSnapshot};
use crate::vip::Audience;

/// Gateways `gw-0` and so on, alike in all but their ids.
fn gateways(count: u64) -> (Feedback, Vec<NodeId>) {
    let mut feedback = Feedback::new(0);
    let ids: Vec<NodeId> = (0..count).map(|number| NodeId::from(format!("gw-{number}"))).collect();
    for (stream, id) in (0..).zip(&ids) {
        let view = ClientView { role: NodeRole::Gateway, cluster: None, network: None, locality: Locality::default() };
        let (labels, version) = (Labels::new(), "1.40.0".into());
        let node = NodeFacts { id: id.clone(), view, labels, version, protocol: Protocol::Delta };
        feedback.fold(Report::NodeConnected { node, stream, scope: Scope::Everything }, 0);
    }
    (feedback, ids)
}

/// What two services need, with so many parts each.
fn divided(web: u32, db: u32) -> Desired {
    let mut before = desired(&two_services(), &two_offers(), &Desired::default());
    for (name, buckets) in [(WEB, web), (DB, db)] {
        before.backends.get_mut(name).unwrap().policy.buckets = buckets;
    }
    let counts = [web, db].into_iter().filter(|buckets| *buckets > 1).collect();
    before.divisions.insert(AudienceKey::of(&everyone()), counts);
    before
}

fn keys(feedback: &Feedback, ids: &[NodeId], desired: &Desired) -> Vec<ViewKey> {
    ids.iter().map(|id| ViewKey::of(feedback.node(id).unwrap(), false, desired)).collect()
}

#[test]
fn nodes_share_a_view_unless_a_policy_divides_them() {
    let (feedback, ids) = gateways(100);
    for (web, db, views) in [(1, 1, 1), (3, 1, 3), (3, 3, 3), (2, 3, 6), (2, 4, 4), (64, 1, 64)] {
        let keys = keys(&feedback, &ids, &divided(web, db));
        let distinct: HashSet<&ViewKey> = keys.iter().collect();
        // Of 64 parts a few may have none of 100 nodes.
        assert!(distinct.len() == views || views == 64 && distinct.len() > 40, "{web}, {db}: {}", distinct.len());
        for (id, key) in ids.iter().zip(&keys) {
            let wanted = [web, db].into_iter().filter(|buckets| *buckets > 1).map(|n| (n, id.bucket(n))).collect();
            assert_eq!(key.buckets, wanted);
        }
    }
}

#[test]
fn a_division_is_no_matter_of_nodes_that_are_not_offered_the_service() {
    let (feedback, ids) = gateways(20);
    let mut desired = divided(1, 1);
    let other = Arc::new(Audience::Node("elsewhere".into()));
    desired.divisions = BTreeMap::from([(AudienceKey::of(&other), BTreeSet::from([4]))]);
    desired.audiences.insert(AudienceKey::of(&other), other);
    let keys = keys(&feedback, &ids, &desired);
    assert!(keys.iter().all(|key| key.buckets.is_empty()));
}

#[test]
fn each_part_is_decided_once_and_other_services_not_at_all() {
    let (feedback, ids) = gateways(100);
    let (world, desired, none) = (two_services(), divided(2, 3), BTreeSet::new());
    let turn = turn(&world, &desired, &none);
    let mut views = Views::default();
    let keys: HashSet<ViewKey> = keys(&feedback, &ids, &desired).into_iter().collect();
    let mut snapshot = |key: &ViewKey| views.snapshot(key, &BTreeMap::new(), &turn);
    let snapshots: Vec<(&ViewKey, Arc<XdsSnapshot>)> = keys.iter().map(|key| (key, snapshot(key))).collect();
    let assignment = |snapshot: &XdsSnapshot, name: &str| snapshot.get(ResourceType::Endpoint, name).unwrap().clone();
    let made = |name: &str| {
        let all = snapshots.iter().map(|(_, snapshot)| Arc::as_ptr(&assignment(snapshot, name)));
        all.collect::<HashSet<*const Resource>>().len()
    };
    assert_eq!((snapshots.len(), made(WEB), made(DB)), (6, 2, 3));
    for ((a, first), (b, second)) in snapshots.iter().flat_map(|one| snapshots.iter().map(move |two| (one, two))) {
        for (name, buckets) in [(WEB, 2), (DB, 3)] {
            let is_shared = Arc::ptr_eq(&assignment(first, name), &assignment(second, name));
            assert_eq!(is_shared, a.buckets[&buckets] == b.buckets[&buckets]);
        }
    }
}

#[test]
fn a_part_without_nodes_is_forgotten() {
    let (feedback, ids) = gateways(20);
    let (world, desired, none) = (two_services(), divided(2, 1), BTreeSet::new());
    let turn = turn(&world, &desired, &none);
    let mut views = Views::default();
    let keys: HashSet<ViewKey> = keys(&feedback, &ids, &desired).into_iter().collect();
    let of = |bucket| keys.iter().find(|key| key.buckets[&2] == bucket).unwrap();
    let (kept, left) = (of(0), of(1));
    let before = [kept, left].map(|key| views.snapshot(key, &BTreeMap::new(), &turn));
    views.retain(|key| key == kept);
    let after = [kept, left].map(|key| views.snapshot(key, &BTreeMap::new(), &turn));
    let is_kept = |view: usize, name: &str| {
        let [before, after] = [&before, &after].map(|of| of[view].get(ResourceType::Endpoint, name).unwrap());
        Arc::ptr_eq(before, after)
    };
    assert!(is_kept(0, WEB) && is_kept(0, DB));
    assert!(!is_kept(1, WEB) && is_kept(1, DB), "what all parts share is still there");
}
