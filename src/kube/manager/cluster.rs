//! Reads one cluster: opens sessions to it, passes on what they tell, notices when they go silent, and lets a new
//! kubeconfig take over only when it has shown that it can.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use tokio::sync::{mpsc, watch};

use super::faults::{Faults, Serves};
use super::kept::Kept;
use super::rehearsal::Rehearsal;
use super::report::{Facts, connection};
use super::{Problem, Tell};
use crate::kube::connect::{self, Credential, Refused};
use crate::kube::field::Invalid;
use crate::kube::outbox::{ClusterConnection, Outbox};
use crate::kube::watch::{Item, OF_ALL, OF_PRIMARY, Session, Told};
use crate::model::id::ClusterName;
use crate::model::object::{Change, ObjectKey, ObjectKind};
use crate::store::Store;

/// Trouble that lasts this long makes a cluster stale. Shorter than that, API servers restart every day.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(10);
/// A watch that has told of no trouble for this long, while the API server answers, is well.
const CALM: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(500);

/// How a cluster is to be reached.
#[derive(Clone, Debug, Default)]
pub(super) enum Wanted {
    /// Not known yet.
    #[default]
    Waiting,
    /// It is the primary: by the operator's kubeconfig, or as a pod of it.
    Primary(Option<PathBuf>),
    /// By this kubeconfig.
    Kubeconfig { text: Arc<str>, in_config_map: bool },
    /// There is no kubeconfig, and why.
    Refused(Refused),
}

/// What is wanted of a cluster at present.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    pub wanted: Wanted,
    /// `metadata.generation` of its ClusterInfo.
    pub generation: i64,
}

/// A checked way to a cluster.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Primary(Option<PathBuf>),
    Kubeconfig { text: Arc<str>, in_config_map: bool, credential: Box<Credential> },
}

impl Way {
    async fn client(&self) -> Result<Client, Refused> {
        match self {
            Way::Kubeconfig { credential, .. } => credential.client().await,
            Way::Primary(path) => connect::primary(path.as_deref())
                .await
                .map_err(|error| Refused::new("InvalidKubeconfig", format!("{error:#}"), "correct --kubeconfig")),
        }
    }

    fn text(&self) -> Option<&Arc<str>> {
        match self {
            Way::Primary(_) => None,
            Way::Kubeconfig { text, .. } => Some(text),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Synced,
    Unknown,
}

/// Trouble with one kind's watch.
struct Failing {
    since: Instant,
    last: Instant,
    why: Refused,
}

pub(super) struct Reader {
    name: ClusterName,
    kinds: Vec<ObjectKind>,
    orders: watch::Receiver<Order>,
    out: mpsc::Sender<Tell>,
    outbox: Outbox,
    store: Store,
    kept: Kept,
    /// By which the cluster is told from others; empty where nothing is known.
    uid: String,
    way: Option<Way>,
    /// The way has shown the cluster.
    is_proven: bool,
    active: Option<Session>,
    rehearsal: Option<Rehearsal>,
    /// Why the kubeconfig that is wanted is not the one in use.
    refused: Option<Refused>,
    /// What the world was told and was not told to be gone, by kind, and in which listing it was told last.
    known: HashMap<ObjectKind, HashMap<ObjectKey, u64>>,
    listing: HashMap<ObjectKind, u64>,
    done: HashSet<ObjectKind>,
    failing: HashMap<ObjectKind, Failing>,
    faults: Faults,
    state: State,
    /// The reason that was told of why it is unknown.
    told_why: &'static str,
    started: Instant,
    /// The API server did not answer for so long that the session is replaced once it does.
    is_worn: bool,
    told: Option<ClusterConnection>,
    /// The reason that was logged of why the kubeconfig that is wanted is not in use.
    told_refused: &'static str,
}

/// Nobody listens any more.
pub(super) struct Closed;

impl Reader {
    #[expect(clippy::too_many_arguments, reason = "the parts that a reader is made of")]
    pub fn new(
        name: ClusterName,
        is_primary: bool,
        orders: watch::Receiver<Order>,
        out: mpsc::Sender<Tell>,
        outbox: Outbox,
        store: Store,
        kept: Kept,
        uid: String,
    ) -> Self {
        let mut kinds = OF_ALL.to_vec();
        if is_primary {
            kinds.extend(OF_PRIMARY);
        }
        Self {
            name,
            kinds,
            orders,
            out,
            outbox,
            store,
            kept,
            uid,
            way: None,
            is_proven: false,
            active: None,
            rehearsal: None,
            refused: None,
            known: HashMap::new(),
            listing: HashMap::new(),
            done: HashSet::new(),
            failing: HashMap::new(),
            faults: Faults::default(),
            state: State::Pending,
            told_why: "",
            started: Instant::now(),
            is_worn: false,
            told: None,
            told_refused: "",
        }
    }

    /// Reads until nobody listens.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        self.orders.mark_changed();
        loop {
            let outcome = tokio::select! {
                changed = self.orders.changed() => match changed {
                    Ok(()) => { self.ordered().await; Ok(()) }
                    Err(_) => Err(Closed),
                },
                told = next(self.active.as_mut()) => match told {
                    Some(told) => self.take(told).await,
                    None => Ok(()),
                },
                told = next(self.rehearsal.as_mut().map(|rehearsal| &mut rehearsal.session)) => {
                    if let (Some(rehearsal), Some(told)) = (&mut self.rehearsal, told) {
                        rehearsal.take(told);
                    }
                    Ok(())
                }
                _ = tick.tick() => Ok(()),
            };
            if outcome.is_err() || self.look().await.is_err() {
                return;
            }
        }
    }

    /// Another kubeconfig is wanted, or another thing changed in the ClusterInfo.
    async fn ordered(&mut self) {
        let wanted = self.orders.borrow_and_update().wanted.clone();
        let way = match wanted {
            Wanted::Waiting => return,
            Wanted::Refused(why) => {
                (self.rehearsal, self.refused) = (None, Some(why));
                return;
            }
            // The primary's kubeconfig is the operator's and does not change while this runs.
            Wanted::Primary(_) if self.way.is_some() => return,
            Wanted::Primary(path) => Way::Primary(path),
            Wanted::Kubeconfig { text, in_config_map } => {
                let in_use = self.way.as_mut().filter(|way| way.text() == Some(&text));
                if let Some(Way::Kubeconfig { in_config_map: place, .. }) = in_use {
                    *place = in_config_map;
                    (self.rehearsal, self.refused) = (None, None);
                    return;
                }
                if self.rehearsal.as_ref().is_some_and(|rehearsal| rehearsal.way.text() == Some(&text)) {
                    return;
                }
                match Credential::parse(&text) {
                    Ok(credential) => Way::Kubeconfig { text, in_config_map, credential: Box::new(credential) },
                    Err(why) => {
                        (self.rehearsal, self.refused) = (None, Some(why));
                        return;
                    }
                }
            }
        };
        let client = match way.client().await {
            Ok(client) => client,
            Err(why) => {
                (self.rehearsal, self.refused) = (None, Some(why));
                return;
            }
        };
        let session = Session::open(client);
        self.refused = None;
        if self.active.is_some() && self.is_proven {
            tracing::info!(cluster = %self.name, "a new kubeconfig is tried beside the one in use");
            self.rehearsal = Some(Rehearsal::new(way, session));
        } else {
            // Nothing is in use that could be lost.
            self.use_session(session);
            (self.way, self.is_proven) = (Some(way), false);
        }
    }

    fn use_session(&mut self, session: Session) {
        self.active = Some(session);
        self.done.clear();
        self.failing.clear();
        self.is_worn = false;
    }

    /// Does what time and pulses call for.
    async fn look(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        self.look_at_rehearsal().await?;
        if let Some(session) = &mut self.active
            && !session.has_begun()
        {
            let pulse = session.pulse.borrow().clone();
            if let (Some(identity), None) = (pulse.identity, pulse.failing) {
                if self.uid.is_empty() || self.uid == identity.uid {
                    session.begin(&self.kinds);
                    self.is_proven = true;
                    self.remember(&identity.uid).await;
                } else {
                    let why = another_cluster(&self.name, &self.uid, &identity.uid);
                    (self.active, self.way, self.refused) = (None, None, Some(why));
                }
            }
        }
        let trouble = self.trouble(now);
        match &trouble {
            Some((since, why)) if now.duration_since(*since) >= STALE_AFTER => {
                self.is_worn |= self.is_silent();
                // Another reason is told; other words for the same one are not, or they would be written each time.
                if self.state != State::Unknown || self.told_why != why.reason {
                    self.unknown(why).await?;
                }
            }
            None if self.is_worn => self.renew().await,
            None if self.state != State::Synced && self.is_read() => {
                self.state = State::Synced;
                tracing::info!(cluster = %self.name, objects = self.known.values().map(HashMap::len).sum::<usize>(), "a cluster is synced");
                self.tell(vec![Change::Synced { cluster: self.name.clone() }]).await?;
            }
            _ => {}
        }
        self.report(trouble.as_ref().map(|(_, why)| why));
        Ok(())
    }

    fn is_read(&self) -> bool {
        self.active.is_some() && self.kinds.iter().all(|kind| self.done.contains(kind))
    }

    /// The session that is being read gets no answers.
    fn is_silent(&self) -> bool {
        self.active.as_ref().is_some_and(|session| session.has_begun() && session.pulse.borrow().failing.is_some())
    }

    /// Since when the cluster cannot be read, and why.
    fn trouble(&mut self, now: Instant) -> Option<(Instant, Refused)> {
        let Some(session) = &self.active else {
            let why = self.refused.clone().unwrap_or_else(|| {
                Refused::new(
                    "Waiting",
                    "its kubeconfig is not known yet",
                    "see whether the primary's API server answers",
                )
            });
            return Some((self.started, why));
        };
        let pulse = session.pulse.borrow();
        let calm = pulse.beat_at.filter(|_| pulse.failing.is_none());
        self.failing
            .retain(|_, failing| calm.is_none_or(|beat| beat < failing.last + CALM) || now < failing.last + CALM);
        // A worn session is replaced as soon as the API server answers: that its watches fail is of no account then.
        let watches = self.failing.values().filter(|_| !self.is_worn || calm.is_none());
        let watches = watches.map(|failing| (failing.since, failing.why.clone()));
        pulse.failing.clone().into_iter().chain(watches).min_by_key(|(since, _)| *since)
    }

    /// The cluster cannot be read: what was last known of it stays.
    async fn unknown(&mut self, why: &Refused) -> Result<(), Closed> {
        if self.state == State::Pending && self.known.values().all(HashMap::is_empty) {
            self.recall().await?;
        }
        (self.state, self.told_why) = (State::Unknown, why.reason);
        tracing::warn!(cluster = %self.name, reason = why.reason, "a cluster cannot be read, what was last known of it stays: {why}");
        self.tell(vec![Change::Unknown { cluster: self.name.clone(), reason: why.to_string() }]).await
    }

    /// Tells what an earlier run knew.
    async fn recall(&mut self) -> Result<(), Closed> {
        let objects = match self.store.last_known(&self.name).await {
            Ok(objects) => objects,
            Err(error) => {
                tracing::error!(cluster = %self.name, %error, "what was last known of a cluster cannot be read");
                return Ok(());
            }
        };
        tracing::info!(cluster = %self.name, objects = objects.len(), "a cluster is served as it was last known");
        let cluster = &self.name;
        let mut changes = Vec::with_capacity(objects.len());
        for object in objects {
            let key = object.key();
            self.known.entry(key.kind).or_default().insert(key, 0);
            changes.push(Change::Apply { cluster: cluster.clone(), object: Box::new(object) });
        }
        self.tell(changes).await
    }

    /// Replaces a session that was in trouble by a new one over new connections: of the old one's, some may be dead
    /// without knowing it.
    async fn renew(&mut self) {
        let Some(way) = &self.way else { return };
        match way.client().await {
            Ok(client) => self.use_session(Session::open(client)),
            Err(why) => self.refused = Some(why),
        }
    }

    async fn remember(&mut self, uid: &str) {
        if self.uid != uid {
            self.uid = uid.to_owned();
            if let Err(error) = self.store.put_cluster_uid(&self.name, uid).await {
                tracing::error!(cluster = %self.name, %error, "the cluster's uid cannot be kept");
            }
        }
    }

    async fn take(&mut self, told: Told) -> Result<(), Closed> {
        match told {
            Told::Begin(kind) => {
                *self.listing.entry(kind).or_default() += 1;
                Ok(())
            }
            Told::Items(kind, items) => {
                self.failing.remove(&kind);
                self.items(kind, items).await
            }
            Told::Done(kind) => {
                self.failing.remove(&kind);
                self.done.insert(kind);
                self.sweep(kind).await
            }
            Told::Failing(kind, why) => {
                let now = Instant::now();
                tracing::debug!(cluster = %self.name, ?kind, "a watch fails: {why}");
                let failing = self.failing.entry(kind).or_insert(Failing { since: now, last: now, why: why.clone() });
                (failing.last, failing.why) = (now, why);
                Ok(())
            }
        }
    }

    async fn items(&mut self, kind: ObjectKind, items: Vec<Item>) -> Result<(), Closed> {
        let listing = self.listing.get(&kind).copied().unwrap_or_default();
        let known = self.known.entry(kind).or_default();
        let mut changes = Vec::with_capacity(items.len());
        let mut expected = Vec::new();
        let mut problems_changed = false;
        for item in items {
            let (object, faults) = match item {
                Item::Object(object) => (object, Vec::new()),
                Item::Warned(object, faults) => (object, faults),
                Item::Expect(name) => {
                    expected.push(name);
                    continue;
                }
                Item::Gone(key) => {
                    problems_changed |= self.faults.remove(&key);
                    if known.remove(&key).is_some() {
                        self.kept.delete(&self.name, &key);
                        changes.push(Change::Delete { cluster: self.name.clone(), key });
                    }
                    continue;
                }
                Item::Invalid(key, faults) => {
                    if let Some(told) = known.get_mut(&key) {
                        *told = listing;
                    }
                    problems_changed |= self.faults.put(key, faults, Serves::Not, listing);
                    continue;
                }
            };
            let key = object.key();
            problems_changed |= match faults.is_empty() {
                true => self.faults.remove(&key),
                false => self.faults.put(key.clone(), faults, Serves::InPart, listing),
            };
            self.kept.put(&self.name, &object);
            known.insert(key, listing);
            changes.push(Change::Apply { cluster: self.name.clone(), object });
        }
        if problems_changed {
            self.tell_problems().await?;
        }
        for cluster in expected {
            self.out.send(Tell::Expect(cluster)).await.map_err(|_| Closed)?;
        }
        self.tell(changes).await
    }

    /// After a complete listing: what was not in it is gone.
    async fn sweep(&mut self, kind: ObjectKind) -> Result<(), Closed> {
        let listing = self.listing.get(&kind).copied().unwrap_or_default();
        let known = self.known.entry(kind).or_default();
        let gone: Vec<ObjectKey> =
            known.iter().filter(|(_, told)| **told != listing).map(|(key, _)| key.clone()).collect();
        for key in &gone {
            known.remove(key);
        }
        if self.faults.sweep(kind, listing) {
            self.tell_problems().await?;
        }
        self.gone(gone).await
    }

    async fn gone(&mut self, keys: Vec<ObjectKey>) -> Result<(), Closed> {
        let cluster = self.name.clone();
        for key in &keys {
            self.kept.delete(&cluster, key);
        }
        self.tell(keys.into_iter().map(|key| Change::Delete { cluster: cluster.clone(), key }).collect()).await
    }

    async fn look_at_rehearsal(&mut self) -> Result<(), Closed> {
        let Some(rehearsal) = &mut self.rehearsal else { return Ok(()) };
        let pulse = rehearsal.session.pulse.borrow().clone();
        if let Some((_, why)) = &pulse.failing {
            self.refused = Some(why.clone());
            return Ok(());
        }
        let Some(identity) = pulse.identity else { return Ok(()) };
        if !self.uid.is_empty() && self.uid != identity.uid {
            let why = another_cluster(&self.name, &self.uid, &identity.uid);
            (self.rehearsal, self.refused) = (None, Some(why));
            return Ok(());
        }
        rehearsal.session.begin(&self.kinds);
        self.refused.clone_from(&rehearsal.trouble);
        if self.kinds.iter().all(|kind| rehearsal.done.contains(kind)) {
            self.take_over().await?;
        }
        Ok(())
    }

    /// The new kubeconfig has shown the same cluster, whole: from now on it is the one in use, and only what differs
    /// is told.
    async fn take_over(&mut self) -> Result<(), Closed> {
        let Some(Rehearsal { way, session, objects, invalid, done, .. }) = self.rehearsal.take() else { return Ok(()) };
        let known = std::mem::take(&mut self.known).into_values().flat_map(HashMap::into_keys);
        let (stay, gone): (Vec<ObjectKey>, Vec<ObjectKey>) =
            known.filter(|key| !objects.contains_key(key)).partition(|key| invalid.contains_key(key));
        tracing::info!(cluster = %self.name, objects = objects.len(), gone = gone.len(), "a new kubeconfig takes over");
        self.use_session(session);
        (self.way, self.refused, self.done, self.faults) = (Some(way), None, done, Faults::of_session(invalid));
        self.listing.clear();
        // Of what makes no sense now, an earlier form serves.
        for key in stay {
            self.known.entry(key.kind).or_default().insert(key, 0);
        }
        let mut changes = Vec::with_capacity(objects.len());
        for (key, object) in objects {
            self.kept.put(&self.name, &object);
            self.known.entry(key.kind).or_default().insert(key, 0);
            changes.push(Change::Apply { cluster: self.name.clone(), object });
        }
        self.tell_problems().await?;
        self.tell(changes).await?;
        self.gone(gone).await
    }

    async fn tell(&self, changes: Vec<Change>) -> Result<(), Closed> {
        if changes.is_empty() {
            return Ok(());
        }
        self.out.send(Tell::Changes(changes)).await.map_err(|_| Closed)
    }

    async fn tell_problems(&self) -> Result<(), Closed> {
        let problem = |key: &ObjectKey, fault: &Invalid| Problem {
            cluster: self.name.clone(),
            object: key.to_string(),
            field: fault.field.clone(),
            message: fault.message.clone(),
            remedy: fault.remedy.clone(),
        };
        let all = self.faults.iter().map(|(key, fault)| problem(key, fault));
        if self.kinds.len() > OF_ALL.len() {
            let refused = self.faults.refused();
            self.outbox.put(|waiting| waiting.invalid = Some(refused));
        }
        self.out.send(Tell::Problems(self.name.clone(), all.collect())).await.map_err(|_| Closed)
    }

    /// Says in the ClusterInfo's status how the cluster is connected, where that differs.
    fn report(&mut self, trouble: Option<&Refused>) {
        let refused = self.refused.as_ref().map_or("", |why| why.reason);
        if std::mem::replace(&mut self.told_refused, refused) != refused
            && let Some(why) = &self.refused
        {
            tracing::warn!(cluster = %self.name, reason = refused, "the kubeconfig that is wanted is not used: {why}");
        }
        let pulse = self.active.as_ref().map(|session| session.pulse.borrow().clone()).unwrap_or_default();
        let (credential, in_config_map) = match &self.way {
            Some(Way::Kubeconfig { credential, in_config_map, .. }) => (Some(&**credential), *in_config_map),
            _ => (None, false),
        };
        let connection = connection(&Facts {
            generation: self.orders.borrow().generation,
            identity: pulse.identity.as_ref(),
            uid: &self.uid,
            trouble,
            refused: self.refused.as_ref(),
            rehearses: self.rehearsal.is_some(),
            credential,
            in_config_map,
        });
        if self.told.as_ref() != Some(&connection) {
            self.told = Some(connection.clone());
            self.outbox.put(|waiting| drop(waiting.connections.insert(self.name.clone(), Some(connection))));
        }
    }
}

fn another_cluster(name: &ClusterName, known: &str, found: &str) -> Refused {
    Refused::new(
        "AnotherCluster",
        format!("the kubeconfig leads to the cluster with the uid {found}, but {name} is the one with {known}"),
        "write the kubeconfig of that cluster; where the cluster was truly made anew, delete its ClusterInfo and make it again",
    )
}

/// What a session's watches tell next, or nothing where its pulse is news; for ever nothing where there is no session.
async fn next(session: Option<&mut Session>) -> Option<Told> {
    let Some(session) = session else { return std::future::pending().await };
    tokio::select! {
        Some(told) = session.told.recv() => Some(told),
        Ok(()) = session.pulse.changed() => None,
        // Both have ended with it.
        else => std::future::pending().await,
    }
}
