//! Policies that objects declare come into force as they are told, and go with their objects. Fetching and compiling
//! takes its time, each policy for itself; what is in force meanwhile goes on, also while a source cannot be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::obtain::{Again, Unfit};
use super::{Life, in_force};
use crate::admin::policies::PolicyError;
use crate::model::policy::PolicySpec;
use crate::policy::Digest;
use crate::reconcile::{Declared, PolicyEvent, PolicyFault, Verdict, now};
use crate::store::{NewVersion, PolicySettings, PolicyVersion, Say, StoredPolicy};

/// Pauses between tries: doubled from the first up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// How far it is with a policy.
struct Progress {
    spec: Arc<PolicySpec>,
    state: State,
    pause: Duration,
}

enum State {
    Running,
    /// Nothing is to be done until something differs.
    Done,
    /// It is waited for an upload.
    Waiting,
    Again(Instant),
}

/// Follows what the objects say until `shutdown`.
pub(in crate::app) async fn follow(
    life: Arc<Life>,
    mut declared: watch::Receiver<Arc<Declared>>,
    shutdown: CancellationToken,
) {
    let mut progress: BTreeMap<Arc<str>, Progress> = BTreeMap::new();
    let mut tasks: JoinSet<(Arc<PolicySpec>, Result<(), Unfit>)> = JoinSet::new();
    loop {
        let wanted = declared.borrow_and_update().clone();
        begin(&life, &wanted, &mut progress, &mut tasks);
        if wanted.complete
            && let Err(error) = life.withdraw_all_but(&wanted).await
        {
            tracing::warn!(%error, "policies whose objects are gone are still in force; that is tried again");
        }
        let next = progress.values().filter_map(|known| match known.state {
            State::Again(at) => Some(at),
            _ => None,
        });
        let next = next.min();
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = declared.changed() => if changed.is_err() { return },
            Some(ended) = tasks.join_next() => {
                if let Ok((spec, outcome)) = ended {
                    life.judge(spec, outcome, &mut progress).await;
                }
            }
            () = life.uploaded.notified() => {
                let waiting = progress.values_mut().filter(|known| matches!(known.state, State::Waiting));
                waiting.for_each(|known| known.state = State::Again(Instant::now()));
            }
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

/// Begins with what is new or due again. What is outdated ends without an effect.
fn begin(
    life: &Arc<Life>,
    wanted: &Declared,
    progress: &mut BTreeMap<Arc<str>, Progress>,
    tasks: &mut JoinSet<(Arc<PolicySpec>, Result<(), Unfit>)>,
) {
    progress.retain(|name, known| wanted.specs.get(name) == Some(&known.spec));
    for (name, spec) in &wanted.specs {
        let pause = match progress.get(name) {
            None => FIRST_PAUSE,
            Some(Progress { state: State::Again(at), pause, .. }) if *at <= Instant::now() => *pause,
            Some(_) => continue,
        };
        let (life, asked) = (life.clone(), spec.clone());
        tasks.spawn(async move {
            let outcome = life.declare(&asked).await;
            (asked, outcome)
        });
        progress.insert(name.clone(), Progress { spec: spec.clone(), state: State::Running, pause });
    }
}

impl Life {
    /// Notes what became of an object, and tells it.
    async fn judge(
        &self,
        spec: Arc<PolicySpec>,
        outcome: Result<(), Unfit>,
        progress: &mut BTreeMap<Arc<str>, Progress>,
    ) {
        let Some(known) = progress.get_mut(&spec.name).filter(|known| known.spec == spec) else { return };
        known.state = match &outcome {
            Ok(()) => State::Done,
            Err(Unfit { again: Again::WhenChanged, .. }) => State::Waiting,
            Err(Unfit { again: Again::Later, .. }) => {
                let at = Instant::now() + known.pause;
                known.pause = (known.pause * 2).min(LAST_PAUSE);
                State::Again(at)
            }
        };
        let verdict = Verdict { spec, outcome: outcome.map_err(|unfit| unfit.fault) };
        // The owner's end is gone only when everything ends.
        let _ = self.tell(vec![PolicyEvent::Judged(Box::new(verdict))]).await;
    }

    /// Brings what an object says into force.
    async fn declare(&self, spec: &PolicySpec) -> Result<(), Unfit> {
        let settings = settings(spec);
        let stored = self.store.policy(&spec.name).await.map_err(unstored)?;
        if let Some(stored) = &stored
            && let Some(version) = stored.versions.iter().rfind(|version| is_of(version, spec, &settings))
            && self.trusts(version)
        {
            let _turn = self.turn.lock().await;
            self.check_wanted(spec)?;
            return self.put_declared(stored, version).await.map_err(unfit);
        }
        let (bytes, signed_by) = self.bytes(spec, stored.as_ref()).await?;
        let _turn = self.turn.lock().await;
        self.check_wanted(spec)?;
        // It may be another one by now.
        let stored = self.store.policy(&spec.name).await.map_err(unstored)?;
        let verified = self.verified(&spec.name, Some(spec.world), bytes.clone(), stored.as_ref(), &settings).await;
        let component = verified.map_err(unfit)?;
        let source = spec.from.to_string();
        let new = NewVersion {
            policy: &spec.name,
            world: component.world(),
            bytes: &bytes,
            settings: &settings,
            source: &source,
            signed_by: signed_by.as_deref(),
        };
        let number = self.store.add_policy_version(&new, now()).await.map_err(unstored)?.number();
        self.put(in_force(&spec.name, component, &settings), number, Say::Object).await.map_err(unfit)
    }

    /// The object may say something else by now, or be gone; whoever has the turn knows.
    fn check_wanted(&self, spec: &PolicySpec) -> Result<(), Unfit> {
        match self.declared.borrow().specs.get(&spec.name) {
            Some(wanted) if **wanted == *spec => Ok(()),
            _ => Err(Unfit::new(Again::WhenChanged, "Outdated", "the object says something else by now")),
        }
    }

    /// The component's bytes, and by which key they are signed: from the store where it has them, else from where the
    /// object says.
    async fn bytes(
        &self,
        spec: &PolicySpec,
        stored: Option<&StoredPolicy>,
    ) -> Result<(bytes::Bytes, Option<String>), Unfit> {
        let known = stored.into_iter().flat_map(|stored| &stored.versions).rfind(|version| is_component(version, spec));
        let digest = known.map(|version| version.digest).or_else(|| spec.digest.as_deref()?.parse::<Digest>().ok());
        let kept = match digest {
            Some(digest) => self.store.component(digest).await.map_err(unstored)?,
            None => None,
        };
        if let Some(bytes) = kept {
            let bytes = bytes::Bytes::from(bytes);
            let signed_by = known.filter(|version| self.trusts(version)).and_then(|version| version.signed_by.clone());
            match self.signer(&bytes, spec.signature.as_deref(), None) {
                _ if signed_by.is_some() => return Ok((bytes, signed_by)),
                Ok(signed_by) => return Ok((bytes, signed_by)),
                // Where it comes from, there may be a signature of it.
                Err(_) => {}
            }
        }
        let obtained = self.sources.obtain(spec).await?;
        // An image may be signed after it was pushed; another signature is a change of the object.
        let again = if obtained.image.is_some() { Again::Later } else { Again::WhenChanged };
        let signed_by = self
            .signer(&obtained.bytes, spec.signature.as_deref(), obtained.image.as_ref())
            .map_err(|fault| Unfit { fault, again })?;
        Ok((obtained.bytes, signed_by))
    }

    /// Puts a version into force that is in the store; the turn is the caller's.
    async fn put_declared(&self, stored: &StoredPolicy, version: &PolicyVersion) -> Result<(), PolicyError> {
        let is_broken = self.broken().contains_key(&stored.name);
        if stored.active == Some(version.number) && stored.declared && !is_broken {
            return Ok(());
        }
        let policy = self.load(&stored.name, version).await?;
        self.put(policy, version.number, Say::Object).await
    }

    /// Takes policies out of force whose objects are gone.
    async fn withdraw_all_but(&self, wanted: &Declared) -> Result<(), PolicyError> {
        let _turn = self.turn.lock().await;
        let is_gone = |stored: &StoredPolicy| stored.declared && !wanted.specs.contains_key(&stored.name);
        let gone: BTreeSet<Arc<str>> =
            self.store.policies().await?.into_iter().filter(is_gone).map(|stored| stored.name).collect();
        for name in gone {
            tracing::info!(policy = %name, "the policy's object is gone");
            self.store.withdraw_policy(&name).await?;
            self.tell(vec![PolicyEvent::Remove(name.clone())]).await?;
            self.broken().remove(&name);
        }
        Ok(())
    }
}

/// Whether a version is what an object says.
fn is_of(version: &PolicyVersion, spec: &PolicySpec, settings: &PolicySettings) -> bool {
    version.world == spec.world && version.settings == *settings && is_component(version, spec)
}

/// Whether a version has the component that an object says.
fn is_component(version: &PolicyVersion, spec: &PolicySpec) -> bool {
    match &spec.digest {
        Some(digest) => version.digest.to_string() == **digest,
        // The source says which bytes are meant.
        None => version.source == spec.from.to_string(),
    }
}

fn settings(spec: &PolicySpec) -> PolicySettings {
    let default = PolicySettings::default();
    PolicySettings {
        config: spec.config.clone(),
        fuel: spec.fuel.unwrap_or(default.fuel),
        memory_mib: spec.memory_mib.unwrap_or(default.memory_mib),
        max_removed_percent: spec.max_removed_percent.unwrap_or(default.max_removed_percent),
        on_failure: spec.on_failure,
    }
}

fn unfit(error: PolicyError) -> Unfit {
    let again = if error.is_transient() { Again::Later } else { Again::WhenChanged };
    Unfit { fault: PolicyFault { reason: error.reason().to_owned(), message: error.to_string() }, again }
}

fn unstored(error: crate::store::StoreError) -> Unfit {
    unfit(error.into())
}
