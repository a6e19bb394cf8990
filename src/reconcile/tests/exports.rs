use super::build::*;
use super::rig::Rig;
use crate::model::export::ServiceExport;
use crate::model::object::{Change, Labels, Object, Protocol};
use crate::model::world::World;
use crate::reconcile::Event;
use crate::reconcile::names::names;
use crate::reconcile::views::Desired;
use crate::vip::Plan;

const FIRST: &str = "vip/240.0.0.1:80";

fn export(name: &str) -> Object {
    let (labels, annotations) = (Labels::new(), Labels::new());
    Object::Export(ServiceExport { id: id(name), created_at: 1, generation: 1, labels, annotations })
}

fn primary() -> (&'static str, Object) {
    let role = crate::model::object::ClusterRole::Primary;
    let spec = crate::model::object::ClusterSpec {
        name: "primary".into(),
        role,
        network: "default".into(),
        locality: Default::default(),
        excluded_namespaces: Default::default(),
    };
    ("primary", Object::Cluster(spec))
}

fn headless(name: &str) -> Object {
    let Object::Service(mut service) = service(name, Protocol::Tcp) else { unreachable!("it is a service") };
    service.headless = true;
    Object::Service(service)
}

/// Pods by host name, address and readiness.
fn stateful(service: &str, pods: &[(&str, &str, bool)]) -> Object {
    let Object::Slice(mut slice) = slice(service, pods) else { unreachable!("it is a slice") };
    for endpoint in &mut slice.endpoints {
        endpoint.hostname.clone_from(&endpoint.pod);
    }
    Object::Slice(slice)
}

fn told(world: &World) -> (Vec<String>, Vec<String>) {
    let names = names(world, &Plan::default(), &Desired::default());
    let mut records: Vec<String> = names.records.iter().map(|r| format!("{} {}", r.name, r.address)).collect();
    records.sort();
    (records, names.hosts.iter().map(|h| format!("{} {} {}", h.port_name, h.port, h.host)).collect())
}

#[test]
fn a_headless_export_is_answered_with_its_ready_pods_and_each_by_its_host_name() {
    let mut world = world([
        primary(),
        ("east", headless("db")),
        ("west", headless("db")),
        ("east", stateful("db", &[("db-0", "10.0.0.1", true), ("db-1", "10.0.0.2", false)])),
        ("west", stateful("db", &[("db-0", "10.1.0.1", true)])),
        ("east", export("db")),
    ]);
    let name = "db.shop.svc.clusterset.local";
    let (records, hosts) = told(&world);
    assert_eq!(records, [format!("db-0.east.{name} 10.0.0.1"), format!("{name} 10.0.0.1")]);
    assert_eq!(hosts, [format!("main 8080 db-0.east.{name}")]);
    world.apply(vec![put("west", export("db"))], 0);
    let (records, _) = told(&world);
    let both = [
        format!("{name} 10.0.0.1"),
        format!("{name} 10.1.0.1"),
        format!("db-0.east.{name} 10.0.0.1"),
        format!("db-0.west.{name} 10.1.0.1"),
    ];
    let mut both: Vec<String> = both.into();
    both.sort();
    assert_eq!(records, both);
    // Without a ready pod there is no name.
    world.apply(vec![put("east", stateful("db", &[])), put("west", stateful("db", &[("db-0", "10.1.0.1", false)]))], 0);
    assert_eq!(told(&world), (vec![], vec![]));
    // A ClusterAccess of the name gives it a VIP, and then that is what is answered.
    let mine = put("primary", Object::Access(access("db")));
    world.apply(vec![put("east", stateful("db", &[("db-0", "10.0.0.1", true)])), mine], 0);
    assert_eq!(told(&world), (vec![], vec![]));
}

/// A primary with a pool, and a cluster that exports.
fn start() -> Vec<Change> {
    vec![
        put("primary", pool()),
        put("primary", primary().1),
        put("east", service("web", Protocol::Http)),
        put("east", slice("web", &[("web-0", "10.0.0.1", true)])),
        put("east", export("web")),
        synced("primary"),
        synced("east"),
    ]
}

#[tokio::test]
async fn an_export_has_a_vip_while_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    rig.changes(start()).await;
    let mut envoy = rig.connect(1, "gw").await;
    envoy.served(&[FIRST]).await;
    envoy.ack(&rig).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Published"]);
    assert_eq!(rig.access("web").await.from, "ServiceExport east");
    // Another cluster's export moves nothing.
    rig.changes(vec![put("west", service("web", Protocol::Http)), put("west", export("web")), synced("west")]).await;
    assert_eq!(rig.access("web").await.from, "ServiceExport east,west");
    assert_eq!(rig.states().await, ["240.0.0.1 Published"]);
    // Nor does a ClusterAccess, to which the VIP is handed over.
    rig.changes(vec![put("primary", Object::Access(access("web")))]).await;
    assert_eq!(rig.access("web").await.from, "ClusterAccess");
    assert_eq!(rig.states().await, ["240.0.0.1 Published"]);
    rig.changes(vec![delete("primary", &Object::Access(access("web")))]).await;
    assert_eq!(rig.access("web").await.from, "ServiceExport east,west");
    assert_eq!(rig.states().await, ["240.0.0.1 Published"]);
    rig.changes(vec![delete("east", &export("web")), delete("west", &export("web"))]).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Unpublishing"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_headless_export_has_no_vip_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    let mut changes = start();
    changes[2] = put("east", headless("web"));
    rig.changes(changes).await;
    let row = rig.access("web").await;
    let conditions: Vec<_> = row.conditions.iter().map(|c| format!("{} {} {}", c.kind, c.status, c.reason)).collect();
    assert_eq!(
        conditions,
        ["Accepted True Accepted", "Allocated True Headless", "Published True Headless", "Decided True Decided"]
    );
    assert_eq!(rig.states().await, [""; 0]);
    assert!(rig.status().await.problems.is_empty(), "{:?}", rig.status().await.problems);
    rig.stop().await;
}

#[tokio::test]
async fn what_an_unread_cluster_may_export_keeps_its_address() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    rig.changes(start()).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Allocated"]);
    rig.stop().await;
    // After a restart, nothing is known of the one cluster that exports.
    let rig = Rig::start(dir.path()).await;
    rig.send(Event::Expect("east".into())).await;
    let of_primary = vec![put("primary", pool()), put("primary", primary().1), synced("primary"), unknown("east")];
    rig.changes(of_primary).await;
    assert!(rig.status().await.ready);
    let held = rig.vips().await;
    assert_eq!((held.len(), held[0].access.as_str()), (1, "shop/web"));
    assert_ne!(held[0].state, "Unpublishing");
    // What had a ClusterAccess is known to be gone without one.
    let own = Object::Access(access("db"));
    rig.changes(vec![put("primary", service("db", Protocol::Tcp)), put("primary", own.clone())]).await;
    assert_eq!(rig.vips().await.len(), 2);
    rig.changes(vec![delete("primary", &own)]).await;
    let of = |access: &str, rows: &[crate::reconcile::view::VipRow]| {
        rows.iter().find(|vip| vip.access == access).map(|vip| vip.state.clone())
    };
    let rows = rig.vips().await;
    assert_ne!(of("shop/web", &rows).as_deref(), Some("Unpublishing"));
    assert_eq!(of("shop/db", &rows).as_deref(), Some("Unpublishing"));
    // Once it is read, what it does not export is gone.
    rig.changes(vec![synced("east")]).await;
    let rows = rig.vips().await;
    assert_eq!(of("shop/web", &rows).as_deref(), Some("Unpublishing"));
    rig.stop().await;
}
