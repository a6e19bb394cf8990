use std::collections::BTreeSet;

use tokio::sync::mpsc;

use super::build::*;
use super::rig::{Rig, in_time};
use crate::feedback::{AgentListener, AgentListenerState};
use crate::model::object::{Access, Object, Protocol};
use crate::reconcile::{AgentEvent, Event};
use crate::snapshot::ResourceType;

const FIRST: &str = "vip/240.0.0.1:80";
const SECOND: &str = "vip/240.0.0.2:80";

/// A primary with the pool, and a cluster `east` with the services `web` and `db`.
fn start() -> Vec<crate::model::object::Change> {
    vec![
        put("primary", pool()),
        put("primary", Object::Access(access("web"))),
        put("east", service("web", Protocol::Http)),
        put("east", slice("web", &[("web-0", "10.0.0.1", true)])),
        put("east", service("db", Protocol::Tcp)),
        synced("primary"),
        synced("east"),
    ]
}

fn remedies(status: &crate::reconcile::view::StatusView) -> String {
    status.problems.iter().map(|problem| format!("{}: {}\n", problem.object, problem.message)).collect()
}

#[tokio::test]
async fn nothing_is_served_before_every_source_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    let mut envoy = rig.connect(1, "gw").await;
    for cluster in ["primary", "east", "west"] {
        rig.send(Event::Expect(cluster.into())).await;
    }
    rig.changes(start()).await;
    let status = rig.status().await;
    assert_eq!((status.ready, status.waiting_for), (false, vec!["cluster west".to_owned()]));
    assert!(envoy.snapshots.borrow().is_none() && !rig.table.borrow().is_ready());
    assert!(rig.store.load_ledger().await.unwrap().is_empty());
    rig.changes(vec![unknown("west")]).await;
    envoy.served(&[FIRST]).await;
    assert!(rig.status().await.ready && rig.table.borrow().is_ready());
    rig.stop().await;
}

#[tokio::test]
async fn an_address_is_durable_before_it_is_offered_and_published_when_it_is_proved() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    rig.changes(start()).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Allocated"]);
    let mut envoy = rig.connect(1, "gw").await;
    envoy.served(&[FIRST]).await;
    let rows = rig.store.load_ledger().await.unwrap();
    assert_eq!(rows.iter().map(|row| row.address).collect::<Vec<_>>(), [ip("240.0.0.1")]);
    assert_eq!(rig.states().await, ["240.0.0.1 Offered"]);
    envoy.ack(&rig).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Published"]);
    let row = rig.access("web").await;
    let conditions: Vec<_> = row.conditions.iter().map(|c| format!("{} {} {}", c.kind, c.status, c.reason)).collect();
    assert_eq!(
        conditions,
        ["Accepted True Accepted", "Allocated True Allocated", "Published True BoundOnAll", "Decided True Decided"]
    );
    assert_eq!(row.vips[0].bound, "1/1");
    envoy.leave(&rig).await;
    assert_eq!(rig.vips().await[0].name, "", "the proof is gone, and the name with it");
    rig.stop().await;
}

#[tokio::test]
async fn a_vip_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    rig.changes(start()).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Allocated"]);
    rig.stop().await;
    // An access that comes first by name would be given that address, were it free.
    let rig = Rig::start(dir.path()).await;
    let mut changes = start();
    changes.insert(0, put("primary", Object::Access(access("db"))));
    rig.changes(changes).await;
    let vips: Vec<_> = rig.vips().await.into_iter().map(|vip| format!("{} {}", vip.address, vip.access)).collect();
    assert_eq!(vips, ["240.0.0.1 shop/web", "240.0.0.2 shop/db"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_cluster_that_cannot_be_read_withdraws_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    rig.changes(start()).await;
    let mut envoy = rig.connect(1, "gw").await;
    let before = envoy.served(&[FIRST]).await;
    envoy.ack(&rig).await;
    rig.changes(vec![unknown("east")]).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Published"]);
    let held = envoy.served(&[FIRST]).await;
    assert_eq!(held.version(ResourceType::Endpoint), before.version(ResourceType::Endpoint), "its endpoints stay");
    assert!(remedies(&rig.status().await).contains("cluster east cannot be read"));
    // While the primary cannot be read, that an access is missing says nothing.
    rig.changes(vec![unknown("primary"), delete("primary", &Object::Access(access("web")))]).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Published"]);
    // Once it can be, the access is gone; that east still cannot be read keeps nothing.
    rig.changes(vec![synced("primary")]).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Unpublishing"]);
    rig.stop().await;
}

#[tokio::test]
async fn after_a_restart_a_cluster_that_was_not_read_yet_keeps_what_is_claimed_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    rig.changes(start()).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Allocated"]);
    rig.stop().await;
    let rig = Rig::start(dir.path()).await;
    let of_primary = start().into_iter().filter(|change| format!("{change:?}").contains("\"primary\"")).collect();
    rig.changes(of_primary).await;
    rig.changes(vec![unknown("east")]).await;
    rig.connect(1, "gw").await.served(&[FIRST]).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Offered"]);
    rig.stop().await;
}

#[tokio::test]
async fn without_a_primary_nothing_is_withdrawn() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    let only = [pool(), Object::Access(access("web")), service("web", Protocol::Http)];
    rig.changes(only.into_iter().map(|object| put("one", object)).chain([synced("one")]).collect()).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Allocated"]);
    // Now nobody can say which of the two is the primary.
    rig.changes(vec![put("two", pool()), synced("two")]).await;
    assert_eq!(rig.states().await, ["240.0.0.1 Allocated"]);
    rig.stop().await;
}

#[tokio::test]
async fn while_the_ledger_cannot_be_written_nothing_new_is_offered_and_names_without_proof_go() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    rig.changes(start()).await;
    let mut envoy = rig.connect(1, "gw").await;
    envoy.served(&[FIRST]).await;
    envoy.ack(&rig).await;
    let (mut other, first) = (rig.connect(2, "gw-2").await, rig.vips().await.remove(0));
    assert_eq!(first.state, "Published");
    rig.store.close().await;
    rig.changes(vec![put("primary", Object::Access(access("db")))]).await;
    assert!(remedies(&rig.status().await).contains("the VIP ledger cannot be written"));
    assert_eq!(rig.states().await, ["240.0.0.1 Published"], "what holds goes on to hold");
    other.served(&[FIRST]).await;
    // What has its endpoints changed is served all the same.
    rig.changes(vec![put("east", slice("web", &[("web-0", "10.0.0.2", true)]))]).await;
    in_time("new endpoints", envoy.snapshots.changed()).await.unwrap();
    envoy.leave(&rig).await;
    let vip = rig.vips().await.remove(0);
    assert_ne!(vip.state, "Published");
    assert_eq!(vip.name, "");
    rig.stop().await;
}

#[tokio::test]
async fn an_owner_that_never_could_plan_serves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    rig.store.close().await;
    let envoy = rig.connect(1, "gw").await;
    rig.changes(start()).await;
    let status = rig.status().await;
    assert_eq!((status.ready, status.waiting_for), (false, vec!["the VIP ledger".to_owned()]));
    assert!(envoy.snapshots.borrow().is_none(), "an empty snapshot would take everything from Envoys that serve");
    assert!(!rig.table.borrow().is_ready());
    rig.stop().await;
}

#[tokio::test]
async fn a_cluster_that_appears_later_holds_nothing_up_and_is_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    rig.changes(start()).await;
    rig.changes(vec![put("primary", Object::Access(access("late")))]).await;
    assert_eq!(rig.access("late").await.conditions[0].reason, "ServiceNotFound");
    rig.send(Event::Expect("west".into())).await;
    rig.connect(1, "gw").await.served(&[FIRST]).await;
    rig.changes(vec![put("west", service("late", Protocol::Http))]).await;
    rig.changes(vec![synced("west")]).await;
    assert_eq!(rig.states().await.len(), 2);
    rig.connect(2, "gw-2").await.served(&[FIRST, SECOND]).await;
    assert!(rig.status().await.ready);
    rig.stop().await;
}

#[tokio::test]
async fn a_refused_listener_is_offered_anew_in_another_version_when_it_can_be_bound() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    rig.changes(start()).await;
    let (mut envoy, mut other) = (rig.connect(1, "gw").await, rig.connect(2, "gw-2").await);
    let refused = envoy.served(&[FIRST]).await;
    let shared = other.served(&[FIRST]).await;
    envoy.refuse(&rig, FIRST, "cannot bind: Address in use").await;
    other.ack(&rig).await;
    let vip = rig.vips().await.remove(0);
    assert_eq!((vip.state.as_str(), vip.bound.as_str()), ("Published", "1/2"));
    assert_eq!((vip.gateways[0].state.as_str(), vip.gateways[0].error.contains("in use")), ("Rejected", true));
    assert_eq!(rig.access("web").await.conditions[2].reason, "BoundOnSome");
    envoy.snapshots.borrow_and_update();
    let (orders, _given) = mpsc::channel(8);
    let agent = |event| rig.send(Event::Agent(event));
    agent(AgentEvent::Connected { stream: 7, node: "gw".into(), ranges: Vec::new(), orders }).await;
    let listener =
        AgentListener { name: FIRST.into(), state: AgentListenerState::Failed, error: "".into(), bindable: Some(true) };
    agent(AgentEvent::Listeners { stream: 7, node: "gw".into(), envoy_up: true, listeners: vec![listener] }).await;
    in_time("another attempt", envoy.snapshots.changed()).await.unwrap();
    let anew = envoy.served(&[FIRST]).await;
    assert_ne!(anew.version(ResourceType::Listener), refused.version(ResourceType::Listener));
    let held = other.served(&[FIRST]).await;
    assert_eq!(held.version(ResourceType::Listener), shared.version(ResourceType::Listener));
    rig.stop().await;
}

fn named(name: &str, hostname: &str) -> Access {
    Access { hostnames: names(&[hostname]), ..access(name) }
}

#[tokio::test]
async fn a_host_name_goes_to_who_asks_next_when_its_owner_goes() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    let mut changes = start();
    // `aaa` comes first by name, though it has no service and so no claim.
    let first = Object::Access(named("aaa", "web.example.com"));
    changes.extend([put("primary", first.clone()), put("primary", Object::Access(named("web", "web.example.com")))]);
    rig.changes(changes).await;
    let mut envoy = rig.connect(1, "gw").await;
    let before = envoy.served(&[FIRST]).await;
    envoy.ack(&rig).await;
    assert_eq!(rig.access("web").await.conditions[0].reason, "HostnameConflict");
    rig.changes(vec![delete("primary", &first)]).await;
    let row = rig.access("web").await;
    assert_eq!(row.conditions[0].reason, "Accepted");
    assert_eq!(row.vips[0].hostnames, ["web.shop.svc.clusterset.local", "web.example.com"]);
    let after = envoy.served(&[FIRST]).await;
    assert_ne!(after.version(ResourceType::Route), before.version(ResourceType::Route));
    // It comes back, and does not take away what is in use.
    rig.changes(vec![put("primary", first)]).await;
    assert_eq!(rig.access("web").await.conditions[0].reason, "Accepted");
    assert_eq!(rig.access("web").await.vips[0].hostnames.len(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn what_an_access_lacks_is_said_in_its_conditions() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    let mut changes = start();
    let limited = Access { clusters: BTreeSet::from(["west".into()]), ..access("web") };
    let greedy = Access { pool: Some("other".into()), ..access("db") };
    changes.extend([put("primary", Object::Access(limited)), put("primary", Object::Access(greedy))]);
    rig.changes(changes).await;
    let told = async |name: &str| {
        let row = rig.access(name).await;
        let told = row.conditions.iter().filter(|c| c.kind != "Decided");
        told.map(|c| format!("{} {} {}", c.kind, c.status, c.reason)).collect::<Vec<_>>()
    };
    assert_eq!(
        told("web").await,
        ["Accepted False ServiceNotFound", "Allocated False NothingClaimed", "Published False NotProved"]
    );
    assert_eq!(
        told("db").await,
        ["Accepted True Accepted", "Allocated False PoolMissing", "Published False NotProved"]
    );
    rig.stop().await;
}
