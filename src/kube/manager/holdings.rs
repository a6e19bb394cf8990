//! What the world was told of one cluster, and what of that is kept, whoever reads it.

use std::collections::{BTreeMap, HashMap};

use tokio::sync::mpsc;

use super::faults::{Faults, Serves};
use super::kept::Kept;
use super::{Problem, Tell};
use crate::kube::connect::Refused;
use crate::kube::field::Invalid;
use crate::kube::outbox::{ClusterConnection, Outbox};
use crate::kube::watch::Item;
use crate::model::id::ClusterName;
use crate::model::object::{Change, Object, ObjectKey, ObjectKind};
use crate::store::Store;

/// Whether the world was told that the cluster is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Pending,
    Synced,
    Unknown,
}

/// Where the cluster manager's word goes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outlets {
    pub out: mpsc::Sender<Tell>,
    pub outbox: Outbox,
    /// What is kept over restarts; a member keeps nothing.
    pub memory: Option<(Store, Kept)>,
}

/// What is known of a cluster.
pub(super) struct Holdings {
    pub name: ClusterName,
    /// By which the cluster is told from others; empty where nothing is known.
    pub uid: String,
    pub state: State,
    /// What the world was told and was not told to be gone, by kind, and in which listing it was told last.
    pub known: HashMap<ObjectKind, HashMap<ObjectKey, u64>>,
    listing: HashMap<ObjectKind, u64>,
    faults: Faults,
    /// What the cluster's own manager says is wrong, beside what was found here.
    said: Vec<Problem>,
    /// Of the primary, what makes no sense is said in the objects' own statuses.
    is_primary: bool,
    outlets: Outlets,
    told: Option<ClusterConnection>,
    /// The reason that was told of why it is unknown.
    told_why: &'static str,
}

/// Nobody listens any more.
pub(super) struct Closed;

impl Holdings {
    pub fn new(name: ClusterName, is_primary: bool, uid: String, outlets: Outlets) -> Self {
        Self {
            name,
            uid,
            state: State::Pending,
            known: HashMap::new(),
            listing: HashMap::new(),
            faults: Faults::default(),
            said: Vec::new(),
            is_primary,
            outlets,
            told: None,
            told_why: "",
        }
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.known.values().map(HashMap::len).sum()
    }

    /// Begins to count listings anew, as another session does.
    pub fn restart_listings(&mut self) {
        self.listing.clear();
        self.known.values_mut().flat_map(HashMap::values_mut).for_each(|listing| *listing = 0);
        self.faults.restart_listings();
    }

    /// The kind is told from the start.
    pub fn begin(&mut self, kind: ObjectKind) {
        *self.listing.entry(kind).or_default() += 1;
    }

    /// Everything that there is was told.
    pub async fn synced(&mut self) -> Result<(), Closed> {
        self.state = State::Synced;
        tracing::info!(cluster = %self.name, objects = self.len(), "a cluster is synced");
        self.tell(vec![Change::Synced { cluster: self.name.clone() }]).await
    }

    /// The cluster cannot be read: what was last known of it stays. Another reason is told; other words for the same
    /// one are not, or they would be written each time.
    pub async fn unknown(&mut self, why: &Refused) -> Result<(), Closed> {
        if self.state == State::Unknown && self.told_why == why.reason {
            return Ok(());
        }
        if self.state == State::Pending && self.known.values().all(HashMap::is_empty) {
            self.recall().await?;
        }
        (self.state, self.told_why) = (State::Unknown, why.reason);
        tracing::warn!(cluster = %self.name, reason = why.reason, "a cluster cannot be read, what was last known of it stays: {why}");
        self.tell(vec![Change::Unknown { cluster: self.name.clone(), reason: why.to_string() }]).await
    }

    /// Tells what an earlier run knew, and gives it.
    pub async fn recall(&mut self) -> Result<Vec<Object>, Closed> {
        let Some((store, _)) = &self.outlets.memory else { return Ok(Vec::new()) };
        let objects = match store.last_known(&self.name).await {
            Ok(objects) => objects,
            Err(error) => {
                tracing::error!(cluster = %self.name, %error, "what was last known of a cluster cannot be read");
                return Ok(Vec::new());
            }
        };
        if !objects.is_empty() {
            tracing::info!(cluster = %self.name, objects = objects.len(), "a cluster is served as it was last known");
        }
        let cluster = &self.name;
        let mut changes = Vec::with_capacity(objects.len());
        for object in &objects {
            let key = object.key();
            self.known.entry(key.kind).or_default().insert(key, 0);
            changes.push(Change::Apply { cluster: cluster.clone(), object: Box::new(object.clone()) });
        }
        self.tell(changes).await?;
        Ok(objects)
    }

    /// Remembers which cluster it is.
    pub fn remember(&mut self, uid: &str) {
        if self.uid != uid {
            self.uid = uid.to_owned();
            if let Some((_, kept)) = &self.outlets.memory {
                kept.remember(&self.name, uid);
            }
        }
    }

    /// Objects are told.
    pub async fn items(&mut self, kind: ObjectKind, items: Vec<Item>) -> Result<(), Closed> {
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
                        forget(&self.outlets, &self.name, &key);
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
            if let Some((_, kept)) = &self.outlets.memory {
                kept.put(&self.name, &object);
            }
            known.insert(key, listing);
            changes.push(Change::Apply { cluster: self.name.clone(), object });
        }
        if problems_changed {
            self.tell_problems().await?;
        }
        for cluster in expected {
            self.outlets.out.send(Tell::Expect(cluster)).await.map_err(|_| Closed)?;
        }
        self.tell(changes).await
    }

    /// After a complete listing: what was not in it is gone.
    pub async fn sweep(&mut self, kind: ObjectKind) -> Result<(), Closed> {
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

    /// The cluster is these objects from now on, and only what differs is told. Gives how many are gone.
    pub async fn replace(
        &mut self,
        objects: HashMap<ObjectKey, Box<Object>>,
        invalid: BTreeMap<ObjectKey, Vec<Invalid>>,
    ) -> Result<usize, Closed> {
        let known = std::mem::take(&mut self.known).into_values().flat_map(HashMap::into_keys);
        let (stay, gone): (Vec<ObjectKey>, Vec<ObjectKey>) =
            known.filter(|key| !objects.contains_key(key)).partition(|key| invalid.contains_key(key));
        let count = gone.len();
        self.faults = Faults::of_session(invalid);
        self.listing.clear();
        // Of what makes no sense now, an earlier form serves.
        for key in stay {
            self.known.entry(key.kind).or_default().insert(key, 0);
        }
        let mut changes = Vec::with_capacity(objects.len());
        for (key, object) in objects {
            if let Some((_, kept)) = &self.outlets.memory {
                kept.put(&self.name, &object);
            }
            self.known.entry(key.kind).or_default().insert(key, 0);
            changes.push(Change::Apply { cluster: self.name.clone(), object });
        }
        self.tell_problems().await?;
        self.tell(changes).await?;
        self.gone(gone).await?;
        Ok(count)
    }

    /// These are gone.
    pub async fn gone(&mut self, keys: Vec<ObjectKey>) -> Result<(), Closed> {
        let cluster = self.name.clone();
        for key in &keys {
            forget(&self.outlets, &cluster, key);
        }
        self.tell(keys.into_iter().map(|key| Change::Delete { cluster: cluster.clone(), key }).collect()).await
    }

    /// This is wrong in its objects by the word of the cluster's own manager.
    pub async fn set_said(&mut self, said: Vec<Problem>) -> Result<(), Closed> {
        if self.said == said {
            return Ok(());
        }
        self.said = said;
        self.tell_problems().await
    }

    /// What was found wrong is told anew, or is not.
    pub async fn forget_faults(&mut self) -> Result<(), Closed> {
        if std::mem::take(&mut self.faults) == Faults::default() { Ok(()) } else { self.tell_problems().await }
    }

    /// Passes changes on.
    pub async fn tell(&self, changes: Vec<Change>) -> Result<(), Closed> {
        if changes.is_empty() {
            return Ok(());
        }
        self.outlets.out.send(Tell::Changes(changes)).await.map_err(|_| Closed)
    }

    /// Tells all that is wrong in its objects now.
    pub async fn tell_problems(&self) -> Result<(), Closed> {
        let problem = |key: &ObjectKey, fault: &Invalid| Problem {
            cluster: self.name.clone(),
            object: key.to_string(),
            field: fault.field.clone(),
            message: fault.message.clone(),
            remedy: fault.remedy.clone(),
        };
        let all = self.faults.iter().map(|(key, fault)| problem(key, fault)).chain(self.said.iter().cloned());
        if self.is_primary {
            let refused = self.faults.refused();
            self.outlets.outbox.put(|waiting| waiting.invalid = Some(refused));
        }
        self.outlets.out.send(Tell::Problems(self.name.clone(), all.collect())).await.map_err(|_| Closed)
    }

    /// Says in the ClusterInfo's status how the cluster is connected, where that differs.
    pub fn report(&mut self, connection: ClusterConnection) {
        if self.told.as_ref() != Some(&connection) {
            self.told = Some(connection.clone());
            self.outlets.outbox.put(|waiting| drop(waiting.connections.insert(self.name.clone(), Some(connection))));
        }
    }
}

fn forget(outlets: &Outlets, cluster: &ClusterName, key: &ObjectKey) {
    if let Some((_, kept)) = &outlets.memory {
        kept.delete(cluster, key);
    }
}
