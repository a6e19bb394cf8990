//! The watch of one kind: lists by streaming, resumes where it stopped, and begins anew where the API server has
//! forgotten that place.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::core::Status;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, CustomResourceExt, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::known::Known;
use super::{Item, OF_PRIMARY, Told, exports};
use crate::kube::connect::{Refused, explain_watch};
use crate::kube::convert::{self, Converted};
use crate::kube::field::Invalid;
use crate::kube::kinds;
use crate::model::object::{ObjectKey, ObjectKind};

/// A watch ends by itself after this many seconds and is resumed, and one that did not end is taken for dead 5 s later.
/// That bounds how long a connection over which nothing comes any more goes unnoticed, through proxies too, which an
/// answer to a ping of the connection would not.
const PATIENCE: u32 = 35;
/// The longest that a first list is waited for, in seconds; less would never end for a large cluster on a slow line.
const MOST_PATIENCE: u32 = 290;
/// What is told in one message at most.
const CHUNK: usize = 256;
/// Pauses between tries, growing.
const PAUSES_MS: [u64; 4] = [200, 500, 1_000, 2_000];

/// Starts the watch of a kind.
pub(super) fn start(kind: ObjectKind, client: Client, out: mpsc::Sender<Told>, cancel: CancellationToken) {
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = read(kind, client, out) => {}
        }
    });
}

/// The object as files have it, which is what is converted.
macro_rules! as_file {
    ($kind:ident, $object:expr) => {
        kinds::$kind {
            api_version: kinds::API_VERSION.to_owned(),
            kind: stringify!($kind).to_owned(),
            metadata: $object.metadata.clone(),
            spec: Some($object.spec.clone()),
            status: None,
        }
    };
}

async fn read(kind: ObjectKind, client: Client, out: mpsc::Sender<Told>) {
    match kind {
        ObjectKind::Node => of_kubernetes(kind, client, out, convert::node).await,
        ObjectKind::Service => of_kubernetes(kind, client, out, convert::service).await,
        ObjectKind::Pod => of_kubernetes(kind, client, out, convert::pod).await,
        ObjectKind::EndpointSlice => of_kubernetes(kind, client, out, convert::endpoint_slice).await,
        ObjectKind::ClusterInfo => of_causeway(kind, client, out, cluster_info).await,
        ObjectKind::ClusterAccess => {
            let convert = |o: &kinds::ClusterAccessResource| one(convert::cluster_access(&as_file!(ClusterAccess, o)));
            of_causeway(kind, client, out, convert).await;
        }
        ObjectKind::VipPool => {
            let convert = |o: &kinds::VipPoolResource| one(convert::vip_pool(&as_file!(VipPool, o)));
            of_causeway(kind, client, out, convert).await;
        }
        ObjectKind::Policy => {
            let convert = |o: &kinds::PolicyResource| one(convert::policy(&as_file!(Policy, o)));
            of_causeway(kind, client, out, convert).await;
        }
        ObjectKind::EndpointSnapshot => {
            let convert =
                |o: &kinds::EndpointSnapshotResource| one(convert::endpoint_snapshot(&as_file!(EndpointSnapshot, o)));
            of_causeway(kind, client, out, convert).await;
        }
        ObjectKind::ServiceExport => exports::read(client, out).await,
    }
}

/// Which objects of a kind are asked for; all where nothing is said. Of EndpointSnapshots most are Causeway's own, which
/// it need not be told.
fn fields_of(kind: ObjectKind) -> Option<&'static str> {
    (kind == ObjectKind::EndpointSnapshot).then_some("spec.owner=User")
}

/// Kubernetes' own kinds, whose form the API server vouches for.
async fn of_kubernetes<K>(kind: ObjectKind, client: Client, out: mpsc::Sender<Told>, convert: fn(&K) -> Converted)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let items = |object: &K| keyed(key_of(kind, object), one(convert(object)));
    Watch::new(kind, Api::all(client), out, items).run().await;
}

/// Causeway's kinds, which may be those of another version's definition.
async fn of_causeway<K>(kind: ObjectKind, client: Client, out: mpsc::Sender<Told>, convert: impl Fn(&K) -> Items)
where
    K: Resource<DynamicType = ()> + CustomResourceExt + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let items = |known: &Known<K>| {
        let key = key_of(kind, known);
        match &known.object {
            Ok(object) => keyed(key, convert(object).warned(&known.left_out)),
            Err(error) => {
                let message = format!("it cannot be read: {error}");
                let remedy = "correct it, and install this version's definitions: `causeway crds`".to_owned();
                vec![Item::Invalid(key, vec![Invalid { field: String::new(), message, remedy }])]
            }
        }
    };
    Watch::new(kind, Api::all(client), out, items).run().await;
}

/// An object's items, before they are given its key: nothing where it is of a sort that is not served.
pub(super) enum Items {
    Of(Vec<Item>),
    Nothing,
    Invalid(Vec<Invalid>),
}

impl Items {
    /// The same, with further warnings.
    pub fn warned(self, warnings: &[Invalid]) -> Self {
        if warnings.is_empty() {
            return self;
        }
        let with = |mut faults: Vec<Invalid>| {
            faults.extend_from_slice(warnings);
            faults
        };
        match self {
            Items::Nothing => Items::Nothing,
            Items::Invalid(faults) => Items::Invalid(with(faults)),
            Items::Of(items) => {
                let warn = |item| match item {
                    Item::Object(object) => Item::Warned(object, with(Vec::new())),
                    Item::Warned(object, faults) => Item::Warned(object, with(faults)),
                    other => other,
                };
                Items::Of(items.into_iter().map(warn).collect())
            }
        }
    }
}

pub(super) fn one(converted: Converted) -> Items {
    match converted {
        Ok(conversion) => match conversion.object {
            Some(object) if conversion.warnings.is_empty() => Items::Of(vec![Item::Object(Box::new(object))]),
            Some(object) => Items::Of(vec![Item::Warned(Box::new(object), conversion.warnings)]),
            None => Items::Nothing,
        },
        Err(faults) => Items::Invalid(faults),
    }
}

fn cluster_info(info: &kinds::ClusterInfoResource) -> Items {
    let is_read =
        info.spec.source.as_ref().is_some_and(|source| source.kubeconfig.is_some() || source.member.is_some());
    let items = one(convert::cluster_info(&as_file!(ClusterInfo, info)));
    match items {
        Items::Of(mut items) if is_read => {
            if let Some(name) = &info.metadata.name {
                items.insert(0, Item::Expect(name.as_str().into()));
            }
            Items::Of(items)
        }
        other => other,
    }
}

pub(super) fn keyed(key: ObjectKey, items: Items) -> Vec<Item> {
    match items {
        Items::Of(items) => items,
        Items::Nothing => vec![Item::Gone(key)],
        Items::Invalid(faults) => vec![Item::Invalid(key, faults)],
    }
}

pub(super) fn key_of<K: Resource>(kind: ObjectKind, object: &K) -> ObjectKey {
    let meta = object.meta();
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    ObjectKey { kind, namespace: text(&meta.namespace), name: text(&meta.name) }
}

pub(super) struct Watch<K, F> {
    kind: ObjectKind,
    api: Api<K>,
    out: mpsc::Sender<Told>,
    items: F,
    patience: u32,
    /// The API server streams lists (Kubernetes 1.32 and newer by default).
    streams: bool,
    /// Which objects are asked for.
    fields: Option<&'static str>,
    /// It is no trouble that the kind is not served.
    is_optional: bool,
    /// The kind was listed completely once.
    pub was_listed: bool,
}

/// Nobody listens any more.
pub(super) struct Closed;

/// What a cluster lacks, so that a kind cannot be read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// The kind's definition.
    Kind,
    /// The permission to read it.
    Permission,
}

impl<K, F> Watch<K, F>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    F: Fn(&K) -> Vec<Item>,
{
    pub fn new(kind: ObjectKind, api: Api<K>, out: mpsc::Sender<Told>, items: F) -> Self {
        Self {
            kind,
            api,
            out,
            items,
            patience: PATIENCE,
            streams: true,
            fields: fields_of(kind),
            is_optional: false,
            was_listed: false,
        }
    }

    async fn run(mut self) {
        while self.watch().await.is_ok() {}
    }

    /// Watches while the cluster has the kind, and says why it cannot any more.
    pub async fn run_while_there(&mut self) -> Result<Without, Closed> {
        self.is_optional = true;
        loop {
            if let Some(without) = self.watch().await? {
                return Ok(without);
            }
        }
    }

    /// Watches until something has to be done in another way. Of a kind that need not be there, says what is lacking.
    async fn watch(&mut self) -> Result<Option<Without>, Closed> {
        let mut config = watcher::Config::default().timeout(self.patience);
        if self.streams {
            config = config.streaming_lists();
        }
        if let Some(fields) = self.fields {
            config = config.fields(fields);
        }
        let mut chunks = pin!(watcher(self.api.clone(), config).ready_chunks(CHUNK));
        let (mut is_listing, mut tries) = (true, 0);
        while let Some(chunk) = chunks.next().await {
            let mut items = Vec::with_capacity(chunk.len());
            for event in chunk {
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => items.extend((self.items)(&object)),
                    Ok(Event::Delete(object)) => items.push(Item::Gone(key_of(self.kind, &object))),
                    Ok(Event::Init) => {
                        self.flush(&mut items).await?;
                        is_listing = true;
                        self.send(Told::Begin(self.kind)).await?;
                    }
                    Ok(Event::InitDone) => {
                        self.flush(&mut items).await?;
                        (is_listing, tries, self.patience) = (false, 0, PATIENCE);
                        self.was_listed = true;
                        self.send(Told::Done(self.kind)).await?;
                    }
                    Err(error) => {
                        self.flush(&mut items).await?;
                        if let Some(without) = without(&error).filter(|_| self.is_optional) {
                            return Ok(Some(without));
                        }
                        let is_forgotten = matches!(&error, watcher::Error::WatchError(status) if status.code == 410);
                        if !is_forgotten {
                            self.send(Told::Failing(self.kind, refused(self.kind, &error))).await?;
                        }
                        let pause = PAUSES_MS[tries.min(PAUSES_MS.len() - 1)];
                        tries += 1;
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                        if is_listing && self.fields.is_some() && is_unselectable(&error) {
                            self.fields = None;
                            return Ok(None);
                        }
                        if is_listing && self.streams && is_unsupported(&error) {
                            self.streams = false;
                            return Ok(None);
                        }
                        if is_listing && self.patience < MOST_PATIENCE && is_cut(&error) {
                            self.patience = (self.patience * 2).min(MOST_PATIENCE);
                            return Ok(None);
                        }
                    }
                }
            }
            self.flush(&mut items).await?;
        }
        Ok(None)
    }

    async fn flush(&self, items: &mut Vec<Item>) -> Result<(), Closed> {
        if items.is_empty() { Ok(()) } else { self.send(Told::Items(self.kind, std::mem::take(items))).await }
    }

    async fn send(&self, told: Told) -> Result<(), Closed> {
        self.out.send(told).await.map_err(|_| Closed)
    }
}

fn refused(kind: ObjectKind, error: &watcher::Error) -> Refused {
    if let watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error
        && status.code == 404
        && OF_PRIMARY.contains(&kind)
    {
        let message = format!("the API server does not know the kind {kind:?} of {}", kinds::API_VERSION);
        let remedy = "install Causeway's definitions: `causeway crds | kubectl apply --server-side -f -`";
        return Refused::new("DefinitionsMissing", message, remedy);
    }
    explain_watch(error)
}

/// An API server that does not know streaming lists refuses their parameters.
fn is_unsupported(error: &watcher::Error) -> bool {
    is_refusal(error, |status| matches!(status.code, 400 | 422))
}

/// The API server does not know the fields by which objects were to be selected: the kind's definition is older, or the
/// server is (before Kubernetes 1.31).
fn is_unselectable(error: &watcher::Error) -> bool {
    is_refusal(error, |status| status.code == 400 && status.message.contains("field label not supported"))
}

/// What is lacking where a kind cannot be read for good.
fn without(error: &watcher::Error) -> Option<Without> {
    if is_refusal(error, |status| status.code == 404) {
        Some(Without::Kind)
    } else {
        is_refusal(error, |status| status.code == 403).then_some(Without::Permission)
    }
}

fn is_refusal(error: &watcher::Error, is_meant: impl Fn(&Status) -> bool) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => is_meant(status),
        _ => false,
    }
}

/// The list took longer than it was given.
fn is_cut(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchFailed(_))
}
