//! What is known of one cluster, what it shall have, and what is to be written next. Without I/O: it is given the
//! time, but for what statuses say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{Timestamp, Unit};
use kube::core::ApiResource;
use serde_json::Value;

use super::Wanted;
use super::object::{Id, Kind, Part};
use super::seen::{News, Seen};
use crate::kube::connect::Refused;
use crate::kube::queue::Queue;

/// How often an object of somebody else that stands in the way is looked at again.
const IN_THE_WAY: Duration = Duration::from_secs(30);

/// What is to be done with one object.
pub(super) enum Step {
    Create(Arc<Part>),
    /// The object of this version is another one from now on.
    Replace(Arc<Part>, u64),
    /// It has another status: this one.
    Status(Arc<Part>, Value),
    Delete(String),
}

/// What became of it.
pub(super) enum Done {
    There(Box<Seen>, Written),
    /// It is there, and was not written.
    Found(Box<Seen>),
    Gone,
    /// It is not what it was thought to be: the watch will tell.
    Outdated,
    /// Somebody else's object has the name.
    InTheWay,
    /// It has to be made anew: a field that cannot be changed differs.
    Anew,
    Failed(Refused),
}

/// What was written: an API server that leaves fields out is not asked again and again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Written {
    pub form: u64,
    /// Where it was the status.
    pub status: Option<Value>,
}

/// What is known and wanted.
struct Known {
    wanted: BTreeMap<Id, Arc<Part>>,
    is_complete: bool,
    there: BTreeMap<Id, Seen>,
    /// What was written last of an object, and as which version.
    written: HashMap<Id, (u64, Written)>,
    served: BTreeMap<Kind, ApiResource>,
    listed: BTreeSet<Kind>,
    /// By name, whether it asks for Services.
    namespaces: BTreeMap<String, bool>,
    are_namespaces_known: bool,
    /// What is less may be taken away.
    is_settled: bool,
}

/// The machine of one cluster.
pub(super) struct Cluster {
    known: Known,
    /// Of the kinds that are being listed: what was not told yet.
    unlisted: HashMap<Kind, BTreeSet<Id>>,
    /// The same of namespaces.
    unlisted_namespaces: BTreeSet<String>,
    failing: BTreeMap<Option<Kind>, Refused>,
    troubles: BTreeMap<Id, Refused>,
    queue: Queue<Id>,
    was_done: bool,
}

impl Known {
    /// What of an object is wanted, in the namespaces that there are.
    fn part(&self, id: &Id) -> Option<&Arc<Part>> {
        let asks = self.namespaces.get(&*id.name.namespace)?;
        self.wanted.get(id).filter(|part| *asks || !part.is_asked_for)
    }

    /// What is to be done with an object next.
    fn step(&self, id: &Id) -> Option<(ApiResource, Step)> {
        let resource = self.served.get(&id.kind).filter(|_| self.listed.contains(&id.kind))?;
        Some((resource.clone(), self.step_as_served(id)?))
    }

    fn step_as_served(&self, id: &Id) -> Option<Step> {
        match (self.part(id), self.there.get(id)) {
            // What users make is theirs, and what became of it is said where it is.
            (Some(_), None) | (None, Some(_)) if !id.kind.is_made() => None,
            (Some(part), None) => Some(Step::Create(part.clone())),
            (Some(part), Some(seen)) => {
                let written = self.written.get(id).filter(|(version, _)| *version == seen.version);
                let written = written.map(|(_, written)| written);
                let is_held = part.is_bare && !self.is_settled;
                if id.kind.is_made() && !seen.has_body(part) && written.is_none_or(|written| written.form != part.form)
                {
                    // Of pods only the status says what is proved.
                    let waits = is_held && id.kind != Kind::EndpointSnapshot;
                    return (!waits).then(|| Step::Replace(part.clone(), seen.version));
                }
                let is_said = written.is_some_and(|written| written.status.as_ref() == Some(&part.status));
                (!is_held && !seen.has_status(part) && !is_said).then(|| {
                    let now = Timestamp::now().round(Unit::Second).unwrap_or_default();
                    Step::Status(part.clone(), seen.status_to_write(part, &now.to_string()))
                })
            }
            (None, Some(seen)) if self.is_complete && self.is_settled => Some(Step::Delete(seen.uid.clone())),
            (None, _) => None,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Id> {
        self.wanted.keys().chain(self.there.keys())
    }
}

impl Cluster {
    /// Nothing is known yet.
    pub fn new() -> Self {
        let known = Known {
            wanted: BTreeMap::new(),
            is_complete: false,
            there: BTreeMap::new(),
            written: HashMap::new(),
            served: BTreeMap::new(),
            listed: BTreeSet::new(),
            namespaces: BTreeMap::new(),
            are_namespaces_known: false,
            is_settled: false,
        };
        Self {
            known,
            unlisted: HashMap::new(),
            unlisted_namespaces: BTreeSet::new(),
            failing: BTreeMap::new(),
            troubles: BTreeMap::new(),
            queue: Queue::new(),
            was_done: false,
        }
    }

    /// Takes in what the cluster shall have.
    pub fn take(&mut self, taken: Wanted) {
        for (id, part) in taken.changes {
            match part {
                Some(part) => drop(self.known.wanted.insert(id.clone(), part)),
                None => drop(self.known.wanted.remove(&id)),
            }
            self.queue.add(id);
        }
        let known = (self.known.is_complete, self.known.is_settled);
        self.known.is_complete |= taken.complete;
        self.known.is_settled |= taken.settled;
        if known != (self.known.is_complete, self.known.is_settled) {
            // What nobody spoke of, or may not have been taken away, is looked at too.
            self.queue.extend(self.known.all().cloned());
        }
    }

    /// Takes in what a watch tells.
    pub fn hear(&mut self, news: News) {
        match news {
            News::Served(kind, resource) => {
                self.failing.remove(&Some(kind));
                self.known.served.insert(kind, resource);
            }
            News::Begin(kind) => {
                let there = self.known.there.keys().filter(|id| id.kind == kind).cloned().collect();
                self.unlisted.insert(kind, there);
            }
            News::There(id, seen) => {
                self.failing.remove(&Some(id.kind));
                if let Some(unlisted) = self.unlisted.get_mut(&id.kind) {
                    unlisted.remove(&id);
                }
                self.see(id, *seen);
            }
            News::Gone(id) => self.gone(id),
            News::Done(kind) => {
                self.failing.remove(&Some(kind));
                let gone = self.unlisted.remove(&kind).unwrap_or_default();
                gone.into_iter().for_each(|id| self.gone(id));
                if self.known.listed.insert(kind) {
                    self.queue.extend(self.known.all().filter(|id| id.kind == kind).cloned());
                }
            }
            News::Failing(kind, why) => {
                if matches!(why.reason, "KindMissing" | "Forbidden")
                    && let Some(kind) = kind
                {
                    // What was there went with it.
                    self.known.listed.remove(&kind);
                    self.known.there.retain(|id, _| id.kind != kind);
                }
                self.failing.insert(kind, why);
            }
            News::NamespacesBegin => {
                self.unlisted_namespaces = self.known.namespaces.keys().cloned().collect();
            }
            News::Namespace(name, asks) => {
                self.unlisted_namespaces.remove(&name);
                let before = match asks {
                    Some(asks) => self.known.namespaces.insert(name.clone(), asks),
                    None => self.known.namespaces.remove(&name),
                };
                if before != asks && self.known.are_namespaces_known {
                    self.queue.extend(self.known.wanted.keys().filter(|id| *id.name.namespace == *name).cloned());
                }
            }
            News::NamespacesDone => {
                self.failing.remove(&None);
                for name in std::mem::take(&mut self.unlisted_namespaces) {
                    self.known.namespaces.remove(&name);
                }
                if !std::mem::replace(&mut self.known.are_namespaces_known, true) {
                    self.queue.extend(self.known.all().cloned());
                }
            }
        }
    }

    fn see(&mut self, id: Id, seen: Seen) {
        // A watch tells of what was written after the answer to the write.
        let is_known =
            |known: &Seen| known.uid == seen.uid && known.version >= seen.version && known.is_ours == seen.is_ours;
        if self.known.there.get(&id).is_some_and(is_known) {
            return;
        }
        self.known.there.insert(id.clone(), seen);
        self.queue.add(id);
    }

    fn gone(&mut self, id: Id) {
        self.known.written.remove(&id);
        self.troubles.remove(&id);
        if self.known.there.remove(&id).is_some() {
            self.queue.add(id);
        }
    }

    /// Begins what can be begun; says when there will be more.
    pub fn begin(&mut self, now: Instant) -> (Vec<(Id, ApiResource, Step)>, Option<Duration>) {
        if !self.known.are_namespaces_known || !(self.known.is_complete || self.known.is_settled) {
            return (Vec::new(), None);
        }
        let known = &self.known;
        let (begun, pause) = self.queue.begin(now, |id| known.step(id));
        let begun = begun.into_iter().map(|(id, (resource, step))| (id, resource, step)).collect();
        (begun, pause)
    }

    /// Takes in what became of a step.
    pub fn ended(&mut self, id: Id, done: Done, now: Instant) {
        if !matches!(done, Done::Failed(_) | Done::InTheWay) {
            self.troubles.remove(&id);
        }
        match done {
            Done::There(seen, written) => {
                self.queue.written(&id, now);
                self.known.written.insert(id.clone(), (seen.version, written));
                self.see(id, *seen);
            }
            Done::Found(seen) => {
                self.queue.gone(&id);
                self.see(id.clone(), *seen);
                self.queue.add(id);
            }
            Done::Gone => {
                self.queue.gone(&id);
                self.gone(id.clone());
                self.queue.add(id);
            }
            Done::Anew => {
                self.queue.written(&id, now);
                self.gone(id.clone());
                self.queue.add(id);
            }
            // The watch tells what it is; without it, another look is taken.
            Done::Outdated => drop(self.queue.failed(id, now)),
            Done::InTheWay => {
                let message = format!("{id} is there, and Causeway did not make it");
                let remedy = "delete or rename it, or take the label causeway.dev/sync-services off its namespace";
                if self.troubles.insert(id.clone(), Refused::new("InTheWay", message, remedy)).is_none() {
                    tracing::warn!(%id, remedy, "somebody else's object has the name of one that comes down; it is left alone");
                }
                self.queue.postpone(id, now + IN_THE_WAY);
            }
            Done::Failed(why) => {
                // Of a cluster that cannot be reached the manager tells.
                if self.queue.failed(id.clone(), now) == 0 && why.reason != "Unreachable" {
                    tracing::warn!(%id, "an object that comes down cannot be written: {why}");
                }
                self.troubles.insert(id, why);
            }
        }
    }

    /// Objects that the cluster shall have, in namespaces that it has.
    pub fn wanted(&self) -> usize {
        self.known.wanted.keys().filter(|id| self.known.part(id).is_some()).count()
    }

    /// What stands in the way, one reason of all.
    pub fn trouble(&self) -> Option<&Refused> {
        let is_needed = |kind: &Option<Kind>| {
            let of_kind = |id: &&Id| kind.is_none_or(|kind| id.kind == kind);
            self.known.wanted.keys().filter(of_kind).any(|id| kind.is_none() || self.known.part(id).is_some())
        };
        // Not every cluster has the MCS API.
        let is_optional = |kind: &Option<Kind>| kind.is_some_and(|kind| kind.is_optional());
        let counts = |(kind, why): &(&Option<Kind>, &Refused)| {
            is_needed(kind) && !(is_optional(kind) && why.reason == "KindMissing")
        };
        let failing = self.failing.iter().find(counts).map(|(_, why)| why);
        failing.or_else(|| self.troubles.values().next())
    }

    /// Whether everything that is wanted is there, or was, and nothing stands in the way of what has changed since.
    pub fn is_done(&mut self) -> bool {
        let is_there = self.known.is_complete && self.known.are_namespaces_known && self.queue.is_idle();
        self.was_done = (self.was_done || is_there) && self.trouble().is_none();
        self.was_done
    }
}
