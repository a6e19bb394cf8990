//! The primary's end of a member's stream: what was taken of the cluster, and what is to be asked and answered next.
//! Pure.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::digest::{Held, Range, hash_of_form};
use super::outbound::range_to;
use super::proto::member_message::Body as Told;
use super::proto::primary_message::Body;
use super::proto::{self, held::What};
use super::wire::{Content, Objects, Unfit};
use super::{HEARTBEAT, PROTOCOL_VERSION, SILENCE, Violation};
use crate::kube::field::Invalid;

/// A range with no more objects is told by these themselves: they take no more bytes than the digests of its parts.
const FEW: usize = 32;
/// Ranges in one message, of half a KiB each.
const RANGES: usize = 64;
/// Messages that ask and are not answered, so that neither line nor memory is filled by questions.
const QUESTIONS: usize = 16;
/// Texts that people read are cut to this, in bytes.
const TEXT: usize = 2_048;
/// Names and versions are no longer than this, in bytes.
const NAME: usize = 256;
/// Answers that wait for a member that does not read. What is left out then is told to people here all the same.
const ANSWERS: usize = 1_024;
/// What is told of problems at most, as the protocol says.
const PROBLEMS: usize = 256;

/// Who a member says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub cluster: String,
    pub uid: String,
    pub server_version: String,
    pub member_version: String,
}

/// What a batch says of an object.
#[derive(Debug)]
pub(crate) enum Taken<C: Content> {
    /// It is there, in this form.
    Object(Box<C::Object>),
    /// It is gone.
    Gone(C::Key),
    /// It makes no sense; what was known of it stays.
    Invalid(C::Key, Vec<Invalid>),
}

/// What a message means.
#[derive(Debug)]
pub(crate) enum Step<C: Content = Objects> {
    /// The member says who it is.
    Hello(Hello),
    /// Objects to be taken, in their order; once they were, [`Intake::taken`] is to be called.
    Take { seq: u64, items: Vec<Taken<C>> },
    /// Everything that the cluster has was taken.
    Synced,
    /// The member can read its cluster, or not and why.
    State(Option<(String, String)>),
    /// All that is wrong in the cluster's objects.
    Problems(Vec<proto::Problem>),
    /// Nothing for others.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was said yet.
    Opening,
    /// Hello was said, and what the member has is not known.
    Greeted,
    /// What differs is being found.
    Comparing,
    /// What differs or changes is taken.
    Live,
}

/// The primary's machine.
pub(crate) type Inbound = Intake<Objects>;

/// The machine of a side that takes. What it holds stays over streams.
pub(crate) struct Intake<C: Content> {
    held: Held<C::Key>,
    /// Objects that made no sense, and of which nothing is held.
    rejected: HashMap<u64, C::Key>,
    phase: Phase,
    heard: Instant,
    said: Instant,
    answers: VecDeque<Body>,
    /// Ranges that differ, and are to be asked about.
    ask: VecDeque<Range>,
    unanswered: usize,
    /// Which parts of ranges that were asked about have been named.
    named: HashMap<Range, u64>,
    seq: u64,
    /// Messages that only ask or greet.
    is_greeted: bool,
}

impl<C: Content> Intake<C> {
    /// A stream is there; nothing was said over it.
    pub fn new(now: Instant) -> Self {
        Self {
            held: Held::default(),
            rejected: HashMap::new(),
            phase: Phase::Opening,
            heard: now,
            said: now,
            answers: VecDeque::new(),
            ask: VecDeque::new(),
            unanswered: 0,
            named: HashMap::new(),
            seq: 0,
            is_greeted: false,
        }
    }

    /// A stream within another one, on which both sides have greeted each other: this is held.
    pub fn within(held: Held<C::Key>, now: Instant) -> Self {
        Self { held, phase: Phase::Greeted, ..Self::new(now) }
    }

    /// The member is taken: this is held of its cluster.
    pub fn welcome(&mut self, held: Held<C::Key>) {
        self.held = held;
        let millis = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        self.answers.push_back(Body::Welcome(proto::Welcome {
            protocol_version: PROTOCOL_VERSION,
            heartbeat_ms: millis(HEARTBEAT),
            silence_ms: millis(SILENCE),
        }));
        self.is_greeted = true;
    }

    /// What is held of the cluster, for the next stream.
    pub fn into_held(self) -> Held<C::Key> {
        self.held
    }

    /// The member is gone if nothing is heard of it until then.
    pub fn silent_at(&self) -> Instant {
        self.heard + SILENCE
    }

    /// When something is to be said though nothing happens.
    pub fn heartbeat_at(&self) -> Instant {
        self.said + HEARTBEAT
    }

    /// The member said something.
    ///
    /// # Errors
    /// It breaks a rule; the stream cannot go on.
    pub fn received(&mut self, told: Option<Told>, now: Instant) -> Result<Step<C>, Violation> {
        self.heard = now;
        match (told, self.phase) {
            (Some(Told::Hello(hello)), Phase::Opening) => {
                self.phase = Phase::Greeted;
                hello_from(hello).map(Step::Hello)
            }
            (_, Phase::Opening) => Err(Violation::Order("another message than Hello came first")),
            (Some(Told::Hello(_)), _) => Err(Violation::Order("a second Hello")),
            (Some(Told::Begin(begin)), Phase::Greeted) => {
                self.phase = Phase::Comparing;
                if (begin.count, begin.digest) != (self.held.len() as u64, self.held.digest()) {
                    self.ask.push_back(Range::WHOLE);
                }
                self.compared();
                Ok(Step::Nothing)
            }
            (Some(Told::Begin(_)), _) => Err(Violation::Order("a second Begin")),
            (Some(Told::Differ(differ)), Phase::Comparing) => self.differ(&differ),
            (Some(Told::Differ(_)), _) => Err(Violation::Order("a Differ that was not asked for")),
            (Some(Told::Batch(batch)), Phase::Live) => self.batch(batch),
            (Some(Told::Synced(_)), Phase::Live) => Ok(Step::Synced),
            (Some(Told::Batch(_) | Told::Synced(_)), _) => Err(Violation::Order("objects before they were compared")),
            (Some(Told::State(state)), _) => Ok(Step::State(match state.reason.is_empty() {
                true => None,
                false => Some((cut(state.reason, NAME), cut(state.message, TEXT))),
            })),
            (Some(Told::Problems(problems)), _) => {
                let cut = |problem: proto::Problem| proto::Problem {
                    object: cut(problem.object, TEXT),
                    field: cut(problem.field, TEXT),
                    message: cut(problem.message, TEXT),
                    remedy: cut(problem.remedy, TEXT),
                };
                Ok(Step::Problems(problems.problems.into_iter().take(PROBLEMS).map(cut).collect()))
            }
            // What goes the other way is for another machine.
            (Some(Told::Heartbeat(_) | Told::Down(_) | Told::SyncedDown(_)) | None, _) => Ok(Step::Nothing),
        }
    }

    /// Says so when nothing is left to ask.
    fn compared(&mut self) {
        if self.ask.is_empty() && self.unanswered == 0 {
            self.phase = Phase::Live;
            self.named = HashMap::new();
            self.answers.push_back(Body::Compared(proto::Compared {}));
        }
    }

    fn differ(&mut self, differ: &proto::Differ) -> Result<Step<C>, Violation> {
        let Some(unanswered) = self.unanswered.checked_sub(1) else {
            return Err(Violation::Order("a Differ that was not asked for"));
        };
        self.unanswered = unanswered;
        for range in &differ.ranges {
            let range = Range::new(range.bits, range.prefix);
            let part = range.and_then(|range| Some((range, range.parent()?)));
            let Some((range, (parent, index))) = part else { return Err(Violation::Malformed("Differ.ranges")) };
            // Each part once, or there would be no end of asking.
            let bit = 1_u64 << index;
            match self.named.get_mut(&parent) {
                Some(named) if *named & bit == 0 => *named |= bit,
                _ => return Err(Violation::Order("a part that was not asked about")),
            }
            self.ask.push_back(range);
        }
        self.compared();
        Ok(Step::Nothing)
    }

    fn batch(&mut self, batch: proto::Batch) -> Result<Step<C>, Violation> {
        if batch.seq != self.seq + 1 {
            return Err(Violation::Order("a batch out of its order"));
        }
        self.seq = batch.seq;
        let mut items = Vec::with_capacity(batch.upserts.len() + batch.deletes.len());
        for key in batch.deletes {
            let rejected = self.rejected.remove(&key);
            items.extend(self.held.remove(key).or(rejected).map(Taken::Gone));
        }
        for encoded in batch.upserts {
            match self.upsert(&encoded) {
                Ok(object) => items.push(Taken::Object(Box::new(object))),
                Err(Unfit::Invalid(key, faults)) => {
                    let reasons: Vec<String> = faults.iter().map(ToString::to_string).collect();
                    self.reject(key.to_string(), reasons.join("; "));
                    self.rejected.insert(C::hash(&key), key.clone());
                    items.push(Taken::Invalid(key, faults));
                }
                Err(Unfit::Unreadable(reason)) => self.reject(String::new(), reason),
            }
        }
        Ok(Step::Take { seq: batch.seq, items })
    }

    fn upsert(&mut self, encoded: &[u8]) -> Result<C::Object, Unfit<C::Key>> {
        let object = C::decode(encoded)?;
        let key = C::key(&object);
        let hash = C::hash(&key);
        if self.held.get(hash).is_some_and(|known| known.value != key) {
            let twin = Invalid {
                field: "metadata.name".to_owned(),
                message: "the hash of its key is that of another object's".to_owned(),
                remedy: "give it another name".to_owned(),
            };
            return Err(Unfit::Invalid(key, vec![twin]));
        }
        self.rejected.remove(&hash);
        self.held.put(hash, hash_of_form(encoded), key);
        Ok(object)
    }

    fn reject(&mut self, object: String, reason: String) {
        if self.answers.len() >= ANSWERS {
            return;
        }
        self.answers.push_back(Body::Rejected(proto::Rejected { object, reason: cut(reason, TEXT) }));
    }

    /// The objects of a batch were taken by their owner.
    pub fn taken(&mut self, seq: u64) {
        // The last acknowledgement says all.
        if let Some(Body::Ack(ack)) = self.answers.back_mut() {
            ack.seq = seq;
        } else {
            self.answers.push_back(Body::Ack(proto::Ack { seq }));
        }
    }

    /// What is to be said next; `None` where that has to wait.
    pub fn next(&mut self, now: Instant) -> Option<Body> {
        let body = self.answers.pop_front().or_else(|| self.question()).or_else(|| {
            let is_due = self.is_greeted && now >= self.heartbeat_at();
            is_due.then_some(Body::Heartbeat(proto::Heartbeat {}))
        })?;
        self.said = now;
        Some(body)
    }

    fn question(&mut self) -> Option<Body> {
        if self.ask.is_empty() || self.unanswered >= QUESTIONS {
            return None;
        }
        let count = self.ask.len().min(RANGES);
        let ranges: Vec<Range> = self.ask.drain(..count).collect();
        let held = ranges.into_iter().map(|range| self.said_of(range)).collect();
        self.unanswered += 1;
        Some(Body::Compare(proto::Compare { held }))
    }

    fn said_of(&mut self, range: Range) -> proto::Held {
        let what = if range.is_divisible() && self.held.has_more(range, FEW) {
            self.named.insert(range, 0);
            What::Digests(proto::Digests { digests: self.held.digests(range).to_vec() })
        } else {
            let (keys, forms) = self.held.of(range).map(|(key, entry)| (key, entry.form)).unzip();
            What::Entries(proto::Entries { keys, forms })
        };
        proto::Held { range: Some(range_to(range)), what: Some(what) }
    }
}

fn hello_from(hello: proto::Hello) -> Result<Hello, Violation> {
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(Violation::Version(hello.protocol_version));
    }
    let is_name = |text: &String| !text.is_empty() && text.len() <= NAME;
    if !is_name(&hello.cluster) {
        return Err(Violation::Malformed("Hello.cluster"));
    }
    if !is_name(&hello.cluster_uid) {
        return Err(Violation::Malformed("Hello.cluster_uid"));
    }
    Ok(Hello {
        cluster: hello.cluster,
        uid: hello.cluster_uid,
        server_version: cut(hello.server_version, NAME),
        member_version: cut(hello.member_version, NAME),
    })
}

/// Shortens a text to at most `most` bytes, at a character's border.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
    text
}

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
