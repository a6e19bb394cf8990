//! What a source tells people of its folders.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::id::ClusterName;

/// Something a person should mend. The fields are those of the problems that are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The cluster; empty where none.
    pub cluster: String,
    /// The file, relative to the manifests' folder.
    pub file: Option<String>,
    /// The line, counted from 1.
    pub line: Option<u32>,
    /// The object, as `Kind namespace/name`; empty where the file cannot be read at all.
    pub object: String,
    /// The field's path, as `spec.ranges[1]`; empty where none.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// How a cluster's folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FolderState {
    /// Read.
    Synced,
    /// Cannot be read: what was last known stays.
    Unknown {
        /// Why, for people.
        reason: String,
    },
}

/// A cluster's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderView {
    /// How it is.
    pub state: FolderState,
    /// Files that are in use.
    pub files: usize,
    /// Of these, how many are broken now and stand with their last good content.
    pub last_good_files: usize,
    /// Objects that are in use.
    pub objects: usize,
    /// What the cluster has that is not served: information, no fault.
    pub left_out: Vec<LeftOutRow>,
}

/// A sort of things that are not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOutRow {
    /// What sort, for people.
    pub what: String,
    /// How many.
    pub count: usize,
    /// The first few objects.
    pub examples: Vec<String>,
}

/// The whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Every folder by its cluster.
    pub folders: BTreeMap<ClusterName, FolderView>,
    /// What to mend, by cluster, file and line.
    pub problems: Vec<Problem>,
}
