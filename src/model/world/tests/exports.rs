//! What exports amount to, by the subjects of the suite that the Multi-Cluster Services API publishes.

use super::*;
use crate::model::export::{OtherPort, ServiceExport, ServiceTraits, Transport};
use crate::model::object::{Family, PortChoice};
use crate::model::snapshot;

fn export(name: &str, created_at: i64) -> Object {
    let (labels, annotations) = (Labels::new(), Labels::new());
    Object::Export(ServiceExport { id: id(name), created_at, generation: 7, labels, annotations })
}

fn saying(name: &str, created_at: i64, labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Object {
    let (labels, annotations) = (labels_of(labels), labels_of(annotations));
    Object::Export(ServiceExport { id: id(name), created_at, generation: 1, labels, annotations })
}

/// A service of this name that listens on `http` 80.
fn with(name: &str, change: impl FnOnce(&mut Service)) -> Object {
    let Object::Service(mut service) = http_service(name) else { unreachable!("it is a service") };
    change(&mut service);
    Object::Service(service)
}

/// A world with a primary that exports nothing.
fn of<'a>(objects: impl IntoIterator<Item = (&'a str, Object)>) -> World {
    let primary = ("primary", info("primary", ClusterRole::Primary));
    world([primary].into_iter().chain(objects))
}

fn import(world: &World, name: &str) -> Import {
    world.import(&id(name)).expect("it is imported")
}

fn ports(import: &Import) -> Vec<String> {
    let show = |port: &ImportPort| format!("{} {}/{}", port.name, port.port, port.transport.as_str());
    import.ports.iter().map(show).collect()
}

/// A condition of the service's exports, by cluster: whether it holds, and why.
fn told(world: &World, name: &str, kind: &str) -> Vec<(String, bool, String)> {
    let exports = world.exports_of(&id(name)).into_iter();
    let found = exports.map(|export| {
        let condition = export.conditions.into_iter().find(|c| c.kind == kind).expect("every condition is told");
        (export.cluster.to_string(), condition.holds, condition.reason.into_owned())
    });
    found.collect()
}

fn on_both(holds: bool, reason: &str) -> Vec<(String, bool, String)> {
    ["east", "west"].map(|cluster| (cluster.to_owned(), holds, reason.to_owned())).into()
}

#[test]
fn an_import_lives_while_a_cluster_exports() {
    let mut world = of([("east", http_service("s")), ("west", http_service("s")), ("south", http_service("s"))]);
    assert_eq!(world.import(&id("s")), None);
    assert_eq!(world.accesses().count(), 0);
    let touched = world.apply(vec![put("east", export("s", 1))], 0);
    assert!(touched.accesses.contains(&id("s")) && touched.services.contains(&id("s")), "{touched:?}");
    let touched = world.apply(vec![put("west", export("s", 2))], 0);
    assert!(touched.accesses.contains(&id("s")), "{touched:?}");
    let access = world.access(&id("s")).expect("the access that follows").clone();
    assert_eq!(names(&access.clusters), ["east", "west"]);
    assert!(world.is_derived(&id("s")));
    assert_eq!(world.accesses_of(&id("s")), [id("s")]);
    assert_eq!(world.services_of(&access), [id("s")]);
    world.apply(vec![delete("east", &export("s", 1))], 0);
    assert_eq!(names(&import(&world, "s").clusters), ["west"]);
    let touched = world.apply(vec![delete("west", &export("s", 2))], 0);
    assert!(touched.accesses.contains(&id("s")), "{touched:?}");
    assert_eq!((world.import(&id("s")), world.access(&id("s"))), (None, None));
    assert_eq!(world.exports().count(), 0);
}

#[test]
fn an_import_is_cluster_set_ip_or_headless() {
    let world = of([
        ("east", http_service("ip")),
        ("east", with("bare", |s| s.headless = true)),
        ("east", export("ip", 1)),
        ("east", export("bare", 1)),
    ]);
    assert_eq!(import(&world, "ip").kind, ImportKind::ClusterSetIp);
    assert_eq!(import(&world, "bare").kind, ImportKind::Headless);
    assert_eq!(world.headless_imports().collect::<Vec<_>>(), [&id("bare")]);
    // An address of each family, and none at all where the service has none.
    let families = |name: &str| world.access(&id(name)).expect("it is there").families.clone();
    assert_eq!((families("ip"), families("bare")), (vec![Family::V4], vec![]));
}

#[test]
fn there_is_an_address_of_each_family() {
    let both = with("s", |s| s.traits.families = vec![Family::V6, Family::V4]);
    let world = of([("east", both), ("east", export("s", 1))]);
    assert_eq!(import(&world, "s").families, [Family::V6, Family::V4]);
    assert_eq!(world.access(&id("s")).expect("it is there").families, [Family::V6, Family::V4]);
}

#[test]
fn what_the_service_says_is_carried_over() {
    let udp = OtherPort { name: "dns".into(), port: 53, transport: Transport::Udp, app_protocol: Some("dns".into()) };
    let service = with("s", |s| {
        s.traits = ServiceTraits {
            client_ip_affinity: Some(600),
            internal_traffic_local: true,
            traffic_distribution: Some("PreferClose".into()),
            other_ports: vec![udp],
            app_protocols: labels_of(&[("http", "kubernetes.io/ws")]),
            ..ServiceTraits::default()
        };
    });
    let world = of([("east", service), ("east", export("s", 1))]);
    let import = import(&world, "s");
    assert_eq!(import.client_ip_affinity, Some(600));
    assert!(import.internal_traffic_local);
    assert_eq!(import.traffic_distribution.as_deref(), Some("PreferClose"));
    assert_eq!(ports(&import), ["dns 53/UDP", "http 80/TCP"]);
    let spoken: Vec<_> = import.ports.iter().map(|port| port.app_protocol.as_deref()).collect();
    assert_eq!(spoken, [Some("dns"), Some("kubernetes.io/ws")]);
}

#[test]
fn ports_are_a_union_and_their_difference_is_told() {
    let more = with("s", |s| {
        s.traits.other_ports =
            vec![OtherPort { name: "sig".into(), port: 142, transport: Transport::Sctp, app_protocol: None }];
    });
    let world = of([("east", http_service("s")), ("west", more), ("east", export("s", 1)), ("west", export("s", 2))]);
    assert_eq!(ports(&import(&world, "s")), ["http 80/TCP", "sig 142/SCTP"]);
    assert_eq!(told(&world, "s", "Conflict"), on_both(true, "PortConflict"));
}

#[test]
fn a_port_in_conflict_is_that_of_the_oldest_export() {
    // The age of the Services does not matter.
    let east = service("s", &[("http", 80, Protocol::Http)], 50);
    let west = service("s", &[("http", 81, Protocol::Http), ("db", 5432, Protocol::Tcp)], 10);
    for (of_east, of_west, wanted) in [
        (5, 9, ["http 80/TCP", "db 5432/TCP"]),
        (9, 5, ["http 81/TCP", "db 5432/TCP"]),
        // Of the same age, the first cluster's by name; one of unknown age comes last.
        (7, 7, ["http 80/TCP", "db 5432/TCP"]),
        (0, 7, ["http 81/TCP", "db 5432/TCP"]),
    ] {
        let world = of([
            ("east", east.clone()),
            ("west", west.clone()),
            ("east", export("s", of_east)),
            ("west", export("s", of_west)),
        ]);
        assert_eq!(ports(&import(&world, "s")), wanted, "{of_east} {of_west}");
        // The listeners of its VIP are those that the import says.
        let merged = world.service(&id("s")).expect("it is there");
        let listened: Vec<_> = merged.ports.iter().map(|p| format!("{} {}/TCP", p.name, p.port)).collect();
        assert_eq!(listened, wanted, "{of_east} {of_west}");
        assert_eq!(told(&world, "s", "Conflict"), on_both(true, "PortConflict"));
    }
}

#[test]
fn a_port_leads_only_to_clusters_that_export_it_with_its_number() {
    let of = |of_west| {
        of([
            ("east", service("s", &[("http", 80, Protocol::Http)], 0)),
            ("west", service("s", &[("http", of_west, Protocol::Http)], 0)),
            ("east", slice("s-1", "s", &["10.0.0.1"])),
            ("west", slice("s-1", "s", &["10.1.0.1"])),
            ("west", export("s", 2)),
        ])
    };
    for (of_west, wanted) in [(80, &["10.0.0.1:8080", "10.1.0.1:8080"][..]), (81, &["10.0.0.1:8080"])] {
        let mut world = of(of_west);
        let touched = world.apply(vec![put("east", export("s", 1))], 0);
        assert!(touched.services.contains(&id("s")));
        let access = world.access(&id("s")).expect("it is there");
        let reached = world.access_endpoints(&AccessScope::of(access), &id("s"), "http");
        assert_eq!(reached.iter().map(|e| e.address.to_string()).collect::<Vec<_>>(), wanted);
        let of_west = &world.import_endpoints(&id("s"), &"west".into())[0];
        assert_eq!(of_west.ports.len(), wanted.len() - 1);
    }
    // What is not exported is merged as ever: by the ports' names.
    let world = world([
        ("east", service("s", &[("http", 80, Protocol::Http)], 0)),
        ("west", service("s", &[("http", 81, Protocol::Http)], 0)),
        ("east", slice("s-1", "s", &["10.0.0.1"])),
        ("west", slice("s-1", "s", &["10.1.0.1"])),
    ]);
    assert_eq!(addresses(&world, "s").len(), 2);
}

#[test]
fn headlessness_in_conflict_is_that_of_the_oldest_export() {
    let bare = with("s", |s| s.headless = true);
    for (of_west, kind) in [(9, ImportKind::ClusterSetIp), (1, ImportKind::Headless)] {
        let world = of([
            ("east", http_service("s")),
            ("west", bare.clone()),
            ("east", export("s", 5)),
            ("west", export("s", of_west)),
        ]);
        assert_eq!(import(&world, "s").kind, kind);
        assert_eq!(told(&world, "s", "Conflict"), on_both(true, "TypeConflict"));
    }
}

#[test]
fn every_disagreement_has_its_reason() {
    type Change = fn(&mut Service);
    let cases: [(&str, Change); 5] = [
        ("SessionAffinityConflict", |s| s.traits.client_ip_affinity = Some(10_800)),
        ("InternalTrafficPolicyConflict", |s| s.traits.internal_traffic_local = true),
        ("TrafficDistributionConflict", |s| s.traits.traffic_distribution = Some("PreferClose".into())),
        ("IPFamilyConflict", |s| s.traits.families = vec![Family::V4, Family::V6]),
        ("TypeConflict,PortConflict", |s| (s.headless, s.ports) = (true, Vec::new())),
    ];
    for (reason, change) in cases {
        let world = of([
            ("east", http_service("s")),
            ("west", with("s", change)),
            ("east", export("s", 1)),
            ("west", export("s", 2)),
        ]);
        assert_eq!(told(&world, "s", "Conflict"), on_both(true, reason));
    }
    let tied = |seconds| with("s", |s| s.traits.client_ip_affinity = Some(seconds));
    let world = of([("east", tied(60)), ("west", tied(90)), ("east", export("s", 1)), ("west", export("s", 2))]);
    assert_eq!(told(&world, "s", "Conflict"), on_both(true, "SessionAffinityConfigConflict"));
    assert_eq!(import(&world, "s").client_ip_affinity, Some(60));
}

#[test]
fn alike_exports_are_in_no_conflict() {
    let world = of([
        ("east", http_service("s")),
        ("west", http_service("s")),
        ("east", export("s", 1)),
        ("west", export("s", 2)),
    ]);
    assert_eq!(told(&world, "s", "Conflict"), on_both(false, "NoConflicts"));
    assert_eq!(told(&world, "s", "Valid"), on_both(true, "Valid"));
    assert_eq!(told(&world, "s", "Ready"), on_both(true, "Exported"));
    assert!(world.exports().all(|export| export.generation == 7));
}

#[test]
fn only_exported_labels_and_annotations_are_carried_over_and_the_oldest_decides() {
    let service = with("s", |s| s.labels = labels_of(&[("app", "s")]));
    let world = of([
        ("east", service.clone()),
        ("west", service),
        ("west", saying("s", 1, &[("team", "a")], &[("note", "one")])),
        ("east", saying("s", 2, &[("team", "b")], &[("note", "two")])),
    ]);
    let import = import(&world, "s");
    assert_eq!((import.labels, import.annotations), (labels_of(&[("team", "a")]), labels_of(&[("note", "one")])));
    assert_eq!(told(&world, "s", "Conflict"), on_both(true, "LabelsConflict,AnnotationsConflict"));
    let words = &world.exports_of(&id("s"))[0].conditions[2].message;
    assert!(words.contains("cluster east says exportedLabels team=b") && words.contains("west"), "{words}");
}

#[test]
fn what_is_told_of_a_conflict_is_short_however_many_clusters_differ() {
    let clusters: Vec<String> = (0..50).map(|i| format!("c{i:02}")).collect();
    let long = "x".repeat(100_000);
    let differing = |name: &str| saying("s", 1, &[("cluster", name)], &[("note", &format!("{name}{long}"))]);
    let world = of(clusters.iter().flat_map(|c| [(c.as_str(), http_service("s")), (c.as_str(), differing(c))]));
    let words = &world.exports_of(&id("s"))[0].conditions[2].message;
    assert!(words.len() < 1_500 && words.ends_with("and 95 more"), "{}: {words}", words.len());
}

#[test]
fn an_external_name_is_not_exported() {
    let elsewhere = with("s", |s| {
        (s.ports, s.traits.external_name) = (Vec::new(), true);
    });
    let mut world = of([("east", elsewhere), ("east", export("s", 1))]);
    assert_eq!(world.import(&id("s")), None);
    assert_eq!(world.access(&id("s")), None);
    assert_eq!(world.service(&id("s")), None);
    assert_eq!(world.cluster(&"east".into()).expect("it is there").counts.services, 0);
    let of_east = |holds, reason: &str| vec![("east".to_owned(), holds, reason.to_owned())];
    assert_eq!(told(&world, "s", "Valid"), of_east(false, "InvalidServiceType"));
    assert_eq!(told(&world, "s", "Ready"), of_east(false, "Failed"));
    world.apply(vec![delete("east", &http_service("s"))], 0);
    assert_eq!(told(&world, "s", "Valid"), of_east(false, "NoService"));
    let touched = world.apply(vec![put("east", http_service("s"))], 0);
    assert_eq!(told(&world, "s", "Valid"), of_east(true, "Valid"));
    assert!(touched.accesses.contains(&id("s")), "{touched:?}");
    assert_eq!(import(&world, "s").kind, ImportKind::ClusterSetIp);
}

#[test]
fn only_exporting_clusters_are_reached() {
    let world = of([
        ("east", http_service("s")),
        ("west", http_service("s")),
        ("east", slice("s-1", "s", &["10.0.0.1"])),
        ("west", slice("s-1", "s", &["10.1.0.1"])),
        ("east", export("s", 1)),
    ]);
    let access = world.access(&id("s")).expect("it is there");
    let reached = world.access_endpoints(&AccessScope::of(access), &id("s"), "http");
    assert_eq!(reached.iter().map(|e| e.address.to_string()).collect::<Vec<_>>(), ["10.0.0.1:8080"]);
    assert_eq!(world.import_endpoints(&id("s"), &"west".into()), []);
    assert_eq!(world.import_endpoints(&id("s"), &"east".into()).len(), 1);
}

#[test]
fn endpoints_are_told_by_family_and_ports() {
    let Object::Slice(mut first) = slice("s-1", "s", &["10.0.0.2", "10.0.0.1"]) else { unreachable!("it is a slice") };
    first.endpoints[0].ready = false;
    first.endpoints[1].hostname = Some("web-0".into());
    let Object::Slice(mut other) = slice("s-2", "s", &["10.0.0.3"]) else { unreachable!("it is a slice") };
    other.ports = vec![SlicePort { name: "http".into(), port: 9090 }];
    let world = of([
        ("east", with("s", |s| s.headless = true)),
        ("east", Object::Slice(first)),
        ("east", Object::Slice(other)),
        ("east", slice("s-3", "s", &["fd00::1"])),
        // An endpoint on its way to another slice is told once, by the better word.
        ("east", slice("s-4", "s", &["10.0.0.2"])),
        ("east", export("s", 1)),
    ]);
    let told: Vec<String> = world
        .import_endpoints(&id("s"), &"east".into())
        .into_iter()
        .map(|slice| {
            let endpoints = slice.endpoints.iter().map(|e| format!("{}={}:{}", e.label(), e.address, e.ready));
            format!("{:?} {} {}", slice.family, slice.ports[0].port, endpoints.collect::<Vec<_>>().join(" "))
        })
        .collect();
    assert_eq!(
        told,
        [
            "V4 8080 web-0=10.0.0.1:true 10-0-0-2=10.0.0.2:true",
            "V4 9090 10-0-0-3=10.0.0.3:true",
            "V6 8080 fd00-0-0-0-0-0-0-1=fd00::1:true",
        ]
    );
}

#[test]
fn what_users_say_of_pods_holds_for_imports() {
    let drained = snapshot::Said { drain: Some(true), ..Default::default() };
    let entries = vec![snapshots::of_pod("pod-10.0.0.1", drained)];
    let said = UserSnapshot {
        id: id("hand"),
        generation: 1,
        access: "s".into(),
        service: None,
        cluster: Some("east".into()),
        entries,
    };
    let world = of([
        ("east", http_service("s")),
        ("east", slice("s-1", "s", &["10.0.0.1", "10.0.0.2"])),
        ("east", export("s", 1)),
        ("primary", Object::Snapshot(said)),
    ]);
    let endpoints = &world.import_endpoints(&id("s"), &"east".into())[0].endpoints;
    assert_eq!(endpoints.iter().map(|e| (e.ready, e.serving)).collect::<Vec<_>>(), [(false, true), (true, true)]);
    assert_eq!(world.user_snapshot(&id("hand")).expect("it counts").effect, Ok(()));
}

#[test]
fn a_cluster_access_stands_before_the_exports_of_its_name() {
    let Object::Access(mut own) = access("s", "s") else { unreachable!("it is an access") };
    own.clusters.insert("east".into());
    own.ports = vec![PortChoice::Number(80)];
    let own = Object::Access(own);
    let mut world = of([
        ("east", http_service("s")),
        ("west", with("s", |s| s.headless = true)),
        ("west", export("s", 1)),
        ("east", export("s", 2)),
    ]);
    assert_eq!(import(&world, "s").kind, ImportKind::Headless);
    let touched = world.apply(vec![put("primary", own.clone())], 0);
    assert!(touched.accesses.contains(&id("s")));
    assert!(!world.is_derived(&id("s")));
    assert_eq!(world.accesses().count(), 1);
    assert_eq!(names(&import(&world, "s").clusters), ["east"]);
    assert_eq!(import(&world, "s").kind, ImportKind::ClusterSetIp);
    let ready = [("east".to_owned(), true, "Exported".to_owned()), ("west".to_owned(), false, "Failed".to_owned())];
    assert_eq!(told(&world, "s", "Ready"), ready);
    let message = &world.exports_of(&id("s"))[0].conditions[1].message;
    assert!(message.contains("ClusterAccess shop/s"), "{message}");
    let touched = world.apply(vec![delete("primary", &own)], 0);
    assert!(touched.accesses.contains(&id("s")));
    assert!(world.is_derived(&id("s")));
    assert_eq!(told(&world, "s", "Ready"), on_both(true, "Exported"));
}

#[test]
fn accesses_of_both_sorts_come_by_name() {
    let exported = ["a", "c", "e"].into_iter().flat_map(|n| [("east", http_service(n)), ("east", export(n, 1))]);
    let declared = ["b", "c", "f"].into_iter().map(|name| ("primary", access(name, "a")));
    let world = of(exported.chain(declared));
    let all: Vec<&str> = world.accesses().map(|access| &*access.id.name).collect();
    assert_eq!(all, ["a", "b", "c", "e", "f"]);
    // Of those that choose `a`: the one that follows from its export, and all that name it.
    let choosers: Vec<String> = world.accesses_of(&id("a")).iter().map(|id| id.name.to_string()).collect();
    assert_eq!(choosers, ["a", "b", "c", "f"]);
}

#[test]
fn a_cluster_that_cannot_be_read_still_exports() {
    let mut world = of([("east", http_service("s")), ("east", export("s", 1))]);
    let unknown = Change::Unknown { cluster: "east".into(), reason: "away".into() };
    world.apply(vec![unknown], 0);
    assert_eq!(names(&import(&world, "s").clusters), ["east"]);
    world.apply(vec![Change::Forget { cluster: "east".into() }], 0);
    assert_eq!(world.import(&id("s")), None);
    assert_eq!(world.access(&id("s")), None);
}

#[test]
fn exports_of_excluded_namespaces_do_not_count() {
    let mut world = of([("east", http_service("s")), ("east", export("s", 1))]);
    let excluding = |namespaces: &[&str]| {
        let Object::Cluster(mut spec) = info("east", ClusterRole::Sub) else { unreachable!("it is a cluster's") };
        spec.excluded_namespaces = namespaces.iter().map(|n| Arc::from(*n)).collect();
        put("primary", Object::Cluster(spec))
    };
    let touched = world.apply(vec![excluding(&["shop"])], 0);
    assert!(touched.accesses.contains(&id("s")), "{touched:?}");
    assert_eq!((world.import(&id("s")), world.exports().count()), (None, 0));
    let touched = world.apply(vec![excluding(&[])], 0);
    assert!(touched.accesses.contains(&id("s")), "{touched:?}");
    assert!(world.is_derived(&id("s")));
}

#[test]
fn without_a_primary_nothing_follows_from_exports() {
    let mut world = of([("east", http_service("s")), ("east", export("s", 1)), ("west", http_service("s"))]);
    let touched = world.set_primary(Some("nowhere".into()));
    assert!(touched.accesses.contains(&id("s")), "{touched:?}");
    assert_eq!((world.access(&id("s")), world.accesses().count()), (None, 0));
    assert_eq!(told(&world, "s", "Ready"), [("east".to_owned(), false, "Pending".to_owned())]);
}
