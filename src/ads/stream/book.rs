//! What is known of one type on one stream: what the client asked for, has, refused, is being sent
//! and is still to be told. Both protocols keep the same book; they differ in what a response holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::Report;
use super::holdings::Holdings;
use crate::ads::nack::{blamed, cut};
use crate::ads::subscription::{Subscription, SubscriptionChange};
use crate::ads::{Millis, Protocol, Versioned};
use crate::snapshot::{Changes, Resource, ResourceType, SetVersion, XdsSnapshot};

/// Refused versions of one name that are remembered: more than a retry with growing pauses makes
/// while a stream lives; the oldest is forgotten first.
const MAX_REFUSED_VERSIONS: usize = 32;

/// Names that the client asked for and that cannot be subscribed to, kept for people to see.
const MAX_NOT_UNDERSTOOD: usize = 16;

/// Of those, the most that are answered at a time.
const MAX_NOT_UNDERSTOOD_DUE: usize = 1024;

/// Names that were sent last, kept for people to see.
const MAX_LATEST: usize = 16;

/// Why a name is looked at; the later ones include the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// It may differ from what the client has.
    Changed,
    /// It is sent even if the client has it (rules 3 and 5).
    Forced,
    /// The client asked: it is answered even if it does not exist (rules 8, 9, 11).
    Asked,
}

/// Whether what is gone may be taken from the client now (rule 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removals {
    /// Yes.
    Now,
    /// Something that the client still has may refer to it.
    Held,
}

/// A version that the client refused.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) version: Arc<str>,
    pub(super) detail: String,
    pub(super) at: Millis,
}

/// What the next response of a type holds.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) resources: Vec<Arc<Resource>>,
    pub(super) removed: Vec<Arc<str>>,
    /// Of complete lists: the version of exactly these resources.
    pub(super) list_version: Option<SetVersion>,
    /// With this the client has exactly what it wants of the snapshot, so that its ACK is that and nothing needs to be
    /// noted for each resource. Nearly all batches are such.
    plain: Option<Arc<XdsSnapshot>>,
}

/// A response that was not answered yet.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) nonce: String,
    pub(super) sent_at: Millis,
    batch: Batch,
    /// Those of the batch that the client was not known to have.
    unproved: Vec<Arc<Resource>>,
    /// Of these, those in a version that it never accepted: the ones that a NACK may be about.
    suspicious: Vec<Arc<Resource>>,
}

impl InFlight {
    /// Whether the response adds or changes anything, as far as is known.
    pub(super) fn has_news(&self) -> bool {
        !self.unproved().is_empty()
    }

    fn unproved(&self) -> &[Arc<Resource>] {
        if self.batch.plain.is_some() { &self.batch.resources } else { &self.unproved }
    }

    /// The version of each resource of which nothing is noted elsewhere.
    pub(super) fn plainly(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        let plain = self.batch.plain.iter().flat_map(|_| &self.batch.resources);
        plain.map(|resource| (resource.name(), resource.version()))
    }
}

/// What an answer proved.
pub(super) struct Answered {
    pub(super) report: Report,
    /// The resources that were refused.
    pub(super) refused: Vec<Arc<Resource>>,
}

/// The book of one type on one stream.
pub(super) struct Book {
    pub(super) ty: ResourceType,
    protocol: Protocol,
    pub(super) sub: Subscription,
    pub(super) known: Holdings,
    pub(super) refused: HashMap<Arc<str>, Vec<Refused>>,
    pending: BTreeMap<Arc<str>, Why>,
    /// The first name that did not fit into the last response. The next one goes on from there: where more changes than
    /// fits, the same names would come first again and again.
    resume: Option<Arc<str>>,
    /// After a NACK that blames nobody: groups of the refused batch, offered one at a time until the
    /// culprit is alone.
    suspects: VecDeque<BTreeSet<Arc<str>>>,
    /// A response is owed even if it holds nothing new.
    answer_due: bool,
    pub(super) in_flight: Option<InFlight>,
    pub(super) last_nonce: String,
    /// The version of the complete list that the client is proved to have.
    list_version: Option<SetVersion>,
    /// A NACK left open which list the client has; holds until an ACK.
    list_uncertain: bool,
    pub(super) not_understood: BTreeSet<Arc<str>>,
    not_understood_due: BTreeSet<Arc<str>>,
    pub(super) counts: super::Counts,
    pub(super) last_nack: Option<(Millis, String)>,
    /// Whether anybody wants to know what an ACK proves.
    pub(super) tells_acks: bool,
    /// The last names that were sent, and when.
    pub(super) latest: VecDeque<(Arc<str>, Millis)>,
}

impl Book {
    pub(super) fn new(ty: ResourceType, protocol: Protocol) -> Self {
        Self {
            ty,
            protocol,
            sub: Subscription::default(),
            known: Holdings::new(ty, protocol == Protocol::Sotw && ty.is_complete_list()),
            refused: HashMap::new(),
            pending: BTreeMap::new(),
            resume: None,
            suspects: VecDeque::new(),
            answer_due: false,
            in_flight: None,
            last_nonce: String::new(),
            list_version: None,
            list_uncertain: false,
            not_understood: BTreeSet::new(),
            not_understood_due: BTreeSet::new(),
            counts: super::Counts::default(),
            last_nack: None,
            tells_acks: true,
            latest: VecDeque::new(),
        }
    }

    /// Whether responses are complete lists (rule 10).
    fn is_list(&self) -> bool {
        self.protocol == Protocol::Sotw && self.ty.is_complete_list()
    }

    /// Whether anything that is in the snapshot waits to be sent, and not only removals. O(pending).
    pub(super) fn has_pending_of(&self, snapshot: &XdsSnapshot) -> bool {
        let others = self.answer_due || !self.suspects.is_empty() || !self.not_understood_due.is_empty();
        others || self.pending.keys().any(|name| snapshot.get(self.ty, name).is_some())
    }

    /// Whether there is something left to look at.
    pub(super) fn has_pending(&self) -> bool {
        self.answer_due || !self.pending.is_empty() || !self.suspects.is_empty() || !self.not_understood_due.is_empty()
    }

    /// Whether nothing is left to look at and nothing waits for an answer.
    pub(super) fn is_settled(&self) -> bool {
        self.in_flight.is_none() && !self.has_pending()
    }

    /// How many names are left to look at.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    fn pend(&mut self, name: &Arc<str>, why: Why) {
        let entry = self.pending.entry(name.clone()).or_insert(why);
        *entry = (*entry).max(why);
    }

    /// A response is owed.
    pub(super) fn owe_answer(&mut self) {
        self.answer_due = true;
    }

    /// Takes over what a first request says that the client has (rule 12).
    pub(super) fn has_initially(&mut self, name: &str, version: &str) {
        if self.sub.covers(name) {
            let name: Arc<str> = Arc::from(name);
            self.known.has_initially(name.clone(), version);
            self.pending.insert(name, Why::Changed);
        }
    }

    /// What the client has without ever having been sent it. In whatever version: one that is not the snapshot's may
    /// become it before anything is sent, and then nothing is.
    pub(super) fn proved_initially(&self) -> Option<Report> {
        if !self.tells_acks {
            return None;
        }
        let accepted = |name: Arc<str>| {
            let version = self.known.accepted(&self.sub, &name)?.clone();
            Some((name, version))
        };
        let resources: Vec<Versioned> = self.known.names(&self.sub).into_iter().filter_map(accepted).collect();
        (!resources.is_empty()).then(|| Report::Acked { ty: self.ty, resources, removed: Vec::new() })
    }

    /// Follows a change of the subscription. What the client no longer wants it no longer has.
    pub(super) fn resubscribed(
        &mut self,
        change: SubscriptionChange,
        snapshot: Option<&XdsSnapshot>,
    ) -> Option<Report> {
        if change != SubscriptionChange::default() {
            self.note_each();
        }
        let mut dropped: BTreeSet<Arc<str>> = change.dropped.into_iter().collect();
        if change.wildcard_ended {
            let all = self.known.all_names().into_iter().chain(self.pending.keys().cloned());
            dropped.extend(all.filter(|name| !self.sub.covers(name)));
        }
        let mut removed: Vec<Arc<str>> = Vec::new();
        for name in dropped {
            self.pending.remove(&name);
            removed.extend(self.known.unsubscribed(&name).then_some(name));
        }
        self.known.subscribed(&change.added);
        if change.wildcard_began {
            self.known.wildcard_began(|name| change.named_before.contains(name));
        }
        if !change.asked.is_empty() && self.protocol == Protocol::Sotw {
            self.answer_due = true;
        }
        for name in &change.asked {
            self.pend(name, Why::Asked);
        }
        if (change.wildcard_began || change.first)
            && let Some(snapshot) = snapshot
        {
            self.compare_all(snapshot);
        }
        let room = MAX_NOT_UNDERSTOOD.saturating_sub(self.not_understood.len());
        self.not_understood.extend(change.not_understood.iter().take(room).cloned());
        if self.protocol == Protocol::Delta {
            let room = MAX_NOT_UNDERSTOOD_DUE.saturating_sub(self.not_understood_due.len());
            self.not_understood_due.extend(change.not_understood.into_iter().take(room));
        }
        (!removed.is_empty()).then(|| Report::Acked { ty: self.ty, resources: Vec::new(), removed })
    }

    /// Looks at every name that is wanted or known.
    pub(super) fn compare_all(&mut self, snapshot: &XdsSnapshot) {
        self.note_each();
        let mut names: Vec<Arc<str>> = self.known.names(&self.sub);
        names.extend(self.sub.names().iter().cloned());
        if self.sub.is_wildcard() {
            names.extend(snapshot.resources(self.ty).map(|r| r.name().clone()));
        }
        for name in names {
            self.pend(&name, Why::Changed);
        }
    }

    /// Looks at what changed, as far as it is wanted.
    pub(super) fn snapshot_changed(&mut self, changes: Changes, snapshot: &XdsSnapshot) {
        match changes {
            Changes::Everything => self.compare_all(snapshot),
            Changes::Exact(names) => {
                let wanted = names.iter().filter(|name| self.sub.covers(name)).map(|name| (name.clone(), Why::Changed));
                if self.pending.is_empty() {
                    self.pending = wanted.collect();
                    return;
                }
                for (name, why) in wanted {
                    self.pending.entry(name).or_insert(why);
                }
            }
        }
    }

    /// Sends a resource once more (rule 5).
    pub(super) fn force(&mut self, name: &Arc<str>) {
        if self.sub.covers(name) {
            self.pend(name, Why::Forced);
        }
    }

    pub(super) fn is_refused(&self, resource: &Resource) -> bool {
        let versions = self.refused.get(resource.name());
        versions.is_some_and(|versions| versions.iter().any(|r| r.version == *resource.version()))
    }

    /// Whether the client accepted any version of it.
    pub(super) fn has_accepted(&self, name: &str) -> bool {
        self.known.accepted(&self.sub, name).is_some()
    }

    /// Decides on the next response, if one is due. Never while one is in flight (rule 21).
    pub(super) fn plan(&mut self, snapshot: &Arc<XdsSnapshot>, removals: Removals, max_bytes: usize) -> Option<Batch> {
        if self.in_flight.is_some() {
            return None;
        }
        while self.has_pending() {
            let scope = self.suspects.pop_front();
            let batch = match self.is_list() {
                true => self.list(snapshot, removals, scope.as_ref()),
                false => {
                    let plain = if scope.is_none() { self.plain(snapshot, removals, max_bytes) } else { None };
                    plain.unwrap_or_else(|| self.batch(snapshot, removals, max_bytes, scope.as_ref()))
                }
            };
            let news = match batch.list_version {
                Some(version) => self.list_version != Some(version),
                None => !batch.resources.is_empty() || !batch.removed.is_empty(),
            };
            if news || (self.answer_due && scope.is_none()) {
                self.answer_due = false;
                return Some(batch);
            }
            // A group of suspects may have vanished meanwhile; the next one is due then.
            if scope.is_none() {
                break;
            }
        }
        if self.sub.begun() && !self.has_pending() {
            self.known.rebase(&self.sub, snapshot);
        }
        None
    }

    /// All that is pending, where it is nothing but what changed since the client had exactly what it wants, and fits into
    /// one response.
    fn plain(&mut self, snapshot: &Arc<XdsSnapshot>, removals: Removals, max_bytes: usize) -> Option<Batch> {
        let base = self.known.exactly()?;
        let is_more = !self.refused.is_empty() || !self.suspects.is_empty() || !self.not_understood_due.is_empty();
        if is_more || self.pending.is_empty() || self.pending.values().any(|why| *why != Why::Changed) {
            return None;
        }
        let mut batch = Batch { plain: Some(snapshot.clone()), ..Batch::default() };
        batch.resources.reserve_exact(self.pending.len());
        let mut bytes = 0;
        for name in self.pending.keys() {
            match (base.get(self.ty, name), snapshot.get(self.ty, name)) {
                (None, None) => {}
                (Some(before), Some(now)) if before.version() == now.version() => {}
                (_, Some(now)) => {
                    bytes += name.len() + now.body().len();
                    batch.resources.push(now.clone());
                }
                // In SotW nothing says that an assignment or a route is gone.
                (Some(_), None) if removals == Removals::Held || self.protocol == Protocol::Sotw => return None,
                (Some(_), None) => {
                    bytes += name.len();
                    batch.removed.push(name.clone());
                }
            }
            if bytes > max_bytes {
                return None;
            }
        }
        self.pending = BTreeMap::new();
        Some(batch)
    }

    /// Notes for each resource in flight that it is, where that is not to be told from the whole any longer.
    fn note_each(&mut self) {
        let Some(sent) = &mut self.in_flight else { return };
        if sent.batch.plain.take().is_none() {
            return;
        }
        for resource in &sent.batch.resources {
            let offered = Some(self.known.held(resource));
            self.known.entry(&self.sub, resource.name()).offered = offered;
        }
        sent.unproved.clone_from(&sent.batch.resources);
        sent.suspicious.clone_from(&sent.batch.resources);
    }

    /// Some of what is pending, split by size (rule 20).
    fn batch(
        &mut self,
        snapshot: &XdsSnapshot,
        removals: Removals,
        max_bytes: usize,
        scope: Option<&BTreeSet<Arc<str>>>,
    ) -> Batch {
        let removed: Vec<Arc<str>> = std::mem::take(&mut self.not_understood_due).into_iter().collect();
        let mut bytes: usize = removed.iter().map(|name| name.len()).sum();
        let mut batch = Batch { removed, ..Batch::default() };
        let mut todo = self.resume.take().map_or_else(BTreeMap::new, |name| self.pending.split_off(&name));
        let mut then = std::mem::take(&mut self.pending);
        let mut later = BTreeMap::new();
        while let Some((name, why)) = todo.pop_first().or_else(|| then.pop_first()) {
            if scope.is_some_and(|scope| !scope.contains(&name)) {
                later.insert(name, why);
                continue;
            }
            let resource = snapshot.get(self.ty, &name);
            let size = name.len() + resource.map_or(0, |r| r.body().len());
            let is_full = bytes + size > max_bytes && bytes > 0;
            match (resource, self.is_due(&name, resource, why)) {
                (None, true) if removals == Removals::Held && why != Why::Asked => {
                    later.insert(name, why);
                }
                (_, true) if is_full => {
                    self.resume = Some(name.clone());
                    later.insert(name, why);
                    break;
                }
                (Some(resource), true) => {
                    bytes += size;
                    batch.resources.push(resource.clone());
                }
                (None, true) => {
                    bytes += size;
                    batch.removed.push(name);
                }
                // In SotW nothing says that an assignment or a route is gone: the client has it until it wants it
                // no longer.
                (_, false) => {}
            }
        }
        later.append(&mut todo);
        later.append(&mut then);
        self.pending = later;
        batch
    }

    fn is_due(&self, name: &Arc<str>, resource: Option<&Arc<Resource>>, why: Why) -> bool {
        match resource {
            _ if !self.sub.covers(name) => false,
            Some(resource) if self.is_refused(resource) => false,
            Some(resource) => why >= Why::Forced || !self.known.is_proved(&self.sub, resource),
            None => self.protocol == Protocol::Delta && (why == Why::Asked || self.known.contains(&self.sub, name)),
        }
    }

    /// All that the client should have. In place of what it refused stands what it accepted before, so
    /// that leaving it out does not delete what works (rules 2 and 10).
    fn list(&mut self, snapshot: &XdsSnapshot, removals: Removals, scope: Option<&BTreeSet<Arc<str>>>) -> Batch {
        let known = self.known.names(&self.sub);
        let mut list: BTreeMap<&Arc<str>, &Arc<Resource>> = BTreeMap::new();
        let by_name = self.sub.names().iter().filter_map(|name| snapshot.get(self.ty, name));
        let all = self.sub.is_wildcard().then(|| snapshot.resources(self.ty)).into_iter().flatten();
        let waiting = |name: &Arc<str>| self.suspects.iter().any(|group| group.contains(name));
        for resource in by_name.chain(all) {
            let name = resource.name();
            let in_scope = scope.is_some_and(|scope| scope.contains(name));
            let withheld = self.is_refused(resource) || (!in_scope && waiting(name));
            let picked = if withheld { self.last_accepted(name) } else { Some(resource) };
            list.extend(picked.map(|resource| (name, resource)));
        }
        let mut held = BTreeMap::new();
        if removals == Removals::Held {
            // What it never accepted leads nowhere yet, so only what it accepted is held.
            for name in known.iter().filter(|name| snapshot.get(self.ty, name).is_none()) {
                if let Some(resource) = self.last_accepted(name) {
                    list.insert(name, resource);
                    held.insert(name.clone(), Why::Changed);
                }
            }
        }
        let removed = known.iter().filter(|name| !list.contains_key(name)).cloned().collect();
        let resources: Vec<Arc<Resource>> = list.into_values().cloned().collect();
        let list_version = resources.iter().fold(SetVersion::default(), |version, r| version.with(r));
        self.pending = held;
        Batch { resources, removed, list_version: Some(list_version), plain: None }
    }

    fn last_accepted(&self, name: &Arc<str>) -> Option<&Arc<Resource>> {
        let resource = self.known.accepted_resource(&self.sub, name)?;
        (!self.is_refused(resource)).then_some(resource)
    }

    /// Notes that a response is on its way. Returns those of its resources that the client takes as a
    /// change; one that is only offered again is none.
    pub(super) fn sent(&mut self, batch: Batch, nonce: String, now: Millis) -> Vec<Arc<Resource>> {
        if batch.plain.is_some() {
            // Whoever has the client's clusters in mind is told of them; nobody asks of the others.
            let changed = if self.ty == ResourceType::Cluster { batch.resources.clone() } else { Vec::new() };
            self.begin_flight(batch, nonce, now, Vec::new(), Vec::new());
            return changed;
        }
        let is_list = self.is_list();
        let mut changed = Vec::new();
        for name in batch.removed.iter().filter(|_| is_list) {
            // What a list leaves out is new to the client when a later one has it again.
            self.known.left_out(name);
        }
        let (mut unproved, mut suspicious) = (Vec::new(), Vec::new());
        for resource in &batch.resources {
            if self.known.is_proved(&self.sub, resource) {
                continue;
            }
            let held = self.known.held(resource);
            let known = self.known.entry(&self.sub, resource.name());
            if known.accepted.as_ref().is_none_or(|held| held.version != *resource.version()) {
                suspicious.push(resource.clone());
            }
            if known.offered.as_ref().is_none_or(|held| held.version != *resource.version()) {
                changed.push(resource.clone());
            }
            known.offered = Some(held);
            unproved.push(resource.clone());
        }
        self.begin_flight(batch, nonce, now, unproved, suspicious);
        changed
    }

    fn begin_flight(
        &mut self,
        batch: Batch,
        nonce: String,
        now: Millis,
        unproved: Vec<Arc<Resource>>,
        suspicious: Vec<Arc<Resource>>,
    ) {
        self.note(&batch, now);
        self.counts.responses += 1;
        self.counts.resources += batch.resources.len() as u64;
        self.last_nonce.clone_from(&nonce);
        self.in_flight = Some(InFlight { nonce, sent_at: now, batch, unproved, suspicious });
    }

    /// Those of the response in flight that the client has never had in any version.
    pub(super) fn newcomers(&self) -> impl Iterator<Item = &Arc<Resource>> {
        let unproved = self.in_flight.iter().flat_map(InFlight::unproved);
        unproved.filter(|resource| !self.has_accepted(resource.name()))
    }

    /// The client accepted the response in flight.
    pub(super) fn acked(&mut self) -> Option<Answered> {
        let InFlight { mut batch, .. } = self.in_flight.take()?;
        self.counts.acks += 1;
        if let Some(snapshot) = batch.plain.take() {
            self.known.advance(snapshot);
            let (resources, removed) = match self.tells_acks {
                true => (batch.resources.iter().map(versioned).collect(), batch.removed),
                false => (Vec::new(), Vec::new()),
            };
            let report = Report::Acked { ty: self.ty, resources, removed };
            return Some(Answered { report, refused: Vec::new() });
        }
        self.list_version = batch.list_version;
        self.list_uncertain = false;
        let mut resources = Vec::with_capacity(batch.resources.len());
        for resource in &batch.resources {
            if !self.sub.covers(resource.name()) {
                continue;
            }
            self.look_again_if_new(resource.name());
            self.known.accept(&self.sub, resource);
            resources.push(versioned(resource));
        }
        let gone = |name: &Arc<str>| self.known.contains(&self.sub, name) && self.known.forget(&self.sub, name);
        let removed = batch.removed.into_iter().filter(gone).collect();
        let report = Report::Acked { ty: self.ty, resources, removed };
        Some(Answered { report, refused: Vec::new() })
    }

    /// The client refused the response in flight, or some of it (rules 2 and 3).
    pub(super) fn nacked(&mut self, detail: &str, now: Millis) -> Option<Answered> {
        self.note_each();
        let InFlight { batch, unproved, suspicious, .. } = self.in_flight.take()?;
        let detail = cut(detail);
        self.counts.nacks += 1;
        self.last_nack = Some((now, detail.to_owned()));
        let details = blame(detail, &batch, &suspicious);
        let is_blamed = |resource: &&Arc<Resource>| details.contains_key(resource.name());
        let refused: Vec<Arc<Resource>> = batch.resources.iter().filter(is_blamed).cloned().collect();
        let unknown: Vec<Arc<Resource>> = unproved.into_iter().filter(|r| !is_blamed(&r)).collect();
        let mut open: Vec<Versioned> = unknown.iter().map(versioned).collect();
        open.extend(batch.removed.iter().filter_map(|name| Some((name.clone(), self.accepted_version(name)?))));
        self.leave_open(&unknown, &batch.removed);
        for resource in &refused {
            self.refuse(resource, details.get(resource.name()).map_or("", String::as_str), now);
        }
        match refused.is_empty() {
            true => self.suspect(&suspicious),
            false => self.offer_again(&unknown, &batch.removed),
        }
        let report = Report::Rejected {
            ty: self.ty,
            refused: refused.iter().map(versioned).collect(),
            unknown: open,
            detail: detail.to_owned(),
            details,
        };
        Some(Answered { report, refused })
    }

    /// Where what is known under a name was forgotten, the name was unsubscribed and subscribed again while a response was
    /// on its way: the client has what that held, which may be gone or changed.
    fn look_again_if_new(&mut self, name: &Arc<str>) {
        if !self.known.contains(&self.sub, name) {
            self.pending.entry(name.clone()).or_insert(Why::Changed);
        }
    }

    /// Keeps in mind what was sent last, for people to see.
    fn note(&mut self, batch: &Batch, now: Millis) {
        let last = batch.resources.iter().rev().take(MAX_LATEST).rev();
        self.latest.extend(last.map(|resource| (resource.name().clone(), now)));
        let surplus = self.latest.len().saturating_sub(MAX_LATEST);
        self.latest.drain(..surplus);
    }

    fn accepted_version(&self, name: &str) -> Option<Arc<str>> {
        self.known.accepted(&self.sub, name).cloned()
    }

    fn refuse(&mut self, resource: &Arc<Resource>, detail: &str, now: Millis) {
        let versions = self.refused.entry(resource.name().clone()).or_default();
        if versions.len() >= MAX_REFUSED_VERSIONS {
            versions.remove(0);
        }
        // Of the earlier ones it is enough to know that they were: a client's texts can be long.
        for earlier in versions.iter_mut() {
            earlier.detail = String::new();
        }
        versions.push(Refused { version: resource.version().clone(), detail: detail.to_owned(), at: now });
        if self.known.contains(&self.sub, resource.name()) {
            let known = self.known.entry(&self.sub, resource.name());
            known.offered = None;
            let same = known.accepted.as_ref().is_some_and(|held| held.version == *resource.version());
            if same {
                known.accepted = None;
            }
            if known.accepted.is_none() && !known.uncertain {
                self.known.forget(&self.sub, resource.name());
            }
        }
    }

    /// Notes what a NACK leaves open. The client may have taken it over, so it is asked to remove it
    /// when it goes, even if a later version of it is refused; and it may have removed what it was told to.
    fn leave_open(&mut self, unknown: &[Arc<Resource>], removed: &[Arc<str>]) {
        for resource in unknown {
            if !self.sub.covers(resource.name()) {
                continue;
            }
            self.look_again_if_new(resource.name());
            self.known.entry(&self.sub, resource.name()).uncertain = true;
        }
        for name in removed {
            if self.known.contains(&self.sub, name) {
                self.known.entry(&self.sub, name).uncertain = true;
            }
        }
        if self.is_list() && !(unknown.is_empty() && removed.is_empty()) {
            self.list_uncertain = true;
            self.list_version = None;
        }
    }

    /// The siblings of what was refused are offered once more, so that their next ACK is a proof.
    fn offer_again(&mut self, unknown: &[Arc<Resource>], removed: &[Arc<str>]) {
        for name in unknown.iter().map(|resource| resource.name()).chain(removed) {
            self.pend(name, Why::Forced);
        }
        self.answer_due |= self.list_uncertain;
    }

    /// Nobody is blamed: offer half of the batch, then the other half, down to the culprit. Each step
    /// offers fewer than the one before, so this ends.
    fn suspect(&mut self, suspicious: &[Arc<Resource>]) {
        let (first, second) = suspicious.split_at(suspicious.len() / 2);
        for half in [second, first].into_iter().filter(|half| !half.is_empty()) {
            self.suspects.push_front(half.iter().map(|resource| resource.name().clone()).collect());
        }
        for resource in suspicious {
            self.pend(resource.name(), Why::Forced);
        }
    }
}

/// What of a batch the client's text is about. What it accepted before in the same version is not
/// suspected, unless nothing else was sent.
fn blame(detail: &str, batch: &Batch, suspicious: &[Arc<Resource>]) -> BTreeMap<Arc<str>, String> {
    let candidates = if suspicious.is_empty() { &batch.resources } else { suspicious };
    if let [only] = candidates {
        return BTreeMap::from([(only.name().clone(), detail.to_owned())]);
    }
    let names: Vec<Arc<str>> = candidates.iter().map(|resource| resource.name().clone()).collect();
    blamed(detail, &names)
}

fn versioned(resource: &Arc<Resource>) -> Versioned {
    (resource.name().clone(), resource.version().clone())
}
