//! What all clusters shall have, and what each of them was not told yet. Work is by what changed and for how many
//! clusters it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::applier::{Counters, Summary};
use super::object::{Audience, Id, Part};
use super::{Import, Inbox, News, Outbox, Wanted, render};
use crate::kube::outbox::SnapshotKey;
use crate::kube::slices;
use crate::model::id::{ClusterName, NamespacedName};

/// How long after the start nothing is taken away: what is not proved again yet after a restart is nobody's news.
const SETTLED: Duration = Duration::from_secs(30);

/// What of all that a cluster is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Names and VIPs of accesses, and pods.
    pub accesses: bool,
    /// The pods of other sub-clusters too, and not only the primary's.
    pub all_pods: bool,
    /// Namespaces that are left alone.
    pub excluded: BTreeSet<Arc<str>>,
}

/// From what objects come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Service(NamespacedName),
    Pods(SnapshotKey),
    Exports(NamespacedName),
}

#[derive(Default)]
struct Inner {
    /// By service, and then by access.
    imports: BTreeMap<NamespacedName, BTreeMap<NamespacedName, Arc<Import>>>,
    /// Into how many objects pods go.
    counts: BTreeMap<SnapshotKey, usize>,
    objects: BTreeMap<Source, BTreeMap<(Id, Audience), Arc<Part>>>,
    complete: bool,
    settled: bool,
    inboxes: BTreeMap<ClusterName, (Scope, Inbox)>,
    counters: BTreeMap<ClusterName, Arc<Counters>>,
    summaries: BTreeMap<ClusterName, Summary>,
}

/// The board. Cheap to clone.
#[derive(Clone)]
pub struct Board {
    primary: ClusterName,
    inner: Arc<Mutex<Inner>>,
}

impl Board {
    /// An empty board. The primary is the cluster whose pods all others are given.
    pub fn new(primary: ClusterName) -> Self {
        Self { primary, inner: Arc::default() }
    }

    /// Takes in what is told, for as long as it runs.
    pub async fn run(self, outbox: Outbox) {
        let settled = Instant::now() + SETTLED;
        loop {
            let is_settled = self.lock().settled;
            tokio::select! {
                () = outbox.news() => self.take(outbox.take()),
                () = tokio::time::sleep_until(settled), if !is_settled => self.settle(),
            }
        }
    }

    /// From now on what is less may be taken away.
    pub fn settle(&self) {
        let mut inner = self.lock();
        inner.settled = true;
        inner.inboxes.values().for_each(|(_, inbox)| inbox.put(|wanted| wanted.settled = true));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change leaves it whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what is told.
    pub fn take(&self, news: News) {
        let mut inner = self.lock();
        let mut services = BTreeSet::new();
        for ((service, access), import) in news.imports {
            let imports = inner.imports.entry(service.clone()).or_default();
            match import {
                Some(import) => drop(imports.insert(access, import)),
                None => drop(imports.remove(&access)),
            }
            if imports.is_empty() {
                inner.imports.remove(&service);
            }
            services.insert(service);
        }
        for service in services {
            // Of several accesses to one service, the first by name has the say, and one that has VIPs before one that
            // has none.
            let imports = inner.imports.get(&service).map(BTreeMap::values);
            let import = imports.and_then(|imports| imports.min_by_key(|import| import.vips.is_empty()));
            let objects = import.map_or_else(Vec::new, |import| render::of_service(&service, import));
            self.put(&mut inner, Source::Service(service), objects);
        }
        for (key, content) in news.snapshots {
            let objects = match content {
                None => {
                    inner.counts.remove(&key);
                    Vec::new()
                }
                Some(content) => {
                    let before = inner.counts.get(&key).copied().unwrap_or(1);
                    let count = slices::count(&content.pods, before);
                    inner.counts.insert(key.clone(), count);
                    render::of_pods(&key, &content, count)
                }
            };
            self.put(&mut inner, Source::Pods(key), objects);
        }
        for (id, exports) in news.exports {
            let objects = exports.iter().map(render::of_export).collect();
            self.put(&mut inner, Source::Exports(id), objects);
        }
        if news.complete && !inner.complete {
            inner.complete = true;
            inner.inboxes.values().for_each(|(_, inbox)| inbox.put(|wanted| wanted.complete = true));
        }
    }

    /// A source has these objects from now on.
    fn put(&self, inner: &mut Inner, source: Source, objects: Vec<(Id, Part)>) {
        let mut before = inner.objects.remove(&source).unwrap_or_default();
        let mut now = BTreeMap::new();
        let mut changes: Vec<(Id, Audience, Option<Arc<Part>>)> = Vec::new();
        for (id, part) in objects {
            // Clusters may have different objects of one name.
            let key = (id, part.audience.clone());
            let part = match before.remove(&key) {
                Some(known) if known.is_same(&part) => known,
                _ => {
                    let part = Arc::new(part);
                    changes.push((key.0.clone(), key.1.clone(), Some(part.clone())));
                    part
                }
            };
            now.insert(key, part);
        }
        changes.extend(before.into_keys().map(|(id, audience)| (id, audience, None)));
        if !now.is_empty() {
            inner.objects.insert(source, now);
        }
        if changes.is_empty() {
            return;
        }
        for (cluster, (scope, inbox)) in &inner.inboxes {
            let for_it = changes.iter().filter(|(id, audience, _)| self.is_for(cluster, scope, id, audience));
            let for_it: Vec<(Id, Option<Arc<Part>>)> = for_it.map(|(id, _, part)| (id.clone(), part.clone())).collect();
            if !for_it.is_empty() {
                inbox.put(|wanted| wanted.changes.extend(for_it));
            }
        }
    }

    fn is_for(&self, cluster: &ClusterName, scope: &Scope, id: &Id, audience: &Audience) -> bool {
        scope.accesses
            && !scope.excluded.contains(&id.name.namespace)
            && match audience {
                Audience::Everyone => true,
                Audience::Only(only) => only == cluster,
                Audience::PodsOf(of) => of != cluster && (scope.all_pods || *of == self.primary),
            }
    }

    /// What a cluster shall have, from the start. An inbox that it was given before is told nothing any more.
    pub fn inbox(&self, cluster: &ClusterName, scope: Scope) -> Inbox {
        let mut inner = self.lock();
        let inbox = Inbox::default();
        let all = inner.objects.values().flatten();
        let for_it = all.filter(|((id, audience), _)| self.is_for(cluster, &scope, id, audience));
        let changes = for_it.map(|((id, _), part)| (id.clone(), Some(part.clone()))).collect();
        let (complete, settled) = (inner.complete, inner.settled);
        inbox.put(|wanted| *wanted = Wanted { changes, complete, settled });
        inner.inboxes.insert(cluster.clone(), (scope, inbox.clone()));
        inbox
    }

    /// Nothing is told to the cluster any more.
    pub fn forget(&self, cluster: &ClusterName) {
        let mut inner = self.lock();
        inner.inboxes.remove(cluster);
        inner.counters.remove(cluster);
        inner.summaries.remove(cluster);
    }

    /// Where what is written to a cluster is counted, from one applier to the next.
    pub fn counters(&self, cluster: &ClusterName) -> Arc<Counters> {
        self.lock().counters.entry(cluster.clone()).or_default().clone()
    }

    /// A cluster is so far.
    pub fn tell(&self, cluster: &ClusterName, summary: &Summary) {
        let mut inner = self.lock();
        if inner.summaries.get(cluster) != Some(summary) {
            inner.summaries.insert(cluster.clone(), summary.clone());
        }
    }

    /// How far all clusters are, by name.
    pub fn summaries(&self) -> BTreeMap<ClusterName, Summary> {
        self.lock().summaries.clone()
    }
}
