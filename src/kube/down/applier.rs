//! Brings one cluster to what it shall have: makes, changes and takes away what Causeway made there, and leaves alone
//! what others did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ApiResource;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Inbox;
use super::cluster::{Cluster, Done, Step, Written};
use super::object::{Id, Kind, Part};
use super::seen::{self, FORM, Seen};
use crate::kube::connect::{Refused, explain};
use crate::kube::virtual_ips::MANAGER;

/// Messages of watches that wait.
const NEWS: usize = 256;
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(10);
/// How often it is told how far it is.
const TELL: Duration = Duration::from_millis(500);

/// What was written to one cluster, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Objects that were made.
    pub created: AtomicU64,
    /// Objects that were changed, and statuses.
    pub changed: AtomicU64,
    /// Objects that were taken away.
    pub deleted: AtomicU64,
    /// Writes that failed.
    pub failures: AtomicU64,
}

impl Counters {
    fn writes(&self) -> Writes {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Self { created, changed, deleted, failures } = self;
        Writes { created: of(created), changed: of(changed), deleted: of(deleted), failures: of(failures) }
    }
}

/// [`Counters`] at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in Counters")]
pub struct Writes {
    pub created: u64,
    pub changed: u64,
    pub deleted: u64,
    pub failures: u64,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// What was written since the process started.
    pub writes: Writes,
    /// Objects that the cluster shall have, in namespaces that it has.
    pub wanted: usize,
    /// What stands in the way, of which one reason is told. Nothing where all is written.
    pub trouble: Option<Refused>,
    /// Everything that is wanted is there.
    pub is_done: bool,
}

/// An applier at work, which ends when this is dropped.
pub struct Applying {
    /// How far it is.
    pub summary: watch::Receiver<Summary>,
    _end: DropGuard,
}

/// Begins to bring a cluster to what it shall have.
pub fn start(client: Client, inbox: Inbox, counters: Arc<Counters>) -> Applying {
    let (told, summary) = watch::channel(Summary::default());
    let end = CancellationToken::new();
    let until = end.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = until.cancelled() => {}
            () = run(client, inbox, counters, told) => {}
        }
    });
    Applying { summary, _end: end.drop_guard() }
}

async fn run(client: Client, inbox: Inbox, counters: Arc<Counters>, told: watch::Sender<Summary>) {
    let (out, mut news) = mpsc::channel(NEWS);
    for kind in Kind::ALL {
        tokio::spawn(seen::watch(kind, client.clone(), out.clone()));
    }
    tokio::spawn(seen::namespaces(client.clone(), out));
    let mut cluster = Cluster::new();
    let mut writes: JoinSet<(Id, Done)> = JoinSet::new();
    let mut tell = tokio::time::interval(TELL);
    tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_told = false;
    loop {
        let (begun, pause) = cluster.begin(Instant::now());
        for (id, resource, step) in begun {
            let api = Api::namespaced_with(client.clone(), &id.name.namespace, &resource);
            writes.spawn(write(api, resource, id, step, counters.clone()));
        }
        tokio::select! {
            () = inbox.news() => cluster.take(inbox.take()),
            Some(first) = news.recv() => {
                cluster.hear(first);
                while let Ok(next) = news.try_recv() {
                    cluster.hear(next);
                }
            }
            Some(Ok((id, done))) = writes.join_next() => cluster.ended(id, done, Instant::now()),
            _ = tell.tick(), if !is_told => {
                is_told = true;
                let summary = Summary {
                    writes: counters.writes(),
                    wanted: cluster.wanted(),
                    trouble: cluster.trouble().cloned(),
                    is_done: cluster.is_done(),
                };
                told.send_if_modified(|known| std::mem::replace(known, summary.clone()) != summary);
                continue;
            }
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
        is_told = false;
    }
}

async fn write(
    api: Api<DynamicObject>,
    resource: ApiResource,
    id: Id,
    step: Step,
    counters: Arc<Counters>,
) -> (Id, Done) {
    let wrote = |part: &Part, status: Option<Value>| Written { form: part.form, status };
    let (count, done) = match step {
        Step::Create(part) => {
            let done = match object(&resource, &id, &part) {
                Ok(object) => create(&api, &id, &object, wrote(&part, None)).await,
                Err(why) => Done::Failed(why),
            };
            (&counters.created, done)
        }
        Step::Replace(part, version) => {
            let done = match object(&resource, &id, &part) {
                Ok(object) => replace(&api, &id, object, version, wrote(&part, None)).await,
                Err(why) => Done::Failed(why),
            };
            (&counters.changed, done)
        }
        Step::Status(part, status) => {
            let patch = Patch::Merge(json!({ "status": status }));
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let answer = answered(api.patch_status(&id.name.name, &params, &patch)).await;
            (&counters.changed, of_write(answer, wrote(&part, Some(part.status.clone()))))
        }
        Step::Delete(uid) => {
            let done = delete(&api, &id, uid).await;
            if matches!(done, Done::Gone) {
                counters.deleted.fetch_add(1, Ordering::Relaxed);
            }
            return (id, done);
        }
    };
    let count = if matches!(done, Done::Anew) { &counters.deleted } else { count };
    match done {
        Done::There(..) | Done::Anew => drop(count.fetch_add(1, Ordering::Relaxed)),
        Done::Failed(_) => drop(counters.failures.fetch_add(1, Ordering::Relaxed)),
        Done::Found(_) | Done::Gone | Done::Outdated | Done::InTheWay => {}
    }
    (id, done)
}

async fn create(api: &Api<DynamicObject>, id: &Id, object: &DynamicObject, written: Written) -> Done {
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match answered(api.create(&params, object)).await {
        Ok(object) => Done::There(Box::new(Seen::of(&object)), written),
        // Of an object that is ours and that the watch did not tell of yet, it will.
        Err(Failure { code: 409, .. }) => match answered(api.get(&id.name.name)).await {
            Ok(object) => match Seen::of(&object) {
                seen if seen.is_ours => Done::Found(Box::new(seen)),
                _ => Done::InTheWay,
            },
            Err(failure) => Done::Failed(failure.why),
        },
        Err(failure) => Done::Failed(failure.why),
    }
}

async fn replace(api: &Api<DynamicObject>, id: &Id, mut object: DynamicObject, version: u64, written: Written) -> Done {
    object.metadata.resource_version = Some(version.to_string());
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match answered(api.replace(&id.name.name, &params, &object)).await {
        // Some fields cannot be changed, such as whether a Service has an address of its own.
        Err(Failure { code: 422, why })
            if why.message.contains("immutable") || why.message.contains("may not change") =>
        {
            match answered(api.delete(&id.name.name, &DeleteParams::default())).await {
                Ok(_) => Done::Anew,
                Err(failure) => Done::Failed(failure.why),
            }
        }
        answer => of_write(answer, written),
    }
}

async fn delete(api: &Api<DynamicObject>, id: &Id, uid: String) -> Done {
    let preconditions = Some(Preconditions { uid: Some(uid), ..Preconditions::default() });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    match answered(api.delete(&id.name.name, &params)).await {
        // One of another uid is another object.
        Ok(_) | Err(Failure { code: 404 | 409, .. }) => Done::Gone,
        Err(failure) => Done::Failed(failure.why),
    }
}

fn of_write(answer: Result<DynamicObject, Failure>, written: Written) -> Done {
    match answer {
        Ok(object) => Done::There(Box::new(Seen::of(&object)), written),
        Err(Failure { code: 404, .. }) => Done::Gone,
        Err(Failure { code: 409, .. }) => Done::Outdated,
        Err(failure) => Done::Failed(failure.why),
    }
}

/// The whole object.
fn object(resource: &ApiResource, id: &Id, part: &Part) -> Result<DynamicObject, Refused> {
    let mut body = part.body.clone();
    body["apiVersion"] = Value::from(resource.api_version.as_str());
    body["kind"] = Value::from(resource.kind.as_str());
    body["metadata"]["name"] = Value::from(&*id.name.name);
    body["metadata"]["namespace"] = Value::from(&*id.name.namespace);
    body["metadata"]["annotations"][FORM] = Value::from(part.form_text());
    serde_json::from_value(body).map_err(|error| {
        Refused::new("Unreadable", format!("{id}: {error}"), "upgrade the older one of Causeway's two ends")
    })
}

struct Failure {
    /// The status code; 0 where no answer came.
    code: u16,
    why: Refused,
}

async fn answered<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let code = if let kube::Error::Api(status) = &error { status.code } else { 0 };
            Err(Failure { code, why: explain(&error) })
        }
        Err(_) => {
            let message = format!("the API server has not answered within {} s", ANSWER.as_secs());
            Err(Failure { code: 0, why: Refused::new("Unreachable", message, "see whether it is overloaded") })
        }
    }
}
