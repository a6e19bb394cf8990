//! Keeps the agent's assignments in a file. They are durable before they are told to anybody.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::assign::Leases;
use crate::model::Timestamp;

const FILE: &str = "addresses.json";
const LOCK: &str = "lock";

/// The form of the file. It grows when an older agent would misread it.
const VERSION: u32 = 1;

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another agent uses it.
    #[error("{} is used by another agent; give each agent its own --state-dir", .0.display())]
    InUse(PathBuf),
    /// The file is not what an agent writes.
    #[error("{} is damaged: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is of a later version.
    #[error("{} was written by a newer agent (format {version}, this one knows {VERSION}): upgrade this agent", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    #[serde(flatten)]
    leases: Leases,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// A state directory that is ours while this lives.
#[derive(Debug)]
pub(super) struct StateDir {
    dir: PathBuf,
    /// Locked; the lock ends with the file.
    _lock: File,
}

impl StateDir {
    /// Makes the directory if it is not there.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        std::fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let path = dir.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(io_error("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
        }
    }

    /// What was saved last; `None` where nothing was.
    pub fn load(&self) -> Result<Option<Leases>, StateError> {
        let path = self.dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        decode(&path, &bytes).map(Some)
    }

    /// Moves a damaged file out of the way, for people to look at.
    pub fn set_aside(&self, now: Timestamp) -> Result<PathBuf, StateError> {
        let (from, to) = (self.dir.join(FILE), self.dir.join(format!("{FILE}.damaged-{now}")));
        std::fs::rename(&from, &to).map_err(io_error("rename", &from))?;
        Ok(to)
    }

    /// Replaces what was saved, as a whole and durably.
    pub fn save(&self, leases: &Leases) -> Result<(), StateError> {
        let (path, new) = (self.dir.join(FILE), self.dir.join(format!("{FILE}.new")));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&encode(leases)?)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            // The rename itself has to survive a power loss too.
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(io_error("write", &path))
    }
}

/// The content of the file.
pub(crate) fn encode(leases: &Leases) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec_pretty(&Stored { version: VERSION, leases: leases.clone() })
}

/// What the file with this content keeps.
pub(crate) fn decode(path: &Path, content: &[u8]) -> Result<Leases, StateError> {
    let corrupt = |reason: String| StateError::Corrupt { path: path.to_owned(), reason };
    let Version { version } = serde_json::from_slice(content).map_err(|error| corrupt(error.to_string()))?;
    if version > VERSION {
        return Err(StateError::Newer { path: path.to_owned(), version });
    }
    let stored: Stored = serde_json::from_slice(content).map_err(|error| corrupt(error.to_string()))?;
    let mut addresses = BTreeSet::new();
    match stored.leases.slots.values().find(|address| !addresses.insert(**address)) {
        Some(twice) => Err(corrupt(format!("two slots have the address {twice}"))),
        None => Ok(stored.leases),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
