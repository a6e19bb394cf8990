//! `VirtualIp` objects as the VIP ledger: creating one is what allocates its address, so that the API server arbitrates
//! between all who allocate.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::kinds::{VirtualIpResource, VirtualIpSpec};
use crate::model::id::{NamespacedName, NodeId};
use crate::model::object::Family;
use crate::model::slot::Slot;
use crate::store::LedgerRow;

/// Who Causeway is in `metadata.managedFields`.
pub const MANAGER: &str = "causeway";
/// As with all watches, see `watch::kind`.
const PATIENCE: u32 = 35;
const AGAIN: Duration = Duration::from_secs(1);
/// How long the answer to a write is waited for. A write whose answer is not heard is done again, which changes nothing
/// where it was done.
const ANSWER: Duration = Duration::from_secs(5);
/// Writes that are under way at once.
const AT_ONCE: usize = 16;

/// An object as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What its name says.
    pub address: IpAddr,
    /// By which it is told from others that had the name before.
    pub uid: String,
    /// `metadata.generation`, which grows with each change of the spec.
    pub generation: i64,
    /// The row, or why it is none.
    pub row: Result<LedgerRow, String>,
}

/// What is new of the objects.
#[derive(Debug)]
pub enum News {
    /// These are all.
    Listed(Vec<Seen>),
    /// One is there, in this form.
    Changed(Box<Seen>),
    /// One is gone.
    Gone {
        /// What its name said.
        address: IpAddr,
        /// Its uid.
        uid: String,
    },
}

/// A change that is to be made durable.
#[derive(Clone, Debug)]
pub enum Write {
    /// The address is taken by this row, where nobody else has it.
    Create(LedgerRow),
    /// The row is there from now on in this form.
    Put(LedgerRow),
    /// The address is free from now on.
    Delete(IpAddr),
}

/// What became of changes that were to be made durable.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Which of them are, by their places, in no order.
    pub done: Vec<usize>,
    /// Objects that were found where an address was to be taken: somebody else has it.
    pub taken: Vec<Seen>,
    /// Why others are not.
    pub problem: Option<String>,
}

/// The latest form of an object that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    uid: String,
    generation: i64,
}

/// What became of one change.
enum Written {
    Done,
    Taken(Box<Seen>),
    Failed(String),
}

/// The objects on the primary's API server. Cheap to clone.
#[derive(Clone)]
pub struct VirtualIps {
    api: Api<VirtualIpResource>,
    known: Arc<Mutex<HashMap<IpAddr, Known>>>,
    /// The uids of objects that were deleted here, until their end is told: what is told of them meanwhile is old.
    deleted: Arc<Mutex<HashSet<String>>>,
}

impl VirtualIps {
    /// Nothing is asked yet.
    pub fn new(client: Client) -> Self {
        Self { api: Api::all(client), known: Arc::default(), deleted: Arc::default() }
    }

    /// Tells what is there, and what changes, until `shutdown`.
    pub async fn watch(self, client: Client, out: mpsc::Sender<News>, shutdown: CancellationToken) {
        let watch = async {
            let api = Api::<DeserializeGuard<VirtualIpResource>>::all(client);
            let mut events = pin!(watcher(api, watcher::Config::default().timeout(PATIENCE).streaming_lists()));
            let mut listing = Vec::new();
            while let Some(event) = events.next().await {
                let news = match event {
                    Ok(Event::Init) => {
                        listing.clear();
                        continue;
                    }
                    Ok(Event::InitApply(object)) => {
                        listing.extend(seen(&object));
                        continue;
                    }
                    Ok(Event::InitDone) => Some(News::Listed(std::mem::take(&mut listing))),
                    Ok(Event::Apply(object)) => seen(&object).map(|seen| News::Changed(Box::new(seen))),
                    Ok(Event::Delete(object)) => {
                        let address = address_of(&object.name_any());
                        address.map(|address| News::Gone { address, uid: object.uid().unwrap_or_default() })
                    }
                    Err(error) => {
                        tracing::debug!(%error, "VirtualIps cannot be watched");
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                };
                let Some(news) = news else { continue };
                if out.send(news).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = watch => {}
        }
    }

    /// Whether a later form of the object is known than this one: what is told of it is then old.
    pub fn is_outdated(&self, address: IpAddr, uid: &str, generation: i64) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&address).is_some_and(|known| known.uid == uid && known.generation > generation)
    }

    /// Whether the object was deleted here, so that what is told of it is old.
    pub fn is_deleted(&self, uid: &str) -> bool {
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner).contains(uid)
    }

    /// Nothing is told any more of objects but these.
    pub fn retain_deleted(&self, is_told_of: impl Fn(&str) -> bool) {
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid| is_told_of(uid));
    }

    /// Whether the object that is gone is the one that was written last.
    pub fn is_current(&self, address: IpAddr, uid: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&address).is_some_and(|known| known.uid == uid)
    }

    /// Makes the changes durable, as many as can be: creations last, so that an address that moves is free when it is
    /// taken. To do the same again does no harm.
    pub async fn commit(&self, writes: Vec<Write>) -> Outcome {
        let mut outcome = Outcome::default();
        let (creates, others): (Vec<_>, Vec<_>) =
            writes.into_iter().enumerate().partition(|(_, write)| matches!(write, Write::Create(_)));
        for half in [others, creates] {
            let answer = |(place, write): (usize, Write)| async move { (place, self.write(&write).await) };
            let mut answers = stream::iter(half).map(answer).buffer_unordered(AT_ONCE);
            while let Some((place, written)) = answers.next().await {
                match written {
                    Written::Done => outcome.done.push(place),
                    Written::Taken(seen) => outcome.taken.push(*seen),
                    Written::Failed(why) => outcome.problem = Some(why),
                }
            }
        }
        outcome
    }

    async fn write(&self, write: &Write) -> Written {
        match write {
            Write::Create(row) => self.create(row).await,
            Write::Put(row) => self.apply(row).await,
            Write::Delete(address) => self.delete(*address).await,
        }
    }

    async fn create(&self, row: &LedgerRow) -> Written {
        let (name, params) =
            (name_of(row.address), PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() });
        match answered(self.api.create(&params, &object_of(row))).await {
            Ok(object) => self.note(row.address, &object),
            Err(Refusal::Status(409, _)) => match answered(self.api.get(&name)).await {
                Ok(found) => self.found(row, &found).await,
                Err(refusal) => Written::Failed(refusal.on(&name)),
            },
            Err(refusal) => Written::Failed(refusal.on(&name)),
        }
    }

    /// The address has an object already: an earlier write of the same, or somebody else's.
    async fn found(&self, row: &LedgerRow, found: &VirtualIpResource) -> Written {
        let there = seen_of(found.metadata.name.as_deref().and_then(address_of), found, Ok(&found.spec));
        match there {
            Some(Seen { row: Ok(there), .. }) if there.slot == row.slot => match there == *row {
                true => self.note(row.address, found),
                false => self.apply(row).await,
            },
            Some(there) => Written::Taken(Box::new(there)),
            None => Written::Failed(format!("the VirtualIp {} is there and cannot be read", row.address)),
        }
    }

    async fn apply(&self, row: &LedgerRow) -> Written {
        let name = name_of(row.address);
        let params = PatchParams::apply(MANAGER).force();
        match answered(self.api.patch(&name, &params, &Patch::Apply(&object_of(row)))).await {
            Ok(object) => self.note(row.address, &object),
            Err(refusal) => Written::Failed(refusal.on(&name)),
        }
    }

    async fn delete(&self, address: IpAddr) -> Written {
        let name = name_of(address);
        let uid =
            self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&address).map(|known| known.uid.clone());
        let preconditions = uid.clone().map(|uid| Preconditions { uid: Some(uid), ..Preconditions::default() });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        let answer = answered(self.api.delete(&name, &params)).await;
        if let (Ok(_), Some(uid)) = (&answer, uid) {
            self.deleted.lock().unwrap_or_else(PoisonError::into_inner).insert(uid);
        }
        match answer {
            // One of another uid is somebody else's.
            Ok(_) | Err(Refusal::Status(404 | 409, _)) => {
                self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
                Written::Done
            }
            Err(refusal) => Written::Failed(refusal.on(&name)),
        }
    }

    fn note(&self, address: IpAddr, object: &VirtualIpResource) -> Written {
        self.remember(address, &object.uid().unwrap_or_default(), object.metadata.generation.unwrap_or_default());
        Written::Done
    }

    /// Remembers the latest form of an object that is ours.
    pub fn remember(&self, address: IpAddr, uid: &str, generation: i64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(address).or_insert_with(|| Known { uid: uid.to_owned(), generation });
        if known.uid != uid || known.generation < generation {
            *known = Known { uid: uid.to_owned(), generation };
        }
    }
}

/// Why a write was not done.
enum Refusal {
    Status(u16, String),
    Other(String),
}

impl Refusal {
    fn on(self, name: &str) -> String {
        let (Refusal::Status(_, why) | Refusal::Other(why)) = self;
        format!("the VirtualIp {name} cannot be written: {why}")
    }
}

async fn answered<T: Debug>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(Refusal::Status(status.code, status.message.clone())),
        Ok(Err(error)) => Err(Refusal::Other(super::connect::explain(&error).message)),
        Err(_) => Err(Refusal::Other(format!("the API server has not answered within {} s", ANSWER.as_secs()))),
    }
}

/// The object's name of an address: as it is, or for IPv6, whose colons no name may have, all eight groups with dashes.
pub fn name_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments().map(|group| format!("{group:04x}")).join("-"),
    }
}

/// The address of an object's name.
pub fn address_of(name: &str) -> Option<IpAddr> {
    let address = if name.contains('-') { name.replace('-', ":").parse() } else { name.parse() };
    address.ok().filter(|address| name_of(*address) == name)
}

fn object_of(row: &LedgerRow) -> VirtualIpResource {
    let spec = VirtualIpSpec {
        address: row.address,
        pool: row.pool.clone(),
        access: row.access.clone(),
        service: row.service.clone(),
        pod: row.pod.clone(),
        node: row.node.clone(),
        phase: row.phase.clone(),
        since: row.since,
        listening: row.ports.clone(),
        ttl_seconds: row.ttl_seconds,
        allocated_at: row.allocated_at,
        changed_at: row.changed_at,
    };
    VirtualIpResource::new(&name_of(row.address), spec)
}

/// The row that a spec says.
///
/// # Errors
/// For people: the field, and what is wrong with it.
pub fn row_of(spec: &VirtualIpSpec) -> Result<LedgerRow, String> {
    let name =
        |field: &str, text: &str| text.parse::<NamespacedName>().map_err(|error| format!("spec.{field}: {error}"));
    let slot = Slot {
        access: name("access", &spec.access)?,
        service: name("service", &spec.service)?,
        pod: spec.pod.as_deref().map(Into::into),
        family: Family::of(spec.address),
        node: spec.node.as_deref().map(NodeId::from),
    };
    Ok(LedgerRow {
        address: spec.address,
        slot: slot.to_string(),
        pool: spec.pool.clone(),
        access: spec.access.clone(),
        service: spec.service.clone(),
        pod: spec.pod.clone(),
        node: spec.node.clone(),
        phase: spec.phase.clone(),
        since: spec.since,
        ports: spec.listening.clone(),
        ttl_seconds: spec.ttl_seconds,
        assigned_by: spec.node.clone().unwrap_or_else(|| "ControlPlane".to_owned()),
        allocated_at: spec.allocated_at,
        changed_at: spec.changed_at,
    })
}

fn seen(object: &DeserializeGuard<VirtualIpResource>) -> Option<Seen> {
    let spec = object.0.as_ref().map(|object| &object.spec).map_err(|invalid| invalid.error.to_string());
    seen_of(address_of(&object.name_any()), object, spec)
}

/// Names that are no address are of objects from before the definition's rules, or of none of ours; they hold nothing.
fn seen_of(address: Option<IpAddr>, object: &impl Resource, spec: Result<&VirtualIpSpec, String>) -> Option<Seen> {
    let address = address?;
    let row = spec.and_then(row_of).and_then(|row| match row.address == address {
        true => Ok(row),
        false => Err(format!("spec.address: {} is not what the object's name says", row.address)),
    });
    let meta = object.meta();
    let uid = meta.uid.clone().unwrap_or_default();
    Some(Seen { address, uid, generation: meta.generation.unwrap_or_default(), row })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_addresses() {
        for (address, name) in [("240.11.0.7", "240.11.0.7"), ("fd00:11::7", "fd00-0011-0000-0000-0000-0000-0000-0007")]
        {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(name_of(address), name);
            assert_eq!(address_of(name), Some(address));
        }
        for other in ["", "x", "fd00--7", "240.11.0", "240-11-0-7", "FD00-0011-0000-0000-0000-0000-0000-0007"] {
            assert_eq!(address_of(other), None, "{other}");
        }
    }

    #[test]
    fn rows_lead_back_to_themselves() {
        let slot = Slot {
            access: NamespacedName::new("shop", "check.out"),
            service: NamespacedName::new("shop", "checkout"),
            pod: Some("web-0.east".into()),
            family: Family::V4,
            node: Some("gw|1".into()),
        };
        let row = LedgerRow {
            address: "240.11.0.7".parse().unwrap(),
            slot: slot.to_string(),
            pool: "edge".to_owned(),
            access: "shop/check.out".to_owned(),
            service: "shop/checkout".to_owned(),
            pod: Some("web-0.east".to_owned()),
            node: Some("gw|1".to_owned()),
            phase: "Draining".to_owned(),
            since: Some(7),
            ports: serde_json::json!({"ports": []}),
            ttl_seconds: 5,
            assigned_by: "gw|1".to_owned(),
            allocated_at: 1,
            changed_at: 2,
        };
        assert_eq!(row_of(&object_of(&row).spec), Ok(row));
    }
}
