//! What is in a cluster of what came down: enough of it to know what differs.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DynamicObject;
use kube::core::{ApiResource, PartialObjectMeta};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

use super::object::{Id, Kind, Part};
use super::{LABEL, SERVICES};
use crate::kube::connect::{Refused, explain_watch};
use crate::model::id::NamespacedName;

/// As with all watches, see `watch::kind`.
const PATIENCE: u32 = 35;
const AGAIN: Duration = Duration::from_secs(1);
/// The pause while the kind is not served, or not to be read.
const SELDOM: Duration = Duration::from_secs(10);
/// The annotation that says which form was written.
pub(super) const FORM: &str = "causeway.dev/form";

/// An object as it is.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub uid: String,
    /// `metadata.resourceVersion`, by which of two forms the later is told.
    pub version: u64,
    /// Whether Causeway made it.
    pub is_ours: bool,
    object: Value,
}

impl Seen {
    pub fn of(object: &DynamicObject) -> Self {
        let mut object = object.clone();
        object.metadata.managed_fields = None;
        let is_ours = object.labels().get(LABEL).is_some_and(|value| value == "true");
        Self {
            uid: object.uid().unwrap_or_default(),
            version: object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default(),
            is_ours,
            // An object that came as JSON can be said in it.
            object: serde_json::to_value(object).unwrap_or_default(),
        }
    }

    /// Whether all is there that is wanted, and nothing of an earlier form.
    pub fn has_body(&self, part: &Part) -> bool {
        let form = self.object.pointer("/metadata/annotations/causeway.dev~1form").and_then(Value::as_str);
        form == Some(&part.form_text()) && covers(&self.object, &part.body)
    }

    /// Whether the status is as it is wanted.
    pub fn has_status(&self, part: &Part) -> bool {
        covers(self.object.get("status").unwrap_or(&Value::Null), &part.status)
    }

    /// The status to write: conditions that were there in the same status keep since when that is so.
    pub fn status_to_write(&self, part: &Part, now: &str) -> Value {
        let mut status = part.status.clone();
        let known = self.object.pointer("/status/conditions").and_then(Value::as_array);
        for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
            let is_same = |known: &&Value| known["type"] == condition["type"] && known["status"] == condition["status"];
            let since =
                known.into_iter().flatten().find(is_same).and_then(|known| known["lastTransitionTime"].as_str());
            condition["lastTransitionTime"] = Value::from(since.unwrap_or(now));
        }
        status
    }
}

/// Whether a value says all that another does. Lists have to be the same; what is empty need not be said.
pub(super) fn covers(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (_, Value::Null) => true,
        (Value::Null, Value::Array(items)) => items.is_empty(),
        (Value::Null, Value::Object(fields)) => fields.values().all(|field| covers(&Value::Null, field)),
        (Value::Object(value), Value::Object(wanted)) => {
            wanted.iter().all(|(key, field)| covers(value.get(key).unwrap_or(&Value::Null), field))
        }
        (Value::Array(value), Value::Array(wanted)) => {
            value.len() == wanted.len() && value.iter().zip(wanted).all(|(value, wanted)| covers(value, wanted))
        }
        (value, wanted) => value == wanted,
    }
}

/// What watches tell.
#[derive(Debug)]
pub(super) enum News {
    /// The kind is served so.
    Served(Kind, ApiResource),
    Begin(Kind),
    There(Id, Box<Seen>),
    Gone(Id),
    Done(Kind),
    /// A kind cannot be watched, and why.
    Failing(Option<Kind>, Refused),
    /// A namespace is there, and whether it asks for Services; `None` where it is gone or going.
    Namespace(String, Option<bool>),
    NamespacesBegin,
    NamespacesDone,
}

/// Watches what came down of a kind, for as long as somebody listens.
pub(super) async fn watch(kind: Kind, client: Client, out: mpsc::Sender<News>) {
    loop {
        let (mut is_served, mut why) = (false, None);
        for resource in kind.resources() {
            match watch_as(kind, &resource, &client, &out).await {
                Watched::Missing => {}
                Watched::Refused(refused) => why = Some(refused),
                Watched::Vanished => is_served = true,
                Watched::Closed => return,
            }
            if is_served || why.is_some() {
                break;
            }
        }
        if !is_served {
            let why = why.unwrap_or_else(|| missing(kind));
            if out.send(News::Failing(Some(kind), why)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(SELDOM).await;
    }
}

fn missing(kind: Kind) -> Refused {
    let resource = kind.resources().swap_remove(0);
    let message = format!("the API server does not know the kind {} of {}", resource.kind, resource.group);
    Refused::new("KindMissing", message, kind.remedy())
}

enum Watched {
    /// The kind is not served so.
    Missing,
    /// It may not be read.
    Refused(Refused),
    /// It was served, and is no more.
    Vanished,
    /// Nobody listens.
    Closed,
}

async fn watch_as(kind: Kind, resource: &ApiResource, client: &Client, out: &mpsc::Sender<News>) -> Watched {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let config = watcher::Config::default().timeout(PATIENCE).streaming_lists();
    let config = if kind.is_made() { config.labels(&format!("{LABEL}=true")) } else { config };
    let mut events = pin!(listed_again_after_failures(api, config));
    let mut is_served = false;
    let id = |object: &DynamicObject| Id {
        kind,
        name: NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any()),
    };
    while let Some(event) = events.next().await {
        let news = match event {
            Ok(Event::Init) => News::Begin(kind),
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                News::There(id(&object), Box::new(Seen::of(&object)))
            }
            Ok(Event::Delete(object)) => News::Gone(id(&object)),
            Ok(Event::InitDone) => {
                if !std::mem::replace(&mut is_served, true)
                    && out.send(News::Served(kind, resource.clone())).await.is_err()
                {
                    return Watched::Closed;
                }
                News::Done(kind)
            }
            Err(error) => match code_of(&error) {
                Some(404) if is_served => return Watched::Vanished,
                Some(404) => return Watched::Missing,
                Some(403) => return Watched::Refused(explain_watch(&error)),
                _ => {
                    tokio::time::sleep(AGAIN).await;
                    News::Failing(Some(kind), explain_watch(&error))
                }
            },
        };
        if out.send(news).await.is_err() {
            return Watched::Closed;
        }
    }
    Watched::Vanished
}

/// What a watcher tells. One that goes on after a failure says nothing where nothing has changed, and nobody would know
/// that it does; so another one lists anew. Whoever reads it pauses after a failure.
fn listed_again_after_failures<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Result<Event<K>>>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let begin = move || Box::pin(watcher(api.clone(), config.clone()));
    stream::unfold((None, begin), |(events, begin)| async move {
        let mut events = events.unwrap_or_else(&begin);
        let event = events.next().await?;
        let events = event.is_ok().then_some(events);
        Some((event, (events, begin)))
    })
}

/// Watches which namespaces there are, for as long as somebody listens.
pub(super) async fn namespaces(client: Client, out: mpsc::Sender<News>) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let config = watcher::Config::default().timeout(PATIENCE).streaming_lists();
    let mut events = pin!(listed_again_after_failures(api, config));
    while let Some(event) = events.next().await {
        let news = match event {
            Ok(Event::Init) => News::NamespacesBegin,
            Ok(Event::InitApply(namespace) | Event::Apply(namespace)) => of_namespace(&namespace),
            Ok(Event::Delete(namespace)) => News::Namespace(namespace.name_any(), None),
            Ok(Event::InitDone) => News::NamespacesDone,
            Err(error) => {
                let pause = if code_of(&error) == Some(403) { SELDOM } else { AGAIN };
                tokio::time::sleep(pause).await;
                News::Failing(None, explain_watch(&error))
            }
        };
        if out.send(news).await.is_err() {
            return;
        }
    }
}

fn of_namespace(namespace: &PartialObjectMeta<Namespace>) -> News {
    let asks = namespace.labels().get(SERVICES).is_some_and(|value| value == "true");
    let is_going = namespace.metadata.deletion_timestamp.is_some();
    News::Namespace(namespace.name_any(), (!is_going).then_some(asks))
}

fn code_of(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::extract::RawQuery;
    use axum::http::StatusCode;

    use super::*;

    /// All that a streamed list says of nothing, after which the watch ends.
    const NOTHING: &str = r#"{"type": "BOOKMARK", "object": {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata":
        {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}}}"#;
    const AWAY: &str = r#"{"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "message": "away", "code": 500}"#;

    #[tokio::test]
    async fn that_a_watch_goes_on_after_a_failure_is_told_though_nothing_has_changed() {
        let watches = Arc::new(AtomicU32::new(0));
        let answer = move |RawQuery(query): RawQuery| {
            let is_list = query.is_some_and(|query| query.contains("sendInitialEvents=true"));
            let is_first = !is_list && watches.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                match (is_list, is_first) {
                    (true, _) => (StatusCode::OK, NOTHING.replace('\n', " ") + "\n"),
                    (_, true) => (StatusCode::INTERNAL_SERVER_ERROR, AWAY.to_owned()),
                    _ => std::future::pending().await,
                }
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
        let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        let (out, mut news) = mpsc::channel(16);
        tokio::spawn(namespaces(client, out));
        let mut told = Vec::new();
        while told.iter().filter(|news| matches!(news, News::NamespacesDone)).count() < 2 {
            let next = tokio::time::timeout(Duration::from_secs(20), news.recv()).await;
            told.push(next.unwrap_or_else(|_| panic!("nothing was told after {told:?}")).unwrap());
        }
        let failed = told.iter().position(|news| matches!(news, News::Failing(None, _))).expect("a failure is told");
        assert!(matches!(told[failed + 1..], [News::NamespacesBegin, News::NamespacesDone]), "{told:?}");
    }
}
