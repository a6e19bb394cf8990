//! Takes in one cluster whose own manager dials in: passes on what it tells, and notices when it is gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::cluster::{Order, STALE_AFTER, TICK, another_cluster};
use super::holdings::{Closed, Holdings, State};
use super::members::{self, Asked, FromMember, Knock, Known, Members, Seat};
use super::report::{Facts, connection};
use crate::kube::connect::{Identity, Refused};
use crate::kube::down::{Board, Scope, Summary};
use crate::kube::watch::{Item, OF_ALL};
use crate::model::object::{Object, ObjectKey, ObjectKind};

/// A member that was let in.
struct Guest {
    identity: Identity,
    expires_at: Option<Timestamp>,
    news: mpsc::Receiver<FromMember>,
    /// Everything that the cluster has was told by it.
    is_synced: bool,
    /// Since when it cannot read its cluster, and why.
    failing: Option<(Instant, Refused)>,
    /// What comes down to it, of which it was told to begin with.
    scope: Scope,
    /// How far it is with that.
    down: Option<Summary>,
}

pub(super) struct Pushed {
    holdings: Holdings,
    orders: watch::Receiver<Order>,
    /// Where members knock; without it this process lets none in.
    members: Option<Members>,
    board: Board,
    guest: Option<Guest>,
    /// Since when there is none.
    alone_since: Instant,
    /// Why the last that came was not let in.
    refused: Option<Refused>,
    life: u64,
    /// What an earlier run kept, and the world was told of it at once; before that, `None`.
    recalled: Option<Vec<Object>>,
}

impl Pushed {
    /// Goes on from what is known.
    pub fn new(mut holdings: Holdings, orders: watch::Receiver<Order>, members: Option<Members>, board: Board) -> Self {
        static LIVES: AtomicU64 = AtomicU64::new(1);
        holdings.restart_listings();
        // Of what another reader told, the forms are not at hand.
        let recalled = (holdings.len() > 0).then(Vec::new);
        Self {
            holdings,
            orders,
            members,
            board,
            guest: None,
            alone_since: Instant::now(),
            refused: None,
            life: LIVES.fetch_add(1, Ordering::Relaxed),
            recalled,
        }
    }

    /// Takes in until nobody listens or orders; gives what is known then.
    pub async fn run(mut self) -> Holdings {
        let mut asked = self.members.as_ref().map(|members| members.open(&self.holdings.name));
        let mut tick = tokio::time::interval(TICK);
        loop {
            let outcome = tokio::select! {
                changed = self.orders.changed() => changed.map_err(|_| Closed),
                Some(asked) = next_asked(asked.as_mut()) => self.knocked(asked).await,
                news = next_news(self.guest.as_mut()) => self.told(news).await,
                _ = tick.tick() => Ok(()),
            };
            if outcome.is_err() || self.look().await.is_err() {
                // Whoever comes next opens it again.
                if let Some(members) = &self.members {
                    members.close(&self.holdings.name);
                }
                return self.holdings;
            }
        }
    }

    /// A member wants to be let in.
    async fn knocked(&mut self, asked: Asked) -> Result<(), Closed> {
        let (identity, expires_at, answer) = match asked {
            Asked::Whether(identity, answer) => {
                // Who knocks may be gone already, here as below.
                let _ = answer.send(self.objection(&identity).map_or(Ok(()), Err));
                return Ok(());
            }
            Asked::Enter(Knock { identity, expires_at }, answer) => (identity, expires_at, answer),
        };
        if let Some(why) = self.objection(&identity) {
            let _ = answer.send(Err(why));
            return Ok(());
        }
        self.holdings.remember(&identity.uid);
        let known = self.known().await?;
        // What is still wrong is found anew, since what was not taken still differs.
        self.holdings.forget_faults().await?;
        let (news, receiver) = members::news();
        self.refused = None;
        let scope = self.orders.borrow().scope.clone().unwrap_or_default();
        let down = self.board.inbox(&self.holdings.name, scope.clone());
        self.guest =
            Some(Guest { identity, expires_at, news: receiver, is_synced: false, failing: None, scope, down: None });
        if answer.send(Ok(Seat { life: self.life, known, news, down })).is_err() {
            self.left();
        }
        Ok(())
    }

    /// Why such a member is not let in.
    fn objection(&mut self, identity: &Identity) -> Option<Refused> {
        let Holdings { name, uid, .. } = &self.holdings;
        if uid.is_empty() || *uid == identity.uid {
            return None;
        }
        let why = another_cluster(name, uid, &identity.uid);
        // Where the right one is there, it is of no account.
        if self.guest.is_none() {
            self.refused = Some(why.clone());
        }
        Some(why)
    }

    /// All that the world was told.
    async fn known(&mut self) -> Result<Vec<Known>, Closed> {
        self.recall().await?;
        let recalled = self.recalled.replace(Vec::new()).unwrap_or_default();
        let mut forms: HashMap<ObjectKey, Object> = recalled.into_iter().map(|object| (object.key(), object)).collect();
        let keys = self.holdings.known.values().flat_map(HashMap::keys);
        let known = keys.map(|key| match forms.remove(key) {
            Some(object) => Known::Object(Box::new(object)),
            None => Known::Key(key.clone()),
        });
        Ok(known.collect())
    }

    async fn recall(&mut self) -> Result<(), Closed> {
        if self.recalled.is_none() {
            self.recalled = Some(self.holdings.recall().await?);
        }
        Ok(())
    }

    fn left(&mut self) {
        if self.guest.take().is_some() {
            self.alone_since = Instant::now();
        }
    }

    async fn told(&mut self, news: Option<FromMember>) -> Result<(), Closed> {
        let Some(guest) = &mut self.guest else { return Ok(()) };
        match news {
            None => self.left(),
            Some(FromMember::Items(items, passed)) => {
                self.items(items).await?;
                // The member may be gone meanwhile; what it told is taken all the same.
                let _ = passed.send(());
            }
            Some(FromMember::Synced) => {
                guest.is_synced = true;
                if self.holdings.state == State::Synced {
                    tracing::info!(cluster = %self.holdings.name, objects = self.holdings.len(), "the member has told what differed");
                }
            }
            Some(FromMember::Reads(why)) => guest.failing = why.map(|why| (Instant::now(), why)),
            Some(FromMember::Problems(problems)) => self.holdings.set_said(problems).await?,
            Some(FromMember::Down(summary)) => {
                self.board.tell(&self.holdings.name, &summary);
                guest.down = Some(summary);
            }
        }
        Ok(())
    }

    async fn items(&mut self, items: Vec<Item>) -> Result<(), Closed> {
        let mut by_kind: BTreeMap<ObjectKind, Vec<Item>> = BTreeMap::new();
        for item in items {
            let kind = match &item {
                Item::Object(object) | Item::Warned(object, _) => object.key().kind,
                Item::Gone(key) | Item::Invalid(key, _) => key.kind,
                // Only the primary tells of clusters.
                Item::Expect(_) => continue,
            };
            // A member speaks of what a sub-cluster may have, and of nothing that only the primary has.
            if OF_ALL.contains(&kind) {
                by_kind.entry(kind).or_default().push(item);
            }
        }
        for (kind, items) in by_kind {
            self.holdings.items(kind, items).await?;
        }
        Ok(())
    }

    /// Does what time calls for.
    async fn look(&mut self) -> Result<(), Closed> {
        // What shall come down has changed: the member comes again, and is told anew.
        let scope = self.orders.borrow().scope.clone().unwrap_or_default();
        if self.guest.as_ref().is_some_and(|guest| guest.scope != scope) {
            self.left();
        }
        let trouble = self.trouble();
        match &trouble {
            Some((since, why)) if since.elapsed() >= STALE_AFTER => {
                self.recall().await?;
                self.holdings.unknown(why).await?;
            }
            None if self.holdings.state != State::Synced
                && self.guest.as_ref().is_some_and(|guest| guest.is_synced) =>
            {
                self.holdings.synced().await?;
            }
            _ => {}
        }
        let guest = self.guest.as_ref();
        let connection = connection(&Facts {
            generation: self.orders.borrow().generation,
            identity: guest.map(|guest| &guest.identity),
            uid: &self.holdings.uid,
            trouble: trouble.as_ref().map(|(_, why)| why),
            refused: self.refused.as_ref(),
            rehearses: false,
            credential: None,
            expires_at: guest.and_then(|guest| guest.expires_at),
            in_config_map: false,
            down: guest.filter(|guest| guest.scope.accesses).and_then(|guest| guest.down.as_ref()),
        });
        self.holdings.report(connection);
        Ok(())
    }

    /// Since when the cluster cannot be read, and why.
    fn trouble(&self) -> Option<(Instant, Refused)> {
        let why = match (&self.guest, &self.members) {
            (Some(guest), _) => return guest.failing.clone(),
            (None, None) => Refused::new(
                "MembersNotServed",
                "this control plane lets no members in",
                "serve with --member-addr, or write spec.source.kubeconfig",
            ),
            (None, Some(_)) => self.refused.clone().unwrap_or_else(|| {
                Refused::new(
                    "MemberNotConnected",
                    "no member of the cluster is connected",
                    "run `causeway member` there, and see its log",
                )
            }),
        };
        Some((self.alone_since, why))
    }
}

async fn next_asked(asked: Option<&mut mpsc::Receiver<Asked>>) -> Option<Asked> {
    match asked {
        Some(asked) => asked.recv().await,
        None => std::future::pending().await,
    }
}

/// What the guest tells next, `None` where it is gone; for ever nothing where there is none.
async fn next_news(guest: Option<&mut Guest>) -> Option<FromMember> {
    match guest {
        Some(guest) => guest.news.recv().await,
        None => std::future::pending().await,
    }
}
