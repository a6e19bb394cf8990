//! What is on the primary's API server of the objects that are written: enough of it to know what differs.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::kube::kinds::{
    ClusterAccessResource, ClusterInfoResource, EndpointSnapshotResource, EndpointSnapshotSpec, PolicyResource,
    SnapshotOwner, VipPoolResource, VirtualIpResource,
};
use crate::kube::outbox::DnsRecord;
use crate::kube::slices::{self, LABELS};
use crate::kube::virtual_ips::MANAGER;
use crate::model::id::NamespacedName;

/// As with all watches, see `watch::kind`.
const PATIENCE: u32 = 35;
const AGAIN: Duration = Duration::from_secs(1);
/// The pause while the kind is not installed.
const SELDOM: Duration = Duration::from_secs(10);

/// The kinds that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    ClusterInfo,
    ClusterAccess,
    VipPool,
    VirtualIp,
    Policy,
    EndpointSnapshot,
    Service,
    /// ExternalDNS's, which need not be installed.
    DnsEndpoint,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::ClusterInfo,
        Kind::ClusterAccess,
        Kind::VipPool,
        Kind::VirtualIp,
        Kind::Policy,
        Kind::EndpointSnapshot,
        Kind::Service,
        Kind::DnsEndpoint,
    ];

    pub fn resource(self) -> ApiResource {
        match self {
            Kind::ClusterInfo => ApiResource::erase::<ClusterInfoResource>(&()),
            Kind::ClusterAccess => ApiResource::erase::<ClusterAccessResource>(&()),
            Kind::VipPool => ApiResource::erase::<VipPoolResource>(&()),
            Kind::VirtualIp => ApiResource::erase::<VirtualIpResource>(&()),
            Kind::Policy => ApiResource::erase::<PolicyResource>(&()),
            Kind::EndpointSnapshot => ApiResource::erase::<EndpointSnapshotResource>(&()),
            Kind::Service => ApiResource::erase::<Service>(&()),
            Kind::DnsEndpoint => ApiResource {
                group: "externaldns.k8s.io".to_owned(),
                version: "v1alpha1".to_owned(),
                api_version: "externaldns.k8s.io/v1alpha1".to_owned(),
                kind: "DNSEndpoint".to_owned(),
                plural: "dnsendpoints".to_owned(),
            },
        }
    }

    fn is_namespaced(self) -> bool {
        !matches!(self, Kind::ClusterInfo | Kind::VipPool | Kind::VirtualIp | Kind::Policy)
    }

    /// Whether Causeway writes whole objects of the kind, and not only statuses.
    pub fn is_made(self) -> bool {
        matches!(self, Kind::EndpointSnapshot | Kind::DnsEndpoint)
    }
}

/// An object that is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Target {
    pub kind: Kind,
    /// With an empty namespace where the kind has none.
    pub id: NamespacedName,
}

impl Target {
    pub fn of_cluster(kind: Kind, name: impl Into<std::sync::Arc<str>>) -> Self {
        Self { kind, id: NamespacedName::new("", name) }
    }

    pub fn api(&self, client: Client) -> Api<DynamicObject> {
        match self.kind.is_namespaced() {
            true => Api::namespaced_with(client, &self.id.namespace, &self.kind.resource()),
            false => Api::all_with(client, &self.kind.resource()),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind.is_namespaced() {
            true => write!(f, "{:?} {}", self.kind, self.id),
            false => write!(f, "{:?} {}", self.kind, self.id.name),
        }
    }
}

/// Who wrote an object, or a Service's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// Causeway, by the object's managed fields: it may be changed and deleted.
    Causeway,
    /// Somebody else.
    Other,
}

/// An object as it is on the API server.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub uid: String,
    /// `metadata.resourceVersion`, by which of two forms the later is told.
    pub version: u64,
    pub generation: i64,
    pub status: Value,
    pub writer: Writer,
    /// Of an object that Causeway makes: the hash of what it would write.
    pub content: u64,
    /// Of an EndpointSnapshot: who shall write it, by its own word.
    pub owner: SnapshotOwner,
    /// Of a Service: whether its type is LoadBalancer, without which an API server takes no address in its status.
    pub is_load_balancer: bool,
}

/// What a watch tells.
#[derive(Debug)]
pub(super) enum News {
    Begin(Kind),
    There(Target, Box<Seen>),
    Gone(Target),
    Done(Kind),
}

/// Watches a kind for as long as somebody listens.
pub(super) async fn watch(kind: Kind, client: Client, out: mpsc::Sender<News>) {
    let api: Api<DynamicObject> = Api::all_with(client, &kind.resource());
    let config = watcher::Config::default().timeout(PATIENCE).streaming_lists();
    let mut events = pin!(watcher(api, config));
    while let Some(event) = events.next().await {
        let news = match event {
            Ok(Event::Init) => News::Begin(kind),
            Ok(Event::InitApply(object) | Event::Apply(object)) => There(kind, &object).into(),
            Ok(Event::Delete(object)) => News::Gone(target(kind, &object)),
            Ok(Event::InitDone) => News::Done(kind),
            Err(error) if is_missing(&error) => {
                tokio::time::sleep(SELDOM).await;
                continue;
            }
            Err(error) => {
                tracing::debug!(?kind, %error, "what is written cannot be watched");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        if out.send(news).await.is_err() {
            return;
        }
    }
}

fn is_missing(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

struct There<'a>(Kind, &'a DynamicObject);

impl From<There<'_>> for News {
    fn from(There(kind, object): There<'_>) -> Self {
        News::There(target(kind, object), Box::new(seen(kind, object)))
    }
}

fn target(kind: Kind, object: &DynamicObject) -> Target {
    Target { kind, id: NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any()) }
}

/// What is kept of an object.
pub(super) fn seen(kind: Kind, object: &DynamicObject) -> Seen {
    let (content, owner) = match kind {
        Kind::EndpointSnapshot => of_snapshot(object),
        Kind::DnsEndpoint => (hash_dns(object.data.get("spec"), holder(object)), SnapshotOwner::default()),
        _ => (0, SnapshotOwner::default()),
    };
    let subresource = if kind == Kind::Service { "status" } else { "" };
    let fields = object.metadata.managed_fields.iter().flatten();
    let is_ours = fields
        .filter(|entry| entry.subresource.as_deref().unwrap_or_default() == subresource)
        .any(|entry| entry.manager.as_deref() == Some(MANAGER));
    Seen {
        uid: object.uid().unwrap_or_default(),
        version: object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        status: object.data.get("status").cloned().unwrap_or_default(),
        writer: if is_ours { Writer::Causeway } else { Writer::Other },
        content,
        owner,
        is_load_balancer: object.data.pointer("/spec/type").and_then(Value::as_str) == Some("LoadBalancer"),
    }
}

fn of_snapshot(object: &DynamicObject) -> (u64, SnapshotOwner) {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let Ok(spec) = serde_json::from_value::<EndpointSnapshotSpec>(spec) else { return (0, SnapshotOwner::default()) };
    let owner = spec.owner.unwrap_or_default();
    let labels: Vec<(&str, &str)> = LABELS.iter().map(|key| (*key, label(object, key))).collect();
    (hash(&spec, &labels, holder(object)), owner)
}

/// The uid of the object's controlling owner.
fn holder(object: &DynamicObject) -> &str {
    let owner = object.owner_references().iter().find(|owner| owner.controller == Some(true));
    owner.map_or("", |owner| &owner.uid)
}

/// The hash of what Causeway writes of a DNSEndpoint.
pub(super) fn hash_dns(spec: Option<&Value>, owner_uid: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let spec: DnsSpec = spec.and_then(|spec| serde_json::from_value(spec.clone()).ok()).unwrap_or_default();
    (spec.endpoints, owner_uid).hash(&mut hasher);
    hasher.finish()
}

#[derive(Default, Deserialize)]
struct DnsSpec {
    endpoints: Vec<DnsRecord>,
}

fn label<'a>(object: &'a DynamicObject, key: &str) -> &'a str {
    object.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map_or("", String::as_str)
}

/// The hash of what Causeway writes of an EndpointSnapshot.
pub(super) fn hash(spec: &EndpointSnapshotSpec, labels: &[(&str, &str)], owner_uid: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (spec.owner.unwrap_or_default() == SnapshotOwner::System, &spec.access, &spec.service, &spec.cluster)
        .hash(&mut hasher);
    slices::hash(spec.pods.iter()).hash(&mut hasher);
    (labels, owner_uid).hash(&mut hasher);
    hasher.finish()
}
