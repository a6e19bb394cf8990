//! Where clusters are read from, wired to the owner of the truth.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Clusters, ServeConfig};
use crate::kube::down::Board;
use crate::kube::manager::{self, Members, Tell};
use crate::kube::outbox::Outbox;
use crate::manifests;
use crate::model::id::ClusterName;
use crate::reconcile::{Event, view};
use crate::store::Store;

/// The primary's name where API servers are read and nobody says another.
const PRIMARY: &str = "primary";

/// A running source.
pub(super) enum Source {
    Manifests(manifests::Source),
    Kubernetes(tokio::task::JoinHandle<anyhow::Result<()>>),
}

impl Source {
    /// Forgets a cluster for good.
    ///
    /// # Errors
    /// For people: why not, and what to do.
    pub async fn forget(&self, cluster: &str) -> Result<(), String> {
        match self {
            Source::Kubernetes(_) => Err(format!(
                "clusters are known by their ClusterInfos: to forget `{cluster}`, delete its one (`causeway cluster leave {cluster}`)"
            )),
            Source::Manifests(source) => match source.forget(&cluster.into()).await {
                manifests::Forgotten::Done => Ok(()),
                manifests::Forgotten::StillThere => {
                    Err(format!("the folder of cluster `{cluster}` can be read; take it away first, then forget it"))
                }
                manifests::Forgotten::NotKnown => Err(format!("there is no cluster `{cluster}`")),
            },
        }
    }

    /// Ends it, after everything was told to stop.
    pub async fn stop(self) {
        match self {
            Source::Manifests(source) => source.stop().await,
            Source::Kubernetes(task) => drop(task.await),
        }
    }
}

/// The primary, where it is known before anything is read.
pub(super) fn primary(config: &ServeConfig) -> Option<ClusterName> {
    let said = config.primary.as_deref();
    match config.clusters {
        Clusters::Manifests(_) => said.map(Into::into),
        Clusters::Kubernetes { .. } => Some(said.unwrap_or(PRIMARY).into()),
    }
}

/// Begins to read the clusters.
pub(super) async fn start(
    config: &ServeConfig,
    store: &Store,
    events: &mpsc::Sender<Event>,
    outward: Option<(Outbox, Board)>,
    members: Option<Members>,
    shutdown: &CancellationToken,
) -> anyhow::Result<Source> {
    match &config.clusters {
        Clusters::Manifests(folder) => Ok(Source::Manifests(start_manifests(folder, store, events).await?)),
        Clusters::Kubernetes { kubeconfig } => {
            let name = primary(config).unwrap_or_else(|| PRIMARY.into());
            let (outbox, board) = outward.unwrap_or_else(|| (Outbox::default(), Board::new(name.clone())));
            let settings = manager::Settings { primary: name, kubeconfig: kubeconfig.clone(), members, board };
            let (out, told) = mpsc::channel(64);
            tokio::spawn(pass_on(told, events.clone()));
            Ok(Source::Kubernetes(tokio::spawn(manager::run(settings, store.clone(), out, outbox, shutdown.clone()))))
        }
    }
}

/// From the cluster manager to the owner.
async fn pass_on(mut told: mpsc::Receiver<Tell>, events: mpsc::Sender<Event>) {
    let mut problems: BTreeMap<ClusterName, Vec<view::Problem>> = BTreeMap::new();
    while let Some(tell) = told.recv().await {
        let event = match tell {
            Tell::Changes(changes) => Event::Changes(changes),
            Tell::Expect(cluster) => Event::Expect(cluster),
            Tell::Problems(cluster, found) => {
                let found: Vec<view::Problem> = found.into_iter().map(of_manager).collect();
                let before = problems.insert(cluster.clone(), found.clone()).unwrap_or_default();
                for problem in found.iter().filter(|problem| !before.contains(problem)) {
                    let view::Problem { object, field, message, remedy, .. } = problem;
                    tracing::warn!(%cluster, object, field, remedy, "{message}");
                }
                Event::SourceProblems(problems.values().flatten().cloned().collect())
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

fn of_manager(problem: manager::Problem) -> view::Problem {
    let manager::Problem { cluster, object, field, message, remedy } = problem;
    view::Problem { cluster: cluster.to_string(), file: None, line: None, object, field, message, remedy }
}

async fn start_manifests(
    folder: &Path,
    store: &Store,
    events: &mpsc::Sender<Event>,
) -> anyhow::Result<manifests::Source> {
    let (changes, mut changes_rx) = mpsc::channel(64);
    let settings = manifests::Settings::new(folder);
    let source = manifests::start(settings, Arc::new(store.clone()), changes).await.context("reading --manifests")?;
    for cluster in &source.expected {
        events.send(Event::Expect(cluster.clone())).await.context("the owner ended")?;
    }
    let to_owner = events.clone();
    tokio::spawn(async move {
        while let Some(batch) = changes_rx.recv().await {
            if to_owner.send(Event::Changes(batch)).await.is_err() {
                return;
            }
        }
    });
    let (mut report, to_owner) = (source.report.clone(), events.clone());
    tokio::spawn(async move {
        let mut known = Vec::new();
        loop {
            let problems = report.borrow_and_update().problems.clone();
            log_news(&known, &problems);
            known.clone_from(&problems);
            let problems = problems.iter().map(of_manifests).collect();
            if to_owner.send(Event::SourceProblems(problems)).await.is_err() || report.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(source)
}

/// Logs what is wrong since the last report, and what is not any more.
fn log_news(before: &[manifests::Problem], now: &[manifests::Problem]) {
    for problem in now.iter().filter(|problem| !before.contains(problem)) {
        let manifests::Problem { cluster, file, line, object, field, message, remedy } = problem;
        let file = file.as_deref().unwrap_or_default();
        tracing::warn!(cluster, file, line, object, field, remedy, "{message}");
    }
    for problem in before.iter().filter(|problem| !now.contains(problem)) {
        let file = problem.file.as_deref().unwrap_or_default();
        tracing::info!(file, line = problem.line, object = problem.object, "no longer a problem: {}", problem.message);
    }
}

fn of_manifests(problem: &manifests::Problem) -> view::Problem {
    let manifests::Problem { cluster, file, line, object, field, message, remedy } = problem.clone();
    view::Problem { cluster, file, line, object, field, message, remedy }
}
