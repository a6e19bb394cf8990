//! Views: the classes of nodes that are served the same, and each one's xDS snapshot.
//!
//! A turn hands in what changed; only the resources of changed backends are decided and encoded
//! anew, once for each distinct sender, and shared by all views that have them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::feedback::NodeRef;
use crate::model::Timestamp;
use crate::model::decision::{ClientView, Endpoint, NodeRole, Sender};
use crate::model::id::{ClusterName, NamespacedName, NodeId};
use crate::model::object::ServicePort;
use crate::model::world::{AccessScope, World};
use crate::policy::{Choice, Decided, Endpoints, Failure, LbQuestion, Policies, Subject};
use crate::snapshot::{Edit, Reference, Resource, ResourceType, XdsSnapshot};
use crate::vip::Audience;
use crate::xds::{self, ClusterSpec, ListenerSpec, RouteSpec, Target};

use super::claims::{local_names, pod_label, service_name};

mod ahead;

/// What a service's port is to Envoy: the cluster, its endpoints and its route share the name.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// `<ns>/<access>/<service>[/<pod>]:<port>`.
    pub name: Arc<str>,
    /// The service.
    pub service: NamespacedName,
    /// As in [`pod_label`], where VIPs are per pod.
    pub pod: Option<Arc<str>>,
    /// The service's port.
    pub port: ServicePort,
    /// Host names that lead to it.
    pub hostnames: BTreeSet<Arc<str>>,
    /// Names that lead to one cluster's pods only.
    pub cluster_hostnames: BTreeMap<Arc<str>, ClusterName>,
    /// Its VIPs.
    pub addresses: BTreeSet<IpAddr>,
    /// Whose endpoints it takes.
    pub scope: AccessScope,
    /// Who decides where its traffic goes. Where the policy divides nodes, each part is decided on its own.
    pub policy: Choice,
}

/// An audience by what it says, so that equal ones are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AudienceKey(Arc<str>);

impl AudienceKey {
    /// The key of an audience.
    pub fn of(audience: &Audience) -> Self {
        Self(format!("{audience:?}").into())
    }
}

/// A listener that has to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Address and port.
    pub address: SocketAddr,
    /// The backend behind it.
    pub backend: Arc<str>,
    /// Which gateways are offered it.
    pub audience: AudienceKey,
}

/// Everything that all views are built from, besides endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// By listener name.
    pub listeners: BTreeMap<Arc<str>, Wanted>,
    /// By name.
    pub backends: BTreeMap<Arc<str>, Backend>,
    /// The audiences of all listeners.
    pub audiences: BTreeMap<AudienceKey, Arc<Audience>>,
    /// Into how many parts nodes are divided for backends of an audience, where into more than one.
    pub divisions: BTreeMap<AudienceKey, BTreeSet<u32>>,
    /// Names of backends by service.
    pub of_service: BTreeMap<NamespacedName, BTreeSet<Arc<str>>>,
}

/// Identifies a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ViewKey {
    /// What policies see of its nodes.
    pub client: ClientView,
    /// Audiences that its nodes belong to.
    pub audiences: BTreeSet<AudienceKey>,
    /// Its nodes' part of each division that a policy behind one of its listeners asks for, by the number of parts.
    pub buckets: BTreeMap<u32, u32>,
    /// The one node of this view, where listeners are offered to it anew after it refused them.
    pub own: Option<NodeId>,
}

impl ViewKey {
    /// The view of a node: gateways are offered what their pools say, sidecars all that is not one gateway's own.
    pub fn of(node: NodeRef<'_>, has_attempts: bool, desired: &Desired) -> Self {
        let facts = node.facts();
        let is_offered = |audience: &Audience| match (facts.view.role, audience) {
            (NodeRole::Sidecar, Audience::Gateways { .. }) => true,
            _ => audience.includes(node),
        };
        let audiences: BTreeSet<AudienceKey> =
            desired.audiences.iter().filter(|(_, a)| is_offered(a)).map(|(key, _)| key.clone()).collect();
        let divisions = audiences.iter().filter_map(|audience| desired.divisions.get(audience)).flatten();
        Self {
            client: facts.view.clone(),
            buckets: divisions.map(|&buckets| (buckets, facts.id.bucket(buckets))).collect(),
            audiences,
            own: has_attempts.then(|| facts.id.clone()),
        }
    }

    /// Who sends traffic to the backend, as its policy is told.
    fn sender(&self, backend: &Backend) -> Sender {
        // A view that is about to be left may lack a new division; its nodes are in others within the same turn.
        let bucket = self.buckets.get(&backend.policy.buckets).copied().unwrap_or(0);
        Sender { client: self.client.clone(), buckets: backend.policy.buckets, bucket }
    }

    fn is_offered(&self, wanted: &Wanted) -> bool {
        self.audiences.contains(&wanted.audience)
    }
}

struct View {
    snapshot: Arc<XdsSnapshot>,
    backends: BTreeSet<Arc<str>>,
    attempts: BTreeMap<Arc<str>, u32>,
}

struct Built {
    /// What it was decided from, besides endpoints.
    from: Backend,
    cluster: Arc<Resource>,
    assignment: Arc<Resource>,
    /// Why it is not what the policy decided.
    failure: Option<Failure>,
}

impl Built {
    /// Whether the backend would be decided from the same. Host names and addresses do not matter here.
    fn is_of(&self, backend: &Backend) -> bool {
        self.from.port == backend.port && self.from.scope == backend.scope && self.from.policy == backend.policy
    }
}

/// All views.
#[derive(Default)]
pub struct Views {
    cores: ahead::Cores,
    views: HashMap<ViewKey, View>,
    built: HashMap<Subject, Built>,
    listeners: HashMap<(Arc<str>, u32), (Backend, Arc<Resource>)>,
    routes: HashMap<Arc<str>, (Backend, Arc<Resource>)>,
    /// A policy failed, or did no longer, since that was last asked.
    failures_changed: bool,
    /// Endpoints of backends, for as long as the world stays as it is.
    of_backends: HashMap<Arc<str>, Arc<Endpoints>>,
    /// Endpoints of services whose pods have VIPs of their own, for as long as the world stays as it is.
    of_pods: HashMap<PodsKey, HashMap<Arc<str>, Vec<Endpoint>>>,
}

/// A service, the name of its port, and whose endpoints they are.
type PodsKey = (NamespacedName, Arc<str>, AccessScope);

/// What a turn needs to bring views up to date.
pub struct Turn<'a> {
    /// The merged clusters.
    pub world: &'a World,
    /// What has to be there.
    pub desired: &'a Desired,
    /// `desired` differs from the last turn's.
    pub desired_changed: bool,
    /// Backends whose endpoints may have changed.
    pub dirty: &'a BTreeSet<Arc<str>>,
    /// Who decides.
    pub policies: &'a Policies,
    /// The time.
    pub now: Timestamp,
}

impl Views {
    /// The view's snapshot, built now where the view is new or its attempts changed.
    pub fn snapshot(&mut self, key: &ViewKey, attempts: &BTreeMap<Arc<str>, u32>, turn: &Turn<'_>) -> Arc<XdsSnapshot> {
        let known = self.views.get(key).is_some_and(|view| view.attempts == *attempts);
        if !known {
            let snapshot = self.views.remove(key).map_or_else(XdsSnapshot::empty, |view| view.snapshot);
            let view = View { snapshot, backends: BTreeSet::new(), attempts: attempts.clone() };
            self.views.insert(key.clone(), view);
            self.decide_ahead(std::slice::from_ref(key), turn);
            self.rebuild(key, turn);
        }
        self.views.get(key).map_or_else(XdsSnapshot::empty, |view| view.snapshot.clone())
    }

    /// Brings every view up to date; returns those whose snapshots changed.
    pub fn update(&mut self, turn: &Turn<'_>) -> HashMap<ViewKey, Arc<XdsSnapshot>> {
        let mut failures_gone = false;
        self.built.retain(|subject, built| {
            let stays = !turn.dirty.contains(&subject.backend);
            failures_gone |= !stays && built.failure.is_some();
            stays
        });
        self.failures_changed |= failures_gone;
        self.of_pods.clear();
        self.of_backends.clear();
        let keys: Vec<ViewKey> = self.views.keys().cloned().collect();
        self.decide_ahead(&keys, turn);
        let mut changed = HashMap::new();
        for key in keys {
            let is_changed = if turn.desired_changed { self.rebuild(&key, turn) } else { self.refresh(&key, turn) };
            if is_changed && let Some(view) = self.views.get(&key) {
                let snapshot = view.snapshot.clone();
                changed.insert(key, snapshot);
            }
        }
        if turn.desired_changed {
            self.built.retain(|subject, _| turn.desired.backends.contains_key(&subject.backend));
            self.routes.retain(|backend, _| turn.desired.backends.contains_key(backend));
            self.listeners.retain(|(name, _), _| turn.desired.listeners.contains_key(name));
        }
        changed
    }

    /// To be called when a turn is over: the world may change from here on.
    pub fn end_turn(&mut self) {
        self.of_pods.clear();
        self.of_backends.clear();
    }

    /// Forgets views that no node is of.
    pub fn retain(&mut self, used: impl Fn(&ViewKey) -> bool) {
        self.views.retain(|key, _| used(key));
        let undivided = |key: &ViewKey| Sender { client: key.client.clone(), buckets: 1, bucket: 0 };
        let divided = |key: &ViewKey, (&buckets, &bucket)| Sender { client: key.client.clone(), buckets, bucket };
        let senders: BTreeSet<Sender> = self
            .views
            .keys()
            .flat_map(|key| key.buckets.iter().map(move |part| divided(key, part)).chain([undivided(key)]))
            .collect();
        self.built.retain(|subject, _| senders.contains(&subject.sender));
        let attempts: BTreeSet<(Arc<str>, u32)> = self
            .views
            .values()
            .flat_map(|view| &view.attempts)
            .map(|(name, attempt)| (name.clone(), *attempt))
            .collect();
        self.listeners.retain(|key, _| key.1 == 0 || attempts.contains(key));
    }

    /// Endpoints only: the resources of dirty backends that the view has.
    fn refresh(&mut self, key: &ViewKey, turn: &Turn<'_>) -> bool {
        let Some(view) = self.views.get(key) else { return false };
        let affected: Vec<Arc<str>> = turn.dirty.iter().filter(|name| view.backends.contains(*name)).cloned().collect();
        let mut edit = view.snapshot.edit();
        for name in affected {
            if let Some(backend) = turn.desired.backends.get(&name) {
                let built = self.build(backend, key.sender(backend), turn);
                edit.set(built.0);
                edit.set(built.1);
            }
        }
        self.finish(key, edit, None)
    }

    /// Everything of the view, reusing what is encoded already.
    fn rebuild(&mut self, key: &ViewKey, turn: &Turn<'_>) -> bool {
        let Some(view) = self.views.get(key) else { return false };
        let (snapshot, attempts) = (view.snapshot.clone(), view.attempts.clone());
        let mut wanted: BTreeMap<(ResourceType, Arc<str>), Arc<Resource>> = BTreeMap::new();
        let mut backends = BTreeSet::new();
        for (name, listener) in turn.desired.listeners.iter().filter(|(_, wanted)| key.is_offered(wanted)) {
            let Some(backend) = turn.desired.backends.get(&listener.backend) else { continue };
            let attempt = attempts.get(name).copied().unwrap_or(0);
            wanted.insert((ResourceType::Listener, name.clone()), self.listener(name, listener, backend, attempt));
            if backends.insert(backend.name.clone()) {
                let (cluster, assignment) = self.build(backend, key.sender(backend), turn);
                wanted.insert((ResourceType::Cluster, backend.name.clone()), cluster);
                wanted.insert((ResourceType::Endpoint, backend.name.clone()), assignment);
                if backend.port.protocol.is_http() {
                    wanted.insert((ResourceType::Route, backend.name.clone()), self.route(backend));
                }
            }
        }
        let mut edit = snapshot.edit();
        for ty in ResourceType::ALL {
            for resource in snapshot.resources(ty) {
                if !wanted.contains_key(&(ty, resource.name().clone())) {
                    edit.remove(ty, resource.name());
                }
            }
        }
        for ((ty, name), resource) in wanted {
            // What is shared is the same resource, and needs no copy of the map's path to it.
            if !snapshot.get(ty, &name).is_some_and(|held| Arc::ptr_eq(held, &resource)) {
                edit.set(resource);
            }
        }
        self.finish(key, edit, Some(backends))
    }

    fn finish(&mut self, key: &ViewKey, edit: Edit, backends: Option<BTreeSet<Arc<str>>>) -> bool {
        let Some(view) = self.views.get_mut(key) else { return false };
        let wrong = edit.check();
        if !wrong.is_empty() {
            // A fault of ours, not of input: the last consistent snapshot is better than this one.
            tracing::error!(?key, ?wrong, "an inconsistent xDS snapshot is held back");
            return false;
        }
        if let Some(backends) = backends {
            view.backends = backends;
        }
        let Some(snapshot) = edit.finish() else { return false };
        view.snapshot = snapshot;
        true
    }

    fn build(&mut self, backend: &Backend, sender: Sender, turn: &Turn<'_>) -> (Arc<Resource>, Arc<Resource>) {
        let subject = Subject { backend: backend.name.clone(), sender };
        if let Some(built) = self.built.get(&subject).filter(|built| built.is_of(backend)) {
            return (built.cluster.clone(), built.assignment.clone());
        }
        let endpoints = self.endpoints(backend, turn.world);
        let built = decide(backend, &subject, &endpoints, turn);
        let resources = (built.cluster.clone(), built.assignment.clone());
        self.keep(subject, built);
        resources
    }

    fn keep(&mut self, subject: Subject, built: Built) {
        let fails = built.failure.is_some();
        let failed = self.built.insert(subject, built).is_some_and(|before| before.failure.is_some());
        self.failures_changed |= fails || failed;
    }

    /// Whether a policy failed, or did no longer, since this was last asked.
    pub fn take_failures_changed(&mut self) -> bool {
        std::mem::take(&mut self.failures_changed)
    }

    /// Backends whose policies failed, and why; one failure of each.
    pub fn failures(&self) -> BTreeMap<Arc<str>, Failure> {
        let failed = self.built.iter().filter_map(|(subject, built)| Some((subject, built.failure.as_ref()?)));
        // Of several views, always the same one's.
        let mut failures: BTreeMap<Arc<str>, (&Subject, &Failure)> = BTreeMap::new();
        for (subject, failure) in failed {
            let known = failures.entry(subject.backend.clone()).or_insert((subject, failure));
            if subject.sender < known.0.sender {
                *known = (subject, failure);
            }
        }
        failures.into_iter().map(|(backend, (_, failure))| (backend, failure.clone())).collect()
    }

    /// The backend's endpoints, made ready once for all who send traffic to it. Those of a service with a VIP for each
    /// pod are sorted by pod once, not for each.
    fn endpoints(&mut self, backend: &Backend, world: &World) -> Arc<Endpoints> {
        if let Some(known) = self.of_backends.get(&backend.name) {
            return known.clone();
        }
        let endpoints = Arc::new(Endpoints::new(self.listed(backend, world)));
        self.of_backends.insert(backend.name.clone(), endpoints.clone());
        endpoints
    }

    fn listed(&mut self, backend: &Backend, world: &World) -> Vec<Endpoint> {
        let (scope, service, port) = (&backend.scope, &backend.service, &backend.port.name);
        let Some(pod) = &backend.pod else { return world.access_endpoints(scope, service, port) };
        let key = (service.clone(), port.clone(), scope.clone());
        let of_pods = self.of_pods.entry(key).or_insert_with(|| {
            let mut of_pods: HashMap<Arc<str>, Vec<Endpoint>> = HashMap::new();
            // What users add is no pod, and has no VIP of its own.
            for endpoint in world.access_pods(scope, service, port) {
                if let Some(label) = pod_label(&endpoint) {
                    of_pods.entry(label).or_default().push(endpoint);
                }
            }
            of_pods
        });
        of_pods.get(pod).cloned().unwrap_or_default()
    }

    fn listener(&mut self, name: &Arc<str>, wanted: &Wanted, backend: &Backend, attempt: u32) -> Arc<Resource> {
        let key = (name.clone(), attempt);
        // Of the backend only the name and the kind of traffic reach the listener.
        if let Some((known, resource)) = self.listeners.get(&key)
            && known.name == backend.name
            && known.port.protocol.is_http() == backend.port.protocol.is_http()
        {
            return resource.clone();
        }
        let (target, refers_to) = if backend.port.protocol.is_http() {
            (Target::Http { route: &backend.name }, ResourceType::Route)
        } else {
            (Target::Tcp { cluster: &backend.name }, ResourceType::Cluster)
        };
        let message = xds::listener(&ListenerSpec { name, address: wanted.address, target, attempt });
        let refs = [Reference::new(refers_to, backend.name.clone())];
        let resource = Arc::new(Resource::new(ResourceType::Listener, name.clone(), &message).with_refs(refs));
        self.listeners.insert(key, (backend.clone(), resource.clone()));
        resource
    }

    fn route(&mut self, backend: &Backend) -> Arc<Resource> {
        if let Some((known, resource)) = self.routes.get(&backend.name)
            && known.hostnames == backend.hostnames
            && known.cluster_hostnames == backend.cluster_hostnames
            && known.addresses == backend.addresses
        {
            return resource.clone();
        }
        let message = xds::route(&RouteSpec {
            name: &backend.name,
            hostnames: backend.hostnames.iter().map(ToString::to_string).chain(local_names(&backend.service)).collect(),
            cluster_hostnames: backend.cluster_hostnames.iter().map(|(n, c)| (n.to_string(), c.to_string())).collect(),
            addresses: backend.addresses.iter().copied().collect(),
            cluster: &backend.name,
        });
        let refs = [Reference::new(ResourceType::Cluster, backend.name.clone())];
        let resource = Arc::new(Resource::new(ResourceType::Route, backend.name.clone(), &message).with_refs(refs));
        self.routes.insert(backend.name.clone(), (backend.clone(), resource.clone()));
        resource
    }
}

/// Asks the policy where these nodes' traffic for the backend goes, and encodes the answer.
fn decide(backend: &Backend, subject: &Subject, endpoints: &Endpoints, turn: &Turn<'_>) -> Built {
    let question = LbQuestion {
        service: &backend.service,
        port: &backend.port,
        sender: &subject.sender,
        endpoints,
        config: &backend.policy.config,
    };
    let Decided { decision, failure } = turn.policies.decide(subject, &backend.policy, &question, turn.now);
    let cluster = xds::cluster(&ClusterSpec {
        name: &backend.name,
        hostname: &service_name(&backend.service),
        protocol: backend.port.protocol,
        decision: &decision,
    });
    let refs = [Reference::new(ResourceType::Endpoint, backend.name.clone())];
    let assignment = xds::assignment(&backend.name, &decision);
    Built {
        from: backend.clone(),
        cluster: Arc::new(Resource::new(ResourceType::Cluster, backend.name.clone(), &cluster).with_refs(refs)),
        assignment: Arc::new(Resource::new(ResourceType::Endpoint, backend.name.clone(), &assignment)),
        failure,
    }
}
