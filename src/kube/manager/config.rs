//! What the manager reads of the primary for itself: ClusterInfos, and the ConfigMaps and Secrets of the namespaces in
//! which they say that kubeconfigs lie.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::cluster::Wanted;
use crate::kube::connect::Refused;
use crate::kube::kinds::{ClusterInfoResource, KeyRef, KubeconfigSource};
use crate::kube::watch::known::Known;
use crate::model::id::ClusterName;

/// As with all watches, see `watch::kind`.
const PATIENCE: u32 = 35;
const AGAIN: Duration = Duration::from_secs(1);
const NEWS: usize = 256;

/// What is new.
pub(super) enum News {
    /// A ClusterInfo is there, in this form.
    Info(Box<ClusterInfoResource>),
    /// A ClusterInfo is gone.
    InfoGone(ClusterName),
    /// These are all ClusterInfos.
    AllInfos(BTreeSet<ClusterName>),
    /// Something differs in the ConfigMaps or Secrets of a namespace.
    Config { namespace: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    ConfigMap,
    Secret,
}

/// The texts of one object, by key.
type Texts = BTreeMap<String, Arc<str>>;

/// What is known of the objects of one kind in one namespace; `None` before they were listed.
type Listed = Option<HashMap<String, Texts>>;

/// What is known of each namespace in which kubeconfigs lie.
type AllListed = Arc<Mutex<HashMap<(Place, String), Result<Listed, Refused>>>>;

/// The ConfigMaps and Secrets that were asked for.
pub(super) struct Configs {
    client: Client,
    news: mpsc::Sender<News>,
    cancel: CancellationToken,
    listed: AllListed,
}

impl Configs {
    /// Begins to watch ClusterInfos.
    pub fn start(client: Client, cancel: CancellationToken) -> (Self, mpsc::Receiver<News>) {
        let (news, receiver) = mpsc::channel(NEWS);
        let (api, out) = (Api::<Known<ClusterInfoResource>>::all(client.clone()), news.clone());
        let until = cancel.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = until.cancelled() => {}
                () = watch_infos(api, out) => {}
            }
        });
        (Self { client, news, cancel, listed: Arc::default() }, receiver)
    }

    /// How a cluster whose kubeconfig lies there is to be reached. Where the place was not watched before, it is from
    /// now on, and there is news when more is known.
    pub fn wanted(&self, source: &KubeconfigSource) -> Wanted {
        let (place, key) = match (&source.config_map_key_ref, &source.secret_key_ref) {
            (Some(key), None) => (Place::ConfigMap, key),
            (None, Some(key)) => (Place::Secret, key),
            _ => {
                return Wanted::Refused(Refused::new(
                    "InvalidSource",
                    "spec.source.kubeconfig names not exactly one place",
                    "write one of configMapKeyRef and secretKeyRef",
                ));
            }
        };
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (place, key.namespace.clone());
        let Some(objects) = listed.get(&at) else {
            listed.insert(at, Ok(None));
            self.watch(place, key.namespace.clone());
            return Wanted::Waiting;
        };
        match objects {
            Ok(None) => Wanted::Waiting,
            Ok(Some(objects)) => find(place, key, objects),
            Err(why) => Wanted::Refused(why.clone()),
        }
    }

    fn watch(&self, place: Place, namespace: String) {
        let (client, cancel) = (self.client.clone(), self.cancel.clone());
        let (listed, news) = (self.listed.clone(), self.news.clone());
        tokio::spawn(async move {
            let told = Told { place, namespace: namespace.clone(), listed, news };
            let watch = async {
                match place {
                    Place::ConfigMap => {
                        let texts = |map: &ConfigMap| {
                            let data = map.data.iter().flatten();
                            data.map(|(key, text)| (key.clone(), Arc::from(text.as_str()))).collect()
                        };
                        watch_texts(Api::namespaced(client, &namespace), texts, told).await;
                    }
                    Place::Secret => {
                        let texts = |secret: &Secret| {
                            let data = secret.data.iter().flatten();
                            let text = |bytes: &[u8]| Some(Arc::from(std::str::from_utf8(bytes).ok()?));
                            data.filter_map(|(key, bytes)| Some((key.clone(), text(&bytes.0)?))).collect()
                        };
                        watch_texts(Api::namespaced(client, &namespace), texts, told).await;
                    }
                }
            };
            tokio::select! {
                () = cancel.cancelled() => {}
                () = watch => {}
            }
        });
    }
}

fn find(place: Place, key: &KeyRef, objects: &HashMap<String, Texts>) -> Wanted {
    let KeyRef { namespace, name, key } = key;
    let remedy = "create it, or correct the reference in spec.source.kubeconfig";
    let Some(texts) = objects.get(name) else {
        let message = format!("there is no {place:?} {namespace}/{name}");
        return Wanted::Refused(Refused::new("KubeconfigMissing", message, remedy));
    };
    match texts.get(key) {
        Some(text) => Wanted::Kubeconfig { text: text.clone(), in_config_map: place == Place::ConfigMap },
        None => {
            let message = format!("the {place:?} {namespace}/{name} has no key `{key}` with a text");
            Wanted::Refused(Refused::new("KubeconfigMissing", message, remedy))
        }
    }
}

async fn watch_infos(api: Api<Known<ClusterInfoResource>>, news: mpsc::Sender<News>) {
    let mut events = pin!(watcher(api, watcher::Config::default().timeout(PATIENCE)));
    let mut all = BTreeSet::new();
    while let Some(event) = events.next().await {
        let told = match event {
            Ok(Event::Init) => {
                all.clear();
                continue;
            }
            Ok(Event::Apply(info) | Event::InitApply(info)) => {
                all.insert(ClusterName::from(info.name_any()));
                match info.object {
                    Ok(info) => News::Info(Box::new(info)),
                    // The reader of the primary tells of it.
                    Err(_) => continue,
                }
            }
            Ok(Event::Delete(info)) => News::InfoGone(ClusterName::from(info.name_any())),
            Ok(Event::InitDone) => News::AllInfos(std::mem::take(&mut all)),
            Err(error) => {
                tracing::debug!(%error, "ClusterInfos cannot be watched");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        if news.send(told).await.is_err() {
            return;
        }
    }
}

/// Where a watch of texts puts what it sees.
struct Told {
    place: Place,
    namespace: String,
    listed: AllListed,
    news: mpsc::Sender<News>,
}

impl Told {
    fn change(&self, change: impl FnOnce(&mut Result<Listed, Refused>)) {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        change(listed.entry((self.place, self.namespace.clone())).or_insert(Ok(None)));
    }
}

async fn watch_texts<K>(api: Api<K>, texts: impl Fn(&K) -> Texts, told: Told)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = pin!(watcher(api, watcher::Config::default().timeout(PATIENCE)));
    let mut listing = HashMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                listing.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listing.insert(object.name_any(), texts(&object));
                continue;
            }
            Ok(Event::InitDone) => {
                let all = std::mem::take(&mut listing);
                told.change(|listed| *listed = Ok(Some(all)));
            }
            Ok(Event::Apply(object)) => told.change(|listed| {
                if let Ok(Some(objects)) = listed {
                    objects.insert(object.name_any(), texts(&object));
                }
            }),
            Ok(Event::Delete(object)) => told.change(|listed| {
                if let Ok(Some(objects)) = listed {
                    objects.remove(&object.name_any());
                }
            }),
            Err(error) => {
                let forbidden = match &error {
                    watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403 => {
                        Some(status.message.clone())
                    }
                    _ => None,
                };
                if let Some(message) = forbidden {
                    let remedy = "let kubeconfigs lie in causeway-system, or give Causeway a Role in that namespace";
                    told.change(|listed| {
                        if matches!(listed, Ok(None)) {
                            *listed = Err(Refused::new("Forbidden", message, remedy));
                        }
                    });
                } else {
                    tracing::debug!(%error, namespace = told.namespace, "kubeconfigs cannot be watched");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
        if told.news.send(News::Config { namespace: told.namespace.clone() }).await.is_err() {
            return;
        }
    }
}
