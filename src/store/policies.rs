//! Policies that were uploaded: their components by digest, their versions, and which of them is in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::database::Tx;
use super::statement::{Row, Statement};
use super::{Store, StoreError};
use crate::model::Timestamp;
use crate::policy::{ALL_PERCENT, Digest, Limits, OnFailure, World};

#[cfg(test)]
mod tests;

/// Versions that are kept of a policy. Beyond them the oldest goes that is neither active nor was so before.
const MOST_VERSIONS: usize = 20;

/// What a policy's owner chose for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicySettings {
    /// Its own configuration; an access's is laid over it.
    pub config: Value,
    /// What a call may use, in instructions: 1 to 2^63 - 1.
    pub fuel: u64,
    /// What an instance may use, in MiB: 1 to [`Limits::MOST_MEMORY_MIB`].
    #[serde(rename = "memoryMiB")]
    pub memory_mib: u32,
    /// How much of what is in service one decision may take away, in percent: 1 to 100, which is no limit.
    pub max_removed_percent: u32,
    /// What holds where it fails.
    pub on_failure: OnFailure,
}

impl Default for PolicySettings {
    fn default() -> Self {
        let Limits { fuel, memory_mib } = Limits::default();
        let (config, max_removed_percent) = (Value::Null, ALL_PERCENT);
        Self { config, fuel, memory_mib, max_removed_percent, on_failure: OnFailure::default() }
    }
}

impl PolicySettings {
    /// What a call may use.
    pub fn limits(&self) -> Limits {
        Limits { fuel: self.fuel, memory_mib: self.memory_mib }
    }
}

/// What a policy was at some time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyVersion {
    /// Its number: from 1, in the order of uploads.
    pub number: u32,
    /// The component.
    pub digest: Digest,
    /// What it decides on.
    pub world: World,
    /// How many bytes the component has.
    pub size: usize,
    /// How it is used.
    #[serde(flatten)]
    pub settings: PolicySettings,
    /// Where its bytes came from: [`UPLOAD`], or what a Policy object says.
    pub source: String,
    /// The key by which it was found to be signed.
    pub signed_by: Option<String>,
    /// When it was uploaded.
    pub uploaded_at: Timestamp,
}

/// A policy with all its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPolicy {
    /// Its name.
    pub name: Arc<str>,
    /// Its versions, oldest first; at least one.
    pub versions: Vec<PolicyVersion>,
    /// The number of the version in force, where one is.
    pub active: Option<u32>,
    /// The number of the one that was in force before it.
    pub before: Option<u32>,
    /// Whether a Policy object says what it is.
    pub declared: bool,
}

impl StoredPolicy {
    /// The version of a number.
    pub fn version(&self, number: u32) -> Option<&PolicyVersion> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The version in force.
    pub fn in_force(&self) -> Option<&PolicyVersion> {
        self.version(self.active?)
    }
}

/// A version to be kept.
#[derive(Clone, Debug)]
pub struct NewVersion<'a> {
    /// The policy.
    pub policy: &'a str,
    /// What it decides on.
    pub world: World,
    /// The component.
    pub bytes: &'a [u8],
    /// How it is used.
    pub settings: &'a PolicySettings,
    /// Where its bytes came from.
    pub source: &'a str,
    /// The key by which it was found to be signed.
    pub signed_by: Option<&'a str>,
}

/// The source of what people uploaded.
pub const UPLOAD: &str = "upload";

/// Who has the say over a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// People, over the HTTP API.
    People,
    /// A Policy object.
    Object,
}

/// What became of a version that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It has this number from now on.
    New(u32),
    /// There is one of this component and these settings already.
    Known(u32),
}

impl Added {
    /// The version's number.
    pub fn number(self) -> u32 {
        match self {
            Self::New(number) | Self::Known(number) => number,
        }
    }
}

const SELECT: &str = "SELECT policy.name, policy.active, policy.before, policy.declared, policy_version.number, policy_version.config, \
     policy_version.fuel, policy_version.memory_mib, policy_version.max_removed_percent, policy_version.on_failure, \
     policy_version.uploaded_at, policy_version.source, policy_version.signed_by, \
     component.digest, component.world, component.size \
     FROM policy_version JOIN policy ON policy.name = policy_version.policy \
     JOIN component ON component.digest = policy_version.digest \
     WHERE $1 IS NULL OR policy.name = $1 ORDER BY policy.name, policy_version.number";

impl Store {
    /// All policies, by name, without their components' bytes.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where a row makes no sense; otherwise what the database says.
    pub async fn policies(&self) -> Result<Vec<StoredPolicy>, StoreError> {
        self.read_policies(None).await
    }

    /// One policy, where it is there.
    ///
    /// # Errors
    /// As [`Store::policies`].
    pub async fn policy(&self, name: &str) -> Result<Option<StoredPolicy>, StoreError> {
        Ok(self.read_policies(Some(name)).await?.pop())
    }

    /// A component's bytes, where it is there.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where they are not those that the digest is of; otherwise what the database says.
    pub async fn component(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let database = &self.inner.policies;
        const DOING: &str = "reading a component";
        let select = Statement::new("SELECT bytes FROM component WHERE digest = $1").bind(digest.to_string());
        let rows = database.fetch(DOING, select).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let found: Vec<u8> = row.get("bytes").map_err(|e| database.error(DOING, e))?;
        match Digest::of(&found) == digest {
            true => Ok(Some(found)),
            false => Err(database.corrupt(format!("the component {digest} has other bytes than its digest says"))),
        }
    }

    /// Keeps a version, and returns when it would survive a loss of power. One of the same component and settings is not
    /// kept twice. Nothing becomes active by it. A policy that was not there is made.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] where the file was taken away; otherwise what the database says. Nothing has been changed then.
    pub async fn add_policy_version(&self, new: &NewVersion<'_>, now: Timestamp) -> Result<Added, StoreError> {
        let mut tx = self.inner.policies.begin("keeping a policy").await?;
        let outcome = add(&mut tx, new, now).await;
        tx.finish(outcome).await
    }

    /// Makes a version the one in force, and remembers which was so before; returns when it would survive a loss of power.
    /// Changes nothing where it is in force.
    ///
    /// # Errors
    /// [`StoreError::NoPolicyVersion`] where there is none; [`StoreError::Replaced`] where the file was taken away;
    /// otherwise what the database says. Nothing has been changed then.
    pub async fn activate_policy(&self, policy: &str, number: u32, say: Say) -> Result<(), StoreError> {
        let mut tx = self.inner.policies.begin("activating a policy").await?;
        let outcome = activate(&mut tx, policy, number, say).await;
        tx.finish(outcome).await
    }

    /// Takes a policy out of force whose object is gone. What people uploaded of it stays; without that, nothing does.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] where the file was taken away; otherwise what the database says. Nothing has been changed then.
    pub async fn withdraw_policy(&self, policy: &str) -> Result<(), StoreError> {
        let mut tx = self.inner.policies.begin("withdrawing a policy").await?;
        let outcome = withdraw(&mut tx, policy).await;
        tx.finish(outcome).await
    }

    /// Forgets a policy with all its versions; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] where the file was taken away; otherwise what the database says. Nothing has been changed then.
    pub async fn delete_policy(&self, policy: &str) -> Result<bool, StoreError> {
        let mut tx = self.inner.policies.begin("deleting a policy").await?;
        let outcome = delete(&mut tx, policy).await;
        tx.finish(outcome).await
    }

    async fn read_policies(&self, name: Option<&str>) -> Result<Vec<StoredPolicy>, StoreError> {
        let database = &self.inner.policies;
        let rows = database.fetch("reading policies", Statement::new(SELECT).bind(name)).await?;
        let mut policies: BTreeMap<Arc<str>, StoredPolicy> = BTreeMap::new();
        for row in &rows {
            let wrong = |detail: String| database.corrupt(detail);
            let unread = |e: sqlx::Error| wrong(format!("a policy cannot be read: {e}"));
            let name: Arc<str> = row.get::<String>("name").map_err(unread)?.into();
            let active: Option<u32> = row.small_or_none("active").map_err(unread)?;
            let before: Option<u32> = row.small_or_none("before").map_err(unread)?;
            let declared: bool = row.get("declared").map_err(unread)?;
            let version = read_version(row).map_err(|detail| wrong(format!("the policy `{name}`: {detail}")))?;
            policies
                .entry(name.clone())
                .or_insert_with(|| StoredPolicy { name, versions: Vec::new(), active, before, declared })
                .versions
                .push(version);
        }
        Ok(policies.into_values().collect())
    }
}

async fn add(tx: &mut Tx<'_>, new: &NewVersion<'_>, now: Timestamp) -> Result<Added, StoreError> {
    let digest = Digest::of(new.bytes).to_string();
    let config = new.settings.config.to_string();
    let fuel = i64::try_from(new.settings.fuel).unwrap_or(i64::MAX);
    let on_failure = on_failure_text(new.settings.on_failure);
    let known = Statement::new(
        "SELECT number FROM policy_version WHERE policy = $1 AND digest = $2 AND config = $3 AND fuel = $4 \
         AND memory_mib = $5 AND on_failure = $6 AND max_removed_percent = $7 ORDER BY number DESC LIMIT 1",
    )
    .bind(new.policy)
    .bind(&digest)
    .bind(&config)
    .bind(fuel)
    .bind(new.settings.memory_mib)
    .bind(on_failure)
    .bind(new.settings.max_removed_percent);
    if let Some(known) = tx.fetch(known).await?.first() {
        let number = known.small("number").map_err(|e| tx.error(e))?;
        if let Some(signed_by) = new.signed_by {
            let sign = Statement::new("UPDATE policy_version SET signed_by = $3 WHERE policy = $1 AND number = $2");
            tx.execute(sign.bind(new.policy).bind(number).bind(signed_by)).await?;
        }
        return Ok(Added::Known(number));
    }
    let component = Statement::new(
        "INSERT INTO component (digest, world, size, bytes) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(&digest)
    .bind(new.world.name())
    .bind(i64::try_from(new.bytes.len()).unwrap_or(i64::MAX))
    .bind(new.bytes);
    tx.execute(component).await?;
    let policy = Statement::new("INSERT INTO policy (name) VALUES ($1) ON CONFLICT DO NOTHING").bind(new.policy);
    tx.execute(policy).await?;
    let version = Statement::new(
        "INSERT INTO policy_version \
         (policy, number, digest, config, fuel, memory_mib, on_failure, max_removed_percent, uploaded_at, source, signed_by) \
         VALUES ($1, (SELECT coalesce(max(number), 0) + 1 FROM policy_version WHERE policy = $1), \
         $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING number",
    )
    .bind(new.policy)
    .bind(&digest)
    .bind(&config)
    .bind(fuel)
    .bind(new.settings.memory_mib)
    .bind(on_failure)
    .bind(new.settings.max_removed_percent)
    .bind(now)
    .bind(new.source)
    .bind(new.signed_by);
    let rows = tx.fetch(version).await?;
    let number = rows.first().map_or(Err(sqlx::Error::RowNotFound), |row| row.small("number"));
    let number = number.map_err(|e| tx.error(e))?;
    // What is too old goes; the new one is the last that would.
    let trim = Statement::new(
        "DELETE FROM policy_version WHERE policy = $1 AND number IN (SELECT old.number FROM policy_version AS old \
         JOIN policy AS owner ON owner.name = old.policy WHERE old.policy = $1 AND old.number IS DISTINCT FROM owner.active \
         AND old.number IS DISTINCT FROM owner.before ORDER BY old.number DESC LIMIT 1000000 OFFSET $2)",
    );
    // Two more may be kept for being active, and for having been so.
    tx.execute(trim.bind(new.policy).bind(i64::try_from(MOST_VERSIONS - 2).unwrap_or(i64::MAX))).await?;
    sweep_components(tx).await?;
    Ok(Added::New(number))
}

async fn activate(tx: &mut Tx<'_>, policy: &str, number: u32, say: Say) -> Result<(), StoreError> {
    let update = Statement::new(
        "UPDATE policy SET before = CASE WHEN active IS NOT DISTINCT FROM $2 THEN before ELSE active END, active = $2, \
         declared = $3 WHERE name = $1 \
         AND EXISTS (SELECT 1 FROM policy_version WHERE policy_version.policy = $1 AND number = $2)",
    );
    match tx.execute(update.bind(policy).bind(number).bind(say == Say::Object)).await? {
        0 => Err(StoreError::NoPolicyVersion { policy: policy.to_owned(), number }),
        _ => Ok(()),
    }
}

async fn withdraw(tx: &mut Tx<'_>, policy: &str) -> Result<(), StoreError> {
    let update = Statement::new("UPDATE policy SET active = NULL, before = NULL, declared = FALSE WHERE name = $1");
    tx.execute(update.bind(policy)).await?;
    for sql in [
        "DELETE FROM policy_version WHERE policy = $1 AND source <> $2",
        "DELETE FROM policy WHERE name = $1 AND NOT EXISTS \
         (SELECT 1 FROM policy_version WHERE policy_version.policy = $1 AND source = $2)",
    ] {
        tx.execute(Statement::new(sql).bind(policy).bind(UPLOAD)).await?;
    }
    sweep_components(tx).await
}

async fn delete(tx: &mut Tx<'_>, policy: &str) -> Result<bool, StoreError> {
    let gone = tx.execute(Statement::new("DELETE FROM policy WHERE name = $1").bind(policy)).await?;
    sweep_components(tx).await?;
    Ok(gone > 0)
}

/// Components that no version has go.
async fn sweep_components(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let sweep = Statement::new("DELETE FROM component WHERE digest NOT IN (SELECT digest FROM policy_version)");
    tx.execute(sweep).await.map(|_| ())
}

fn read_version(row: &Row) -> Result<PolicyVersion, String> {
    let text = |column: &str| row.get::<String>(column).map_err(|error| error.to_string());
    let number = |column: &str| {
        let found = row.get::<i64>(column).map_err(|error| error.to_string())?;
        u64::try_from(found).map_err(|_| format!("{column} is {found}"))
    };
    let small = |column: &str| u32::try_from(number(column)?).map_err(|_| format!("{column} is too large"));
    Ok(PolicyVersion {
        number: small("number")?,
        digest: text("digest")?.parse().map_err(|error| format!("{error}"))?,
        world: match text("world")?.as_str() {
            "lb-policy" => World::Lb,
            "vip-policy" => World::Vip,
            other => return Err(format!("`{other}` is no world")),
        },
        size: usize::try_from(number("size")?).map_err(|error| error.to_string())?,
        settings: PolicySettings {
            config: serde_json::from_str(&text("config")?).map_err(|error| error.to_string())?,
            fuel: number("fuel")?,
            memory_mib: small("memory_mib")?,
            max_removed_percent: small("max_removed_percent")?,
            on_failure: match text("on_failure")?.as_str() {
                "KeepLast" => OnFailure::KeepLast,
                "Default" => OnFailure::Default,
                other => return Err(format!("`{other}` is nothing that holds where it fails")),
            },
        },
        source: text("source")?,
        signed_by: row.get("signed_by").map_err(|error| error.to_string())?,
        uploaded_at: row.get("uploaded_at").map_err(|error| error.to_string())?,
    })
}

fn on_failure_text(on_failure: OnFailure) -> &'static str {
    match on_failure {
        OnFailure::KeepLast => "KeepLast",
        OnFailure::Default => "Default",
    }
}
