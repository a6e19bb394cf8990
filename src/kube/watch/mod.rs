//! Reading one cluster through its API server: a watch for each kind, and a pulse that tells whether the API server and
//! its etcd answer at all.

mod exports;
mod kind;
pub(super) mod known;
mod pulse;

use std::time::Instant;

use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connect::{Identity, Refused};
use super::field::Invalid;
use crate::model::id::ClusterName;
use crate::model::object::{Object, ObjectKey, ObjectKind};

/// How many messages of watches may wait before the watches are read no further.
const WAITING: usize = 64;

/// The kinds that are read of every cluster.
pub const OF_ALL: [ObjectKind; 5] =
    [ObjectKind::Node, ObjectKind::Service, ObjectKind::Pod, ObjectKind::EndpointSlice, ObjectKind::ServiceExport];

/// The kinds that are read of the primary as well.
pub const OF_PRIMARY: [ObjectKind; 5] = [
    ObjectKind::ClusterInfo,
    ObjectKind::VipPool,
    ObjectKind::ClusterAccess,
    ObjectKind::EndpointSnapshot,
    ObjectKind::Policy,
];

/// What a watch tells.
#[derive(Debug)]
pub enum Told {
    /// The kind is told from the start: what is not told before [`Told::Done`] is gone.
    Begin(ObjectKind),
    /// Objects, in their order.
    Items(ObjectKind, Vec<Item>),
    /// Everything that there is of the kind was told.
    Done(ObjectKind),
    /// The kind cannot be read at present; it is tried again.
    Failing(ObjectKind, Refused),
}

/// What a watch tells of one object.
#[derive(Debug)]
pub enum Item {
    /// It is there, in this form.
    Object(Box<Object>),
    /// It is gone, or of a sort that is not served.
    Gone(ObjectKey),
    /// It is there and makes no sense; what was known of it stays.
    Invalid(ObjectKey, Vec<Invalid>),
    /// It is there, and this much of it makes no sense; a default stands in.
    Warned(Box<Object>, Vec<Invalid>),
    /// A ClusterInfo that says that a cluster is to be read, whose name this is; told before the object itself.
    Expect(ClusterName),
}

/// Whether the API server answers.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    /// Which cluster answered last.
    pub identity: Option<Identity>,
    /// When it answered last.
    pub beat_at: Option<Instant>,
    /// Since when it has not answered, and why.
    pub failing: Option<(Instant, Refused)>,
}

/// A connection to a cluster, over which it is read. Dropping it ends it.
pub struct Session {
    client: Client,
    /// Whether the API server answers.
    pub pulse: watch::Receiver<Pulse>,
    /// What the watches tell, once [`Session::begin`] was called.
    pub told: mpsc::Receiver<Told>,
    sender: Option<mpsc::Sender<Told>>,
    cancel: CancellationToken,
    _end: DropGuard,
}

impl Session {
    /// Begins to take the pulse. Nothing is read yet, so that it can be found out first which cluster it is.
    pub fn open(client: Client) -> Self {
        let (sender, told) = mpsc::channel(WAITING);
        let cancel = CancellationToken::new();
        let pulse = pulse::start(client.clone(), cancel.clone());
        Self { client, pulse, told, sender: Some(sender), cancel: cancel.clone(), _end: cancel.drop_guard() }
    }

    /// The way to the API server.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether it is being read.
    pub fn has_begun(&self) -> bool {
        self.sender.is_none()
    }

    /// Begins to read these kinds.
    pub fn begin(&mut self, kinds: &[ObjectKind]) {
        if let Some(sender) = self.sender.take() {
            for kind in kinds {
                kind::start(*kind, self.client.clone(), sender.clone(), self.cancel.clone());
            }
        }
    }
}
