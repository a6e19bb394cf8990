//! The member's end of the stream: what its cluster has, and what of it the primary is to be told next. Pure.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::digest::{Held, PARTS, Range, hash_of_form, hash_of_key};
use super::proto::member_message::Body;
use super::proto::primary_message::Body as Said;
use super::proto::{self, held::What};
use super::window::Window;
use super::wire;
use super::{HEARTBEAT, PROTOCOL_VERSION, SILENCE, Violation};
use crate::model::object::{Object, ObjectKey};

/// A batch is sent when it has so many bytes: at 64 kbit/s that is 2 s.
const BATCH_BYTES: usize = 16 * 1024;
/// What is gone is said in 8 bytes.
const DELETE_BYTES: usize = 8;
/// The primary may first have to see another member of the cluster off.
const WELCOME: Duration = Duration::from_secs(20);

/// Which cluster it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    pub cluster: String,
    pub uid: String,
    pub server_version: String,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queued {
    /// The object with this hash of its key, as it then is.
    Object(u64),
    /// That everything before was all that differed.
    Synced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Nothing was said yet.
    Opening,
    /// Hello was said.
    Greeted,
    /// The primary is there.
    Welcome,
    /// Begin was said, and what differs is being found.
    Comparing,
    /// What differs or changes is sent.
    Live,
}

struct Stream {
    phase: Phase,
    opened: Instant,
    heard: Instant,
    said: Instant,
    heartbeat: Duration,
    silence: Duration,
    answers: VecDeque<Body>,
    queue: VecDeque<Queued>,
    queued: HashSet<u64>,
    window: Window,
    /// Another stream carries it.
    is_within: bool,
    is_state_due: bool,
    are_problems_due: bool,
}

impl Stream {
    fn enqueue(&mut self, key: u64) {
        if self.queued.insert(key) {
            self.queue.push_back(Queued::Object(key));
        }
    }
}

/// What travelled, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Travelled {
    pub upserts: u64,
    pub deletes: u64,
    pub bytes: u64,
}

/// The member's machine. What it holds stays over streams.
#[derive(Default)]
pub(crate) struct Outbound {
    /// Encoded objects.
    held: Held<Box<[u8]>>,
    /// Everything that the cluster has was read once.
    is_complete: bool,
    state: proto::State,
    problems: Vec<proto::Problem>,
    stream: Option<Stream>,
    pub travelled: Travelled,
}

impl Outbound {
    /// How many objects the cluster has, as far as is known.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// An object is there, in this form.
    pub fn apply(&mut self, object: &Object) {
        let Some(encoded) = wire::encode(object) else { return };
        self.put(hash_of_key(&object.key()), encoded);
    }

    /// An object is there, in this encoding, by the hash of its key.
    pub fn put(&mut self, key: u64, encoded: Vec<u8>) {
        let form = hash_of_form(&encoded);
        // What is listed anew is mostly what it was.
        if self.held.get(key).is_some_and(|known| known.form == form) {
            return;
        }
        self.held.put(key, form, encoded.into_boxed_slice());
        self.changed(key);
    }

    /// An object is gone.
    pub fn delete(&mut self, key: &ObjectKey) {
        self.remove(hash_of_key(key));
    }

    /// The same by the hash of its key.
    pub fn remove(&mut self, key: u64) {
        if self.held.remove(key).is_some() {
            self.changed(key);
        }
    }

    /// Before Begin, comparing will find it.
    fn changed(&mut self, key: u64) {
        if let Some(stream) = self.stream.as_mut().filter(|stream| stream.phase >= Phase::Comparing) {
            stream.enqueue(key);
        }
    }

    /// Everything that the cluster has was read, and the cluster can be read.
    pub fn complete(&mut self) {
        self.is_complete = true;
        self.set_state(proto::State::default());
    }

    /// The cluster cannot be read; what is known of it stays.
    pub fn failing(&mut self, reason: &str, message: String) {
        self.set_state(proto::State { reason: reason.to_owned(), message });
    }

    fn set_state(&mut self, state: proto::State) {
        if self.state != state {
            self.state = state;
            if let Some(stream) = &mut self.stream {
                stream.is_state_due = !stream.is_within;
            }
        }
    }

    /// All that is wrong in the cluster's objects now.
    pub fn set_problems(&mut self, problems: Vec<proto::Problem>) {
        self.problems = problems;
        if let Some(stream) = &mut self.stream {
            stream.are_problems_due = true;
        }
    }

    /// A stream is there; nothing was said over it.
    pub fn opened(&mut self, now: Instant) {
        self.stream = Some(Stream {
            phase: Phase::Opening,
            opened: now,
            heard: now,
            said: now,
            heartbeat: HEARTBEAT,
            silence: SILENCE,
            answers: VecDeque::new(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
            window: Window::default(),
            is_within: false,
            is_state_due: true,
            are_problems_due: !self.problems.is_empty(),
        });
    }

    /// A stream within another one is there, on which both sides have greeted each other, and which says itself that it
    /// lives.
    pub fn opened_within(&mut self, now: Instant) {
        self.opened(now);
        if let Some(stream) = &mut self.stream {
            (stream.phase, stream.is_within) = (Phase::Welcome, true);
            (stream.is_state_due, stream.are_problems_due) = (false, false);
        }
    }

    /// The stream is gone.
    pub fn closed(&mut self) {
        self.stream = None;
    }

    /// Whether the primary has everything that was to be sent, as far as the stream's order says.
    pub fn is_live(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.phase == Phase::Live && stream.queue.is_empty())
    }

    /// Whether the primary has taken the member on this stream.
    pub fn is_greeted(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.phase >= Phase::Welcome)
    }

    /// What waits to be sent.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.stream.as_ref().map_or(0, |stream| stream.queue.len())
    }

    /// The primary said something.
    ///
    /// # Errors
    /// It breaks a rule; the stream cannot go on.
    pub fn received(&mut self, said: Option<Said>, now: Instant) -> Result<Option<proto::Rejected>, Violation> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        stream.heard = now;
        match (said, stream.phase) {
            (Some(Said::Welcome(welcome)), Phase::Greeted) => {
                if welcome.protocol_version != PROTOCOL_VERSION {
                    return Err(Violation::Version(welcome.protocol_version));
                }
                let millis = |ms: u32, most: Duration| Duration::from_millis(ms.into()).clamp(MIN_SPAN, most);
                stream.heartbeat = millis(welcome.heartbeat_ms, HEARTBEAT);
                stream.silence = millis(welcome.silence_ms, SILENCE);
                stream.phase = Phase::Welcome;
            }
            (_, Phase::Opening | Phase::Greeted) => return Err(Violation::Order("a message before Welcome")),
            (Some(Said::Welcome(_)), _) => return Err(Violation::Order("a second Welcome")),
            (Some(Said::Compare(compare)), Phase::Comparing) => {
                let differ = self.compare(compare)?;
                if let Some(stream) = &mut self.stream {
                    stream.answers.push_back(Body::Differ(differ));
                }
            }
            (Some(Said::Compared(_)), Phase::Comparing) => {
                stream.queue.push_back(Queued::Synced);
                stream.phase = Phase::Live;
            }
            (Some(Said::Compare(_) | Said::Compared(_)), _) => {
                return Err(Violation::Order("a comparison that was not begun"));
            }
            (Some(Said::Ack(ack)), _) => {
                if !stream.window.acked(ack.seq, now) {
                    return Err(Violation::Order("an Ack of a batch that was not sent"));
                }
            }
            (Some(Said::Rejected(rejected)), _) => return Ok(Some(rejected)),
            // What goes the other way is for another machine.
            (Some(Said::Heartbeat(_) | Said::Down(_)) | None, _) => {}
        }
        Ok(None)
    }

    /// Finds in which parts the primary's ranges differ from ours; objects that differ will be sent.
    fn compare(&mut self, compare: proto::Compare) -> Result<proto::Differ, Violation> {
        let mut ranges = Vec::new();
        for held in compare.held {
            let range = held.range.and_then(|range| Range::new(range.bits, range.prefix));
            let range = range.ok_or(Violation::Malformed("Compare.held.range"))?;
            match held.what {
                Some(What::Digests(theirs)) => {
                    if theirs.digests.len() != PARTS || !range.is_divisible() {
                        return Err(Violation::Malformed("Compare.held.digests"));
                    }
                    let ours = self.held.digests(range);
                    let differ =
                        ours.iter().zip(&theirs.digests).enumerate().filter(|(_, (ours, theirs))| ours != theirs);
                    ranges.extend(differ.map(|(part, _)| range_to(range.part(part))));
                }
                Some(What::Entries(theirs)) => self.differ(range, &theirs)?,
                None => return Err(Violation::Malformed("Compare.held")),
            }
        }
        Ok(proto::Differ { ranges })
    }

    fn differ(&mut self, range: Range, theirs: &proto::Entries) -> Result<(), Violation> {
        let is_ordered = theirs.keys.is_sorted_by(|one, next| one < next);
        if theirs.keys.len() != theirs.forms.len() || !is_ordered {
            return Err(Violation::Malformed("Compare.held.entries"));
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let mut theirs = theirs.keys.iter().copied().zip(theirs.forms.iter().copied()).peekable();
        for (key, ours) in self.held.of(range) {
            while let Some((gone, _)) = theirs.next_if(|(theirs, _)| *theirs < key) {
                stream.enqueue(gone);
            }
            let same = theirs.next_if(|(theirs, _)| *theirs == key);
            if same.is_none_or(|(_, form)| form != ours.form) {
                stream.enqueue(key);
            }
        }
        theirs.for_each(|(gone, _)| stream.enqueue(gone));
        Ok(())
    }

    /// What is to be said next; `None` where that has to wait.
    pub fn next(&mut self, about: &About, now: Instant) -> Option<Body> {
        let body = self.due(about, now)?;
        if let Some(stream) = &mut self.stream {
            stream.said = now;
        }
        Some(body)
    }

    fn due(&mut self, about: &About, now: Instant) -> Option<Body> {
        let stream = self.stream.as_mut()?;
        match stream.phase {
            Phase::Opening => {
                stream.phase = Phase::Greeted;
                return Some(Body::Hello(proto::Hello {
                    protocol_version: PROTOCOL_VERSION,
                    cluster: about.cluster.clone(),
                    cluster_uid: about.uid.clone(),
                    server_version: about.server_version.clone(),
                    member_version: env!("CARGO_PKG_VERSION").to_owned(),
                }));
            }
            Phase::Greeted => return None,
            Phase::Welcome | Phase::Comparing | Phase::Live => {}
        }
        if std::mem::take(&mut stream.is_state_due) {
            return Some(Body::State(self.state.clone()));
        }
        if std::mem::take(&mut stream.are_problems_due) {
            return Some(Body::Problems(proto::Problems { problems: self.problems.clone() }));
        }
        if let Some(answer) = stream.answers.pop_front() {
            return Some(answer);
        }
        match stream.phase {
            Phase::Welcome if self.is_complete => {
                stream.phase = Phase::Comparing;
                return Some(Body::Begin(proto::Begin { count: self.held.len() as u64, digest: self.held.digest() }));
            }
            Phase::Live if stream.window.is_open() => {
                if let Some(body) = self.batch(now) {
                    return Some(body);
                }
            }
            _ => {}
        }
        let stream = self.stream.as_ref()?;
        (!stream.is_within && now >= stream.said + stream.heartbeat).then_some(Body::Heartbeat(proto::Heartbeat {}))
    }

    /// As much of what waits as goes into a batch.
    fn batch(&mut self, now: Instant) -> Option<Body> {
        let stream = self.stream.as_mut()?;
        let (mut bytes, mut batch) = (0, proto::Batch::default());
        while bytes < BATCH_BYTES
            && let Some(Queued::Object(key)) = stream.queue.front().copied()
        {
            stream.queue.pop_front();
            stream.queued.remove(&key);
            match self.held.get(key) {
                Some(entry) => {
                    bytes += entry.value.len();
                    batch.upserts.push(entry.value.to_vec());
                }
                None => {
                    bytes += DELETE_BYTES;
                    batch.deletes.push(key);
                }
            }
        }
        if bytes > 0 {
            self.travelled.upserts += batch.upserts.len() as u64;
            self.travelled.deletes += batch.deletes.len() as u64;
            self.travelled.bytes += bytes as u64;
            batch.seq = stream.window.sent(bytes, now);
            return Some(Body::Batch(batch));
        }
        // What is left in front is no object.
        stream.queue.pop_front().map(|_| Body::Synced(proto::Synced {}))
    }

    /// When something is to be done though nothing happens; `None` without a stream.
    pub fn deadline(&self) -> Option<Instant> {
        let stream = self.stream.as_ref()?;
        Some(match stream.phase {
            Phase::Opening | Phase::Greeted => stream.opened + WELCOME,
            _ => (stream.said + stream.heartbeat).min(stream.heard + stream.silence),
        })
    }

    /// Whether the primary was silent for too long.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.stream.as_ref().is_some_and(|stream| match stream.phase {
            Phase::Opening | Phase::Greeted => now >= stream.opened + WELCOME,
            _ => now >= stream.heard + stream.silence,
        })
    }
}

/// Less would be a mistake of the other side, and keep both busy.
const MIN_SPAN: Duration = Duration::from_millis(100);

pub(super) fn range_to(range: Range) -> proto::Range {
    proto::Range { bits: range.bits(), prefix: range.prefix() }
}
