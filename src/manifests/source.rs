//! The live source: a thread that watches the folders, and the handle to it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::engine::{Engine, Outputs, Stored};
use super::last_good::{LastGood, LastGoodError, Saved};
use super::report::Report;
use super::scan;
use super::watch::Inbox;
use crate::model::id::ClusterName;
use crate::model::object::Change;

/// How the source works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder whose folders are clusters.
    pub root: PathBuf,
    /// How often everything is looked at even without a notice, for file systems that give none.
    pub rescan: Duration,
    /// How long something has to be missing before it counts as gone: editors and deployments take
    /// files and folders away for moments.
    pub confirm_gone: Duration,
    /// How long a file that is being written, and not closed, is waited for.
    pub writing: Duration,
}

impl Settings {
    /// The usual settings for a folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            rescan: Duration::from_secs(2),
            confirm_gone: Duration::from_millis(200),
            writing: Duration::from_secs(2),
        }
    }
}

/// The source cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The folder is missing, no folder, or unreadable.
    #[error("the manifests' folder {path} cannot be read: {error}; check --manifests")]
    Root {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// What was kept of earlier runs cannot be read.
    #[error(transparent)]
    LastGood(#[from] LastGoodError),
    /// The thread cannot be started.
    #[error("no thread for the manifests: {0}")]
    Thread(#[source] io::Error),
}

/// What became of a request to forget a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// It is forgotten; a [`Change::Forget`] was sent.
    Done,
    /// Its folder can be read, so it is no cluster to forget: remove the folder first.
    StillThere,
    /// There is no such cluster here.
    NotKnown,
}

/// A running source. Dropping it ends it.
#[derive(Debug)]
pub struct Source {
    /// The clusters that will each be told as synced or unknown, once: nothing should be served
    /// before.
    pub expected: Vec<ClusterName>,
    /// What people are told. The latest counts.
    pub report: watch::Receiver<Arc<Report>>,
    inbox: Arc<Inbox>,
    ended: Option<oneshot::Receiver<()>>,
}

/// How many sets of files may wait to be saved. They are large, and saving is fast.
const SAVES_WAITING: usize = 16;
/// How long after saving failed it is tried again, where nothing else comes.
const SAVE_RETRY: Duration = Duration::from_secs(2);

/// Starts to read and watch the folders. Changes come in batches: first everything, cluster by
/// cluster, each ended by [`Change::Synced`] or [`Change::Unknown`]; then what changes. When the
/// receiver of `changes` is dropped the source ends.
///
/// # Errors
/// The folder cannot be read at all, or what was kept of earlier runs cannot be.
pub async fn start(
    settings: Settings,
    last_good: Arc<dyn LastGood>,
    changes: mpsc::Sender<Vec<Change>>,
) -> Result<Source, SourceError> {
    let root = std::path::absolute(&settings.root).unwrap_or_else(|_| settings.root.clone());
    let listing = list(&root).await.map_err(|error| SourceError::Root { path: root.clone(), error })?;
    let mut stored: Stored = Stored::new();
    for cluster in last_good.clusters().await? {
        let files = last_good.files(&cluster).await?;
        stored.insert(cluster, files.into_iter().map(|file| (file.path.clone(), file)).collect());
    }
    let folders = listing.folders.keys().filter(|name| crate::kube::names::label_fault(name).is_none());
    let mut expected: Vec<ClusterName> = folders.map(|name| ClusterName::from(name.as_str())).collect();
    expected.extend(stored.keys().cloned());
    expected.sort();
    expected.dedup();

    let inbox = Arc::new(Inbox::default());
    let (report_tx, report) = watch::channel(Arc::new(Report::default()));
    let (save_tx, save_rx) = mpsc::channel(SAVES_WAITING);
    let (ended_tx, ended) = oneshot::channel();
    tokio::spawn(save(last_good, save_rx));
    let outputs = Outputs { changes, report: report_tx, saves: save_tx };
    let engine_inbox = inbox.clone();
    let expect = expected.clone();
    std::thread::Builder::new()
        .name("manifests".to_owned())
        .spawn(move || {
            Engine::new(Settings { root, ..settings }, engine_inbox, outputs, expect, stored).run();
            // Whoever waited may have gone.
            let _ = ended_tx.send(());
        })
        .map_err(SourceError::Thread)?;
    Ok(Source { expected, report, inbox, ended: Some(ended) })
}

async fn list(root: &Path) -> io::Result<scan::RootListing> {
    let root = root.to_path_buf();
    tokio::task::spawn_blocking(move || scan::list_root(&root, &mut |_, _| {})).await.map_err(io::Error::other)?
}

/// What waits to be kept, by cluster and path: the latest counts.
type Waiting = BTreeMap<(ClusterName, Arc<str>), Saved>;

/// Keeps what the source's thread gives it. Failing costs only the content over a restart, so it is told, tried again,
/// and does not stop anything; nor does it hold up the thread, which gives more meanwhile.
async fn save(last_good: Arc<dyn LastGood>, mut saves: mpsc::Receiver<Vec<Saved>>) {
    let mut waiting = Waiting::new();
    let mut is_open = true;
    while is_open {
        let Some(changes) = saves.recv().await else { return };
        add(&mut waiting, changes);
        while !waiting.is_empty() {
            let writing = std::mem::take(&mut waiting);
            let mut attempt = last_good.save(writing.values().cloned().collect());
            let outcome = loop {
                tokio::select! {
                    outcome = &mut attempt => break outcome,
                    more = saves.recv(), if is_open => match more {
                        Some(changes) => add(&mut waiting, changes),
                        None => is_open = false,
                    },
                }
            };
            let Err(error) = outcome else { continue };
            tracing::warn!(%error, "the last good content of manifests could not be kept for a restart");
            if !is_open {
                return;
            }
            // What came since lies above what was not written.
            let since = std::mem::replace(&mut waiting, writing);
            waiting.extend(since);
            tokio::select! {
                () = tokio::time::sleep(SAVE_RETRY) => {}
                more = saves.recv() => match more {
                    Some(changes) => add(&mut waiting, changes),
                    None => is_open = false,
                },
            }
        }
    }
}

fn add(waiting: &mut Waiting, changes: Vec<Saved>) {
    for change in changes {
        let key = match &change {
            Saved::Put { cluster, file } => (cluster.clone(), file.path.clone()),
            Saved::Delete { cluster, path } => (cluster.clone(), path.clone()),
        };
        waiting.insert(key, change);
    }
}

impl Source {
    /// Forgets a cluster whose folder is gone for good: its objects, and what was kept of them.
    pub async fn forget(&self, cluster: &ClusterName) -> Forgotten {
        let (reply, answer) = oneshot::channel();
        self.inbox.put(|work| work.forget.push((cluster.clone(), reply)));
        answer.await.unwrap_or(Forgotten::NotKnown)
    }

    /// Ends the source and waits for its end.
    pub async fn stop(mut self) {
        self.inbox.put(|work| work.stop = true);
        if let Some(ended) = self.ended.take() {
            // The sender's end is the thread's end too.
            let _ = ended.await;
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.inbox.put(|work| work.stop = true);
    }
}
