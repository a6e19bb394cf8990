//! What is in the folders: names and stamps, and files' bytes.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::decode::Format;

/// The largest file that is read. A dump of a cluster of 10,000 pods has about 100 MiB.
pub(super) const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;

/// How deep folders below a cluster's may lie.
const MAX_FOLDER_DEPTH: usize = 16;

/// A file that changed so shortly before it was read may change again within the same tick of the
/// file system's clock, and would then look unchanged.
const RACY: Duration = Duration::from_millis(50);

/// Which folder it is, whatever its name: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Tells whether a file may have changed: it has if the stamp differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    identity: Identity,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            identity: Identity::of(metadata),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file changed too shortly before `now` for the stamp to be trusted.
    pub(super) fn is_racy(&self, now: SystemTime) -> bool {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return false;
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        now.duration_since(changed).is_ok_and(|age| age < RACY)
    }
}

/// A manifest in a folder.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Where it lies.
    pub path: PathBuf,
    /// How it is written.
    pub format: Format,
    /// Its stamp, or why there is none.
    pub stamp: Result<Stamp, String>,
}

/// What a cluster's folder holds.
#[derive(Debug)]
pub(super) struct Listing {
    /// Which folder it is.
    pub identity: Identity,
    /// Manifests by path relative to the folder.
    pub files: BTreeMap<Arc<str>, Found>,
}

/// What the manifests' folder holds.
#[derive(Debug, Default)]
pub(super) struct RootListing {
    /// Folders by name.
    pub folders: BTreeMap<String, PathBuf>,
    /// Names of manifests that lie outside of a cluster's folder.
    pub strays: Vec<String>,
}

/// Is told of each folder before it is listed, so that nothing happens there unseen.
pub(super) type OnFolder<'a> = &'a mut dyn FnMut(&Path, Identity);

/// Lists the manifests' folder.
///
/// # Errors
/// It is missing, no folder, or unreadable.
pub(super) fn list_root(root: &Path, on_folder: OnFolder<'_>) -> io::Result<RootListing> {
    on_folder(root, Identity::of(&fs::metadata(root)?));
    let mut listing = RootListing::default();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        // Follows links: a folder is often a link to a checkout.
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_dir() => {
                listing.folders.insert(name, entry.path());
            }
            // What is gone, or was never reachable, is no folder of a cluster; if it was one, it is
            // missed as such.
            _ if format_of(&entry.path()).is_some() => listing.strays.push(name),
            _ => {}
        }
    }
    listing.strays.sort();
    Ok(listing)
}

/// Lists a cluster's folder with the folders below it. Hidden files and folders are left out, as
/// are all names that do not end in `.yaml`, `.yml` or `.json`.
///
/// # Errors
/// Says which folder cannot be read. A single file that cannot is no error of the folder.
pub(super) fn list_folder(folder: &Path, on_folder: OnFolder<'_>) -> Result<Listing, String> {
    let cannot = |path: &Path, error: &io::Error| format!("the folder {} cannot be read: {error}", path.display());
    let metadata = fs::metadata(folder).map_err(|error| cannot(folder, &error))?;
    let identity = Identity::of(&metadata);
    let mut files = BTreeMap::new();
    let mut seen = HashSet::from([identity]);
    let mut open = vec![(folder.to_path_buf(), identity, 0)];
    while let Some((path, identity, depth)) = open.pop() {
        on_folder(&path, identity);
        for entry in fs::read_dir(&path).map_err(|error| cannot(&path, &error))? {
            let entry = entry.map_err(|error| cannot(&path, &error))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let metadata = fs::metadata(&path);
            if let Ok(metadata) = &metadata
                && metadata.is_dir()
            {
                // Links may form a ring; each folder is read once.
                let identity = Identity::of(metadata);
                if depth < MAX_FOLDER_DEPTH && seen.insert(identity) {
                    open.push((path, identity, depth + 1));
                }
            } else if let Some(format) = format_of(&path) {
                // It went while the folder was read; a link that leads nowhere is still there.
                if metadata.is_err() && fs::symlink_metadata(&path).is_err() {
                    continue;
                }
                let relative = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy();
                files.insert(Arc::from(relative.as_ref()), Found { stamp: stamp(metadata), path, format });
            }
        }
    }
    Ok(Listing { identity, files })
}

fn stamp(metadata: io::Result<Metadata>) -> Result<Stamp, String> {
    match metadata {
        Err(error) => Err(format!("it cannot be read: {error}")),
        // A pipe would block whoever reads it.
        Ok(metadata) if !metadata.is_file() => Err("it is no regular file".to_owned()),
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
            Err(format!("it is larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024))
        }
        Ok(metadata) => Ok(Stamp::of(&metadata)),
    }
}

pub(super) fn format_of(path: &Path) -> Option<Format> {
    match path.extension().and_then(OsStr::to_str) {
        Some("yaml" | "yml") => Some(Format::Yaml),
        Some("json") => Some(Format::Json),
        _ => None,
    }
}

/// A file's bytes.
#[derive(Debug)]
pub(super) enum Bytes {
    /// All of them, and the stamp that they have.
    Whole(Vec<u8>, Stamp),
    /// It changed meanwhile: to be read again.
    Moving,
    /// It went meanwhile.
    Gone,
}

/// Reads a file.
///
/// # Errors
/// Says why the file cannot be read.
pub(super) fn read(path: &Path) -> Result<Bytes, String> {
    let cannot = |error: io::Error| format!("it cannot be read: {error}");
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bytes::Gone),
        Err(error) => return Err(cannot(error)),
    };
    let before = file.metadata().map_err(cannot)?;
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or(0).saturating_add(1));
    file.by_ref().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    let after = Stamp::of(&file.metadata().map_err(cannot)?);
    if after != Stamp::of(&before) || after.len != bytes.len() as u64 {
        return Ok(Bytes::Moving);
    }
    Ok(Bytes::Whole(bytes, after))
}

/// Tells of a folder that is to be watched and not read; one that is missing is nothing to tell.
pub(super) fn watch_only(folder: &Path, on_folder: OnFolder<'_>) {
    if let Ok(metadata) = fs::metadata(folder) {
        on_folder(folder, Identity::of(&metadata));
    }
}
