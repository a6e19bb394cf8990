//! An owner that runs on a real store, with Envoys made by hand.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::model::object::Change;
use crate::policy::{Engine, Policies};
use crate::reconcile::view::{AccessRow, Answer, Query, StatusView, VipRow};
use crate::reconcile::{Event, Inventory, Keeper, Outputs, Owner, Settings, from_row};
use crate::snapshot::{ResourceType, XdsSnapshot};
use crate::store::Store;
use crate::vip::Ledger;
use crate::{ads, dns};

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The built-in policies, as everybody has them.
pub fn policies() -> Policies {
    Policies::new(Engine::new(None).unwrap()).unwrap()
}

pub struct Rig {
    pub events: mpsc::Sender<Event>,
    pub table: watch::Receiver<Arc<dns::Table>>,
    pub store: Store,
    shutdown: CancellationToken,
    owner: JoinHandle<()>,
}

impl Rig {
    pub async fn start(dir: &Path) -> Self {
        let store = Store::open(dir).await.unwrap();
        let rows = store.load_ledger().await.unwrap();
        let ledger = Ledger::from_rows(rows.iter().map(|row| from_row(row).unwrap())).unwrap();
        let (dns, table) = watch::channel(Arc::new(dns::Table::pending()));
        let outputs = Outputs {
            keeper: Keeper::Store(store.clone()),
            inventory: Inventory::default(),
            declared: watch::channel(Arc::default()).0,
            dns,
            nameservers: Vec::new(),
            outbox: None,
            down: None,
        };
        let (events, receiver) = mpsc::channel(64);
        let shutdown = CancellationToken::new();
        let owner = Owner::new(ledger, Settings::default(), policies(), outputs);
        let owner = tokio::spawn(owner.run(receiver, shutdown.clone()));
        Self { events, table, store, shutdown, owner }
    }

    /// Ends it as a process ends; the data stays.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.owner.await.unwrap();
        self.store.close().await;
    }

    pub async fn send(&self, event: Event) {
        assert!(self.events.send(event).await.is_ok(), "the owner has ended");
    }

    pub async fn changes(&self, changes: Vec<Change>) {
        self.send(Event::Changes(changes)).await;
    }

    async fn ask(&self, query: Query) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.send(Event::Inspect(query, reply)).await;
        answer.await.unwrap()
    }

    pub async fn status(&self) -> StatusView {
        match self.ask(Query::Status).await {
            Answer::Status(status) => *status,
            other => panic!("asked for the status, answered {other:?}"),
        }
    }

    pub async fn vips(&self) -> Vec<VipRow> {
        match self.ask(Query::Vips).await {
            Answer::Vips(rows) => rows,
            other => panic!("asked for VIPs, answered {other:?}"),
        }
    }

    /// The state of each VIP, by address.
    pub async fn states(&self) -> Vec<String> {
        self.vips().await.into_iter().map(|vip| format!("{} {}", vip.address, vip.state)).collect()
    }

    pub async fn access(&self, name: &str) -> AccessRow {
        match self.ask(Query::Accesses).await {
            Answer::Accesses(rows) => rows.into_iter().find(|row| row.name == name).unwrap(),
            other => panic!("asked for accesses, answered {other:?}"),
        }
    }

    /// A gateway's stream begins.
    pub async fn connect(&self, stream: u64, id: &str) -> Envoy {
        let node = ads::NodeInfo {
            id: id.to_owned(),
            cluster: String::new(),
            metadata: json!({"role": "gateway"}).as_object().cloned().unwrap_or_default(),
            region: String::new(),
            zone: String::new(),
            user_agent_version: "envoy 1.40.0".to_owned(),
        };
        let (reply, answer) = oneshot::channel();
        let (stream, protocol) = (ads::StreamId(stream), ads::Protocol::Delta);
        let (service, peer) = (ads::DiscoveryService::Aggregated, String::new());
        self.send(Event::Ads(ads::Event::Connected { stream, node, protocol, service, peer, reply })).await;
        Envoy { stream, snapshots: answer.await.unwrap().unwrap() }
    }
}

/// An Envoy that does what it is told to.
pub struct Envoy {
    pub stream: ads::StreamId,
    pub snapshots: ads::Snapshots,
}

impl Envoy {
    /// What it is served, as soon as that has exactly these listeners.
    pub async fn served(&mut self, listeners: &[&str]) -> Arc<XdsSnapshot> {
        let wanted =
            |held: &Option<Arc<XdsSnapshot>>| held.as_ref().is_some_and(|held| listeners_of(held) == listeners);
        let held = in_time("a snapshot", self.snapshots.wait_for(wanted)).await.unwrap().clone();
        held.unwrap()
    }

    /// Acknowledges all listeners that it is served now.
    pub async fn ack(&mut self, rig: &Rig) {
        let held = self.snapshots.borrow_and_update().clone().unwrap();
        let of = |resource: &Arc<crate::snapshot::Resource>| (resource.name().clone(), resource.version().clone());
        let resources = held.resources(ResourceType::Listener).map(of).collect();
        let (stream, ty) = (self.stream, ResourceType::Listener);
        rig.send(Event::Ads(ads::Event::Acked { stream, ty, resources, removed: Vec::new() })).await;
    }

    /// Refuses one listener.
    pub async fn refuse(&mut self, rig: &Rig, listener: &str, words: &str) {
        let held = self.snapshots.borrow_and_update().clone().unwrap();
        let resource = held.get(ResourceType::Listener, listener).unwrap();
        rig.send(Event::Ads(ads::Event::Rejected {
            stream: self.stream,
            ty: ResourceType::Listener,
            refused: vec![(resource.name().clone(), resource.version().clone())],
            unknown: Vec::new(),
            detail: words.to_owned(),
            details: Default::default(),
        }))
        .await;
    }

    pub async fn leave(self, rig: &Rig) {
        rig.send(Event::Ads(ads::Event::Disconnected { stream: self.stream })).await;
    }
}

pub fn listeners_of(snapshot: &XdsSnapshot) -> Vec<&str> {
    snapshot.resources(ResourceType::Listener).map(|resource| &**resource.name()).collect()
}

/// Waits for what must come.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come"),
    }
}
