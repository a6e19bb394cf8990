//! The source's thread: decides when to look, looks, and tells what changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::folder::{Folder, Held, Look};
use super::last_good::{GoodFile, Saved};
use super::report::{FolderState, Problem, Report};
use super::scan::{self, RootListing};
use super::source::{Forgotten, Settings};
use super::watch::{Inbox, Touch, Watch, Work};
use crate::kube::names;
use crate::model::id::ClusterName;
use crate::model::object::Change;

/// After a notice, how long further ones are waited for: a deployment touches many files.
const SETTLE: Duration = Duration::from_millis(10);

/// How long a file that was just made may stay as it is before it is read: its writer is about to
/// write.
const CREATED: Duration = Duration::from_millis(50);

/// The most changes in one batch, so that the receiver is never stuck with a whole cluster.
const MAX_BATCH: usize = 2048;

/// What earlier runs kept: files by cluster and path.
pub(super) type Stored = BTreeMap<ClusterName, BTreeMap<Arc<str>, GoodFile>>;

/// Where the engine's results go.
pub(super) struct Outputs {
    pub changes: mpsc::Sender<Vec<Change>>,
    pub report: watch::Sender<Arc<Report>>,
    pub saves: mpsc::Sender<Vec<Saved>>,
}

/// The receiver of changes is gone: there is nothing left to do.
struct Closed;

/// The state of the source's thread.
pub(super) struct Engine {
    settings: Settings,
    inbox: Arc<Inbox>,
    outputs: Outputs,
    watch: Watch,
    folders: BTreeMap<ClusterName, Folder>,
    /// Why the manifests' folder itself cannot be read.
    root_trouble: Option<String>,
    root_problems: Vec<Problem>,
    /// Files that are being written, and until when they are waited for.
    held: HashMap<PathBuf, Instant>,
    /// Clusters to look at, once `due` has come; all of them at the next rescan.
    dirty: BTreeSet<ClusterName>,
    due: Option<Instant>,
}

impl Engine {
    pub(super) fn new(
        settings: Settings,
        inbox: Arc<Inbox>,
        outputs: Outputs,
        expected: Vec<ClusterName>,
        mut stored: Stored,
    ) -> Self {
        let watch = Watch::new(inbox.clone());
        let folder = |name: ClusterName| {
            let kept = stored.remove(&name).unwrap_or_default();
            (name.clone(), Folder::new(name, kept))
        };
        Self {
            folders: expected.into_iter().map(folder).collect(),
            settings,
            inbox,
            outputs,
            watch,
            root_trouble: None,
            root_problems: Vec::new(),
            held: HashMap::new(),
            dirty: BTreeSet::new(),
            due: None,
        }
    }

    /// Runs until the source is stopped or nobody receives changes any more.
    pub(super) fn run(mut self) {
        let mut rescan_at = Instant::now();
        loop {
            let now = Instant::now();
            let all = now >= rescan_at;
            if all || self.due.is_some_and(|due| now >= due) {
                self.due = None;
                if self.look(all, now).is_err() {
                    return;
                }
                if all {
                    rescan_at = Instant::now() + self.settings.rescan;
                }
            }
            let deadline = self.due.map_or(rescan_at, |due| due.min(rescan_at));
            let work = self.inbox.take(deadline);
            if work.stop || self.outputs.changes.is_closed() {
                return;
            }
            if work.all {
                rescan_at = Instant::now();
            }
            if self.take_in(work, Instant::now()).is_err() {
                return;
            }
        }
    }

    fn schedule(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn take_in(&mut self, work: Work, now: Instant) -> Result<(), Closed> {
        for (path, touch) in work.touched {
            let Some(cluster) = cluster_of(&self.settings.root, &path) else { continue };
            let wait = match touch {
                Touch::Settled => {
                    self.held.remove(&path);
                    SETTLE
                }
                Touch::Created => CREATED,
                Touch::Writing => self.settings.writing,
            };
            if touch != Touch::Settled {
                self.held.insert(path, now + wait);
            }
            self.dirty.extend(cluster);
            self.schedule(now + wait);
        }
        for (cluster, reply) in work.forget {
            let outcome = self.forget(&cluster)?;
            // Whoever asked may have gone.
            let _ = reply.send(outcome);
        }
        Ok(())
    }

    fn forget(&mut self, cluster: &ClusterName) -> Result<Forgotten, Closed> {
        let Some(folder) = self.folders.get(cluster) else { return Ok(Forgotten::NotKnown) };
        if folder.state() == Some(&FolderState::Synced) || self.settings.root.join(cluster.as_str()).is_dir() {
            return Ok(Forgotten::StillThere);
        }
        let saves = folder.delete_all();
        self.folders.remove(cluster);
        self.save(saves);
        self.send(vec![Change::Forget { cluster: cluster.clone() }])?;
        self.publish();
        Ok(Forgotten::Done)
    }

    /// Looks at the folders that need it, and tells what changed.
    fn look(&mut self, all: bool, now: Instant) -> Result<(), Closed> {
        self.held.retain(|_, until| *until > now);
        let mut watched: HashSet<PathBuf> = HashSet::new();
        let root = self.list_root(&mut watched);
        let mut clusters = std::mem::take(&mut self.dirty);
        if all || root.is_none() {
            clusters.extend(self.folders.keys().cloned());
        }
        // A folder that appeared or vanished is looked at even if its own notice was lost.
        let present = root.as_ref().map(|root| &root.folders);
        clusters.extend(
            self.folders
                .iter()
                .filter(|(name, folder)| {
                    present.is_some_and(|p| p.contains_key(name.as_str()))
                        != (folder.state() == Some(&FolderState::Synced))
                })
                .map(|(name, _)| name.clone()),
        );
        for name in present.into_iter().flat_map(|folders| folders.keys()) {
            let name = ClusterName::from(name.as_str());
            if names::label_fault(name.as_str()).is_none() && !self.folders.contains_key(&name) {
                self.folders.insert(name.clone(), Folder::new(name.clone(), BTreeMap::new()));
                clusters.insert(name);
            }
        }
        for name in clusters {
            let path = present.and_then(|folders| folders.get(name.as_str())).cloned();
            self.look_at(&name, path.as_deref(), now)?;
        }
        for folder in self.folders.values() {
            watched.extend(folder.directories().cloned());
        }
        self.watch.keep(&watched);
        self.schedule_held();
        self.publish();
        Ok(())
    }

    fn schedule_held(&mut self) {
        let held: Vec<(PathBuf, Instant)> = self.held.iter().map(|(path, until)| (path.clone(), *until)).collect();
        for (path, until) in held {
            if let Some(Some(cluster)) = cluster_of(&self.settings.root, &path) {
                self.dirty.insert(cluster);
                self.schedule(until);
            }
        }
    }

    fn list_root(&mut self, watched: &mut HashSet<PathBuf>) -> Option<RootListing> {
        let root = self.settings.root.clone();
        let mut on_folder = |path: &Path, identity| {
            watched.insert(path.to_path_buf());
            self.watch.add(path, identity);
        };
        // The root may be a link that is replaced; only its own folder is told of that.
        if let Some(parent) = root.parent() {
            scan::watch_only(parent, &mut on_folder);
        }
        match scan::list_root(&root, &mut on_folder) {
            Ok(listing) => {
                self.root_trouble = None;
                self.root_problems = root_problems(&listing);
                Some(listing)
            }
            Err(error) => {
                let message = format!("the manifests' folder {} cannot be read: {error}", root.display());
                self.root_problems =
                    vec![problem("", None, message.clone(), "bring the folder back; nothing was deleted")];
                self.root_trouble = Some(message);
                None
            }
        }
    }

    fn look_at(&mut self, name: &ClusterName, path: Option<&Path>, now: Instant) -> Result<(), Closed> {
        let Some(folder) = self.folders.get_mut(name) else { return Ok(()) };
        let mut directories = HashSet::new();
        let listing = match path {
            Some(path) => scan::list_folder(path, &mut |path, identity| {
                directories.insert(path.to_path_buf());
                self.watch.add(path, identity);
            }),
            None => Err(self
                .root_trouble
                .clone()
                .unwrap_or_else(|| format!("the folder {} is gone", self.settings.root.join(name.as_str()).display()))),
        };
        folder.watched(directories);
        let held = Held(&self.held);
        let Look { changes, saves, again } = folder.look(listing, &held, self.settings.confirm_gone, now);
        if let Some(again) = again {
            self.dirty.insert(name.clone());
            self.schedule(again);
        }
        self.save(saves);
        self.send(changes)
    }

    fn send(&self, mut changes: Vec<Change>) -> Result<(), Closed> {
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(MAX_BATCH));
            self.outputs.changes.blocking_send(changes).map_err(|_| Closed)?;
            changes = rest;
            if self.inbox.stopped() {
                return Err(Closed);
            }
        }
        Ok(())
    }

    fn save(&self, saves: Vec<Saved>) {
        if !saves.is_empty() {
            // The task that saves ends only with its runtime; then nothing needs to be kept.
            let _ = self.outputs.saves.blocking_send(saves);
        }
    }

    fn publish(&self) {
        let mut report = Report { problems: self.root_problems.clone(), ..Report::default() };
        if let Some((count, why)) = self.watch.trouble() {
            let message = format!(
                "{count} folders cannot be watched, so changes there are seen only every {:?}: {why}",
                self.settings.rescan
            );
            let remedy = "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances";
            report.problems.push(problem("", None, message, remedy));
        }
        for (name, folder) in &self.folders {
            if let Some(view) = folder.view() {
                report.folders.insert(name.clone(), view);
            }
            report.problems.extend(folder.problems());
        }
        self.outputs.report.send_if_modified(|current| {
            let changed = **current != report;
            if changed {
                *current = Arc::new(report);
            }
            changed
        });
    }
}

fn problem(cluster: &str, file: Option<String>, message: String, remedy: &str) -> Problem {
    Problem {
        cluster: cluster.to_owned(),
        file,
        line: None,
        object: String::new(),
        field: String::new(),
        message,
        remedy: remedy.to_owned(),
    }
}

fn root_problems(listing: &RootListing) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for name in &listing.strays {
        let message = "the file lies in no cluster's folder, so it is not read".to_owned();
        problems.push(problem("", Some(name.clone()), message, "move it into the folder of its cluster"));
    }
    for name in listing.folders.keys() {
        if let Some(fault) = names::label_fault(name) {
            let message = format!("the folder's name `{name}` cannot be a cluster's: it {fault}");
            problems.push(problem("", Some(name.clone()), message, "use at most 63 of a-z, 0-9 and `-`"));
        }
    }
    problems
}

/// The cluster that a touched path belongs to; `Some(None)` is the manifests' folder itself, and
/// `None` something else.
fn cluster_of(root: &Path, path: &Path) -> Option<Option<ClusterName>> {
    let rest = path.strip_prefix(root).ok()?;
    let first = rest.components().next();
    Some(first.and_then(|name| name.as_os_str().to_str()).map(ClusterName::from))
}
