//! Short ways to say what there is. Everything is in the namespace `shop`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::id::NamespacedName;
use crate::model::object::{
    Access, AddressRange, AssignedBy, Change, EndpointSlice, Family, Labels, Object, Pool, Protocol, PublishRule,
    Selector, Service, ServiceChoice, ServicePort, SliceEndpoint, SlicePort, VipPer,
};
use crate::model::snapshot::{Entry, UserSnapshot};
use crate::model::world::World;

pub fn id(name: &str) -> NamespacedName {
    NamespacedName::new("shop", name)
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn put(cluster: &str, object: Object) -> Change {
    Change::Apply { cluster: cluster.into(), object: Box::new(object) }
}

pub fn delete(cluster: &str, object: &Object) -> Change {
    Change::Delete { cluster: cluster.into(), key: object.key() }
}

pub fn synced(cluster: &str) -> Change {
    Change::Synced { cluster: cluster.into() }
}

pub fn unknown(cluster: &str) -> Change {
    Change::Unknown { cluster: cluster.into(), reason: "unplugged".to_owned() }
}

/// The clusters' objects, all read.
pub fn world<'a>(objects: impl IntoIterator<Item = (&'a str, Object)>) -> World {
    let mut world = World::new();
    for (cluster, object) in objects {
        world.apply(vec![put(cluster, object), synced(cluster)], 0);
    }
    world
}

pub fn port(protocol: Protocol) -> ServicePort {
    ServicePort { name: "main".into(), port: 80, protocol }
}

/// A service with the port `main` 80.
pub fn service(name: &str, protocol: Protocol) -> Object {
    let (labels, ports) = (Labels::from([("app".into(), name.into())]), vec![port(protocol)]);
    Object::Service(Service { id: id(name), labels, headless: false, ports, created_at: 0, traits: Default::default() })
}

/// A slice of the service's pods, each by name, address and readiness.
pub fn slice(service: &str, pods: &[(&str, &str, bool)]) -> Object {
    let endpoint = |&(pod, address, ready): &(&str, &str, bool)| SliceEndpoint {
        addresses: [ip(address)].into(),
        ready,
        serving: ready,
        terminating: false,
        node: None,
        zone: None,
        pod: Some(pod.into()),
        hostname: None,
    };
    Object::Slice(EndpointSlice {
        id: id(service),
        service: service.into(),
        ports: vec![SlicePort { name: "main".into(), port: 8080 }],
        endpoints: pods.iter().map(endpoint).collect(),
    })
}

/// An access on the service of its own name, by IPv4.
pub fn access(name: &str) -> Access {
    Access {
        id: id(name),
        generation: 1,
        labels: Labels::new(),
        service: ServiceChoice::Name(name.into()),
        ports: Vec::new(),
        clusters: BTreeSet::new(),
        hostnames: Vec::new(),
        per: VipPer::Service,
        pool: None,
        families: vec![Family::V4],
        addresses: Vec::new(),
        publish: PublishRule::default(),
        load_balancing: crate::model::object::PolicyRef::default(),
        vip_policy: crate::model::object::PolicyRef::default(),
    }
}

/// The pool `edge` of the addresses 240.0.0.1 to .9 and fd00::1 to ::9, on all gateways.
pub fn pool() -> Object {
    let range = |first, last| AddressRange { first: ip(first), last: ip(last) };
    Object::Pool(Pool {
        name: "edge".into(),
        ranges: vec![range("240.0.0.1", "240.0.0.9"), range("fd00::1", "fd00::9")],
        reserved: BTreeSet::new(),
        gateways: Selector::default(),
        namespaces: Selector::default(),
        quota_per_namespace: None,
        assigned_by: AssignedBy::ControlPlane,
    })
}

pub fn names(texts: &[&str]) -> Vec<Arc<str>> {
    texts.iter().map(|text| Arc::from(*text)).collect()
}

/// A user's snapshot of the access of the name.
pub fn snapshot(name: &str, access: &str, entries: &[Entry]) -> Object {
    Object::Snapshot(UserSnapshot {
        id: id(name),
        generation: 1,
        access: access.into(),
        service: None,
        cluster: None,
        entries: entries.to_vec(),
    })
}
