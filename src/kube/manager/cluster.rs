//! Reads one cluster: opens sessions to it, passes on what they tell, notices when they go silent, and lets a new
//! kubeconfig take over only when it has shown that it can.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use tokio::sync::watch;

use super::holdings::{Closed, Holdings, State};
use super::rehearsal::Rehearsal;
use super::report::{Facts, connection};
use crate::kube::connect::{self, Credential, Refused};
use crate::kube::down::{self, Applying, Board, Scope};
use crate::kube::watch::{Session, Told};
use crate::model::id::ClusterName;
use crate::model::object::ObjectKind;

/// Trouble that lasts this long makes a cluster stale. Shorter than that, API servers restart every day.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(10);
/// A watch that has told of no trouble for this long, while the API server answers, is well.
const CALM: Duration = Duration::from_secs(3);
pub(super) const TICK: Duration = Duration::from_millis(500);

/// How a cluster is to be reached.
#[derive(Clone, Debug, Default)]
pub(super) enum Wanted {
    /// Not known yet.
    #[default]
    Waiting,
    /// It is the primary: by the operator's kubeconfig, or as a pod of it.
    Primary(Option<PathBuf>),
    /// By this kubeconfig.
    Kubeconfig { text: Arc<str>, in_config_map: bool },
    /// Not at all: its own manager dials in (`pushed`).
    Member,
    /// There is no kubeconfig, and why.
    Refused(Refused),
}

/// What is wanted of a cluster at present.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    pub wanted: Wanted,
    /// `metadata.generation` of its ClusterInfo.
    pub generation: i64,
    /// What comes down to it; nothing is written or taken away before that is known.
    pub scope: Option<Scope>,
}

/// A checked way to a cluster.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Primary(Option<PathBuf>),
    Kubeconfig { text: Arc<str>, in_config_map: bool, credential: Box<Credential> },
}

impl Way {
    async fn client(&self) -> Result<Client, Refused> {
        match self {
            Way::Kubeconfig { credential, .. } => credential.client().await,
            Way::Primary(path) => connect::primary(path.as_deref())
                .await
                .map_err(|error| Refused::new("InvalidKubeconfig", format!("{error:#}"), "correct --kubeconfig")),
        }
    }

    fn text(&self) -> Option<&Arc<str>> {
        match self {
            Way::Primary(_) => None,
            Way::Kubeconfig { text, .. } => Some(text),
        }
    }
}

/// Trouble with one kind's watch.
struct Failing {
    since: Instant,
    last: Instant,
    why: Refused,
}

pub(super) struct Reader {
    holdings: Holdings,
    kinds: Vec<ObjectKind>,
    orders: watch::Receiver<Order>,
    way: Option<Way>,
    /// The way has shown the cluster.
    is_proven: bool,
    active: Option<Session>,
    rehearsal: Option<Rehearsal>,
    /// Why the kubeconfig that is wanted is not the one in use.
    refused: Option<Refused>,
    done: HashSet<ObjectKind>,
    failing: HashMap<ObjectKind, Failing>,
    started: Instant,
    /// The API server did not answer for so long that the session is replaced once it does.
    is_worn: bool,
    /// The reason that was logged of why the kubeconfig that is wanted is not in use.
    told_refused: &'static str,
    /// Where stands what the cluster shall have; of a member's own reader, the member knows.
    board: Option<Board>,
    /// What comes down to it is being written.
    applying: Option<(Scope, Applying)>,
}

impl Reader {
    /// A reader of these kinds, which goes on from what is known.
    pub fn new(
        mut holdings: Holdings,
        kinds: Vec<ObjectKind>,
        orders: watch::Receiver<Order>,
        board: Option<Board>,
    ) -> Self {
        holdings.restart_listings();
        Self {
            holdings,
            kinds,
            orders,
            way: None,
            is_proven: false,
            active: None,
            rehearsal: None,
            refused: None,
            done: HashSet::new(),
            failing: HashMap::new(),
            started: Instant::now(),
            is_worn: false,
            told_refused: "",
            board,
            applying: None,
        }
    }

    /// Reads until nobody listens or orders; gives what is known then.
    pub async fn run(mut self) -> Holdings {
        let mut tick = tokio::time::interval(TICK);
        self.orders.mark_changed();
        loop {
            let outcome = tokio::select! {
                changed = self.orders.changed() => match changed {
                    Ok(()) => { self.ordered().await; Ok(()) }
                    Err(_) => Err(Closed),
                },
                told = next(self.active.as_mut()) => match told {
                    Some(told) => self.take(told).await,
                    None => Ok(()),
                },
                told = next(self.rehearsal.as_mut().map(|rehearsal| &mut rehearsal.session)) => {
                    if let (Some(rehearsal), Some(told)) = (&mut self.rehearsal, told) {
                        rehearsal.take(told);
                    }
                    Ok(())
                }
                _ = tick.tick() => Ok(()),
            };
            if outcome.is_err() || self.look().await.is_err() {
                return self.holdings;
            }
        }
    }

    /// Another kubeconfig is wanted, or another thing changed in the ClusterInfo.
    async fn ordered(&mut self) {
        let wanted = self.orders.borrow_and_update().wanted.clone();
        let way = match wanted {
            Wanted::Waiting | Wanted::Member => return,
            Wanted::Refused(why) => {
                (self.rehearsal, self.refused) = (None, Some(why));
                return;
            }
            // The primary's kubeconfig is the operator's and does not change while this runs.
            Wanted::Primary(_) if self.way.is_some() => return,
            Wanted::Primary(path) => Way::Primary(path),
            Wanted::Kubeconfig { text, in_config_map } => {
                let in_use = self.way.as_mut().filter(|way| way.text() == Some(&text));
                if let Some(Way::Kubeconfig { in_config_map: place, .. }) = in_use {
                    *place = in_config_map;
                    (self.rehearsal, self.refused) = (None, None);
                    return;
                }
                if self.rehearsal.as_ref().is_some_and(|rehearsal| rehearsal.way.text() == Some(&text)) {
                    return;
                }
                match Credential::parse(&text) {
                    Ok(credential) => Way::Kubeconfig { text, in_config_map, credential: Box::new(credential) },
                    Err(why) => {
                        (self.rehearsal, self.refused) = (None, Some(why));
                        return;
                    }
                }
            }
        };
        let client = match way.client().await {
            Ok(client) => client,
            Err(why) => {
                (self.rehearsal, self.refused) = (None, Some(why));
                return;
            }
        };
        let session = Session::open(client);
        self.refused = None;
        if self.active.is_some() && self.is_proven {
            tracing::info!(cluster = %self.holdings.name, "a new kubeconfig is tried beside the one in use");
            self.rehearsal = Some(Rehearsal::new(way, session));
        } else {
            // Nothing is in use that could be lost.
            self.use_session(session);
            (self.way, self.is_proven) = (Some(way), false);
        }
    }

    fn use_session(&mut self, session: Session) {
        self.active = Some(session);
        self.applying = None;
        self.done.clear();
        self.failing.clear();
        self.is_worn = false;
    }

    /// Does what time and pulses call for.
    async fn look(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        self.look_at_rehearsal().await?;
        if let Some(session) = &mut self.active
            && !session.has_begun()
        {
            let pulse = session.pulse.borrow().clone();
            if let (Some(identity), None) = (pulse.identity, pulse.failing) {
                let known = &self.holdings.uid;
                if known.is_empty() || *known == identity.uid {
                    session.begin(&self.kinds);
                    self.is_proven = true;
                    self.holdings.remember(&identity.uid);
                } else {
                    let why = another_cluster(&self.holdings.name, known, &identity.uid);
                    (self.active, self.way, self.refused, self.applying) = (None, None, Some(why), None);
                }
            }
        }
        self.apply_down();
        let trouble = self.trouble(now);
        match &trouble {
            Some((since, why)) if now.duration_since(*since) >= STALE_AFTER => {
                self.is_worn |= self.is_silent();
                self.holdings.unknown(why).await?;
            }
            None if self.is_worn => self.renew().await,
            None if self.holdings.state != State::Synced && self.is_read() => self.holdings.synced().await?,
            _ => {}
        }
        self.report(trouble.as_ref().map(|(_, why)| why));
        Ok(())
    }

    /// Has what comes down written by the session that is read: it is known which cluster that is.
    fn apply_down(&mut self) {
        let Some(board) = &self.board else { return };
        let Some(scope) = self.orders.borrow().scope.clone() else { return };
        self.applying.take_if(|(known, _)| *known != scope);
        if let (Some(session), None) = (self.active.as_ref().filter(|session| session.has_begun()), &self.applying) {
            let cluster = &self.holdings.name;
            let inbox = board.inbox(cluster, scope.clone());
            self.applying = Some((scope, down::start(session.client(), inbox, board.counters(cluster))));
        }
        if let Some((_, applying)) = &self.applying {
            board.tell(&self.holdings.name, &applying.summary.borrow());
        }
    }

    fn is_read(&self) -> bool {
        self.active.is_some() && self.kinds.iter().all(|kind| self.done.contains(kind))
    }

    /// The session that is being read gets no answers.
    fn is_silent(&self) -> bool {
        self.active.as_ref().is_some_and(|session| session.has_begun() && session.pulse.borrow().failing.is_some())
    }

    /// Since when the cluster cannot be read, and why.
    fn trouble(&mut self, now: Instant) -> Option<(Instant, Refused)> {
        let Some(session) = &self.active else {
            let why = self.refused.clone().unwrap_or_else(|| {
                Refused::new(
                    "Waiting",
                    "its kubeconfig is not known yet",
                    "see whether the primary's API server answers",
                )
            });
            return Some((self.started, why));
        };
        let pulse = session.pulse.borrow();
        let calm = pulse.beat_at.filter(|_| pulse.failing.is_none());
        self.failing
            .retain(|_, failing| calm.is_none_or(|beat| beat < failing.last + CALM) || now < failing.last + CALM);
        // A worn session is replaced as soon as the API server answers: that its watches fail is of no account then.
        let watches = self.failing.values().filter(|_| !self.is_worn || calm.is_none());
        let watches = watches.map(|failing| (failing.since, failing.why.clone()));
        pulse.failing.clone().into_iter().chain(watches).min_by_key(|(since, _)| *since)
    }

    /// Replaces a session that was in trouble by a new one over new connections: of the old one's, some may be dead
    /// without knowing it.
    async fn renew(&mut self) {
        let Some(way) = &self.way else { return };
        match way.client().await {
            Ok(client) => self.use_session(Session::open(client)),
            Err(why) => self.refused = Some(why),
        }
    }

    async fn take(&mut self, told: Told) -> Result<(), Closed> {
        match told {
            Told::Begin(kind) => {
                self.holdings.begin(kind);
                Ok(())
            }
            Told::Items(kind, items) => {
                self.failing.remove(&kind);
                self.holdings.items(kind, items).await
            }
            Told::Done(kind) => {
                self.failing.remove(&kind);
                self.done.insert(kind);
                self.holdings.sweep(kind).await
            }
            Told::Failing(kind, why) => {
                let now = Instant::now();
                tracing::debug!(cluster = %self.holdings.name, ?kind, "a watch fails: {why}");
                let failing = self.failing.entry(kind).or_insert(Failing { since: now, last: now, why: why.clone() });
                (failing.last, failing.why) = (now, why);
                Ok(())
            }
        }
    }

    async fn look_at_rehearsal(&mut self) -> Result<(), Closed> {
        let Some(rehearsal) = &mut self.rehearsal else { return Ok(()) };
        let pulse = rehearsal.session.pulse.borrow().clone();
        if let Some((_, why)) = &pulse.failing {
            self.refused = Some(why.clone());
            return Ok(());
        }
        let Some(identity) = pulse.identity else { return Ok(()) };
        let Holdings { name, uid, .. } = &self.holdings;
        if !uid.is_empty() && *uid != identity.uid {
            let why = another_cluster(name, uid, &identity.uid);
            (self.rehearsal, self.refused) = (None, Some(why));
            return Ok(());
        }
        rehearsal.session.begin(&self.kinds);
        self.refused.clone_from(&rehearsal.trouble);
        if self.kinds.iter().all(|kind| rehearsal.done.contains(kind)) {
            self.take_over().await?;
        }
        Ok(())
    }

    /// The new kubeconfig has shown the same cluster, whole: from now on it is the one in use, and only what differs
    /// is told.
    async fn take_over(&mut self) -> Result<(), Closed> {
        let Some(Rehearsal { way, session, objects, invalid, done, .. }) = self.rehearsal.take() else { return Ok(()) };
        let (count, gone) = (objects.len(), self.holdings.replace(objects, invalid).await?);
        tracing::info!(cluster = %self.holdings.name, objects = count, gone, "a new kubeconfig takes over");
        self.use_session(session);
        (self.way, self.refused, self.done) = (Some(way), None, done);
        Ok(())
    }

    /// Says in the ClusterInfo's status how the cluster is connected, where that differs.
    fn report(&mut self, trouble: Option<&Refused>) {
        let refused = self.refused.as_ref().map_or("", |why| why.reason);
        if std::mem::replace(&mut self.told_refused, refused) != refused
            && let Some(why) = &self.refused
        {
            tracing::warn!(cluster = %self.holdings.name, reason = refused, "the kubeconfig that is wanted is not used: {why}");
        }
        let pulse = self.active.as_ref().map(|session| session.pulse.borrow().clone()).unwrap_or_default();
        let (credential, in_config_map) = match &self.way {
            Some(Way::Kubeconfig { credential, in_config_map, .. }) => (Some(&**credential), *in_config_map),
            _ => (None, false),
        };
        let down = self.applying.as_ref().filter(|(scope, _)| scope.accesses);
        let down = down.map(|(_, applying)| applying.summary.borrow().clone());
        let connection = connection(&Facts {
            generation: self.orders.borrow().generation,
            identity: pulse.identity.as_ref(),
            uid: &self.holdings.uid,
            trouble,
            refused: self.refused.as_ref(),
            rehearses: self.rehearsal.is_some(),
            credential,
            expires_at: credential.and_then(|credential| credential.expires_at),
            in_config_map,
            down: down.as_ref(),
        });
        self.holdings.report(connection);
    }
}

pub(super) fn another_cluster(name: &ClusterName, known: &str, found: &str) -> Refused {
    Refused::new(
        "AnotherCluster",
        format!("the cluster that answers has the uid {found}, but {name} is the one with {known}"),
        "write the kubeconfig, or run the member, of that cluster; where the cluster was truly made anew, delete its ClusterInfo and make it again",
    )
}

/// What a session's watches tell next, or nothing where its pulse is news; for ever nothing where there is no session.
async fn next(session: Option<&mut Session>) -> Option<Told> {
    let Some(session) = session else { return std::future::pending().await };
    tokio::select! {
        Some(told) = session.told.recv() => Some(told),
        Ok(()) = session.pulse.changed() => None,
        // Both have ended with it.
        else => std::future::pending().await,
    }
}
