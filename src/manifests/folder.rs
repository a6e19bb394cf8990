//! A cluster's folder over time: what was seen, what went missing, what it means.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};

use super::decode::{Decoded, Finding, decode};
use super::files::{ClusterFiles, Update};
use super::last_good::{GoodFile, Saved};
use super::report::{FolderState, FolderView, Problem};
use super::scan::{self, Bytes, Found, Identity, Listing, Stamp};
use crate::model::id::ClusterName;
use crate::model::object::Change;

/// How soon a file is read again that changed while it was read, or just before.
const AGAIN: Duration = Duration::from_millis(60);

/// How long the first look waits for files that keep changing while they are read, before the
/// cluster is told as synced without them.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Files that are being written, by path.
pub(super) struct Held<'a>(pub &'a HashMap<PathBuf, Instant>);

/// What a look at a folder gave.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub changes: Vec<Change>,
    pub saves: Vec<Saved>,
    /// When to look again, because something was not certain yet.
    pub again: Option<Instant>,
}

impl Look {
    fn again_at(&mut self, at: Instant) {
        self.again = Some(self.again.map_or(at, |again| again.min(at)));
    }
}

/// What is remembered of a file.
#[derive(Debug, Default)]
struct Seen {
    /// `None` if it has to be read in any case.
    stamp: Option<Stamp>,
    /// Digest of the content that was last decoded, good or bad.
    digest: Option<Arc<str>>,
    /// Since when it is missing.
    missing: Option<Instant>,
}

/// A cluster's folder.
pub(super) struct Folder {
    cluster: ClusterName,
    files: ClusterFiles,
    seen: HashMap<Arc<str>, Seen>,
    /// Digests of what is kept for a restart.
    kept: HashMap<Arc<str>, Arc<str>>,
    /// What an earlier run kept; taken at the first look.
    stored: BTreeMap<Arc<str>, GoodFile>,
    identity: Option<Identity>,
    directories: HashSet<PathBuf>,
    /// `None` until the first look.
    state: Option<FolderState>,
    missing: Option<Instant>,
    /// When the folder was first read since it was not synced.
    first_look: Option<Instant>,
}

/// A file that was read.
enum Reading {
    Same(Stamp),
    New { bytes: Vec<u8>, stamp: Stamp, digest: Arc<str>, decoded: Box<Decoded> },
    Moving,
    Gone,
    Unreadable(String),
}

impl Folder {
    pub(super) fn new(cluster: ClusterName, stored: BTreeMap<Arc<str>, GoodFile>) -> Self {
        Self {
            files: ClusterFiles::new(cluster.clone()),
            cluster,
            seen: HashMap::new(),
            kept: stored.values().map(|file| (file.path.clone(), file.sha256.clone())).collect(),
            stored,
            identity: None,
            directories: HashSet::new(),
            state: None,
            missing: None,
            first_look: None,
        }
    }

    /// `None` until the first look.
    pub(super) fn state(&self) -> Option<&FolderState> {
        self.state.as_ref()
    }

    /// The folders that are watched for this one.
    pub(super) fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.directories.iter()
    }

    pub(super) fn watched(&mut self, directories: HashSet<PathBuf>) {
        self.directories = directories;
    }

    /// What makes the store forget the cluster.
    pub(super) fn delete_all(&self) -> Vec<Saved> {
        self.kept.keys().map(|path| self.delete(path)).collect()
    }

    fn delete(&self, path: &Arc<str>) -> Saved {
        Saved::Delete { cluster: self.cluster.clone(), path: path.clone() }
    }

    /// Takes in a listing of the folder, or why there is none.
    pub(super) fn look(
        &mut self,
        listing: Result<Listing, String>,
        held: &Held<'_>,
        confirm_gone: Duration,
        now: Instant,
    ) -> Look {
        let mut look = Look::default();
        let listing = listing.and_then(|listing| self.doubt_emptiness(listing));
        match listing {
            Ok(listing) => {
                self.missing = None;
                self.identity = Some(listing.identity);
                let whole = self.read(listing, held, confirm_gone, now, &mut look);
                let patient = now < *self.first_look.get_or_insert(now) + FIRST_LOOK;
                if self.state != Some(FolderState::Synced) && (whole || !patient) {
                    self.state = Some(FolderState::Synced);
                    look.changes.push(Change::Synced { cluster: self.cluster.clone() });
                }
            }
            Err(reason) => self.unknown(reason, confirm_gone, now, &mut look),
        }
        look
    }

    /// A folder that was full and is now empty: were its files removed, or is this the bare mount
    /// point of a volume that went away? Only the very folder that was read before is believed.
    fn doubt_emptiness(&self, listing: Listing) -> Result<Listing, String> {
        let had = self.files.objects() > 0 || !self.stored.is_empty();
        let same = self.state == Some(FolderState::Synced) && self.identity == Some(listing.identity);
        if !listing.files.is_empty() || !had || same {
            return Ok(listing);
        }
        Err("the folder is empty, and it is not the one that was read before: is a volume not mounted? To empty the \
             cluster on purpose, put a file into it that holds only a comment"
            .to_owned())
    }

    fn unknown(&mut self, reason: String, confirm_gone: Duration, now: Instant, look: &mut Look) {
        if self.state == Some(FolderState::Synced) {
            let since = *self.missing.get_or_insert(now);
            if now < since + confirm_gone {
                return look.again_at(since + confirm_gone);
            }
        }
        let stored = std::mem::take(&mut self.stored);
        if !stored.is_empty() {
            let updates = stored.values().filter_map(stored_update).collect();
            look.changes.extend(self.files.apply(updates));
        }
        let state = FolderState::Unknown { reason: reason.clone() };
        if self.state.as_ref() != Some(&state) {
            self.state = Some(state);
            look.changes.push(Change::Unknown { cluster: self.cluster.clone(), reason });
        }
        self.first_look = None;
    }

    /// Reads what changed. False if a file could not be read yet, because it is being changed.
    fn read(
        &mut self,
        listing: Listing,
        held: &Held<'_>,
        confirm_gone: Duration,
        now: Instant,
        look: &mut Look,
    ) -> bool {
        let mut whole = true;
        let mut updates = self.vanished(&listing, confirm_gone, now, look);
        let jobs: Vec<(&Arc<str>, &Found)> = listing
            .files
            .iter()
            .filter(|(path, found)| !held.0.contains_key(&found.path) && self.needs_reading(path, found))
            .collect();
        let known: Vec<Option<Arc<str>>> = jobs.iter().map(|(path, _)| self.digest(path)).collect();
        let readings = in_parallel(jobs.len(), |i| read_file(jobs[i].1, known[i].as_ref()));
        let mut stored = std::mem::take(&mut self.stored);
        let mut contents = HashMap::new();
        let wall = SystemTime::now();
        for ((path, _), reading) in jobs.into_iter().zip(readings) {
            let seen = self.seen.entry(path.clone()).or_default();
            seen.missing = None;
            match reading {
                Reading::Same(stamp) => seen.stamp = Some(stamp),
                Reading::Moving | Reading::Gone => {
                    updates.extend(stored.remove(path).as_ref().and_then(stored_update));
                    look.again_at(now + AGAIN);
                    whole = false;
                    continue;
                }
                Reading::Unreadable(reason) => {
                    // Read again at each look; the digest stands for what is in use.
                    seen.stamp = None;
                    updates.extend(stored.remove(path).as_ref().and_then(stored_update));
                    updates.push((path.clone(), Update::Unreadable(unreadable(reason))));
                    continue;
                }
                Reading::New { bytes, stamp, digest, decoded } => {
                    seen.stamp = Some(stamp);
                    seen.digest = Some(digest.clone());
                    let blank = bytes.iter().all(u8::is_ascii_whitespace);
                    if !decoded.findings.is_empty() || blank {
                        updates.extend(stored.remove(path).as_ref().and_then(stored_update));
                    }
                    updates.push((path.clone(), Update::Read { decoded: *decoded, blank }));
                    contents.insert(path.clone(), (digest, bytes));
                }
            }
            if seen.stamp.is_some_and(|stamp| stamp.is_racy(wall)) {
                seen.stamp = None;
                look.again_at(now + AGAIN);
            }
        }
        look.changes.extend(self.files.apply(updates));
        self.keep(contents, &listing, look);
        whole
    }

    /// Files that are gone for long enough.
    fn vanished(
        &mut self,
        listing: &Listing,
        confirm_gone: Duration,
        now: Instant,
        look: &mut Look,
    ) -> Vec<(Arc<str>, Update)> {
        let mut gone = Vec::new();
        for (path, seen) in self.seen.iter_mut().filter(|(path, _)| !listing.files.contains_key(*path)) {
            let since = *seen.missing.get_or_insert(now);
            if now < since + confirm_gone {
                look.again_at(since + confirm_gone);
            } else {
                gone.push(path.clone());
            }
        }
        for path in &gone {
            self.seen.remove(path);
        }
        // What an unreadable folder's last good content brought, and the folder has no more.
        let extra = self.files.paths().filter(|path| {
            !listing.files.contains_key(*path) && !self.seen.contains_key(*path) && !gone.contains(path)
        });
        let extra: Vec<Arc<str>> = extra.cloned().collect();
        gone.extend(extra);
        gone.into_iter().map(|path| (path, Update::Gone)).collect()
    }

    fn needs_reading(&self, path: &Arc<str>, found: &Found) -> bool {
        match (self.seen.get(path), &found.stamp) {
            (Some(Seen { stamp: Some(known), missing: None, .. }), Ok(stamp)) => known != stamp,
            _ => true,
        }
    }

    fn digest(&self, path: &Arc<str>) -> Option<Arc<str>> {
        // An unreadable file has to be taken in anew even with the content that it had.
        let seen = self.seen.get(path)?;
        seen.digest.clone().filter(|_| seen.stamp.is_some() || self.files.is_good(path))
    }

    /// Keeps good content for a restart, and forgets that of files that are gone.
    fn keep(&mut self, contents: HashMap<Arc<str>, (Arc<str>, Vec<u8>)>, listing: &Listing, look: &mut Look) {
        for (path, (sha256, content)) in contents {
            if !self.files.is_good(&path) || self.kept.get(&path) == Some(&sha256) {
                continue;
            }
            if may_hold_a_secret(&content) {
                // Secrets never reach the store, so such a file is not there after a restart that finds it broken.
                if self.kept.remove(&path).is_some() {
                    look.saves.push(self.delete(&path));
                }
                continue;
            }
            self.kept.insert(path.clone(), sha256.clone());
            let file = GoodFile { path, sha256, content: Arc::from(content) };
            look.saves.push(Saved::Put { cluster: self.cluster.clone(), file });
        }
        let gone = |path: &&Arc<str>| !listing.files.contains_key(*path) && !self.seen.contains_key(*path);
        let gone: Vec<Arc<str>> = self.kept.keys().filter(gone).cloned().collect();
        for path in gone {
            self.kept.remove(&path);
            look.saves.push(self.delete(&path));
        }
    }

    /// What people are shown; `None` until the first look.
    pub(super) fn view(&self) -> Option<FolderView> {
        Some(FolderView {
            state: self.state.clone()?,
            files: self.files.len(),
            last_good_files: self.files.last_good(),
            objects: self.files.objects(),
            left_out: self.files.left_out(),
        })
    }

    /// What people should mend.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(FolderState::Unknown { reason }) = &self.state {
            problems.push(Problem {
                cluster: self.cluster.to_string(),
                file: Some(self.cluster.to_string()),
                line: None,
                object: String::new(),
                field: String::new(),
                message: format!("{reason}; what was last known stays in use"),
                remedy: "bring the folder back, or forget the cluster if it is gone for good".to_owned(),
            });
        }
        problems.extend(self.files.problems());
        problems
    }
}

fn unreadable(reason: String) -> Finding {
    Finding {
        line: 0,
        object: String::new(),
        field: String::new(),
        message: reason,
        remedy: "make it a readable file, or remove it to remove its objects".to_owned(),
    }
}

/// What an earlier run kept of a file, if this version still reads it.
fn stored_update(file: &GoodFile) -> Option<(Arc<str>, Update)> {
    let decoded = decode(scan::format_of(Path::new(file.path.as_ref()))?, &file.content);
    decoded.findings.is_empty().then(|| (file.path.clone(), Update::Read { decoded, blank: false }))
}

fn read_file(found: &Found, known: Option<&Arc<str>>) -> Reading {
    if let Err(reason) = &found.stamp {
        return Reading::Unreadable(reason.clone());
    }
    match scan::read(&found.path) {
        Err(reason) => Reading::Unreadable(reason),
        Ok(Bytes::Moving) => Reading::Moving,
        Ok(Bytes::Gone) => Reading::Gone,
        Ok(Bytes::Whole(bytes, stamp)) => {
            let digest: Arc<str> = Arc::from(hex(&Sha256::digest(&bytes)));
            if known == Some(&digest) {
                return Reading::Same(stamp);
            }
            let decoded = Box::new(decode(found.format, &bytes));
            Reading::New { bytes, stamp, digest, decoded }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Does `work` for each index, on as many threads as there are processors.
fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(count);
    if threads < 2 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return done;
            }
            done.push((i, work(i)));
        }
    };
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let mut all = worker();
        for other in others {
            match other.join() {
                Ok(done) => all.extend(done),
                // Work never panics by itself; if it did, hiding it would lose files.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Whether a file may have an object of kind Secret (or a list of them). In doubt it may.
fn may_hold_a_secret(content: &[u8]) -> bool {
    const BETWEEN: &[char] = &[' ', '\t', '\r', '\n', '"', '\''];
    let text = String::from_utf8_lossy(content);
    text.match_indices("Secret").any(|(at, _)| {
        let before = text[..at].trim_end_matches(BETWEEN);
        before.strip_suffix(':').is_some_and(|key| key.trim_end_matches(BETWEEN).ends_with("kind"))
    })
}

#[cfg(test)]
mod tests {
    use super::may_hold_a_secret;

    #[test]
    fn secrets_are_seen_in_every_usual_spelling() {
        for text in ["kind: Secret\n", "{\"kind\":\"Secret\"}", "'kind' : 'SecretList'", "kind:\n  Secret"] {
            assert!(may_hold_a_secret(text.as_bytes()), "{text}");
        }
        for text in ["kind: Service", "name: Secret", "secretKeyRef: {name: x}", "targetRef: {kind: Pod, name: Secret}"]
        {
            assert!(!may_hold_a_secret(text.as_bytes()), "{text}");
        }
    }
}
