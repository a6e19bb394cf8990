//! Folders of Kubernetes YAML and JSON, one for each cluster, as a live source of changes.
//!
//! ```text
//!  folder ─ scan ─▶ changed files ─ yaml/json ─▶ tree with positions ─ de ─▶ Kubernetes' types
//!                                                                               │ kube::convert
//!      Changes ◀─ files (who has which object, last good content) ◀─ decode ◀───┘
//! ```
//!
//! Three promises:
//! - A file is taken as a whole or not at all. One that is broken keeps its last good content, over
//!   restarts too ([`LastGood`]).
//! - What cannot be read is unknown, not empty: a folder that vanishes makes its cluster
//!   [`crate::model::object::Change::Unknown`] and deletes nothing.
//! - Whatever is wrong is told with file, line, object, field, and what to do about it.

pub(crate) mod de;
mod decode;
mod engine;
mod files;
mod folder;
pub(crate) mod json;
mod last_good;
mod report;
mod scan;
mod source;
pub(crate) mod tree;
mod watch;
mod yaml;

pub use decode::{Decoded, Finding, Format, LeftOut, Loaded, decode};
pub use last_good::{BoxFuture, GoodFile, InMemory, LastGood, LastGoodError, Saved};
pub use report::{FolderState, FolderView, LeftOutRow, Problem, Report};
pub use source::{Forgotten, Settings, Source, SourceError, start};
