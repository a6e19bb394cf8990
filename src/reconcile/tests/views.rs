//! From a plan to snapshots, and to names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use super::build::*;
use crate::model::decision::{ClientView, NodeRole};
use crate::model::object::{Change, Family, Locality, Object, Protocol, Selector, VipPer};
use crate::model::snapshot::{Entry, Place, Said};
use crate::model::world::World;
use crate::policy::Policies;
use crate::reconcile::desired::{self, is_outdated};
use crate::reconcile::names;
use crate::reconcile::policies::Chosen;
use crate::reconcile::views::{AudienceKey, Desired, Turn, ViewKey, Views};
use crate::snapshot::{Changes, ResourceType, XdsSnapshot};
use crate::vip::{Audience, Offer, Plan, Published, Slot, listener_name};

pub fn everyone() -> Arc<Audience> {
    Arc::new(Audience::Gateways { selector: Arc::new(Selector::default()), lingering: BTreeSet::new() })
}

pub fn offer(service: &str, pod: Option<&str>, address: &str, protocol: Protocol) -> Offer {
    let family = Family::of(ip(address));
    let slot = Slot { access: id(service), service: id(service), pod: pod.map(Into::into), family, node: None };
    Offer {
        address: ip(address),
        port: port(protocol),
        slot: Arc::new(slot),
        hostnames: names(&["web.example.com"]).into(),
        audience: everyone(),
        withdrawing: false,
    }
}

pub fn plan(offers: Vec<Offer>) -> Plan {
    let offers = offers.into_iter().map(|offer| (listener_name(offer.address, offer.port.port), offer)).collect();
    Plan { offers, ..Plan::default() }
}

fn client() -> ClientView {
    ClientView { role: NodeRole::Gateway, cluster: None, network: None, locality: Locality::default() }
}

fn key(desired: &Desired, own: Option<&str>) -> ViewKey {
    let audiences = desired.audiences.keys().cloned().collect();
    ViewKey { client: client(), audiences, buckets: BTreeMap::new(), own: own.map(Into::into) }
}

fn shared_policies() -> &'static Policies {
    static POLICIES: LazyLock<Policies> = LazyLock::new(super::rig::policies);
    &POLICIES
}

/// What all accesses of the world choose.
pub fn desired(world: &World, plan: &Plan, before: &Desired) -> Desired {
    let mut chosen = Chosen::new(shared_policies());
    for access in world.accesses() {
        chosen.update(&access.id, Some(access), shared_policies());
    }
    desired::desired(world, plan, &chosen, before)
}

pub fn turn<'a>(world: &'a World, desired: &'a Desired, dirty: &'a BTreeSet<Arc<str>>) -> Turn<'a> {
    Turn { world, desired, desired_changed: false, dirty, policies: shared_policies(), now: 0 }
}

pub fn two_services() -> World {
    world([
        ("east", service("web", Protocol::Http)),
        ("east", slice("web", &[("web-0", "10.0.0.1", true)])),
        ("east", service("db", Protocol::Tcp)),
        ("east", slice("db", &[("db-0", "10.0.0.2", true)])),
        ("east", Object::Access(access("web"))),
        ("east", Object::Access(access("db"))),
    ])
}

pub fn two_offers() -> Plan {
    plan(vec![offer("web", None, "240.0.0.1", Protocol::Http), offer("db", None, "240.0.0.2", Protocol::Tcp)])
}

pub const WEB: &str = "shop/web/web:80";
pub const DB: &str = "shop/db/db:80";

fn names_of(snapshot: &XdsSnapshot, ty: ResourceType) -> Vec<String> {
    snapshot.resources(ty).map(|resource| resource.name().to_string()).collect()
}

fn exactly(texts: &[&str]) -> Changes {
    Changes::Exact(names(texts).into_iter().collect())
}

#[test]
fn the_addresses_of_a_service_share_a_backend() {
    let world = two_services();
    let plan =
        plan(vec![offer("web", None, "240.0.0.1", Protocol::Http), offer("web", None, "fd00::1", Protocol::Http)]);
    let desired = desired(&world, &plan, &Desired::default());
    assert_eq!(
        desired.listeners.keys().map(|name| &**name).collect::<Vec<_>>(),
        ["vip/240.0.0.1:80", "vip/[fd00::1]:80"]
    );
    let backend = &desired.backends[WEB];
    assert_eq!(backend.addresses, BTreeSet::from([ip("240.0.0.1"), ip("fd00::1")]));
    assert_eq!(desired.of_service[&id("web")], BTreeSet::from([WEB.into()]));
    assert_eq!(desired.audiences.len(), 1, "equal audiences are one");
    assert_eq!(
        backend.cluster_hostnames.keys().map(|n| &**n).collect::<Vec<_>>(),
        ["east.web.shop.svc.clusterset.local"]
    );
}

#[test]
fn a_cluster_that_begins_to_have_a_service_makes_http_backends_outdated() {
    let mut world = two_services();
    let desired = desired(&world, &two_offers(), &Desired::default());
    let services = [id("web"), id("db")];
    assert!(!is_outdated(&world, &desired, services.iter()));
    world.apply(vec![put("west", service("db", Protocol::Tcp)), synced("west")], 0);
    assert!(!is_outdated(&world, &desired, services.iter()), "bytes have no names to tell clusters apart by");
    world.apply(vec![put("west", service("web", Protocol::Http))], 0);
    assert!(is_outdated(&world, &desired, services.iter()));
}

#[test]
fn a_vip_drains_as_it_served_when_its_access_is_gone() {
    let mut world = two_services();
    let mut limited = access("web");
    limited.clusters = BTreeSet::from(["east".into()]);
    limited.load_balancing.config = serde_json::json!({"algorithm": "Maglev"});
    world.apply(vec![put("east", Object::Access(limited.clone()))], 0);
    let mut before = desired(&world, &two_offers(), &Desired::default());
    assert_eq!(before.divisions, BTreeMap::new());
    before.backends.get_mut(WEB).unwrap().policy.buckets = 4;
    world.apply(vec![delete("east", &Object::Access(limited.clone()))], 0);
    let after = desired(&world, &two_offers(), &before);
    assert_eq!(after.backends[WEB].scope.clusters, limited.clusters);
    assert_eq!(after.backends[WEB].policy, before.backends[WEB].policy);
    assert_eq!(&*after.backends[WEB].policy.config, "{\"algorithm\":\"Maglev\"}");
    let audience = AudienceKey::of(&everyone());
    assert_eq!(after.divisions, BTreeMap::from([(audience, BTreeSet::from([4]))]), "a division of one is none");
}

#[test]
fn views_share_what_is_the_same_for_their_nodes() {
    let world = two_services();
    let mut plan = two_offers();
    if let Some(offer) = plan.offers.get_mut("vip/240.0.0.2:80") {
        offer.audience = Arc::new(Audience::Node("gw".into()));
    }
    let desired = desired(&world, &plan, &Desired::default());
    let none = BTreeSet::new();
    let turn = turn(&world, &desired, &none);
    let mut views = Views::default();
    let mut few = key(&desired, None);
    few.audiences = BTreeSet::from([AudienceKey::of(&everyone())]);
    let all = views.snapshot(&key(&desired, None), &BTreeMap::new(), &turn);
    let few = views.snapshot(&few, &BTreeMap::new(), &turn);
    assert_eq!(names_of(&all, ResourceType::Cluster), [DB, WEB]);
    assert_eq!(names_of(&few, ResourceType::Cluster), [WEB]);
    assert_eq!(names_of(&all, ResourceType::Route), [WEB], "bytes have no routes");
    for ty in [ResourceType::Cluster, ResourceType::Endpoint, ResourceType::Route] {
        assert!(Arc::ptr_eq(all.get(ty, WEB).unwrap(), few.get(ty, WEB).unwrap()), "{ty}");
    }
    assert!(all.check().is_empty() && few.check().is_empty());
}

#[test]
fn only_what_is_dirty_is_encoded_again() {
    let mut world = two_services();
    let desired = desired(&world, &two_offers(), &Desired::default());
    let (none, dirty) = (BTreeSet::new(), BTreeSet::from([Arc::from(WEB)]));
    let (mut views, key) = (Views::default(), key(&desired, None));
    let before = views.snapshot(&key, &BTreeMap::new(), &turn(&world, &desired, &none));
    views.end_turn();
    assert!(views.update(&turn(&world, &desired, &dirty)).is_empty(), "what comes out the same wakes nobody");
    world.apply(vec![put("east", slice("web", &[("web-0", "10.0.0.9", true)]))], 0);
    let changed = views.update(&turn(&world, &desired, &dirty));
    let after = &changed[&key];
    assert_eq!(after.changed_from(&before, ResourceType::Endpoint), exactly(&[WEB]));
    for ty in [ResourceType::Cluster, ResourceType::Listener, ResourceType::Route] {
        assert_eq!(after.changed_from(&before, ty), exactly(&[]), "{ty}");
    }
    assert!(Arc::ptr_eq(
        before.get(ResourceType::Endpoint, DB).unwrap(),
        after.get(ResourceType::Endpoint, DB).unwrap()
    ));
}

#[test]
fn what_an_access_says_anew_reaches_envoys_without_a_change_of_endpoints() {
    let mut world = two_services();
    world.apply(vec![put("west", service("web", Protocol::Http)), synced("west")], 0);
    world.apply(vec![put("west", slice("web", &[("web-0", "10.1.0.1", true)]))], 0);
    let first = desired(&world, &two_offers(), &Desired::default());
    let none = BTreeSet::new();
    let (mut views, key) = (Views::default(), key(&first, None));
    let before = views.snapshot(&key, &BTreeMap::new(), &turn(&world, &first, &none));
    let mut other = access("web");
    other.load_balancing.config = serde_json::json!({"algorithm": "Random"});
    other.clusters = BTreeSet::from(["west".into()]);
    world.apply(vec![put("primary", Object::Access(access("web"))), put("east", Object::Access(other))], 0);
    world.set_primary(Some("east".into()));
    let second = desired(&world, &two_offers(), &first);
    let changed = views.update(&Turn { desired_changed: true, ..turn(&world, &second, &none) });
    let after = &changed[&key];
    assert_eq!(after.changed_from(&before, ResourceType::Cluster), exactly(&[WEB]));
    assert_eq!(after.changed_from(&before, ResourceType::Endpoint), exactly(&[WEB]));
}

#[test]
fn another_protocol_leaves_a_whole_snapshot() {
    let world = two_services();
    let first = desired(&world, &two_offers(), &Desired::default());
    let none = BTreeSet::new();
    let (mut views, key) = (Views::default(), key(&first, None));
    views.snapshot(&key, &BTreeMap::new(), &turn(&world, &first, &none));
    let swapped =
        plan(vec![offer("web", None, "240.0.0.1", Protocol::Tcp), offer("db", None, "240.0.0.2", Protocol::Http)]);
    let second = desired(&world, &swapped, &first);
    let changed = views.update(&Turn { desired_changed: true, ..turn(&world, &second, &none) });
    assert_eq!(names_of(&changed[&key], ResourceType::Route), [DB]);
    assert!(changed[&key].check().is_empty());
    // Nothing is wanted any more.
    let third = desired(&world, &Plan::default(), &second);
    let changed = views.update(&Turn { desired_changed: true, ..turn(&world, &third, &none) });
    assert!(changed[&key].is_empty());
}

#[test]
fn attempts_make_a_view_of_their_own() {
    let world = two_services();
    let desired = desired(&world, &two_offers(), &Desired::default());
    let none = BTreeSet::new();
    let turn = turn(&world, &desired, &none);
    let mut views = Views::default();
    let shared = views.snapshot(&key(&desired, None), &BTreeMap::new(), &turn);
    let own_key = key(&desired, Some("gw"));
    let attempt = |number| BTreeMap::from([(Arc::from("vip/240.0.0.1:80"), number)]);
    let own = views.snapshot(&own_key, &attempt(1), &turn);
    let version = |snapshot: &XdsSnapshot, name: &str| {
        snapshot.get(ResourceType::Listener, name).map(|resource| resource.version().clone())
    };
    assert_ne!(version(&shared, "vip/240.0.0.1:80"), version(&own, "vip/240.0.0.1:80"));
    assert_eq!(version(&shared, "vip/240.0.0.2:80"), version(&own, "vip/240.0.0.2:80"));
    assert_eq!(shared.version(ResourceType::Cluster), own.version(ResourceType::Cluster));
    let again = views.snapshot(&own_key, &attempt(2), &turn);
    assert_eq!(again.changed_from(&own, ResourceType::Listener), exactly(&["vip/240.0.0.1:80"]));
    // A view that nobody is of is made anew when somebody is.
    views.retain(|key| key.own.is_none());
    assert!(Arc::ptr_eq(&shared, &views.snapshot(&key(&desired, None), &BTreeMap::new(), &turn)));
    let anew = views.snapshot(&own_key, &attempt(2), &turn);
    assert_eq!(anew.changed_from(&again, ResourceType::Listener), Changes::Everything);
    assert_eq!(anew.version(ResourceType::Listener), again.version(ResourceType::Listener));
}

#[test]
fn names_lead_to_what_is_published_and_a_pods_only_while_it_can_be_used() {
    let mut world = two_services();
    let mut of_pods = access("db");
    of_pods.per = VipPer::Pod;
    world.apply(vec![put("east", Object::Access(of_pods))], 0);
    let mut plan = plan(vec![
        offer("web", None, "240.0.0.1", Protocol::Http),
        offer("db", Some("db-0.east"), "240.0.0.2", Protocol::Tcp),
    ]);
    let published = |offer: &Offer| Published {
        address: offer.address,
        slot: offer.slot.clone(),
        hostnames: names(&[&offer.slot.service.name]).into(),
        ttl_seconds: 5,
        ports: vec![offer.port.clone()],
    };
    let offered = desired(&world, &plan, &Desired::default());
    assert_eq!(names::names(&world, &plan, &offered).records, [], "what is only offered has no name");
    plan.published = plan.offers.values().map(published).collect();
    let told = |world: &World| {
        let records = names::names(world, &plan, &offered).records;
        records.iter().map(|r| format!("{} {}", r.name, r.address)).collect::<Vec<_>>()
    };
    let web = ["web 240.0.0.1", "east.web.shop.svc.clusterset.local 240.0.0.1"];
    assert_eq!(told(&world), [web[0], web[1], "db 240.0.0.2"]);
    // Whether it is the pod itself that cannot, or a user who takes it out, for this access.
    let out = Said { ready: Some(false), ..Said::default() };
    let mine = |access: &str| snapshot("mine", access, &[Entry { name: "db-0".into(), place: None, said: out }]);
    world.apply(vec![put("east", mine("db"))], 0);
    assert_eq!(told(&world), web);
    world.apply(vec![put("east", mine("web"))], 0);
    assert_eq!(told(&world), [web[0], web[1], "db 240.0.0.2"]);
    world.apply(vec![put("east", slice("db", &[("db-0", "10.0.0.2", false)]))], 0);
    assert_eq!(told(&world), web);
    world.apply(vec![put("east", slice("web", &[("web-0", "10.0.0.1", false)]))], 0);
    assert_eq!(told(&world), web, "a service's name stays: Envoy answers 503");
}

#[test]
fn what_a_user_says_reaches_the_backend_of_the_access_and_no_pods_own() {
    let mut world = two_services();
    let mut of_pods = access("db");
    of_pods.per = VipPer::Pod;
    world.apply(vec![put("east", Object::Access(of_pods))], 0);
    let plan = plan(vec![
        offer("web", None, "240.0.0.1", Protocol::Http),
        offer("db", Some("db-0.east"), "240.0.0.2", Protocol::Tcp),
    ]);
    let desired = desired(&world, &plan, &Desired::default());
    let mut views = Views::default();
    let nothing = BTreeSet::new();
    let key = key(&desired, None);
    let before = views.snapshot(&key, &BTreeMap::new(), &turn(&world, &desired, &nothing));
    let mut follow = |change: Change| {
        let touched = world.apply(vec![change], 0);
        let of_service = |service| desired.of_service.get(service).into_iter().flatten().cloned();
        let dirty: BTreeSet<Arc<str>> = touched.services.iter().flat_map(of_service).collect();
        let turn = turn(&world, &desired, &dirty);
        views.update(&turn);
        let snapshot = views.snapshot(&key, &BTreeMap::new(), &turn);
        views.end_turn();
        (dirty, snapshot)
    };
    let vm = |name: &str| {
        let place =
            Place { address: ip("10.5.0.1"), ports: BTreeMap::new(), node: None, locality: Locality::default() };
        Entry { name: name.into(), place: Some(place), said: Said::default() }
    };
    let (dirty, added) = follow(put("east", snapshot("mine", "web", &[vm("vm-1")])));
    assert_eq!(dirty, names(&[WEB]).into_iter().collect());
    assert_eq!(added.changed_from(&before, ResourceType::Endpoint), exactly(&[WEB]));
    // Named as the pod, it is not the pod.
    let of_pod = "shop/db/db/db-0.east:80";
    let (dirty, same) = follow(put("east", snapshot("other", "db", &[vm("db-0")])));
    assert_eq!(dirty, names(&[of_pod]).into_iter().collect());
    assert_eq!(same.changed_from(&added, ResourceType::Endpoint), exactly(&[]));
    let drain = Entry { name: "db-0".into(), place: None, said: Said { weight: Some(9), ..Said::default() } };
    let (_, weighed) = follow(put("east", snapshot("other", "db", &[drain])));
    assert_eq!(weighed.changed_from(&same, ResourceType::Endpoint), exactly(&[of_pod]));
    let (_, back) = follow(delete("east", &snapshot("mine", "web", &[])));
    let version = |snapshot: &XdsSnapshot| snapshot.get(ResourceType::Endpoint, WEB).map(|r| r.version().clone());
    assert_eq!(version(&back), version(&before));
}

#[test]
fn many_decisions_are_the_same_on_any_number_of_cores() {
    let names: Vec<String> = (0..100).map(|n| format!("svc-{n}")).collect();
    let pod = |n: usize, net: u8| put("east", slice(&names[n], &[("pod", &format!("10.0.{net}.{}", n + 1), true)]));
    let begun = || {
        let mut world = World::new();
        for (n, name) in names.iter().enumerate() {
            let objects = [service(name, Protocol::Http), Object::Access(access(name))];
            world.apply(objects.map(|object| put("east", object)).into_iter().chain([pod(n, 0)]).collect(), 0);
        }
        world
    };
    let world = begun();
    let at = |(n, name): (usize, &String)| offer(name, None, &format!("240.0.0.{}", n + 1), Protocol::Http);
    let offers = names.iter().enumerate().map(at).collect();
    let desired = desired(&world, &plan(offers), &Desired::default());
    let keys = ["a", "b", "c"].map(|zone| {
        let locality = Locality { region: "eu".into(), zone: zone.into() };
        ViewKey { client: ClientView { locality, ..client() }, ..key(&desired, None) }
    });
    let (none, all) = (BTreeSet::new(), desired.backends.keys().cloned().collect::<BTreeSet<_>>());
    let decided = |cores: usize| {
        let (mut world, policies) = (begun(), super::rig::policies());
        let mut views = Views::on_cores(cores);
        let first = {
            let turn = Turn { policies: &policies, ..turn(&world, &desired, &none) };
            keys.each_ref().map(|key| views.snapshot(key, &BTreeMap::new(), &turn))
        };
        views.end_turn();
        assert_eq!(policies.counts("lb-locality").calls, 300);
        world.apply((0..names.len()).map(|n| pod(n, 1)).collect(), 0);
        let second = views.update(&Turn { policies: &policies, ..turn(&world, &desired, &all) });
        assert_eq!((second.len(), policies.counts("lb-locality").calls), (3, 600));
        let second = keys.each_ref().map(|key| second[key].clone());
        [first, second]
            .map(|snapshots| snapshots.map(|snapshot| ResourceType::ALL.map(|ty| snapshot.version(ty).to_string())))
    };
    let alone = decided(1);
    assert_ne!(alone[0], alone[1]);
    for cores in [2, 3, 8] {
        assert_eq!(decided(cores), alone, "{cores} cores");
    }
}
