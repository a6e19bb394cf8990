//! The files of one cluster: which objects each holds, which file wins where two hold the same,
//! and the changes that follow when files change. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::decode::{Decoded, Finding, LeftOut, Loaded};
use super::report::{LeftOutRow, Problem};
use crate::model::id::ClusterName;
use crate::model::object::{Change, Object, ObjectKey};

/// What happened to a file.
#[derive(Debug)]
pub(super) enum Update {
    /// It was read and decoded.
    Read {
        /// What it holds.
        decoded: Decoded,
        /// It holds not a single character that is not white space.
        blank: bool,
    },
    /// It is there, but cannot be read.
    Unreadable(Finding),
    /// It is gone.
    Gone,
}

/// The files of one cluster.
#[derive(Debug)]
pub(super) struct ClusterFiles {
    cluster: ClusterName,
    files: BTreeMap<Arc<str>, File>,
    /// The files that hold an object; the first, by path, is the one that counts.
    owners: HashMap<ObjectKey, BTreeSet<Arc<str>>>,
    /// Objects that more than one file holds.
    doubles: BTreeSet<ObjectKey>,
}

#[derive(Debug, Default)]
struct File {
    /// The last good content.
    objects: HashMap<ObjectKey, Loaded>,
    left_out: LeftOut,
    warnings: Vec<Finding>,
    /// Why the content now is not the one in use; empty where it is.
    broken: Vec<Finding>,
}

impl ClusterFiles {
    pub(super) fn new(cluster: ClusterName) -> Self {
        Self { cluster, files: BTreeMap::new(), owners: HashMap::new(), doubles: BTreeSet::new() }
    }

    /// Takes in what happened to some files, all at once: an object that moves from one file to
    /// another is not deleted in between. Gives what changed, in the order of the objects' keys.
    pub(super) fn apply(&mut self, updates: Vec<(Arc<str>, Update)>) -> Vec<Change> {
        let mut before: BTreeMap<ObjectKey, Option<Arc<Object>>> = BTreeMap::new();
        for (path, update) in updates {
            match update {
                Update::Gone => {
                    self.replace(&path, HashMap::new(), &mut before);
                    self.files.remove(&path);
                }
                Update::Unreadable(finding) => self.files.entry(path).or_default().broken = vec![finding],
                Update::Read { decoded, blank } => self.read(path, decoded, blank, &mut before),
            }
        }
        let mut changes = Vec::new();
        for (key, before) in before {
            let cluster = self.cluster.clone();
            match self.current(&key) {
                Some(now) if before.as_ref() != Some(&now.object) => {
                    changes.push(Change::Apply { cluster, object: Box::new(Object::clone(&now.object)) });
                }
                None if before.is_some() => changes.push(Change::Delete { cluster, key }),
                _ => {}
            }
        }
        changes
    }

    fn read(
        &mut self,
        path: Arc<str>,
        decoded: Decoded,
        blank: bool,
        before: &mut BTreeMap<ObjectKey, Option<Arc<Object>>>,
    ) {
        let file = self.files.entry(path.clone()).or_default();
        if !decoded.findings.is_empty() {
            file.broken = decoded.findings;
            return;
        }
        // Many programs write a file by first emptying it. Nobody means "delete all" by that.
        if blank && !file.objects.is_empty() {
            file.broken = vec![Finding {
                line: 0,
                object: String::new(),
                field: String::new(),
                message: "the file is empty, as if it were just being written".to_owned(),
                remedy: "write it, or remove the file to remove its objects".to_owned(),
            }];
            return;
        }
        file.broken = Vec::new();
        file.left_out = decoded.left_out;
        file.warnings = decoded.warnings;
        let objects = decoded.objects.into_iter().map(|loaded| (loaded.object.key(), loaded)).collect();
        self.replace(&path, objects, before);
    }

    fn replace(
        &mut self,
        path: &Arc<str>,
        objects: HashMap<ObjectKey, Loaded>,
        before: &mut BTreeMap<ObjectKey, Option<Arc<Object>>>,
    ) {
        let Some(file) = self.files.get(path) else { return };
        for key in file.objects.keys().chain(objects.keys()) {
            if !before.contains_key(key) {
                before.insert(key.clone(), self.current(key).map(|loaded| loaded.object.clone()));
            }
        }
        let Some(file) = self.files.get_mut(path) else { return };
        let old = std::mem::replace(&mut file.objects, objects);
        for key in old.keys().filter(|key| !file.objects.contains_key(*key)) {
            if let Some(owners) = self.owners.get_mut(key) {
                owners.remove(path);
                if owners.len() < 2 {
                    self.doubles.remove(key);
                }
                if owners.is_empty() {
                    self.owners.remove(key);
                }
            }
        }
        for key in file.objects.keys().filter(|key| !old.contains_key(*key)) {
            let owners = self.owners.entry(key.clone()).or_default();
            owners.insert(path.clone());
            if owners.len() > 1 {
                self.doubles.insert(key.clone());
            }
        }
    }

    fn current(&self, key: &ObjectKey) -> Option<&Loaded> {
        let first = self.owners.get(key)?.first()?;
        self.files.get(first)?.objects.get(key)
    }

    /// How many files are there.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// How many files are broken and stand with their last good content.
    pub(super) fn last_good(&self) -> usize {
        self.files.values().filter(|file| !file.broken.is_empty() && !file.objects.is_empty()).count()
    }

    /// How many objects are in use.
    pub(super) fn objects(&self) -> usize {
        self.owners.len()
    }

    /// The files' paths.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Arc<str>> {
        self.files.keys()
    }

    /// Whether the file's content now is the one in use.
    pub(super) fn is_good(&self, path: &str) -> bool {
        self.files.get(path).is_some_and(|file| file.broken.is_empty())
    }

    /// What is not served.
    pub(super) fn left_out(&self) -> Vec<LeftOutRow> {
        let mut sum = LeftOut::default();
        self.files.values().for_each(|file| sum.add(&file.left_out));
        let rows = sum.0.into_iter();
        rows.map(|(what, (count, examples))| LeftOutRow { what: what.to_string(), count, examples }).collect()
    }

    /// What to mend, by file and line.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (path, file) in &self.files {
            let in_use = match (file.broken.is_empty(), file.objects.is_empty()) {
                (true, _) => "",
                (false, true) => "; nothing of the file is in use",
                (false, false) => "; the file's last good content stays in use",
            };
            for finding in &file.broken {
                problems.push(self.problem(path, finding, in_use));
            }
            problems.extend(file.warnings.iter().map(|finding| self.problem(path, finding, "")));
        }
        for key in &self.doubles {
            problems.extend(self.double(key));
        }
        problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        problems
    }

    fn problem(&self, path: &str, finding: &Finding, in_use: &str) -> Problem {
        Problem {
            cluster: self.cluster.to_string(),
            file: Some(format!("{}/{path}", self.cluster)),
            line: Some(finding.line).filter(|line| *line > 0),
            object: finding.object.clone(),
            field: finding.field.clone(),
            message: format!("{}{in_use}", finding.message),
            remedy: finding.remedy.clone(),
        }
    }

    /// The problems of an object that several files hold: one for each that does not count.
    fn double(&self, key: &ObjectKey) -> Vec<Problem> {
        let at = |path: &Arc<str>| self.files.get(path).and_then(|file| file.objects.get(key)).map_or(0, |l| l.line);
        let mut owners = self.owners.get(key).into_iter().flatten();
        let Some(first) = owners.next() else { return Vec::new() };
        let message = format!(
            "the object is in `{}/{first}` too, on line {}; that one is in use, as it is the first by path",
            self.cluster,
            at(first)
        );
        let problem = |path: &Arc<str>| Problem {
            cluster: self.cluster.to_string(),
            file: Some(format!("{}/{path}", self.cluster)),
            line: Some(at(path)),
            object: key.to_string(),
            field: "metadata.name".to_owned(),
            message: message.clone(),
            remedy: "remove the object from one of the two files".to_owned(),
        };
        owners.map(problem).collect()
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
