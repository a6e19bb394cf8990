//! Short ways to say what a cluster has. Everything is in the namespace `shop`.

use super::*;
use crate::model::decision::Endpoint;
use crate::model::object::AssignedBy;

pub fn id(name: &str) -> NamespacedName {
    NamespacedName::new("shop", name)
}

pub fn put(cluster: &str, object: Object) -> Change {
    Change::Apply { cluster: cluster.into(), object: Box::new(object) }
}

pub fn delete(cluster: &str, object: &Object) -> Change {
    Change::Delete { cluster: cluster.into(), key: object.key() }
}

pub fn world<'a>(objects: impl IntoIterator<Item = (&'a str, Object)>) -> World {
    let mut world = World::new();
    world.apply(objects.into_iter().map(|(cluster, object)| put(cluster, object)).collect(), 0);
    world
}

pub fn endpoints(world: &World, service: &str) -> Vec<Endpoint> {
    world.endpoints(&id(service), "http", &BTreeSet::new())
}

pub fn addresses(world: &World, service: &str) -> Vec<String> {
    endpoints(world, service).iter().map(|endpoint| endpoint.address.to_string()).collect()
}

pub fn names(clusters: &BTreeSet<ClusterName>) -> Vec<&str> {
    clusters.iter().map(ClusterName::as_str).collect()
}

pub fn labels_of(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect()
}

pub fn service(name: &str, ports: &[(&str, u16, Protocol)], created_at: i64) -> Object {
    let port = |&(name, port, protocol): &(&str, u16, Protocol)| ServicePort { name: name.into(), port, protocol };
    let ports = ports.iter().map(port).collect();
    Object::Service(Service {
        id: id(name),
        labels: Labels::new(),
        headless: false,
        ports,
        created_at,
        traits: Default::default(),
    })
}

pub fn http_service(name: &str) -> Object {
    service(name, &[("http", 80, Protocol::Http)], 0)
}

/// A slice of ready pods `pod-<address>` with the port `http` 8080.
pub fn slice(name: &str, service: &str, addresses: &[&str]) -> Object {
    let endpoint = |address: &&str| SliceEndpoint {
        addresses: [ip(address)].into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        pod: Some(format!("pod-{address}").into()),
        hostname: None,
    };
    Object::Slice(EndpointSlice {
        id: id(name),
        service: service.into(),
        ports: vec![SlicePort { name: "http".into(), port: 8080 }],
        endpoints: addresses.iter().map(endpoint).collect(),
    })
}

pub fn pod(name: &str, address: &str) -> Object {
    Object::Pod(Pod {
        id: id(name),
        uid: "".into(),
        resource_version: "".into(),
        node: None,
        addresses: [ip(address)].into(),
        phase: "Running".into(),
        ready: true,
        labels: Arc::default(),
        weight: 1,
        created_at: 0,
    })
}

pub fn info(name: &str, role: ClusterRole) -> Object {
    Object::Cluster(ClusterSpec { role, ..cluster::default_spec(&name.into()) })
}

pub fn access(name: &str, service: &str) -> Object {
    Object::Access(Access {
        id: id(name),
        generation: 1,
        labels: Labels::new(),
        service: ServiceChoice::Name(service.into()),
        ports: Vec::new(),
        clusters: BTreeSet::new(),
        hostnames: Vec::new(),
        per: VipPer::Service,
        pool: None,
        families: Vec::new(),
        addresses: Vec::new(),
        publish: PublishRule::default(),
        load_balancing: crate::model::object::PolicyRef::default(),
        vip_policy: crate::model::object::PolicyRef::default(),
    })
}

pub fn pool(name: &str) -> Object {
    Object::Pool(Pool {
        name: name.into(),
        ranges: Vec::new(),
        reserved: BTreeSet::new(),
        gateways: Selector::default(),
        namespaces: Selector::default(),
        quota_per_namespace: None,
        assigned_by: AssignedBy::ControlPlane,
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("tests write addresses well")
}
