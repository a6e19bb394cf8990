//! What the manager says of a cluster's connection, in conditions. Pure.

use jiff::Timestamp;

use crate::kube::connect::{Credential, Identity, Refused};
use crate::kube::down::Summary;
use crate::kube::kinds::StatusCondition;
use crate::kube::outbox::ClusterConnection;

/// All that it is said from.
pub(super) struct Facts<'a> {
    pub generation: i64,
    pub identity: Option<&'a Identity>,
    pub uid: &'a str,
    /// Why it cannot be read at present.
    pub trouble: Option<&'a Refused>,
    /// Why the kubeconfig that is wanted is not in use.
    pub refused: Option<&'a Refused>,
    /// A new kubeconfig is being tried.
    pub rehearses: bool,
    pub credential: Option<&'a Credential>,
    /// When what proves us, or a member, ends.
    pub expires_at: Option<Timestamp>,
    pub in_config_map: bool,
    /// How far it has what comes down, where anything does.
    pub down: Option<&'a Summary>,
}

/// The connection as its ClusterInfo says it.
pub(super) fn connection(facts: &Facts<'_>) -> ClusterConnection {
    let condition = |kind: &str, holds: bool, reason: &str, message: String| StatusCondition {
        kind: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: String::new(),
        observed_generation: facts.generation,
    };
    let connected = match (facts.trouble, facts.identity) {
        (Some(why), _) => condition("Connected", false, why.reason, why.to_string()),
        (None, Some(_)) => condition("Connected", true, "Connected", String::new()),
        (None, None) => condition("Connected", false, "Connecting", "the first answer is awaited".to_owned()),
    };
    let accepted = match facts.refused {
        Some(why) if facts.credential.is_some() => {
            let message = format!("{why}; the kubeconfig before it stays in use");
            condition("CredentialAccepted", false, why.reason, message)
        }
        Some(why) => condition("CredentialAccepted", false, why.reason, why.to_string()),
        None if facts.rehearses => {
            let message = "the new kubeconfig is tried beside the one in use".to_owned();
            condition("CredentialAccepted", false, "Rehearsing", message)
        }
        None => match (facts.trouble, facts.identity) {
            (Some(why), _) if matches!(why.reason, "Unauthorized" | "Forbidden") => {
                condition("CredentialAccepted", false, why.reason, why.to_string())
            }
            (_, Some(_)) => condition("CredentialAccepted", true, "InUse", String::new()),
            (_, None) => condition("CredentialAccepted", false, "NotTried", "the first answer is awaited".to_owned()),
        },
    };
    let mut conditions = vec![connected, accepted];
    if let Some(credential) = facts.credential {
        conditions.push(match credential.long_lived {
            Some(why) if facts.in_config_map => condition(
                "CredentialSafe",
                false,
                "LongLivedInConfigMap",
                format!(
                    "{why}, and everybody who may read ConfigMaps can use it; use a token that ends, or secretKeyRef"
                ),
            ),
            _ => condition("CredentialSafe", true, "Safe", String::new()),
        });
    }
    conditions.extend(facts.down.map(|down| match &down.trouble {
        Some(why) => condition("SyncedDown", false, why.reason, why.to_string()),
        None if down.is_done => condition("SyncedDown", true, "Written", String::new()),
        None => condition("SyncedDown", false, "Writing", String::new()),
    }));
    ClusterConnection {
        server_version: facts.identity.map(|identity| identity.version.clone()).unwrap_or_default(),
        cluster_uid: facts.uid.to_owned(),
        credential_expires_at: facts.expires_at.map(|at| at.to_string()).unwrap_or_default(),
        observed_generation: facts.generation,
        conditions,
    }
}
