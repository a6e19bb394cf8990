//! Users' snapshots: what they do to the endpoints of their access, what they touch, and what is said of those that do
//! nothing.

use super::*;
use crate::model::snapshot::{Entry, Place, Said};

const NOTHING: Said = Said { ready: None, weight: None, drain: None };
const DRAIN: Said = Said { drain: Some(true), ..NOTHING };
const OUT: Said = Said { ready: Some(false), ..NOTHING };

fn weigh(weight: u32) -> Said {
    Said { weight: Some(weight), ..NOTHING }
}

/// An entry about a pod.
pub fn of_pod(name: &str, said: Said) -> Entry {
    Entry { name: name.into(), place: None, said }
}

/// A backend that is added.
pub fn added(name: &str, address: &str, said: Said) -> Entry {
    let place = Place {
        address: address.parse().expect("tests write addresses well"),
        ports: Default::default(),
        node: None,
        locality: Locality::default(),
    };
    Entry { name: name.into(), place: Some(place), said }
}

/// A user's snapshot of the access `a` in the cluster `e`.
fn snapshot(name: &str, entries: &[Entry]) -> UserSnapshot {
    UserSnapshot {
        id: id(name),
        generation: 3,
        access: "a".into(),
        service: None,
        cluster: Some("e".into()),
        entries: entries.to_vec(),
    }
}

/// The pods 10.0.0.1 and 10.0.0.2 of the service `s` in the primary `e`, and two accesses to it.
fn shop(snapshots: &[UserSnapshot]) -> World {
    let objects = [
        info("e", ClusterRole::Primary),
        http_service("s"),
        slice("s-1", "s", &["10.0.0.1", "10.0.0.2"]),
        access("a", "s"),
        access("b", "s"),
    ];
    let snapshots = snapshots.iter().cloned().map(Object::Snapshot);
    world(objects.into_iter().chain(snapshots).map(|object| ("e", object)))
}

fn scope(world: &World, access: &str) -> AccessScope {
    AccessScope::of(world.access(&id(access)).expect("the access is there"))
}

/// The endpoints of the service `s` as an access has them: address, readiness and weight.
fn seen(world: &World, access: &str) -> Vec<String> {
    let endpoints = world.access_endpoints(&scope(world, access), &id("s"), "http");
    endpoints.iter().map(|e| format!("{} {:?} {}", e.address, e.readiness, e.weight)).collect()
}

fn reason(world: &World, name: &str) -> &'static str {
    match world.user_snapshot(&id(name)).expect("it counts").effect {
        Ok(()) => "",
        Err(why) => {
            assert!(!why.message.is_empty() && !why.remedy.is_empty(), "{why:?}");
            why.reason
        }
    }
}

#[test]
fn what_is_said_of_a_pod_holds_for_the_access_only() {
    let pod = "pod-10.0.0.1";
    for (entries, expected) in [
        (&[of_pod(pod, weigh(9))][..], "10.0.0.1:8080 Ready 9"),
        (&[of_pod(pod, DRAIN)], "10.0.0.1:8080 Draining 1"),
        (&[of_pod(pod, OUT)], "10.0.0.1:8080 NotReady 1"),
        (&[of_pod(pod, Said { ready: Some(false), drain: Some(true), weight: Some(4) })], "10.0.0.1:8080 NotReady 4"),
        (&[of_pod(pod, Said { ready: Some(true), drain: Some(false), weight: None })], "10.0.0.1:8080 Ready 1"),
        (&[of_pod("another", OUT)], "10.0.0.1:8080 Ready 1"),
    ] {
        let world = shop(&[snapshot("mine", entries)]);
        assert_eq!(seen(&world, "a"), [expected, "10.0.0.2:8080 Ready 1"], "{entries:?}");
        assert_eq!(seen(&world, "b"), ["10.0.0.1:8080 Ready 1", "10.0.0.2:8080 Ready 1"]);
        let pods = world.access_pods(&scope(&world, "a"), &id("s"), "http");
        assert_eq!(pods, world.access_endpoints(&scope(&world, "a"), &id("s"), "http"));
    }
}

#[test]
fn a_pod_that_cannot_serve_is_given_no_traffic() {
    for (conditions, said, expected) in [
        ((false, false, false), Said { ready: Some(true), ..NOTHING }, Readiness::NotReady),
        ((false, false, false), DRAIN, Readiness::NotReady),
        ((false, true, true), Said { ready: Some(true), drain: Some(false), weight: None }, Readiness::Draining),
        ((false, true, true), OUT, Readiness::NotReady),
    ] {
        let mut slice = slice("s-1", "s", &["10.0.0.1"]);
        if let Object::Slice(slice) = &mut slice {
            let endpoint = &mut slice.endpoints[0];
            (endpoint.ready, endpoint.serving, endpoint.terminating) = conditions;
        }
        let mut world = shop(&[snapshot("mine", &[of_pod("pod-10.0.0.1", said)])]);
        world.apply(vec![put("e", slice)], 0);
        let endpoints = world.access_endpoints(&scope(&world, "a"), &id("s"), "http");
        assert_eq!(endpoints[0].readiness, expected, "{conditions:?} {said:?}");
    }
}

#[test]
fn a_backend_is_added_at_its_own_port_or_the_services() {
    let mut with_ports = added("vm-2", "10.5.0.2", weigh(7));
    if let Some(place) = &mut with_ports.place {
        place.ports.insert("http".into(), 9000);
    }
    let world = shop(&[snapshot("vms", &[added("vm-1", "10.5.0.1", DRAIN), with_ports])]);
    let pods = ["10.0.0.1:8080 Ready 1", "10.0.0.2:8080 Ready 1"];
    assert_eq!(seen(&world, "a"), [&pods[..], &["10.5.0.1:80 Draining 1", "10.5.0.2:9000 Ready 7"]].concat());
    assert_eq!(seen(&world, "b"), pods);
    let listed = world.access_pods(&scope(&world, "a"), &id("s"), "http");
    assert_eq!(listed.len(), 2, "what is added is no pod");
    // A port that the service does not have has no backends.
    assert_eq!(world.access_endpoints(&scope(&world, "a"), &id("s"), "admin"), []);
}

#[test]
fn an_added_backend_is_where_it_says_else_where_its_cluster_is() {
    let place = |region: &str, zone: &str| Locality { region: region.into(), zone: zone.into() };
    for (said, expected) in [
        (place("", ""), place("eu", "a")),
        (place("", "c"), place("eu", "c")),
        (place("us", ""), place("us", "")),
        (place("us", "x"), place("us", "x")),
    ] {
        let mut spec = info("w", ClusterRole::Sub);
        if let Object::Cluster(spec) = &mut spec {
            (spec.network, spec.locality) = ("other".into(), place("eu", "a"));
        }
        let mut entry = added("vm-1", "10.5.0.1", NOTHING);
        if let Some(place) = &mut entry.place {
            place.locality = said;
        }
        let mut world = shop(&[UserSnapshot { cluster: Some("w".into()), ..snapshot("vms", &[entry]) }]);
        assert_eq!((seen(&world, "a").len(), reason(&world, "vms")), (2, "ClusterNotFound"));
        let touched = world.apply(vec![put("w", spec)], 0);
        assert!(touched.services.contains(&id("s")), "{touched:?}");
        let endpoints = world.access_endpoints(&scope(&world, "a"), &id("s"), "http");
        let vm = endpoints.iter().find(|endpoint| endpoint.pod.as_deref() == Some("vm-1")).expect("it is there");
        assert_eq!((&vm.locality, &*vm.network, vm.cluster.as_str()), (&expected, "other", "w"));
        assert_eq!(reason(&world, "vms"), "");
        let touched = world.apply(vec![Change::Forget { cluster: "w".into() }], 0);
        assert!(touched.services.contains(&id("s")), "{touched:?}");
        assert_eq!(seen(&world, "a").len(), 2);
    }
}

#[test]
fn the_last_object_by_name_has_the_last_word_on_each_field() {
    let pod = "pod-10.0.0.1";
    let snapshots = [
        snapshot("3", &[of_pod(pod, Said { drain: Some(false), ..NOTHING })]),
        snapshot("1", &[of_pod(pod, Said { drain: Some(true), weight: Some(5), ready: None })]),
        snapshot("2", &[of_pod(pod, weigh(6)), added("vm", "10.5.0.1", weigh(2)), of_pod("vm-2", DRAIN)]),
        snapshot("4", &[added("vm", "10.5.0.9", NOTHING), added("vm-2", "10.5.0.2", weigh(3))]),
        snapshot("5", &[of_pod("vm", OUT)]),
    ];
    let world = shop(&snapshots);
    let expected = [
        "10.0.0.1:8080 Ready 6",
        "10.0.0.2:8080 Ready 1",
        "10.5.0.2:80 Draining 3",
        // One backend, where the later object says it is.
        "10.5.0.9:80 NotReady 2",
    ];
    assert_eq!(seen(&world, "a"), expected);
    assert!(world.user_snapshots().all(|snapshot| snapshot.effect.is_ok()));
}

#[test]
fn an_address_comes_once_though_a_pod_has_it() {
    let mut entry = added("vm", "10.0.0.1", weigh(9));
    if let Some(place) = &mut entry.place {
        place.ports.insert("http".into(), 8080);
    }
    let world = shop(&[snapshot("mine", &[entry.clone(), Entry { name: "vm-2".into(), ..entry }])]);
    assert_eq!(seen(&world, "a").len(), 2);
    assert_eq!(reason(&world, "mine"), "AddressOfPod");
}

#[test]
fn a_change_touches_the_services_whose_endpoints_differ() {
    let mine = snapshot("mine", &[added("vm", "10.5.0.1", NOTHING)]);
    let object = |snapshot: &UserSnapshot| Object::Snapshot(snapshot.clone());
    let mut world = shop(&[]);
    world.apply(vec![put("e", http_service("t"))], 0);
    let of_s = Touched { services: [id("s")].into(), snapshots: [id("mine")].into(), ..Touched::default() };
    assert_eq!(world.apply(vec![put("e", object(&mine))], 0), of_s);
    assert_eq!(world.apply(vec![put("e", object(&mine))], 0), Touched::default());
    let named = UserSnapshot { service: Some("t".into()), ..mine.clone() };
    let touched = world.apply(vec![put("e", object(&named))], 0);
    assert_eq!(touched.services, BTreeSet::from([id("s"), id("t")]));
    assert_eq!(reason(&world, "mine"), "ServiceNotChosen");
    assert_eq!(world.apply(vec![put("w", object(&mine))], 0).services, BTreeSet::new(), "it is not of the primary");
    let elsewhere = UserSnapshot { access: "b".into(), ..mine };
    let touched = world.apply(vec![put("e", object(&elsewhere))], 0);
    assert_eq!(touched.services, BTreeSet::from([id("s"), id("t")]));
    assert_eq!((seen(&world, "a").len(), seen(&world, "b").len()), (2, 3));
    assert_eq!(world.apply(vec![delete("e", &object(&elsewhere))], 0), of_s);
    assert_eq!((seen(&world, "b").len(), world.user_snapshots().count()), (2, 0));
}

#[test]
fn what_has_no_effect_says_why_and_has_one_when_what_is_missing_comes() {
    let with = |change: fn(&mut UserSnapshot)| {
        let mut snapshot = snapshot("mine", &[of_pod("pod-10.0.0.1", DRAIN)]);
        change(&mut snapshot);
        snapshot
    };
    let port = |snapshot: &mut UserSnapshot| {
        let mut entry = added("vm", "10.5.0.1", NOTHING);
        if let Some(place) = &mut entry.place {
            place.ports.insert("htpp".into(), 1);
        }
        snapshot.entries.push(entry);
    };
    let mut of_west = access("c", "s");
    if let Object::Access(access) = &mut of_west {
        access.clusters.insert("w".into());
    }
    let mut pods_of_x = slice("x-1", "x", &["10.0.0.7"]);
    if let Object::Slice(slice) = &mut pods_of_x {
        slice.endpoints[0].pod = Some("late".into());
    }
    let with_ports = service("s", &[("http", 80, Protocol::Http), ("htpp", 81, Protocol::Http)], 0);
    let mut anywhere = access("c", "s");
    if let Object::Access(access) = &mut anywhere {
        access.clusters.clear();
    }
    let pod_comes = slice("s-2", "s", &["10.0.0.3"]);
    for (snapshot, expected, what_comes) in [
        (with(|s| s.access = "d".into()), "AccessNotFound", vec![("e", access("d", "s"))]),
        (with(|s| s.cluster = Some("w".into())), "ClusterNotFound", {
            vec![("w", http_service("s")), ("w", slice("s-1", "s", &["10.0.0.1"]))]
        }),
        (with(|s| s.access = "c".into()), "ClusterNotChosen", vec![("e", anywhere)]),
        (with(|s| s.service = Some("t".into())), "ServiceNotChosen", {
            vec![("e", http_service("t")), ("e", slice("t-1", "t", &["10.0.0.1"])), ("e", access("a", "t"))]
        }),
        (with(|s| s.access = "x".into()), "ServiceNotFound", {
            vec![("e", http_service("x")), ("e", slice("x-1", "x", &["10.0.0.1"]))]
        }),
        (with(|s| s.entries.push(of_pod("pod-10.0.0.3", DRAIN))), "PodNotFound", vec![("e", pod_comes)]),
        (with(port), "PortNotFound", vec![("e", with_ports)]),
    ] {
        let mut world = shop(&[snapshot]);
        world.apply(vec![put("e", of_west.clone()), put("e", access("x", "x"))], 0);
        assert_eq!(reason(&world, "mine"), expected);
        let told = world.user_snapshots().next().expect("it counts");
        assert_eq!((told.id, told.generation), (id("mine"), 3));
        let changes = what_comes.into_iter().map(|(cluster, object)| put(cluster, object)).collect();
        let touched = world.apply(changes, 0);
        assert_eq!(reason(&world, "mine"), "", "{expected}");
        assert!(world.snapshots_concerned(&touched).contains(&id("mine")), "{expected}");
    }
}

#[test]
fn a_namespace_that_a_cluster_leaves_out_has_no_backends_there() {
    let mine = snapshot("mine", &[added("vm", "10.5.0.1", NOTHING)]);
    let mut world = shop(&[UserSnapshot { cluster: Some("w".into()), ..mine }]);
    let mut spec = info("w", ClusterRole::Sub);
    world.apply(vec![put("w", spec.clone())], 0);
    assert_eq!(seen(&world, "a").len(), 3);
    if let Object::Cluster(spec) = &mut spec {
        spec.excluded_namespaces.insert("shop".into());
    }
    let touched = world.apply(vec![put("w", spec)], 0);
    assert!(touched.services.contains(&id("s")));
    assert_eq!((seen(&world, "a").len(), reason(&world, "mine")), (2, "NamespaceExcluded"));
}

#[test]
fn snapshots_count_in_the_primary_only() {
    let mine = snapshot("mine", &[added("vm", "10.5.0.1", NOTHING)]);
    let mut world = shop(&[]);
    let touched = world.apply(vec![put("w", Object::Snapshot(mine))], 0);
    assert!(touched.services.is_empty() && touched.snapshots.is_empty());
    assert_eq!((seen(&world, "a").len(), world.user_snapshots().count()), (2, 0));
    let ignored: Vec<String> = world.ignored().iter().map(|i| format!("{}: {}", i.object, i.reason)).collect();
    assert_eq!(ignored, ["EndpointSnapshot shop/mine: it is read from the primary cluster only, which is e"]);
}

#[test]
fn what_an_access_that_is_gone_had_stays_for_whoever_drains() {
    let mut world = shop(&[snapshot("mine", &[added("vm", "10.5.0.1", NOTHING)])]);
    let scope = scope(&world, "a");
    world.apply(vec![delete("e", &access("a", "s"))], 0);
    assert_eq!(world.access_endpoints(&scope, &id("s"), "http").len(), 3);
    assert_eq!(reason(&world, "mine"), "AccessNotFound");
}

#[test]
fn a_selector_chooses_the_service_of_the_accesss_name_where_none_is_said() {
    let labelled = |name: &str| {
        let mut object = http_service(name);
        if let Object::Service(service) = &mut object {
            service.labels = labels_of(&[("tier", "front")]);
        }
        ("e", object)
    };
    let mut many = access("many", "");
    if let Object::Access(access) = &mut many {
        let selector = Selector { match_labels: labels_of(&[("tier", "front")]), ..Default::default() };
        access.service = ServiceChoice::Selector(selector);
    }
    let mine = UserSnapshot { access: "many".into(), ..snapshot("mine", &[added("vm", "10.5.0.1", NOTHING)]) };
    let mut world = world([labelled("many"), labelled("s"), ("e", many), ("e", Object::Snapshot(mine.clone()))]);
    let count =
        |world: &World, service: &str| world.access_endpoints(&scope(world, "many"), &id(service), "http").len();
    assert_eq!((count(&world, "many"), count(&world, "s"), reason(&world, "mine")), (1, 0, ""));
    let named = Object::Snapshot(UserSnapshot { service: Some("s".into()), ..mine });
    let touched = world.apply(vec![put("e", named)], 0);
    assert_eq!(touched.services, BTreeSet::from([id("many"), id("s")]));
    assert_eq!((count(&world, "many"), count(&world, "s"), reason(&world, "mine")), (0, 1, ""));
    let touched = world.apply(vec![put("e", http_service("s"))], 0);
    assert_eq!(reason(&world, "mine"), "ServiceNotChosen");
    assert!(world.snapshots_concerned(&touched).contains(&id("mine")));
}
