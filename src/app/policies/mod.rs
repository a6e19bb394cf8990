//! The life of policies: verified, kept, put into force, taken back. Everything that puts a policy into force goes through
//! here, whoever asks for it, so that what is in force is what the store says.

mod declared;
mod obtain;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::admin::policies::{
    self as api, Activation, ChangedSettings, InUse, Outcome, PolicyChanged, PolicyDetail, PolicyError, PolicyView,
    Upload, VersionView, Which,
};
use crate::kube::names::label_fault;
use crate::model::policy::PolicySpec;
use crate::policy::apart::Compiler;
use crate::policy::{self, ALL_PERCENT, Component, Digest, Engine, Level, Limits, Policy, World};
use crate::reconcile::view::{Answer, PolicyLine, PolicyRow, PolicyUse, Query};
use crate::reconcile::{Declared, Event, PolicyEvent, PolicyFault, now};
use crate::store::{NewVersion, PolicySettings, PolicyVersion, Say, Store, StoredPolicy, UPLOAD};
use crate::trust::signature::{Keys, SignatureError};

pub(super) use declared::follow;
use obtain::Image;
pub(super) use obtain::Sources;

/// How long the owner of the truth has for an answer. Where a policy came into force before, it decides about every
/// service first.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the life of policies needs to be told.
pub(super) struct Settings {
    /// What compiles.
    pub compiler: Compiler,
    /// Where components come from beside uploads.
    pub sources: Sources,
    /// Whose signatures count.
    pub keys: Keys,
    /// What Policy objects say.
    pub declared: watch::Receiver<Arc<Declared>>,
}

/// The life of policies.
pub(super) struct Life {
    store: Store,
    engine: Engine,
    compiler: Compiler,
    sources: Sources,
    /// Whose signatures count; where there are none, none is needed.
    keys: Keys,
    declared: watch::Receiver<Arc<Declared>>,
    /// Something was uploaded that an object may wait for.
    uploaded: Notify,
    events: mpsc::Sender<Event>,
    /// One change at a time, from reading what is there to its being in force.
    turn: tokio::sync::Mutex<()>,
    /// Those that should be in force and cannot be, with the reason.
    broken: Mutex<BTreeMap<Arc<str>, String>>,
}

impl Life {
    /// Puts every policy that was in force when the store was last used into `policies`. One that cannot be loaded any
    /// more is told to the owner, and what would have it gets what its fallback is.
    ///
    /// # Errors
    /// When the store cannot be read, or the owner's end of `events` is gone.
    pub async fn start(
        store: Store,
        settings: Settings,
        policies: &mut policy::Policies,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, PolicyError> {
        let Settings { compiler, sources, keys, declared } = settings;
        let life = Self {
            store,
            engine: policies.engine().clone(),
            compiler,
            sources,
            keys,
            declared,
            uploaded: Notify::new(),
            events,
            turn: tokio::sync::Mutex::new(()),
            broken: Mutex::default(),
        };
        for stored in life.store.policies().await? {
            let Some(version) = stored.in_force() else { continue };
            let loaded = match life.trusts(version) {
                true => life.load(&stored.name, version).await,
                false => Err(untrusted()),
            };
            match loaded {
                Ok(policy) => policies.put(policy),
                Err(error) => drop(life.broken().insert(stored.name.clone(), error.to_string())),
            }
        }
        let told = |(name, message): (&Arc<str>, &String)| PolicyEvent::Broken {
            name: name.clone(),
            message: message.clone(),
        };
        let told: Vec<PolicyEvent> = life.broken().iter().map(told).collect();
        if !told.is_empty() {
            life.tell(told).await?;
        }
        Ok(life)
    }

    fn broken(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, String>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads a version from the store.
    async fn load(&self, name: &Arc<str>, version: &PolicyVersion) -> Result<Policy, PolicyError> {
        let gone = || PolicyError::Internal(format!("the component {} is not in the store", version.digest));
        let bytes = self.store.component(version.digest).await?.ok_or_else(gone)?;
        let component = self.compile(Some(version.world), bytes.into()).await?;
        Ok(in_force(name, component, &version.settings))
    }

    /// Compiles, first where it may fail in any way.
    async fn compile(&self, world: Option<World>, bytes: Bytes) -> Result<Arc<Component>, PolicyError> {
        let world = self.compiler.compile(world, &bytes).await?;
        let engine = self.engine.clone();
        let component = blocking(move || Component::load(&engine, world, &bytes)).await??;
        Ok(Arc::new(component))
    }

    async fn tell(&self, events: Vec<PolicyEvent>) -> Result<(), PolicyError> {
        self.events.send(Event::Policies(events)).await.map_err(|_| PolicyError::Ended)
    }

    /// Asks the owner, after all that it was told before.
    async fn ask(&self, query: Query) -> Result<Answer, PolicyError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.events.send(Event::Inspect(query, reply)).await.map_err(|_| PolicyError::Ended)?;
            answer.await.map_err(|_| PolicyError::Ended)
        };
        let late = |_| PolicyError::Busy(PATIENCE.as_secs());
        tokio::time::timeout(PATIENCE, asked).await.map_err(late)?
    }

    async fn rows(&self) -> Result<BTreeMap<Arc<str>, PolicyRow>, PolicyError> {
        match self.ask(Query::Policies).await? {
            Answer::Policies(rows) => Ok(rows.into_iter().map(|row| (row.name.clone(), row)).collect()),
            _ => Err(PolicyError::Internal("the owner answered another question".to_owned())),
        }
    }

    async fn usage(&self, name: &str) -> Result<PolicyUse, PolicyError> {
        match self.ask(Query::Policy(name.into())).await? {
            Answer::Policy(usage) => Ok(*usage),
            _ => Err(PolicyError::Internal("the owner answered another question".to_owned())),
        }
    }

    /// What is stored of a policy.
    async fn stored(&self, name: &str) -> Result<StoredPolicy, PolicyError> {
        match self.store.policy(name).await? {
            Some(stored) => Ok(stored),
            None if policy::built_in(name).is_some() => Err(PolicyError::BuiltIn { name: name.to_owned() }),
            None => Err(self.not_found(name).await?),
        }
    }

    async fn not_found(&self, name: &str) -> Result<PolicyError, PolicyError> {
        let mut known: BTreeSet<Arc<str>> = self.rows().await?.into_keys().collect();
        known.extend(self.store.policies().await?.into_iter().map(|stored| stored.name));
        let known = known.iter().map(|name| format!("`{name}`")).collect();
        Ok(PolicyError::NotFound { name: name.to_owned(), known })
    }

    fn view(&self, name: &Arc<str>, stored: Option<&StoredPolicy>, row: Option<&PolicyRow>) -> PolicyView {
        let version = stored.and_then(StoredPolicy::in_force);
        let message = self.broken().get(name).cloned();
        let world = version.map(|version| version.world).or(row.map(|row| row.world));
        let newest = stored.and_then(|stored| stored.versions.last());
        let spec = self.spec(name);
        PolicyView {
            name: name.to_string(),
            world: world
                .or(newest.map(|version| version.world))
                .or(spec.as_ref().map(|spec| spec.world))
                .map(|world| world.to_string())
                .unwrap_or_default(),
            source: match policy::built_in(name) {
                Some(_) if version.is_none() => api::Source::BuiltIn,
                _ if spec.is_some() || stored.is_some_and(|stored| stored.declared) => api::Source::Object,
                _ => api::Source::Uploaded,
            },
            state: match (&message, row) {
                (Some(_), _) => api::State::Broken,
                (None, Some(_)) => api::State::Active,
                (None, None) => api::State::Inactive,
            },
            version: version.map(|version| version.number),
            digest: version
                .map(|version| version.digest)
                .or(row.map(|row| row.digest))
                .map(|digest| digest.to_string())
                .unwrap_or_default(),
            message: message.unwrap_or_default(),
            accesses: row.map_or(0, |row| row.accesses),
            age_seconds: version.map(|version| now().saturating_sub(version.uploaded_at).max(0) / 1000),
            calls: row.map(|row| row.calls.clone()).unwrap_or_default(),
        }
    }

    /// Tells what was done, once the owner has done it.
    async fn changed(&self, name: &Arc<str>, number: u32, outcome: Outcome) -> Result<PolicyChanged, PolicyError> {
        let stored = self.stored(name).await?;
        let rows = self.rows().await?;
        let gone = || PolicyError::Internal(format!("the version {number} of `{name}` is not in the store"));
        let version = version_view(stored.version(number).ok_or_else(gone)?);
        Ok(PolicyChanged { outcome, version, policy: self.view(name, Some(&stored), rows.get(name)) })
    }

    /// Puts a policy into force that is stored as this version; the turn is the caller's.
    async fn put(&self, policy: Policy, number: u32, say: Say) -> Result<(), PolicyError> {
        let name = policy.name.clone();
        // Durable before anybody decides by it, so that a restart does not go back.
        self.store.activate_policy(&name, number, say).await?;
        self.tell(vec![PolicyEvent::Put(Box::new(policy))]).await?;
        self.broken().remove(&name);
        Ok(())
    }

    /// What an object says of a policy.
    fn spec(&self, name: &str) -> Option<Arc<PolicySpec>> {
        self.declared.borrow().specs.get(name).cloned()
    }

    /// What an object says is changed by the object alone.
    fn check_free(&self, name: &str, stored: Option<&StoredPolicy>) -> Result<(), PolicyError> {
        let is_declared = self.spec(name).is_some() || stored.is_some_and(|known| known.declared);
        if is_declared { Err(PolicyError::Declared { name: name.to_owned() }) } else { Ok(()) }
    }

    /// Whether a version that was taken once may be in force by the keys that count today.
    fn trusts(&self, version: &PolicyVersion) -> bool {
        let is_trusted = |signer: &String| self.keys.ids().any(|key| key.to_string() == *signer);
        self.keys.is_empty() || version.signed_by.as_ref().is_some_and(is_trusted)
    }

    /// By which key a component is signed; `None` where no signature is needed.
    fn signer(
        &self,
        bytes: &[u8],
        signature: Option<&str>,
        image: Option<&Image>,
    ) -> Result<Option<String>, PolicyFault> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        let signer = match (signature, image) {
            (None, Some(Image { digest, signatures })) => {
                let signatures = signatures.iter().map(|signed| (&*signed.payload, signed.signature.as_bytes()));
                self.keys.verify_image_by_any(&digest.to_string(), signatures)
            }
            (signature, _) => self.keys.verify_blob(bytes, signature.unwrap_or_default().as_bytes()),
        };
        let refused =
            |error: SignatureError| PolicyFault { reason: error.reason().to_owned(), message: error.to_string() };
        signer.map(|key| Some(key.to_string())).map_err(refused)
    }

    /// The turn is the caller's.
    async fn put_version(&self, stored: &StoredPolicy, version: &PolicyVersion) -> Result<PolicyChanged, PolicyError> {
        if stored.active == Some(version.number) && !self.broken().contains_key(&stored.name) {
            return self.changed(&stored.name, version.number, Outcome::Unchanged).await;
        }
        if !self.trusts(version) {
            return Err(untrusted());
        }
        let policy = self.load(&stored.name, version).await?;
        self.put(policy, version.number, Say::People).await?;
        self.changed(&stored.name, version.number, Outcome::Activated).await
    }

    /// The world that a policy of the name has to be of, where that is known.
    async fn world_of(&self, name: &str, stored: Option<&StoredPolicy>) -> Result<Option<World>, PolicyError> {
        let newest = stored.and_then(|stored| stored.versions.last());
        match newest {
            Some(version) => Ok(Some(version.world)),
            None => Ok(self.rows().await?.get(name).map(|row| row.world)),
        }
    }

    /// A component, where it is what it should be and takes its configuration.
    async fn verified(
        &self,
        name: &str,
        world: Option<World>,
        bytes: Bytes,
        stored: Option<&StoredPolicy>,
        settings: &PolicySettings,
    ) -> Result<Arc<Component>, PolicyError> {
        let component = self.compile(world, bytes).await?;
        let found = component.world();
        if let Some(is) = self.world_of(name, stored).await?.filter(|is| *is != found) {
            return Err(PolicyError::OtherWorld { name: name.to_owned(), is, found });
        }
        let (asked, limits, config) = (component.clone(), settings.limits(), settings.config.to_string());
        let answer = blocking(move || asked.inspect(limits, &config)).await?;
        match answer.outcome {
            Ok(_) => Ok(component),
            Err(error) => Err(PolicyError::Inspect {
                config: settings.config.to_string(),
                error,
                wrote: match answer.lines.iter().rfind(|line| line.level >= Level::Warn) {
                    Some(line) => format!("; it wrote: {}", line.text.escape_debug()),
                    None => String::new(),
                },
            }),
        }
    }
}

#[async_trait]
impl api::Policies for Life {
    async fn list(&self) -> Result<Vec<PolicyView>, PolicyError> {
        let rows = self.rows().await?;
        let stored: BTreeMap<Arc<str>, StoredPolicy> =
            self.store.policies().await?.into_iter().map(|stored| (stored.name.clone(), stored)).collect();
        let declared = self.declared.borrow().clone();
        let names: BTreeSet<&Arc<str>> = rows.keys().chain(stored.keys()).chain(declared.specs.keys()).collect();
        Ok(names.into_iter().map(|name| self.view(name, stored.get(name), rows.get(name))).collect())
    }

    async fn show(&self, name: &str) -> Result<PolicyDetail, PolicyError> {
        let (stored, usage) = (self.store.policy(name).await?, self.usage(name).await?);
        if stored.is_none() && usage.row.is_none() && self.spec(name).is_none() {
            return Err(self.not_found(name).await?);
        }
        Ok(PolicyDetail {
            policy: self.view(&name.into(), stored.as_ref(), usage.row.as_ref()),
            before: stored.as_ref().and_then(|stored| stored.before),
            versions: stored.iter().flat_map(|stored| &stored.versions).map(version_view).collect(),
            used_by: usage.used_by,
            conditions: usage.conditions,
        })
    }

    async fn component(&self, name: &str, which: Option<Which>) -> Result<(Digest, Bytes), PolicyError> {
        let stored = self.store.policy(name).await?;
        let in_force = stored.as_ref().and_then(StoredPolicy::in_force);
        if let (None, None, Some(bytes)) = (&which, in_force, policy::built_in(name)) {
            return Ok((Digest::of(bytes), Bytes::from_static(bytes)));
        }
        let stored = self.stored(name).await?;
        let version = match which {
            Some(which) => resolve(&stored, &which)?,
            // Where none is in force, the newest is what is meant.
            None => stored.in_force().or(stored.versions.last()).ok_or_else(|| no_version(&stored, "in force"))?,
        };
        let gone = || PolicyError::Internal(format!("the component {} is not in the store", version.digest));
        let bytes = self.store.component(version.digest).await?.ok_or_else(gone)?;
        Ok((version.digest, bytes.into()))
    }

    async fn upload(&self, upload: Upload) -> Result<PolicyChanged, PolicyError> {
        let name = upload.name.clone();
        if let Some(fault) = label_fault(&name) {
            return Err(PolicyError::Name { name: name.to_string(), fault });
        }
        let _turn = self.turn.lock().await;
        let stored = self.store.policy(&name).await?;
        if upload.activation == Activation::Now {
            self.check_free(&name, stored.as_ref())?;
        }
        let settings = settled(&upload.settings, stored.as_ref())?;
        let hashed = upload.bytes.clone();
        let digest = blocking(move || Digest::of(&hashed)).await?;
        if let Some(stored) = &stored
            && let Some(known) = stored.versions.iter().rfind(|v| v.digest == digest && v.settings == settings)
            && upload.world.is_none_or(|world| world == known.world)
            && self.trusts(known)
        {
            self.uploaded.notify_one();
            return match upload.activation {
                Activation::Now => self.put_version(stored, known).await,
                Activation::Later => self.changed(&name, known.number, Outcome::Unchanged).await,
            };
        }
        let signed_by = self.signer(&upload.bytes, upload.signature.as_deref(), None)?;
        let verified = self.verified(&name, upload.world, upload.bytes.clone(), stored.as_ref(), &settings).await;
        let component = verified?;
        let new = NewVersion {
            policy: &name,
            world: component.world(),
            bytes: &upload.bytes,
            settings: &settings,
            source: UPLOAD,
            signed_by: signed_by.as_deref(),
        };
        let number = self.store.add_policy_version(&new, now()).await?.number();
        tracing::info!(policy = %name, %digest, version = number, "a policy was uploaded");
        self.uploaded.notify_one();
        if upload.activation == Activation::Later {
            return self.changed(&name, number, Outcome::Kept).await;
        }
        self.put(in_force(&name, component, &settings), number, Say::People).await?;
        self.changed(&name, number, Outcome::Activated).await
    }

    async fn activate(&self, name: &str, which: Which) -> Result<PolicyChanged, PolicyError> {
        let _turn = self.turn.lock().await;
        let stored = self.stored(name).await?;
        self.check_free(name, Some(&stored))?;
        let version = resolve(&stored, &which)?;
        self.put_version(&stored, version).await
    }

    async fn roll_back(&self, name: &str) -> Result<PolicyChanged, PolicyError> {
        let _turn = self.turn.lock().await;
        let stored = self.stored(name).await?;
        self.check_free(name, Some(&stored))?;
        let nothing = || PolicyError::NothingBefore { name: name.to_owned() };
        let version = stored.before.and_then(|before| stored.version(before)).ok_or_else(nothing)?;
        self.put_version(&stored, version).await
    }

    async fn delete(&self, name: &str, in_use: InUse) -> Result<(), PolicyError> {
        let _turn = self.turn.lock().await;
        let stored = self.stored(name).await?;
        self.check_free(name, Some(&stored))?;
        // In the place of a built-in one that comes back, and nobody is left without.
        if in_use == InUse::Refuse && policy::built_in(name).is_none() {
            let accesses = self.usage(name).await?.used_by;
            if !accesses.is_empty() {
                return Err(PolicyError::InUse { name: name.to_owned(), accesses });
            }
        }
        self.store.delete_policy(name).await?;
        self.tell(vec![PolicyEvent::Remove(stored.name.clone())]).await?;
        self.broken().remove(name);
        // Answered when it is gone.
        self.rows().await.map(drop)
    }

    async fn logs(&self, name: &str) -> Result<Vec<PolicyLine>, PolicyError> {
        let usage = self.usage(name).await?;
        if usage.row.is_none() && usage.lines.is_empty() && self.store.policy(name).await?.is_none() {
            return Err(self.not_found(name).await?);
        }
        Ok(usage.lines)
    }
}

/// A version that was taken before its key went, or before keys came.
fn untrusted() -> PolicyError {
    let message =
        "none of the keys of --policy-key is known to have signed this version; upload it again with its signature";
    PolicyError::Signature(PolicyFault { reason: "Unsigned".to_owned(), message: message.to_owned() })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PolicyError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| PolicyError::Internal(error.to_string()))
}

fn in_force(name: &Arc<str>, component: Arc<Component>, settings: &PolicySettings) -> Policy {
    Policy {
        name: name.clone(),
        component,
        limits: settings.limits(),
        max_removed_percent: settings.max_removed_percent,
        config: settings.config.clone(),
        on_failure: settings.on_failure,
    }
}

/// What is said, over what was in force or uploaded last, over the defaults.
fn settled(changed: &ChangedSettings, stored: Option<&StoredPolicy>) -> Result<PolicySettings, PolicyError> {
    let version = stored.and_then(|stored| stored.in_force().or(stored.versions.last()));
    let mut settings = version.map(|version| version.settings.clone()).unwrap_or_default();
    let wrong = |field, why: String| Err(PolicyError::Setting { field, why });
    if let Some(config) = &changed.config {
        if !matches!(config, Value::Object(_) | Value::Null) {
            return wrong("config", format!("`{config}` is neither an object nor null"));
        }
        settings.config = config.clone();
    }
    if let Some(fuel) = changed.fuel {
        if !(1..=Limits::MOST_FUEL).contains(&fuel) {
            return wrong("fuel", format!("{fuel} instructions are not within 1 to {}", Limits::MOST_FUEL));
        }
        settings.fuel = fuel;
    }
    if let Some(memory_mib) = changed.memory_mib {
        if !(1..=Limits::MOST_MEMORY_MIB).contains(&memory_mib) {
            return wrong("memoryMiB", format!("{memory_mib} MiB are not within 1 to {}", Limits::MOST_MEMORY_MIB));
        }
        settings.memory_mib = memory_mib;
    }
    if let Some(percent) = changed.max_removed_percent {
        if !(1..=ALL_PERCENT).contains(&percent) {
            return wrong(
                "maxRemovedPercent",
                format!("{percent} % is not within 1 to {ALL_PERCENT}, which is no limit"),
            );
        }
        settings.max_removed_percent = percent;
    }
    settings.on_failure = changed.on_failure.unwrap_or(settings.on_failure);
    Ok(settings)
}

fn resolve<'a>(stored: &'a StoredPolicy, which: &Which) -> Result<&'a PolicyVersion, PolicyError> {
    match which {
        Which::Number(number) => stored.version(*number).ok_or_else(|| no_version(stored, &number.to_string())),
        Which::Digest(prefix) => {
            let digits = prefix.strip_prefix("sha256:").unwrap_or(prefix);
            let is_meant = |version: &&PolicyVersion| version.digest.to_string()["sha256:".len()..].starts_with(digits);
            let found: Vec<&PolicyVersion> = stored.versions.iter().filter(is_meant).collect();
            let digests: BTreeSet<String> = found.iter().map(|version| version.digest.to_string()).collect();
            if digests.len() > 1 {
                let (prefix, found) = (prefix.clone(), digests.into_iter().collect());
                return Err(PolicyError::Ambiguous { prefix, found });
            }
            // The newest of one component's versions.
            found.last().copied().ok_or_else(|| no_version(stored, prefix))
        }
    }
}

fn no_version(stored: &StoredPolicy, which: &str) -> PolicyError {
    let known = stored.versions.iter().map(|version| format!("{} ({})", version.number, version.digest)).collect();
    PolicyError::NoVersion { name: stored.name.to_string(), which: which.to_owned(), known }
}

fn version_view(version: &PolicyVersion) -> VersionView {
    let PolicySettings { config, fuel, memory_mib, max_removed_percent, on_failure } = version.settings.clone();
    VersionView {
        number: version.number,
        source: version.source.clone(),
        signed_by: version.signed_by.clone(),
        digest: version.digest.to_string(),
        size: version.size,
        config,
        fuel,
        memory_mib,
        max_removed_percent,
        on_failure,
        uploaded_at: version.uploaded_at,
    }
}
