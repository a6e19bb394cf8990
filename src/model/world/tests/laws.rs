//! Whatever is applied in whatever order: the world is the one that its last objects make, what
//! differs was touched, and what was said already touches nothing.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::snapshots::{added, of_pod};
use super::*;
use crate::model::decision::Endpoint;
use crate::model::export::{ServiceExport, ServiceTraits};
use crate::model::object::ObjectKey;
use crate::model::snapshot;

const CLUSTERS: [&str; 3] = ["east", "primary", "west"];

/// A service as it is merged, its endpoints, and those in the cluster `east`.
type ServiceAnswer = (Option<MergedService>, Vec<Endpoint>, Vec<Endpoint>);

/// An import, its endpoints in the cluster `east`, and what its exports are told.
type ImportAnswer = (Option<Import>, Vec<ImportSlice>, Vec<ExportState>);

/// An access's scope and the service.
type OfAccess = (AccessScope, NamespacedName);

fn scope_key((scope, service): &OfAccess) -> String {
    format!("{scope:?} {service}")
}

/// What a world answers to every question.
#[derive(Debug, PartialEq)]
struct Answers {
    clusters: BTreeMap<ClusterName, ClusterState>,
    services: BTreeMap<NamespacedName, ServiceAnswer>,
    accesses: BTreeMap<NamespacedName, (Arc<Access>, Vec<NamespacedName>)>,
    choosers: BTreeMap<NamespacedName, Vec<NamespacedName>>,
    /// The endpoints of services as accesses have them, and the pods among them, by scope and service.
    of_accesses: BTreeMap<String, (NamespacedName, Vec<Endpoint>, Vec<Endpoint>)>,
    effects: BTreeMap<NamespacedName, SnapshotEffect>,
    pools: Vec<Arc<Pool>>,
    pods: BTreeMap<(ClusterName, NamespacedName), Arc<Pod>>,
    ignored: Vec<Ignored>,
    /// Imports, their endpoints in `east`, and what exports are told.
    imports: BTreeMap<NamespacedName, ImportAnswer>,
}

impl Answers {
    fn of(world: &World) -> Self {
        let east = BTreeSet::from([ClusterName::from("east")]);
        let names: Vec<NamespacedName> = ["a", "b"]
            .iter()
            .flat_map(|name| ["shop", "dev"].map(|namespace| NamespacedName::new(namespace, *name)))
            .collect();
        let service = |id: &NamespacedName| {
            let merged = world.service(id);
            (merged, world.endpoints(id, "http", &BTreeSet::new()), world.endpoints(id, "http", &east))
        };
        let import =
            |id: &NamespacedName| (world.import(id), world.import_endpoints(id, &"east".into()), world.exports_of(id));
        let of_accesses = world.accesses().flat_map(|access| {
            let of_service = |id: &NamespacedName| (AccessScope::of(access), id.clone());
            names.iter().filter(|id| id.namespace == access.id.namespace).map(of_service).collect::<Vec<OfAccess>>()
        });
        let of_access = |key: OfAccess| {
            let (all, pods) =
                (world.access_endpoints(&key.0, &key.1, "http"), world.access_pods(&key.0, &key.1, "http"));
            (scope_key(&key), (key.1, all, pods))
        };
        let clusters = world.clusters().map(|c| (c.name.clone(), ClusterState { since: 0, ..c.clone() }));
        Self {
            clusters: clusters.collect(),
            services: names.iter().map(|id| (id.clone(), service(id))).collect(),
            accesses: world.accesses().map(|a| (a.id.clone(), (a.clone(), world.services_of(a)))).collect(),
            choosers: names.iter().map(|id| (id.clone(), world.accesses_of(id))).collect(),
            of_accesses: of_accesses.map(of_access).collect(),
            effects: world.user_snapshots().map(|snapshot| (snapshot.id.clone(), snapshot)).collect(),
            pools: world.pools().cloned().collect(),
            pods: world.pods().map(|(c, pod)| ((c.clone(), pod.id.clone()), pod.clone())).collect(),
            ignored: world.ignored(),
            imports: names.iter().map(|id| (id.clone(), import(id))).collect(),
        }
    }

    /// What differs is in what was touched.
    fn check_touched(&self, later: &Self, touched: &Touched, world: &World) -> Result<(), TestCaseError> {
        // An access that itself differs asks for other endpoints; for one that stays they differ by what was touched.
        for (key, answer) in &later.of_accesses {
            let same = self.of_accesses.get(key).is_none_or(|before| before == answer);
            prop_assert!(same || touched.services.contains(&answer.0), "{} of {}", answer.0, key);
        }
        let concerned = world.snapshots_concerned(touched);
        for id in self.effects.keys().chain(later.effects.keys()) {
            prop_assert!(self.effects.get(id) == later.effects.get(id) || concerned.contains(id), "snapshot {}", id);
        }
        for (id, answer) in &later.services {
            prop_assert!(self.services.get(id) == Some(answer) || touched.services.contains(id), "service {}", id);
        }
        for id in self.accesses.keys().chain(later.accesses.keys()) {
            let same = self.accesses.get(id) == later.accesses.get(id);
            prop_assert!(same || touched.accesses.contains(id), "access {}", id);
        }
        for (id, answer) in &later.imports {
            let is_touched = touched.services.contains(id) || touched.accesses.contains(id);
            prop_assert!(self.imports.get(id) == Some(answer) || is_touched, "import {}", id);
        }
        prop_assert!(self.pools == later.pools || touched.pools, "pools");
        for name in self.clusters.keys().chain(later.clusters.keys()) {
            let spec = |answers: &Self| answers.clusters.get(name).map(|c| (c.spec.clone(), c.sync.clone()));
            prop_assert!(spec(self) == spec(later) || touched.clusters.contains(name), "cluster {}", name);
        }
        if touched.is_empty() {
            prop_assert_eq!(&self.services, &later.services);
            prop_assert_eq!(&self.pods, &later.pods);
        }
        Ok(())
    }
}

/// Keeps what was said last, as a source would.
#[derive(Default)]
struct Said {
    objects: BTreeMap<(ClusterName, ObjectKey), Object>,
    sync: BTreeMap<ClusterName, Option<Change>>,
    pods: BTreeMap<(ClusterName, NamespacedName), Arc<Pod>>,
}

impl Said {
    fn hear(&mut self, change: &Change) {
        match change {
            Change::Apply { cluster, object } => {
                self.sync.entry(cluster.clone()).or_default();
                self.objects.insert((cluster.clone(), object.key()), (**object).clone());
            }
            Change::Delete { cluster, key } => {
                self.objects.remove(&(cluster.clone(), key.clone()));
            }
            Change::Synced { cluster } | Change::Unknown { cluster, .. } => {
                self.sync.insert(cluster.clone(), Some(change.clone()));
            }
            Change::Forget { cluster } => {
                self.objects.retain(|(c, _), _| c != cluster);
                self.sync.remove(cluster);
            }
        }
    }

    fn all(&self) -> Vec<Change> {
        let objects = self.objects.iter();
        objects
            .map(|((cluster, _), object)| Change::Apply { cluster: cluster.clone(), object: Box::new(object.clone()) })
            .chain(self.sync.values().flatten().cloned())
            .collect()
    }

    fn rebuild(&self) -> World {
        let mut world = World::new();
        for cluster in self.sync.keys() {
            world.expect_cluster(cluster.clone(), 0);
        }
        world.apply(self.all(), 0);
        world
    }

    fn mirror(&mut self, changes: &[PodChange]) {
        for change in changes {
            match change {
                PodChange::Upsert { cluster, pod } => {
                    self.pods.insert((cluster.clone(), pod.id.clone()), pod.clone());
                }
                PodChange::Delete { cluster, id } => {
                    self.pods.remove(&(cluster.clone(), id.clone()));
                }
                PodChange::ForgetCluster { cluster } => self.pods.retain(|(c, _), _| c != cluster),
            }
        }
    }
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(items: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(items.to_vec())
}

fn any_id() -> impl Strategy<Value = NamespacedName> {
    (one_of(&["shop", "dev"]), one_of(&["a", "b"])).prop_map(|(namespace, name)| NamespacedName::new(namespace, name))
}

fn any_slice() -> impl Strategy<Value = Object> {
    let endpoint = (0u8..4, any::<[bool; 3]>(), one_of(&["a", "b"]), one_of(&[None, Some("z")]));
    (any_id(), one_of(&["a", "b"]), prop::collection::vec(endpoint, 0..4)).prop_map(|(id, service, endpoints)| {
        let endpoint = |(last, [ready, serving, terminating], name, zone): (u8, [bool; 3], &str, Option<&str>)| {
            let addresses = [IpAddr::from([10, 0, 0, last])].into();
            let (node, pod, zone) = (Some(Arc::from(name)), Some(Arc::from(name)), zone.map(Arc::from));
            SliceEndpoint { addresses, ready, serving, terminating, node, zone, pod, hostname: None }
        };
        let ports = vec![SlicePort { name: "http".into(), port: 8080 }];
        let endpoints = endpoints.into_iter().map(endpoint).collect();
        Object::Slice(EndpointSlice { id, service: service.into(), ports, endpoints })
    })
}

fn any_service() -> impl Strategy<Value = Object> {
    let parts = (any_id(), 0i64..3, one_of(&[80, 81]), one_of(&["http", "web"]), any::<[bool; 3]>());
    parts.prop_map(|(id, created_at, port, name, [headless, front, external_name])| {
        let labels = if front { labels_of(&[("tier", "front")]) } else { Labels::new() };
        let ports = vec![ServicePort { name: name.into(), port, protocol: Protocol::Http }];
        let traits = ServiceTraits { external_name, ..ServiceTraits::default() };
        Object::Service(Service { id, labels, headless, ports, created_at, traits })
    })
}

fn any_info() -> impl Strategy<Value = Object> {
    (one_of(&CLUSTERS), any::<[bool; 4]>()).prop_map(|(name, [is_primary, other, excluded, placed])| {
        let role = if is_primary { ClusterRole::Primary } else { ClusterRole::Sub };
        let Object::Cluster(mut spec) = info(name, role) else { unreachable!("it is a cluster's") };
        if other {
            spec.network = "other".into();
        }
        if excluded {
            spec.excluded_namespaces.insert("dev".into());
        }
        if placed {
            spec.locality = Locality { region: "eu".into(), zone: "a".into() };
        }
        Object::Cluster(spec)
    })
}

fn any_access() -> impl Strategy<Value = Object> {
    (any_id(), any::<[bool; 2]>()).prop_map(|(id, [by_label, limited])| {
        let Object::Access(mut access) = access("a", "a") else { unreachable!("it is an access") };
        access.id = id;
        if by_label {
            let selector = Selector { match_labels: labels_of(&[("tier", "front")]), ..Default::default() };
            access.service = ServiceChoice::Selector(selector);
        }
        if limited {
            access.clusters.insert("east".into());
        }
        Object::Access(access)
    })
}

fn any_snapshot() -> impl Strategy<Value = Object> {
    let said = (one_of(&[None, Some(true), Some(false)]), one_of(&[None, Some(3), Some(9)]), any::<Option<bool>>())
        .prop_map(|(ready, weight, drain)| snapshot::Said { ready, weight, drain });
    let entry = (one_of(&["a", "b", "vm"]), one_of(&[None, Some("10.0.0.1"), Some("10.5.0.1")]), said).prop_map(
        |(name, address, said)| match address {
            None => of_pod(name, said),
            Some(address) => added(name, address, said),
        },
    );
    let names = (any_id(), one_of(&["a", "b"]), one_of(&[None, Some("a"), Some("b")]));
    let cluster = one_of(&[None, Some("east"), Some("west")]);
    (names, cluster, prop::collection::vec(entry, 0..3)).prop_map(|((id, access, service), cluster, entries)| {
        let (access, service, cluster) = (access.into(), service.map(Arc::from), cluster.map(ClusterName::from));
        Object::Snapshot(UserSnapshot { id, generation: 1, access, service, cluster, entries })
    })
}

fn any_export() -> impl Strategy<Value = Object> {
    (any_id(), 0i64..3, one_of(&[&[][..], &[("team", "shop")]])).prop_map(|(id, created_at, labels)| {
        let (labels, annotations) = (labels_of(labels), Labels::new());
        Object::Export(ServiceExport { id, created_at, generation: 1, labels, annotations })
    })
}

fn any_object() -> impl Strategy<Value = Object> {
    let node = (one_of(&["a", "b"]), one_of(&["", "eu", "us"])).prop_map(|(name, region)| {
        Object::Node(KubeNode { name: name.into(), locality: Locality { region: region.into(), zone: "".into() } })
    });
    let pod = (any_id(), 0u32..3).prop_map(|(id, weight)| {
        let Object::Pod(mut pod) = pod("a", "10.0.0.1") else { unreachable!("it is a pod") };
        (pod.id, pod.weight) = (id, weight);
        Object::Pod(pod)
    });
    let pool = one_of(&["x", "y"]).prop_map(pool);
    prop_oneof![5 => any_slice(), 4 => any_service(), 2 => any_info(), 2 => any_access(), 1 => node, 2 => pod, 1 => pool,
        3 => any_snapshot(), 4 => any_export()]
}

fn any_change() -> impl Strategy<Value = Change> {
    let cluster = || one_of(&CLUSTERS).prop_map(ClusterName::from);
    let apply =
        (cluster(), any_object()).prop_map(|(cluster, object)| Change::Apply { cluster, object: Box::new(object) });
    let delete = (cluster(), any_object()).prop_map(|(cluster, object)| Change::Delete { cluster, key: object.key() });
    let unknown = (cluster(), one_of(&["x", "y"]))
        .prop_map(|(cluster, reason)| Change::Unknown { cluster, reason: reason.to_owned() });
    prop_oneof![
        12 => apply,
        6 => delete,
        1 => cluster().prop_map(|cluster| Change::Synced { cluster }),
        1 => unknown,
        1 => cluster().prop_map(|cluster| Change::Forget { cluster }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_world_is_what_its_last_objects_make(
        batches in prop::collection::vec(prop::collection::vec(any_change(), 1..4), 1..25),
    ) {
        let mut said = Said::default();
        let mut world = World::new();
        let mut answers = Answers::of(&world);
        for (now, batch) in (1i64..).zip(batches) {
            batch.iter().for_each(|change| said.hear(change));
            let touched = world.apply(batch, now);
            said.mirror(&touched.pods);
            let later = Answers::of(&world);
            answers.check_touched(&later, &touched, &world)?;
            prop_assert_eq!(&said.pods, &later.pods);
            answers = later;
        }
        prop_assert_eq!(&answers, &Answers::of(&said.rebuild()));
        prop_assert_eq!(world.apply(said.all(), 99), Touched::default());
    }
}
