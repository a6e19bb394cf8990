//! Writes to the primary's API server what the outbox holds: statuses, and the snapshot information of accesses' pods.
//! What is there is watched, so that only what differs is written: nothing, while nothing changes.

mod seen;
mod status;
mod wanted;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::ApiResource;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::seen::{Kind, News, Seen, Target, Writer as Hand, seen as see};
use self::wanted::Wanted;
use super::connect::explain;
use super::kinds::SnapshotOwner;
use super::outbox::{Outbox, SnapshotKey};
use super::queue::Queue;
use super::slices;
use super::virtual_ips::MANAGER;
use crate::model::id::NamespacedName;

/// Messages of watches that wait.
const NEWS: usize = 256;
/// How long after the start only what is complete is written: what is on its way to where it was before a restart is
/// nobody's news.
const START: Duration = Duration::from_secs(10);
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(10);
/// What was written, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Statuses.
    pub statuses: AtomicU64,
    /// EndpointSnapshots, made or changed.
    pub snapshots: AtomicU64,
    /// EndpointSnapshots, deleted.
    pub deletions: AtomicU64,
    /// Writes that failed.
    pub failures: AtomicU64,
}

/// What is to be done with one object.
enum Step {
    Apply(Value),
    Status(Value),
    Delete { uid: String },
}

/// What became of it.
enum Done {
    There(Box<Seen>),
    Gone,
    Failed(String),
}

struct Writer {
    client: Client,
    counters: Arc<Counters>,
    wanted: Wanted,
    started: Instant,
    there: BTreeMap<Target, Seen>,
    /// Of the kinds that are being listed: what was not told yet.
    unlisted: HashMap<Kind, BTreeSet<Target>>,
    listed: BTreeSet<Kind>,
    queue: Queue<Target>,
    writes: JoinSet<(Target, Done)>,
}

/// Writes until `shutdown`.
pub async fn run(client: Client, outbox: Outbox, counters: Arc<Counters>, shutdown: CancellationToken) {
    let (out, mut news) = mpsc::channel(NEWS);
    for kind in Kind::ALL {
        tokio::spawn(seen::watch(kind, client.clone(), out.clone()));
    }
    drop(out);
    let mut writer = Writer {
        client,
        counters,
        wanted: Wanted::default(),
        started: Instant::now(),
        there: BTreeMap::new(),
        unlisted: HashMap::new(),
        listed: BTreeSet::new(),
        queue: Queue::new(),
        writes: JoinSet::new(),
    };
    loop {
        let pause = writer.begin(Instant::now());
        tokio::select! {
            () = shutdown.cancelled() => return,
            // Until all that is there is known, it waits where only its latest form is kept.
            () = outbox.news(), if writer.is_listed() => writer.take(&outbox),
            Some(first) = news.recv() => {
                writer.hear(first);
                while let Ok(next) = news.try_recv() {
                    writer.hear(next);
                }
            }
            Some(done) = writer.writes.join_next() => writer.ended(done),
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
    }
}

impl Writer {
    fn is_listed(&self) -> bool {
        Kind::ALL.iter().all(|kind| *kind == Kind::DnsEndpoint || self.listed.contains(kind))
    }

    fn take(&mut self, outbox: &Outbox) {
        let there = &self.there;
        let was_complete = self.wanted.is_complete;
        let touched = self.wanted.take(outbox.take(), |key| count_of(there, key));
        self.queue.extend(touched);
        if self.wanted.is_complete && !was_complete {
            // What is there and nobody spoke of is looked at too.
            let others = |target: &&Target| target.kind.is_made() || target.kind == Kind::Service;
            self.queue.extend(self.there.keys().filter(others).cloned());
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Begin(kind) => {
                let there = self.there.keys().filter(|target| target.kind == kind).cloned().collect();
                self.unlisted.insert(kind, there);
            }
            News::There(target, seen) => {
                if let Some(unlisted) = self.unlisted.get_mut(&target.kind) {
                    unlisted.remove(&target);
                }
                self.see(target, *seen);
            }
            News::Gone(target) => self.gone(target),
            News::Done(kind) => {
                let gone = self.unlisted.remove(&kind).unwrap_or_default();
                gone.into_iter().for_each(|target| self.gone(target));
                self.listed.insert(kind);
            }
        }
    }

    fn see(&mut self, target: Target, seen: Seen) {
        let before = self.there.get(&target);
        // A watch tells of what was written after the answer to the write.
        if before.is_some_and(|before| before.uid == seen.uid && before.version > seen.version) {
            return;
        }
        let is_another = before.is_none_or(|before| before.uid != seen.uid);
        if target.kind == Kind::ClusterAccess && is_another {
            // Its snapshots say whose they are.
            self.queue.extend(self.wanted.made_for(&target.id));
        }
        self.queue.extend(self.wanted.told_by(&target));
        self.there.insert(target.clone(), seen);
        self.queue.add(target);
    }

    fn gone(&mut self, target: Target) {
        self.queue.extend(self.wanted.told_by(&target));
        self.there.remove(&target);
        self.queue.add(target);
    }

    /// Begins what can be begun; says when there will be more.
    fn begin(&mut self, now: Instant) -> Option<Duration> {
        if !self.is_listed() {
            return None;
        }
        let starting = START.saturating_sub(now.duration_since(self.started));
        if !self.wanted.is_complete && !starting.is_zero() {
            return Some(starting);
        }
        let text = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string();
        let (there, wanted) = (&self.there, &self.wanted);
        let (begun, pause) = self.queue.begin(now, |target| step(wanted, there, target, &text));
        for (target, step) in begun {
            self.writes.spawn(write(self.client.clone(), target, step, self.counters.clone()));
        }
        pause
    }

    fn ended(&mut self, done: Result<(Target, Done), tokio::task::JoinError>) {
        let Ok((target, done)) = done else { return };
        let now = Instant::now();
        match done {
            Done::There(seen) => {
                self.queue.written(&target, now);
                self.see(target, *seen);
            }
            Done::Gone => {
                self.queue.gone(&target);
                self.gone(target);
            }
            Done::Failed(why) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%target, why, "an object cannot be written");
                self.queue.failed(target, now);
            }
        }
    }
}

/// What is to be done with an object next.
fn step(wanted: &Wanted, all: &BTreeMap<Target, Seen>, target: &Target, now: &str) -> Option<Step> {
    let there = all.get(target);
    if wanted.is_made(target) {
        if there.is_some_and(|seen| seen.writer == Hand::Other && seen.owner == SnapshotOwner::User) {
            tracing::warn!(%target, "somebody else's object has the name of one of Causeway's; it is left alone: give it another name");
            return None;
        }
        let access = wanted.access_of(target).and_then(|access| all.get(&access));
        let (hash, object) = wanted.object(target, access.map_or("", |access| &access.uid))?;
        if there.is_none_or(|seen| seen.content != hash) {
            return Some(Step::Apply(object));
        }
    } else if target.kind.is_made()
        && let Some(seen) = there.filter(|seen| seen.writer == Hand::Causeway)
        && (target.kind == Kind::DnsEndpoint || seen.owner == SnapshotOwner::System)
    {
        return wanted.is_complete.then(|| Step::Delete { uid: seen.uid.clone() });
    }
    let leftover = target.kind == Kind::Service && !wanted.is_complete;
    if leftover { None } else { wanted.status(target, all, now).map(Step::Status) }
}

/// How many objects there are of an access's pods in a cluster.
fn count_of(there: &BTreeMap<Target, Seen>, key: &SnapshotKey) -> usize {
    let base = format!("{}.", slices::base_name(key));
    let first =
        Target { kind: Kind::EndpointSnapshot, id: NamespacedName::new(key.access.namespace.clone(), base.as_str()) };
    let ours = there.range(first.clone()..).take_while(|(target, _)| {
        target.kind == first.kind && target.id.namespace == first.id.namespace && target.id.name.starts_with(&*base)
    });
    let index = |target: &Target| target.id.name.get(base.len()..).and_then(|text| text.parse::<usize>().ok());
    ours.filter_map(|(target, _)| index(target)).max().map_or(0, |last| last + 1)
}

async fn write(client: Client, target: Target, step: Step, counters: Arc<Counters>) -> (Target, Done) {
    let api = target.api(client);
    let (name, params) = (target.id.name.to_string(), PatchParams::apply(MANAGER).force());
    let (what, answer) = match step {
        Step::Apply(object) => (&counters.snapshots, answered(api.patch(&name, &params, &Patch::Apply(&object))).await),
        Step::Status(status) => {
            let ApiResource { api_version, kind, .. } = target.kind.resource();
            let metadata = json!({ "name": name });
            let object = json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata, "status": status });
            match answered(api.patch_status(&name, &params, &Patch::Apply(&object))).await {
                // It went meanwhile.
                Err((404, _)) => return (target, Done::Gone),
                answer => (&counters.statuses, answer),
            }
        }
        Step::Delete { uid } => {
            let preconditions = Some(Preconditions { uid: Some(uid), ..Preconditions::default() });
            let done = match answered(api.delete(&name, &DeleteParams { preconditions, ..Default::default() })).await {
                Ok(_) => {
                    counters.deletions.fetch_add(1, Ordering::Relaxed);
                    Done::Gone
                }
                // One of another uid is another object.
                Err((404 | 409, _)) => Done::Gone,
                Err((_, why)) => Done::Failed(why),
            };
            return (target, done);
        }
    };
    let done = match answer {
        Ok(object) => {
            what.fetch_add(1, Ordering::Relaxed);
            Done::There(Box::new(see(target.kind, &object)))
        }
        Err((_, why)) => Done::Failed(why),
    };
    (target, done)
}

/// The answer, or the status code (0 where none came) and why there is none.
async fn answered<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, (u16, String)> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err((status.code, status.message.clone())),
        Ok(Err(error)) => Err((0, explain(&error).to_string())),
        Err(_) => Err((0, format!("the API server has not answered within {} s", ANSWER.as_secs()))),
    }
}
