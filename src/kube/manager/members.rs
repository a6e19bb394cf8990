//! Where managers of sub-clusters that dial in are let in, and hand over what they tell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::Problem;
use crate::kube::connect::{Identity, Refused};
use crate::kube::down::{Inbox, Summary};
use crate::kube::watch::Item;
use crate::model::id::ClusterName;
use crate::model::object::{Object, ObjectKey};

/// Messages that may wait before a member is read no further.
const NEWS: usize = 4;
/// Members that wait to be let in; there is mostly one.
const KNOCKS: usize = 4;

/// Who wants to be let in.
#[derive(Debug)]
pub struct Knock {
    /// Which cluster it reads, and the version of its API server.
    pub identity: Identity,
    /// When its certificate ends.
    pub expires_at: Option<Timestamp>,
}

/// What a member tells of its cluster.
#[derive(Debug)]
pub enum FromMember {
    /// Objects, in their order; the sender is told when they were passed on.
    Items(Vec<Item>, oneshot::Sender<()>),
    /// Everything that the cluster has was told.
    Synced,
    /// Whether the member can read its cluster: why not, if it cannot.
    Reads(Option<Refused>),
    /// All that is wrong in the cluster's objects, by the member's word.
    Problems(Vec<Problem>),
    /// How far its cluster has what comes down.
    Down(Summary),
}

/// What the world was told of an object before the member came.
#[derive(Debug)]
pub enum Known {
    /// In this form.
    Object(Box<Object>),
    /// In a form that is not at hand.
    Key(ObjectKey),
}

/// A member's place. While it is held, what the member tells is taken; when it is dropped, the member is gone.
#[derive(Debug)]
pub struct Seat {
    /// Places of the same life of a cluster have the same: what was handed over at one is known at the next.
    pub life: u64,
    /// All that the world was told of the cluster.
    pub known: Vec<Known>,
    /// Takes what is told.
    pub news: mpsc::Sender<FromMember>,
    /// What the cluster shall have.
    pub down: Inbox,
}

/// What the cluster manager is asked.
pub(super) enum Asked {
    /// Whether it would let such a member in.
    Whether(Identity, oneshot::Sender<Result<(), Refused>>),
    /// To let it in.
    Enter(Knock, oneshot::Sender<Result<Seat, Refused>>),
}

/// The clusters whose members are let in. Cheap to clone.
#[derive(Clone, Default)]
pub struct Members(Arc<Mutex<BTreeMap<ClusterName, mpsc::Sender<Asked>>>>);

impl Members {
    /// Says whether a member of a cluster would be let in, which has proved that it is one. One that would not disturbs
    /// nobody.
    ///
    /// # Errors
    /// [`Refused`] where no such cluster is expected, or it is another one than is known by that name.
    pub async fn check(&self, cluster: &ClusterName, identity: Identity) -> Result<(), Refused> {
        self.ask(cluster, |answer| Asked::Whether(identity, answer)).await
    }

    /// Lets a member in. One that was let in before is not listened to any more.
    ///
    /// # Errors
    /// As [`Members::check`].
    pub async fn enter(&self, cluster: &ClusterName, knock: Knock) -> Result<Seat, Refused> {
        self.ask(cluster, |answer| Asked::Enter(knock, answer)).await
    }

    async fn ask<T>(
        &self,
        cluster: &ClusterName,
        question: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Asked,
    ) -> Result<T, Refused> {
        let door = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(cluster).cloned();
        let unknown = || {
            Refused::new(
                "ClusterUnknown",
                format!("the primary has no ClusterInfo {cluster} with spec.source.member"),
                "let the cluster join: `causeway cluster join --push`",
            )
        };
        let door = door.ok_or_else(unknown)?;
        let (answer, answered) = oneshot::channel();
        // Where nobody asks any more, the cluster has just gone.
        door.send(question(answer)).await.map_err(|_| unknown())?;
        answered.await.map_err(|_| unknown())?
    }

    /// From now on members of the cluster are asked for here.
    pub(super) fn open(&self, cluster: &ClusterName) -> mpsc::Receiver<Asked> {
        let (door, asked) = mpsc::channel(KNOCKS);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(cluster.clone(), door);
        asked
    }

    /// Members of the cluster are let in no more.
    pub(super) fn close(&self, cluster: &ClusterName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }
}

pub(super) fn news() -> (mpsc::Sender<FromMember>, mpsc::Receiver<FromMember>) {
    mpsc::channel(NEWS)
}
