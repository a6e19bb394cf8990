//! What the world must hold to, case by case. What must hold of any changes is in `laws`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::*;
use crate::model::decision::Readiness;
use crate::model::object::{
    Access, Change, ClusterRole, ClusterSpec, EndpointSlice, KubeNode, Labels, Locality, Object, Pod, Pool, Protocol,
    PublishRule, Selector, Service, ServiceChoice, ServicePort, SliceEndpoint, SlicePort, VipPer,
};
use crate::model::snapshot::UserSnapshot;

mod build;
mod exports;
mod laws;
mod snapshots;

use build::*;

#[test]
fn clusters_add_up_to_one_service() {
    let world = world([
        ("east", service("checkout", &[("http", 80, Protocol::Http)], 10)),
        ("west", service("checkout", &[("http", 80, Protocol::Http), ("db", 5432, Protocol::Tcp)], 20)),
        ("east", slice("checkout-1", "checkout", &["10.0.0.2", "10.0.0.1"])),
        ("west", slice("checkout-9", "checkout", &["10.1.0.1"])),
    ]);
    let merged = world.service(&id("checkout")).expect("it is there");
    assert_eq!(merged.ports.iter().map(|p| p.port).collect::<Vec<_>>(), [80, 5432]);
    assert_eq!(merged.conflicts, Vec::<String>::new());
    assert_eq!(names(&merged.clusters), ["east", "west"]);
    assert_eq!(addresses(&world, "checkout"), ["10.0.0.1:8080", "10.0.0.2:8080", "10.1.0.1:8080"]);
    let east = BTreeSet::from([ClusterName::from("east")]);
    assert_eq!(world.endpoints(&id("checkout"), "http", &east).len(), 2);
    assert_eq!(world.endpoints(&id("checkout"), "db", &BTreeSet::new()).len(), 0);
}

#[test]
fn the_older_service_wins_a_conflict() {
    let http = |created_at| service("s", &[("http", 80, Protocol::Http)], created_at);
    let grpc = |created_at| service("s", &[("http", 80, Protocol::Grpc)], created_at);
    // (age of east's, age of west's, who wins): unknown ages lose; then the primary; then the name.
    for (east, west, winner) in [(5, 9, "east"), (9, 5, "west"), (0, 9, "west"), (5, 0, "east"), (7, 7, "west")] {
        let mut world = world([("east", http(east)), ("west", grpc(west))]);
        world.apply(vec![put("west", info("west", ClusterRole::Primary))], 0);
        let merged = world.service(&id("s")).expect("it is there");
        let expected = if winner == "east" { Protocol::Http } else { Protocol::Grpc };
        assert_eq!(merged.ports[0].protocol, expected, "{east} {west}");
        assert_eq!(merged.ports.len(), 1);
        assert_eq!(merged.conflicts.len(), 1, "{:?}", merged.conflicts);
        assert!(merged.conflicts[0].contains(winner), "{:?}", merged.conflicts);
    }
}

#[test]
fn two_names_cannot_share_a_number() {
    let world = world([
        ("east", service("s", &[("http", 80, Protocol::Http)], 1)),
        ("west", service("s", &[("web", 80, Protocol::Http), ("admin", 9000, Protocol::Tcp)], 2)),
    ]);
    let merged = world.service(&id("s")).expect("it is there");
    let ports: Vec<_> = merged.ports.iter().map(|p| (&*p.name, p.port)).collect();
    assert_eq!(ports, [("http", 80), ("admin", 9000)]);
    assert_eq!(
        merged.conflicts,
        [
            "port web 80/Http of cluster west is left out: cluster east, whose Service is older or comes first, has http 80/Http"
        ]
    );
}

#[test]
fn readiness_follows_the_conditions() {
    // (ready, serving, terminating)
    for (conditions, expected) in [
        ((true, true, false), Readiness::Ready),
        ((false, true, true), Readiness::Draining),
        ((false, false, true), Readiness::NotReady),
        ((false, false, false), Readiness::NotReady),
        // A Service with `publishNotReadyAddresses`.
        ((true, true, true), Readiness::Draining),
        ((true, false, false), Readiness::Ready),
    ] {
        let mut slice = slice("s-1", "s", &["10.0.0.1"]);
        if let Object::Slice(slice) = &mut slice {
            let endpoint = &mut slice.endpoints[0];
            (endpoint.ready, endpoint.serving, endpoint.terminating) = conditions;
        }
        let world = world([("east", http_service("s")), ("east", slice)]);
        assert_eq!(endpoints(&world, "s")[0].readiness, expected, "{conditions:?}");
    }
}

#[test]
fn an_address_in_two_slices_comes_once_and_the_better_word_wins() {
    let mut ready = slice("s-2", "s", &["10.0.0.1"]);
    let mut draining = slice("s-1", "s", &["10.0.0.1"]);
    if let (Object::Slice(ready), Object::Slice(draining)) = (&mut ready, &mut draining) {
        ready.endpoints[0].ready = true;
        draining.endpoints[0].ready = false;
        draining.endpoints[0].terminating = true;
    }
    let world = world([("east", http_service("s")), ("east", draining), ("east", ready)]);
    let all = endpoints(&world, "s");
    assert_eq!(all.iter().map(|e| e.readiness).collect::<Vec<_>>(), [Readiness::Ready]);
}

#[test]
fn networks_may_use_the_same_addresses() {
    let mut spec = info("west", ClusterRole::Sub);
    if let Object::Cluster(spec) = &mut spec {
        spec.network = "other".into();
    }
    let world = world([
        ("east", http_service("s")),
        ("west", http_service("s")),
        ("east", slice("s-1", "s", &["10.0.0.1"])),
        ("west", slice("s-1", "s", &["10.0.0.1"])),
        ("west", spec),
    ]);
    assert_eq!(addresses(&world, "s"), ["10.0.0.1:8080", "10.0.0.1:8080"]);
}

#[test]
fn slices_without_their_service_do_not_count() {
    let mut world = world([
        ("east", http_service("s")),
        ("west", slice("s-1", "s", &["10.1.0.1"])),
        ("east", slice("s-1", "s", &["10.0.0.1"])),
    ]);
    assert_eq!(addresses(&world, "s"), ["10.0.0.1:8080"]);
    let touched = world.apply(vec![put("west", http_service("s"))], 0);
    assert!(touched.services.contains(&id("s")));
    assert_eq!(addresses(&world, "s").len(), 2);
    world.apply(vec![delete("east", &http_service("s"))], 0);
    assert_eq!(addresses(&world, "s"), ["10.1.0.1:8080"]);
}

#[test]
fn a_slice_may_move_to_another_service() {
    let mut world = world([("e", http_service("a")), ("e", http_service("b")), ("e", slice("x", "a", &["10.0.0.1"]))]);
    let touched = world.apply(vec![put("e", slice("x", "b", &["10.0.0.1"]))], 0);
    assert_eq!(touched.services, BTreeSet::from([id("a"), id("b")]));
    assert_eq!((addresses(&world, "a").len(), addresses(&world, "b").len()), (0, 1));
}

#[test]
fn a_place_is_told_by_the_slice_then_the_node_then_the_cluster() {
    let place = |region: &str, zone: &str| Locality { region: region.into(), zone: zone.into() };
    // (slice's zone, node's place, expected), in a cluster of eu/a.
    for (zone, node, expected) in [
        (None, None, place("eu", "a")),
        (Some("c"), None, place("eu", "c")),
        (None, Some(place("eu", "b")), place("eu", "b")),
        (Some("c"), Some(place("eu", "b")), place("eu", "c")),
        (None, Some(place("", "")), place("eu", "a")),
        // The cluster's zone is not joined to another region.
        (None, Some(place("us", "")), place("us", "")),
    ] {
        let mut spec = info("e", ClusterRole::Sub);
        let mut slice = slice("s-1", "s", &["10.0.0.1"]);
        if let (Object::Cluster(spec), Object::Slice(slice)) = (&mut spec, &mut slice) {
            spec.locality = place("eu", "a");
            slice.endpoints[0].zone = zone.map(Arc::from);
            slice.endpoints[0].node = Some("n1".into());
        }
        let mut world = world([("e", http_service("s")), ("e", spec), ("e", slice)]);
        if let Some(locality) = node.clone() {
            let node = Object::Node(KubeNode { name: "n1".into(), locality });
            let touched = world.apply(vec![put("e", node)], 0);
            assert_eq!(touched.services, BTreeSet::from([id("s")]), "through the index of nodes");
        }
        assert_eq!(endpoints(&world, "s")[0].locality, expected, "{zone:?} {node:?}");
    }
}

#[test]
fn a_pods_weight_reaches_its_endpoints_and_only_those() {
    let mut world = world([
        ("e", http_service("a")),
        ("e", http_service("b")),
        ("e", slice("a-1", "a", &["10.0.0.1"])),
        ("e", slice("b-1", "b", &["10.0.0.2"])),
    ]);
    let pod = |weight, ready| {
        let mut object = pod("pod-10.0.0.1", "10.0.0.1");
        if let Object::Pod(pod) = &mut object {
            (pod.weight, pod.ready) = (weight, ready);
        }
        put("e", object)
    };
    assert_eq!(world.apply(vec![pod(7, true)], 0).services, BTreeSet::from([id("a")]));
    assert_eq!(endpoints(&world, "a")[0].weight, 7);
    assert_eq!(endpoints(&world, "b")[0].weight, 1);
    let touched = world.apply(vec![pod(7, false)], 0);
    assert!(touched.services.is_empty(), "the slice tells readiness, not the pod");
    assert_eq!(touched.pods.len(), 1);
    assert!(world.apply(vec![pod(7, false)], 0).is_empty());
}

#[test]
fn unknown_is_not_empty() {
    let mut world = world([("e", http_service("s")), ("e", slice("s-1", "s", &["10.0.0.1"]))]);
    world.apply(vec![Change::Synced { cluster: "e".into() }], 10);
    let lost = Change::Unknown { cluster: "e".into(), reason: "timeout".to_owned() };
    let touched = world.apply(vec![lost.clone()], 20);
    assert_eq!(touched.services, BTreeSet::from([id("s")]));
    assert!(endpoints(&world, "s")[0].stale);
    assert!(world.ready());
    assert!(world.apply(vec![lost], 30).is_empty());
    let still = Change::Unknown { cluster: "e".into(), reason: "refused".to_owned() };
    assert!(world.apply(vec![still], 40).services.is_empty());
    assert_eq!(world.cluster(&"e".into()).map(|c| c.since), Some(20));
    let touched = world.apply(vec![Change::Synced { cluster: "e".into() }], 50);
    assert_eq!(touched.services, BTreeSet::from([id("s")]));
    assert!(!endpoints(&world, "s")[0].stale);
}

#[test]
fn the_world_is_ready_when_every_cluster_is_synced_or_unknown() {
    let mut world = World::new();
    assert!(!world.ready());
    assert!(!world.expect_cluster("e".into(), 0).is_empty());
    assert!(world.expect_cluster("e".into(), 0).is_empty());
    world.expect_cluster("w".into(), 0);
    world.apply(vec![Change::Synced { cluster: "e".into() }], 0);
    assert_eq!(world.waiting_for().map(ClusterName::as_str).collect::<Vec<_>>(), ["w"]);
    world.apply(vec![Change::Unknown { cluster: "w".into(), reason: String::new() }], 0);
    assert!(world.ready());
}

#[test]
fn forgetting_a_cluster_takes_everything_of_it() {
    let mut world = world([
        ("e", http_service("s")),
        ("w", http_service("s")),
        ("w", slice("s-1", "s", &["10.0.0.1"])),
        ("w", pod("p", "10.0.0.1")),
    ]);
    let touched = world.apply(vec![Change::Forget { cluster: "w".into() }], 0);
    assert_eq!(touched.services, BTreeSet::from([id("s")]));
    assert_eq!(touched.pods, [PodChange::ForgetCluster { cluster: "w".into() }]);
    assert_eq!(world.pods_count(), 0);
    assert!(endpoints(&world, "s").is_empty());
    assert!(world.apply(vec![Change::Forget { cluster: "w".into() }], 0).is_empty());
}

#[test]
fn the_primary_is_who_says_so_then_who_is_called_so_then_the_only_one() {
    let primary = |objects: Vec<(&str, Object)>| {
        let world = world(objects);
        world.primary().map(|name| name.as_str().to_owned())
    };
    let sub = |name| (name, info(name, ClusterRole::Sub));
    assert_eq!(primary(vec![]), None);
    assert_eq!(primary(vec![sub("east")]).as_deref(), Some("east"));
    assert_eq!(primary(vec![sub("east"), sub("west")]), None);
    assert_eq!(primary(vec![sub("east"), sub("primary")]).as_deref(), Some("primary"));
    let says = ("west", info("west", ClusterRole::Primary));
    assert_eq!(primary(vec![sub("primary"), says.clone()]).as_deref(), Some("west"));
    // What one cluster says of another decides nothing.
    assert_eq!(primary(vec![sub("west"), ("east", info("west", ClusterRole::Primary))]), None);
    // A second cluster takes nothing from the one that was alone and has the pools.
    assert_eq!(primary(vec![("east", pool("edge")), sub("west")]).as_deref(), Some("east"));
    assert_eq!(primary(vec![("east", pool("edge")), ("west", pool("edge"))]), None);
}

#[test]
fn a_chosen_primary_counts_before_what_the_clusters_say() {
    let mut world = world([
        ("east", info("east", ClusterRole::Primary)),
        ("east", access("a", "s")),
        ("west", access("b", "s")),
        ("west", pool("edge")),
    ]);
    let seen = |world: &World| world.accesses().map(|a| a.id.name.to_string()).collect::<Vec<_>>();
    assert_eq!(seen(&world), ["a"]);
    let touched = world.set_primary(Some("west".into()));
    assert_eq!(world.primary().map(ClusterName::as_str), Some("west"));
    assert_eq!(seen(&world), ["b"]);
    assert_eq!(touched.accesses, BTreeSet::from([id("a"), id("b")]));
    assert!(touched.pools);
    assert!(world.set_primary(Some("west".into())).is_empty());
    // One that is not there: nobody else takes its part, and it is said why.
    world.set_primary(Some("north".into()));
    assert_eq!((world.primary(), seen(&world)), (None, vec![]));
    let reasons: Vec<_> = world.ignored().into_iter().map(|ignored| ignored.reason).collect();
    assert!(reasons.iter().any(|reason| reason.contains("north, is not there")), "{reasons:?}");
    // It comes.
    world.apply(vec![put("north", access("c", "s"))], 0);
    assert_eq!(seen(&world), ["c"]);
    world.set_primary(None);
    assert_eq!(seen(&world), ["a"]);
}

#[test]
fn accesses_and_pools_count_in_the_primary_only() {
    let world = world([
        ("primary", access("a", "s")),
        ("primary", pool("edge")),
        ("east", access("b", "s")),
        ("east", pool("other")),
        ("east", info("west", ClusterRole::Sub)),
        ("primary", info("north", ClusterRole::Sub)),
    ]);
    assert_eq!(world.accesses().map(|a| &*a.id.name).collect::<Vec<_>>(), ["a"]);
    assert_eq!(world.pools().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["edge"]);
    assert!(world.access(&id("b")).is_none() && world.pool(&"other".into()).is_none());
    let ignored: Vec<String> =
        world.ignored().iter().map(|i| format!("{}: {}: {}", i.cluster, i.object, i.reason)).collect();
    assert_eq!(
        ignored,
        [
            "east: ClusterInfo west: a ClusterInfo is read from the primary cluster or from the cluster that it names, west",
            "east: ClusterAccess shop/b: it is read from the primary cluster only, which is primary",
            "east: VipPool other: it is read from the primary cluster only, which is primary",
            "primary: ClusterInfo north: no source of a cluster north is configured",
        ]
    );
}

#[test]
fn the_primarys_word_on_a_cluster_counts_before_its_own() {
    let network = |name: &str| {
        let mut spec = info("east", ClusterRole::Sub);
        if let Object::Cluster(spec) = &mut spec {
            spec.network = name.into();
        }
        spec
    };
    let mut world = world([("primary", pool("edge")), ("east", network("own")), ("primary", network("told"))]);
    let seen = |world: &World| world.cluster(&"east".into()).map(|c| c.spec.network.to_string());
    assert_eq!(seen(&world).as_deref(), Some("told"));
    let touched = world.apply(vec![delete("primary", &network("told"))], 0);
    assert_eq!(names(&touched.clusters), ["east"]);
    assert_eq!(seen(&world).as_deref(), Some("own"));
    world.apply(vec![delete("east", &network("own"))], 0);
    assert_eq!(seen(&world).as_deref(), Some(DEFAULT_NETWORK));
}

#[test]
fn excluded_namespaces_are_left_out_and_come_back() {
    let mut world = world([
        ("e", http_service("s")),
        ("e", slice("s-1", "s", &["10.0.0.1"])),
        ("e", pod("p", "10.0.0.1")),
        ("e", access("a", "s")),
    ]);
    let mut spec = info("e", ClusterRole::Sub);
    if let Object::Cluster(spec) = &mut spec {
        spec.excluded_namespaces.insert("shop".into());
    }
    let touched = world.apply(vec![put("e", spec.clone())], 0);
    assert_eq!(touched.services, BTreeSet::from([id("s")]));
    assert_eq!(touched.accesses, BTreeSet::from([id("a")]));
    assert_eq!(touched.pods, [PodChange::Delete { cluster: "e".into(), id: id("p") }]);
    assert!(world.service(&id("s")).is_none() && world.access(&id("a")).is_none() && endpoints(&world, "s").is_empty());
    assert_eq!(world.cluster(&"e".into()).map(|c| c.counts), Some(Counts::default()));
    // What changes meanwhile is not seen, and is not lost.
    assert!(world.apply(vec![put("e", slice("s-1", "s", &["10.0.0.1", "10.0.0.2"]))], 0).is_empty());
    let touched = world.apply(vec![delete("e", &spec)], 0);
    assert_eq!(touched.pods.len(), 1);
    assert_eq!(addresses(&world, "s").len(), 2);
    assert_eq!(world.pods_count(), 1);
}

#[test]
fn a_service_touches_the_accesses_that_might_choose_it() {
    let selector = |labels: &[(&str, &str)]| {
        let mut object = access("many", "");
        if let Object::Access(access) = &mut object {
            access.service =
                ServiceChoice::Selector(Selector { match_labels: labels_of(labels), ..Default::default() });
        }
        object
    };
    let labelled = |labels: &[(&str, &str)]| {
        let mut object = http_service("s");
        if let Object::Service(service) = &mut object {
            service.labels = labels_of(labels);
        }
        object
    };
    let mut world =
        world([("e", access("one", "s")), ("e", access("other", "t")), ("e", selector(&[("tier", "front")]))]);
    let touched = world.apply(vec![put("e", labelled(&[("tier", "front")]))], 0);
    assert_eq!(touched.accesses, BTreeSet::from([id("one"), id("many")]));
    assert_eq!(world.accesses_of(&id("s")), [id("many"), id("one")]);
    let many = world.access(&id("many")).cloned().expect("it is there");
    assert_eq!(world.services_of(&many), [id("s")]);
    let touched = world.apply(vec![put("e", labelled(&[]))], 0);
    assert!(touched.accesses.contains(&id("many")), "it chose the service before");
    assert_eq!(world.services_of(&many), []);
    world.apply(vec![delete("e", &labelled(&[]))], 0);
    assert_eq!(world.accesses_of(&id("s")), [id("one")], "who names a service hears of it while it is not there");
}

#[test]
fn an_access_of_some_clusters_sees_only_their_services() {
    let mut limited = access("a", "s");
    if let Object::Access(access) = &mut limited {
        access.clusters.insert("west".into());
    }
    let mut world = world([("primary", limited), ("east", http_service("s"))]);
    let access = world.access(&id("a")).cloned().expect("it is there");
    assert_eq!(world.services_of(&access), []);
    world.apply(vec![put("west", service("s", &[("grpc", 90, Protocol::Grpc)], 0))], 0);
    assert_eq!(world.services_of(&access), [id("s")]);
    let seen = world.service_in(&id("s"), &access.clusters).expect("it is there");
    assert_eq!(seen.ports.len(), 1);
    assert_eq!(names(&seen.clusters), ["west"]);
}
