//! Notices of the file system, boiled down to "this path was touched", and the place where the
//! source's thread waits for them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::oneshot;

use super::scan::Identity;
use super::source::Forgotten;
use crate::model::id::ClusterName;

/// How a path was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    /// It is as its writer wants it: closed, renamed, removed.
    Settled,
    /// It was made; a writer may be about to fill it.
    Created,
    /// It was written to and is not closed.
    Writing,
}

/// More paths than this, and looking at everything is cheaper than keeping them.
const MAX_TOUCHED: usize = 10_000;

/// What the source's thread has to do.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Paths that were touched.
    pub touched: HashMap<PathBuf, Touch>,
    /// Notices were lost.
    pub all: bool,
    /// The source is to end.
    pub stop: bool,
    /// Clusters to forget.
    pub forget: Vec<(ClusterName, oneshot::Sender<Forgotten>)>,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.touched.is_empty() && !self.all && !self.stop && self.forget.is_empty()
    }
}

/// Where work is put, and where the source's thread waits for it.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    work: Mutex<Work>,
    wake: Condvar,
}

impl Inbox {
    /// Puts work in and wakes the source's thread.
    pub(super) fn put(&self, work: impl FnOnce(&mut Work)) {
        work(&mut self.work.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    /// Waits for work until the deadline, and takes it.
    pub(super) fn take(&self, deadline: Instant) -> Work {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        while work.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            work = self.wake.wait_timeout(work, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        // The request to end is kept: it may be asked for more than once.
        let stop = work.stop;
        let taken = std::mem::take(&mut *work);
        work.stop = stop;
        taken
    }

    /// Whether the source is to end.
    pub(super) fn stopped(&self) -> bool {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).stop
    }
}

fn touch(kind: EventKind) -> Option<Touch> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Touch::Settled),
        // Our own reading is told too, and means nothing.
        EventKind::Access(_) => None,
        EventKind::Create(CreateKind::File) => Some(Touch::Created),
        EventKind::Modify(ModifyKind::Data(_)) => Some(Touch::Writing),
        _ => Some(Touch::Settled),
    }
}

/// The watched folders. Each is watched by itself, so that links are followed and a folder that is
/// replaced is noticed.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: HashMap<PathBuf, Identity>,
    /// Folders that cannot be watched, and why: their changes are seen by looking again and again.
    trouble: BTreeMap<PathBuf, String>,
}

impl Watch {
    /// Begins to watch for the inbox.
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        let handler = move |event: notify::Result<notify::Event>| match event {
            Ok(event) if event.need_rescan() => inbox.put(|work| work.all = true),
            Ok(event) => {
                let Some(touch) = touch(event.kind) else { return };
                inbox.put(|work| {
                    if work.touched.len() > MAX_TOUCHED {
                        work.all = true;
                    } else {
                        work.touched.extend(event.paths.into_iter().map(|path| (path, touch)));
                    }
                });
            }
            Err(_) => inbox.put(|work| work.all = true),
        };
        match notify::recommended_watcher(handler) {
            Ok(watcher) => Self { watcher: Some(watcher), watched: HashMap::new(), trouble: BTreeMap::new() },
            Err(error) => {
                let trouble = BTreeMap::from([(PathBuf::new(), error.to_string())]);
                Self { watcher: None, watched: HashMap::new(), trouble }
            }
        }
    }

    /// Watches a folder, unless it is watched already.
    pub(super) fn add(&mut self, folder: &Path, identity: Identity) {
        let Some(watcher) = &mut self.watcher else { return };
        if self.watched.get(folder) == Some(&identity) {
            return;
        }
        if self.watched.remove(folder).is_some() {
            // Another folder has the name now; the old one may be gone, and its watch with it.
            let _ = watcher.unwatch(folder);
        }
        match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.trouble.remove(folder);
                self.watched.insert(folder.to_path_buf(), identity);
            }
            Err(error) => {
                self.trouble.insert(folder.to_path_buf(), error.to_string());
            }
        }
    }

    /// How many folders cannot be watched, and why the first of them.
    pub(super) fn trouble(&self) -> Option<(usize, &str)> {
        self.trouble.values().next().map(|why| (self.trouble.len(), why.as_str()))
    }

    /// Ends the watches of folders below `root` that are not among those seen, so that a folder
    /// that comes back is watched anew.
    pub(super) fn keep(&mut self, seen: &HashSet<PathBuf>) {
        let gone: Vec<PathBuf> = self.watched.keys().filter(|path| !seen.contains(*path)).cloned().collect();
        self.trouble.retain(|path, _| path.as_os_str().is_empty() || seen.contains(path));
        for path in gone {
            self.watched.remove(&path);
            if let Some(watcher) = &mut self.watcher {
                let _ = watcher.unwatch(&path);
            }
        }
    }
}
