//! What is known of one type on one stream: what the client asked for, has, refused, is being sent
//! and is still to be told. Both protocols keep the same book; they differ in what a response holds.
//!
//! [`initial`]: what a client that comes back has. [`plan`]: what the next response holds. [`answer`]: what an ACK or a NACK
//! proves.

mod answer;
mod initial;
mod plan;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::Report;
use super::holdings::Holdings;
use super::plans::Plan;
use super::resources::Resources;
use crate::ads::subscription::{Subscription, SubscriptionChange};
use crate::ads::{Millis, Protocol, Versioned};
use crate::snapshot::{Changes, Resource, ResourceType, SetVersion, XdsSnapshot};

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
    pub(super) resources: Resources,
    pub(super) removed: Vec<Arc<str>>,
    /// Of complete lists: the version of exactly these resources.
    pub(super) list_version: Option<SetVersion>,
    /// With this the client has exactly what it wants of the snapshot, so that its ACK is that and nothing needs to be
    /// noted for each resource.
    plain: Option<Arc<XdsSnapshot>>,
    /// Where it comes from, so that other streams find it there.
    _plan: Option<Arc<Plan>>,
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
    /// Besides those, what differs between this snapshot and the one that the client has, or is about to have, exactly:
    /// not looked up as long as nothing else is to be said.
    behind: Option<Arc<XdsSnapshot>>,
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
            behind: None,
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
        self.answer_due
            || self.behind.is_some()
            || self.has_extras()
            || self.pending.keys().any(|name| snapshot.get(self.ty, name).is_some())
    }

    /// Whether there is something left to look at.
    pub(super) fn has_pending(&self) -> bool {
        self.answer_due || self.behind.is_some() || self.has_extras() || !self.pending.is_empty()
    }

    /// Whether anything is to be said that is no matter of what the snapshot has.
    fn has_extras(&self) -> bool {
        !self.suspects.is_empty() || !self.not_understood_due.is_empty()
    }

    /// Whether a response can be just what differs from what the client has.
    fn can_be_plain(&self) -> bool {
        !self.has_extras() && self.refused.is_empty()
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
        self.not_understood(change.not_understood);
        (!removed.is_empty()).then(|| Report::Acked { ty: self.ty, resources: Vec::new(), removed })
    }

    /// Notes names that cannot be subscribed to.
    fn not_understood(&mut self, names: Vec<Arc<str>>) {
        let room = MAX_NOT_UNDERSTOOD.saturating_sub(self.not_understood.len());
        self.not_understood.extend(names.iter().take(room).cloned());
        if self.protocol == Protocol::Delta {
            let room = MAX_NOT_UNDERSTOOD_DUE.saturating_sub(self.not_understood_due.len());
            self.not_understood_due.extend(names.into_iter().take(room));
        }
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

    /// Looks at what changed between two snapshots, as far as it is wanted.
    pub(super) fn snapshot_changed(&mut self, before: &XdsSnapshot, next: &Arc<XdsSnapshot>) {
        if before.version(self.ty) == next.version(self.ty) {
            return;
        }
        if self.may_fall_behind() {
            if self.is_beginning() && !self.sub.names().is_empty() {
                self.ask_for_gone(before, next);
            }
            self.behind = Some(next.clone());
            return;
        }
        match next.changed_from(before, self.ty) {
            Changes::Everything => self.compare_all(next),
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

    /// What a client asked for at first and is gone before it was answered is answered all the same.
    fn ask_for_gone(&mut self, before: &XdsSnapshot, next: &XdsSnapshot) {
        for (name, now) in next.difference(before, self.ty) {
            if now.is_none() && self.sub.names().contains(name) {
                self.pend(name, Why::Asked);
            }
        }
    }

    /// Whether what changes need not be looked up now. Assignments are what changes every day, and no other type waits
    /// for them.
    fn may_fall_behind(&self) -> bool {
        let is_plain = self.in_flight.as_ref().is_none_or(|sent| sent.batch.plain.is_some());
        let may_begin = is_plain && self.has_only_changes() && self.known.exactly().is_some();
        self.behind.is_some() || (self.ty == ResourceType::Endpoint && may_begin)
    }

    /// Whether nothing is to be said but what changed in the snapshot, all of it at once.
    fn has_only_changes(&self) -> bool {
        self.pending.is_empty() && self.can_be_plain()
    }

    /// Looks up what changed and was left for later.
    fn catch_up(&mut self) {
        let Some(target) = self.behind.take() else { return };
        let in_flight = self.in_flight.as_ref().and_then(|sent| sent.batch.plain.as_ref());
        let Some(since) = in_flight.or(self.known.exactly()).cloned() else { return self.compare_all(&target) };
        let is_beginning = self.is_beginning();
        for (name, _) in target.difference(&since, self.ty) {
            if self.sub.covers(name) {
                let was_asked = is_beginning && self.sub.names().contains(name);
                self.pend(name, if was_asked { Why::Asked } else { Why::Changed });
            }
        }
    }

    /// Whether the client has nothing yet, so that it is still to be answered about each name that it gave.
    fn is_beginning(&self) -> bool {
        self.in_flight.is_none() && self.known.exactly().is_some_and(|base| base.is_nothing())
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

    /// The same of many names, which is cheap where the client has exactly what it wants of this snapshot and the names,
    /// which are in it, come in their order.
    pub(super) fn accepts(&self, snapshot: &Arc<XdsSnapshot>) -> impl FnMut(&Arc<str>) -> bool {
        let has_all = self.known.exactly().is_some_and(|base| Arc::ptr_eq(base, snapshot));
        let mut wanted = self.sub.walk();
        move |name| if has_all { wanted.covers(name) } else { self.has_accepted(name) }
    }

    /// Notes for each resource in flight that it is, where that is not to be told from the whole any longer.
    fn note_each(&mut self) {
        self.catch_up();
        let Some(sent) = &mut self.in_flight else { return };
        if sent.batch.plain.take().is_none() {
            return;
        }
        for resource in &sent.batch.resources {
            let offered = Some(self.known.held(resource));
            self.known.entry(&self.sub, resource.name()).offered = offered;
        }
        sent.unproved = sent.batch.resources.to_vec();
        sent.suspicious = sent.batch.resources.to_vec();
    }

    /// Notes that a response is on its way. Returns those of its resources that the client takes as a
    /// change; one that is only offered again is none.
    pub(super) fn sent(&mut self, batch: Batch, nonce: String, now: Millis) -> Vec<Arc<Resource>> {
        if batch.plain.is_some() {
            // Whoever has the client's clusters in mind is told of them; nobody asks of the others.
            let changed = if self.ty == ResourceType::Cluster { batch.resources.to_vec() } else { Vec::new() };
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

    /// Keeps in mind what was sent last, for people to see.
    fn note(&mut self, batch: &Batch, now: Millis) {
        let last = batch.resources.iter().rev().take(MAX_LATEST).rev();
        self.latest.extend(last.map(|resource| (resource.name().clone(), now)));
        let surplus = self.latest.len().saturating_sub(MAX_LATEST);
        self.latest.drain(..surplus);
    }
}

fn versioned(resource: &Arc<Resource>) -> Versioned {
    (resource.name().clone(), resource.version().clone())
}
