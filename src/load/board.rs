//! What all clients of a fleet saw, and when.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::names::{NameId, Names};
use super::scanner::Summary;
use crate::snapshot::ResourceType;

/// The most pushes whose spread is remembered; later ones are only counted.
const MAX_PUSHES: usize = 100_000;

/// The most error texts that are told apart.
const MAX_ERRORS: usize = 100;

/// Counts of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Responses.
    pub responses: u64,
    /// Resources in them.
    pub resources: u64,
    /// Names that were removed.
    pub removed: u64,
    /// Bytes of the messages, without what HTTP/2 adds.
    pub bytes: u64,
    /// Responses that were refused.
    pub nacks: u64,
}

impl Totals {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            responses: self.responses + other.responses,
            resources: self.resources + other.resources,
            removed: self.removed + other.removed,
            bytes: self.bytes + other.bytes,
            nacks: self.nacks + other.nacks,
        }
    }

    /// What came since an earlier count.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            responses: self.responses - earlier.responses,
            resources: self.resources - earlier.resources,
            removed: self.removed - earlier.removed,
            bytes: self.bytes - earlier.bytes,
            nacks: self.nacks - earlier.nacks,
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    responses: AtomicU64,
    resources: AtomicU64,
    removed: AtomicU64,
    bytes: AtomicU64,
    nacks: AtomicU64,
}

/// Durations in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Sorts.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one below which this share lies, of 0 to 1; zero when there is none.
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied().unwrap_or_default()
    }

    /// The longest; zero when there is none.
    pub fn last(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    /// The shortest; zero when there is none.
    pub fn first(&self) -> Duration {
        self.0.first().copied().unwrap_or_default()
    }
}

/// What each client is to receive for a round to be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Resources of this type,
    pub ty: ResourceType,
    /// of this name or of any,
    pub name: Option<NameId>,
    /// so many.
    pub count: usize,
}

/// Something that each client of a number is to receive.
#[derive(Debug)]
pub struct Round {
    /// What it is.
    pub awaited: Awaited,
    clients: usize,
    start: Instant,
    arrivals: Mutex<Vec<Duration>>,
    done: Notify,
}

impl Round {
    /// A client has received it.
    pub fn arrived(&self) {
        let mut arrivals = lock(&self.arrivals);
        arrivals.push(self.start.elapsed());
        if arrivals.len() >= self.clients {
            self.done.notify_waiters();
        }
    }

    /// When it had reached each client, counted from the round's begin; fewer than expected when the time is over first.
    pub async fn finish(&self, within: Duration) -> Times {
        let all = async {
            loop {
                let done = self.done.notified();
                if lock(&self.arrivals).len() >= self.clients {
                    return;
                }
                done.await;
            }
        };
        // Whoever is missing then is missing in the times.
        timeout(within, all).await.ok();
        Times::new(lock(&self.arrivals).clone())
    }
}

/// How one version of a type came to the clients.
#[derive(Clone, Copy, Debug)]
struct Push {
    first: Instant,
    last: Instant,
    clients: usize,
}

/// What is remembered of each push.
#[derive(Debug, Default)]
struct Pushes {
    by_version: HashMap<(ResourceType, u64), Push>,
    hash: RandomState,
}

/// Shared by all clients of a fleet.
#[derive(Debug)]
pub struct Board {
    /// Names that they have heard of.
    pub names: Names,
    clients: usize,
    counters: [Counters; ResourceType::COUNT],
    open: AtomicUsize,
    opened: AtomicUsize,
    served: AtomicUsize,
    changed: Notify,
    connect: Mutex<Vec<Duration>>,
    serve: Mutex<Vec<Duration>>,
    errors: Mutex<BTreeMap<String, usize>>,
    round_number: AtomicU64,
    round: Mutex<Option<Arc<Round>>>,
    pushes: Option<Mutex<Pushes>>,
}

/// Whether a board remembers each push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remember {
    /// Only counts.
    Counts,
    /// The spread of each version over the clients: a lock for each response.
    Pushes,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// For so many clients.
    pub fn new(clients: usize, remember: Remember) -> Arc<Self> {
        Arc::new(Self {
            names: Names::default(),
            clients,
            counters: Default::default(),
            open: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            changed: Notify::new(),
            connect: Mutex::default(),
            serve: Mutex::default(),
            errors: Mutex::default(),
            round_number: AtomicU64::new(0),
            round: Mutex::default(),
            pushes: (remember == Remember::Pushes).then(Mutex::default),
        })
    }

    /// How many clients there are to be.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// The counts of one type.
    pub fn totals(&self, ty: ResourceType) -> Totals {
        let of = &self.counters[ty.index()];
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            responses: read(&of.responses),
            resources: read(&of.resources),
            removed: read(&of.removed),
            bytes: read(&of.bytes),
            nacks: read(&of.nacks),
        }
    }

    /// The counts of all types.
    pub fn total(&self) -> Totals {
        ResourceType::ALL.into_iter().fold(Totals::default(), |sum, ty| sum.plus(self.totals(ty)))
    }

    /// Streams that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Streams that were ever opened.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// Clients that are served.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// How long connecting took, from the first packet to the server's first answer in HTTP/2.
    pub fn connect_times(&self) -> Times {
        Times::new(lock(&self.connect).clone())
    }

    /// How long it took from a client's start to its being served.
    pub fn serve_times(&self) -> Times {
        Times::new(lock(&self.serve).clone())
    }

    /// Why clients ended, and how many did.
    pub fn errors(&self) -> BTreeMap<String, usize> {
        lock(&self.errors).clone()
    }

    /// Clients that have ended.
    pub fn failed(&self) -> usize {
        lock(&self.errors).values().sum()
    }

    /// Looks at the pushes from here on.
    pub fn forget_pushes(&self) {
        if let Some(pushes) = &self.pushes {
            lock(pushes).by_version.clear();
        }
    }

    /// Waits until a condition holds that depends on clients connecting, being served or ending; whether it does.
    pub async fn until(&self, within: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let all = async {
            loop {
                let changed = self.changed.notified();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        timeout(within, all).await.is_ok()
    }

    /// How long each push took from the first client to the last, of those that came to at least two, and how many
    /// versions there were.
    pub fn spreads(&self) -> (Times, usize) {
        let Some(pushes) = &self.pushes else { return Default::default() };
        let pushes = lock(pushes);
        let shared = pushes.by_version.values().filter(|push| push.clients > 1);
        (Times::new(shared.map(|push| push.last - push.first).collect()), pushes.by_version.len())
    }

    /// Begins a round: from here on each client counts what it receives towards it.
    pub fn begin(&self, awaited: Awaited, clients: usize) -> Arc<Round> {
        let (arrivals, done) = (Mutex::new(Vec::with_capacity(clients)), Notify::new());
        let round = Arc::new(Round { awaited, clients, start: Instant::now(), arrivals, done });
        *lock(&self.round) = Some(round.clone());
        self.round_number.fetch_add(1, Ordering::Release);
        round
    }

    pub(super) fn round_number(&self) -> u64 {
        self.round_number.load(Ordering::Acquire)
    }

    pub(super) fn round(&self) -> Option<Arc<Round>> {
        lock(&self.round).clone()
    }

    pub(super) fn client_connected(&self, took: Duration) {
        lock(&self.connect).push(took);
    }

    pub(super) fn stream_opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub(super) fn stream_closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub(super) fn client_served(&self, took: Duration) {
        lock(&self.serve).push(took);
        if self.served.fetch_add(1, Ordering::Relaxed) + 1 >= self.clients {
            self.changed.notify_waiters();
        }
    }

    pub(super) fn client_not_served(&self) {
        self.served.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn client_failed(&self, error: String) {
        let mut errors = lock(&self.errors);
        let key = if errors.len() < MAX_ERRORS { error } else { "other errors".to_owned() };
        *errors.entry(key).or_default() += 1;
        drop(errors);
        self.changed.notify_waiters();
    }

    pub(super) fn response(&self, ty: ResourceType, summary: &Summary, removed: usize) {
        let of = &self.counters[ty.index()];
        of.responses.fetch_add(1, Ordering::Relaxed);
        of.resources.fetch_add(summary.resources as u64, Ordering::Relaxed);
        of.removed.fetch_add(removed as u64, Ordering::Relaxed);
        of.bytes.fetch_add(summary.bytes as u64, Ordering::Relaxed);
        let Some(pushes) = &self.pushes else { return };
        let now = Instant::now();
        let mut pushes = lock(pushes);
        let key = (ty, pushes.hash.hash_one(&summary.version));
        let is_full = pushes.by_version.len() >= MAX_PUSHES;
        if let Some(push) = pushes.by_version.get_mut(&key) {
            (push.last, push.clients) = (now, push.clients + 1);
        } else if !is_full {
            pushes.by_version.insert(key, Push { first: now, last: now, clients: 1 });
        }
    }

    pub(super) fn refused(&self, ty: ResourceType) {
        self.counters[ty.index()].nacks.fetch_add(1, Ordering::Relaxed);
    }
}
