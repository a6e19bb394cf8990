//! Why something cannot be done with a policy.

use crate::admin::ApiError;
use crate::policy::apart::CompileError;
use crate::policy::{CallError, LoadError, World};
use crate::reconcile::PolicyFault;
use crate::store::StoreError;

/// Accesses that a refusal names.
const MOST_NAMES: usize = 5;

/// Why something cannot be done with a policy. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot have this name.
    #[error("a policy cannot be called `{name}`, which {fault}; use at most 63 of a-z, 0-9 and `-`")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A setting is out of its range.
    #[error("{field}: {why}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// What is wrong, and what to write.
        why: String,
    },
    /// There is none of the name.
    #[error("there is no policy `{name}`; there are {}", .known.join(", "))]
    NotFound {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It has no such version.
    #[error("the policy `{name}` has no version {which}; it has {}", .known.join(", "))]
    NoVersion {
        /// The policy.
        name: String,
        /// What was asked for.
        which: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A digest's beginning is that of several.
    #[error("`{prefix}` begins the digests of {}; write more of it", .found.join(", "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// The digests.
        found: Vec<String>,
    },
    /// What is built in has no versions of its own.
    #[error("the policy `{name}` is built in: it has no versions, and cannot be deleted; upload another in its place")]
    BuiltIn {
        /// The policy.
        name: String,
    },
    /// A policy stays what it is.
    #[error("`{name}` is of the world {is}, and this component of {found}; upload it under another name")]
    OtherWorld {
        /// The policy.
        name: String,
        /// Its world.
        is: World,
        /// The component's.
        found: World,
    },
    /// An object says what it is.
    #[error(
        "the policy `{name}` is what the object `Policy {name}` says; change the object (uploads that do not activate are \
         taken: ?activate=false)"
    )]
    Declared {
        /// The policy.
        name: String,
    },
    /// It is not signed as it should be.
    #[error("the component is refused: {0}")]
    Signature(#[from] PolicyFault),
    /// Accesses use it.
    #[error(
        "the policy `{name}` is used by {}; give them another, or force it (?force=true): they keep their last decisions then",
        some_of(.accesses)
    )]
    InUse {
        /// The policy.
        name: String,
        /// The accesses.
        accesses: Vec<String>,
    },
    /// There is no way back.
    #[error("no other version of the policy `{name}` was in force before; `causeway policy activate` takes any")]
    NothingBefore {
        /// The policy.
        name: String,
    },
    /// The component is not what it should be.
    #[error("the component is refused: {0}")]
    Compile(#[from] CompileError),
    /// The component was taken once, and is not any more.
    #[error("the component is refused: {0}")]
    Load(#[from] LoadError),
    /// It does not take its configuration.
    #[error("the component is refused, since it does not take its configuration `{config}`: {error}{wrote}")]
    Inspect {
        /// The configuration.
        config: String,
        /// Why not.
        error: CallError,
        /// What it wrote last, in words.
        wrote: String,
    },
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The owner of the truth is gone.
    #[error("the server is shutting down")]
    Ended,
    /// The owner of the truth does not answer.
    #[error("no answer within {0} s: the server is busy; what was verified is kept, and comes into force")]
    Busy(u64),
    /// Something that should never happen.
    #[error("{0}")]
    Internal(String),
}

fn some_of(names: &[String]) -> String {
    let some = names.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => some,
        more => format!("{some} and {more} more"),
    }
}

impl PolicyError {
    /// In one word, for conditions and metrics.
    pub fn reason(&self) -> &str {
        match self {
            Self::Name { .. } => "InvalidName",
            Self::Setting { .. } => "InvalidSetting",
            Self::NotFound { .. } | Self::NoVersion { .. } | Self::NothingBefore { .. } => "NotFound",
            Self::Ambiguous { .. } => "Ambiguous",
            Self::BuiltIn { .. } => "BuiltIn",
            Self::OtherWorld { .. } => "WrongWorld",
            Self::Declared { .. } => "Declared",
            Self::InUse { .. } => "InUse",
            Self::Signature(fault) => &fault.reason,
            Self::Compile(CompileError::Refused { reason, .. }) => reason,
            Self::Compile(CompileError::Exploded { .. }) => "CompilationExploded",
            Self::Compile(CompileError::Process(_)) | Self::Internal(_) => "InternalError",
            Self::Load(error) => error.reason(),
            Self::Inspect { error: CallError::Said(_), .. } => "PolicyConfigInvalid",
            Self::Inspect { error, .. } => error.reason(),
            Self::Store(_) => "StoreFailed",
            Self::Ended | Self::Busy(_) => "Unavailable",
        }
    }

    /// Whether it may be otherwise a while later though nobody changes anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Compile(CompileError::Process(_)) | Self::Internal(_) | Self::Store(_) | Self::Ended | Self::Busy(_)
        )
    }
}

impl From<PolicyError> for ApiError {
    fn from(error: PolicyError) -> Self {
        let message = error.to_string();
        match error {
            PolicyError::Name { .. } | PolicyError::Setting { .. } | PolicyError::Ambiguous { .. } => {
                Self::BadRequest(message)
            }
            PolicyError::NotFound { .. } | PolicyError::NoVersion { .. } => Self::NotFound(message),
            PolicyError::BuiltIn { .. }
            | PolicyError::OtherWorld { .. }
            | PolicyError::Declared { .. }
            | PolicyError::InUse { .. }
            | PolicyError::NothingBefore { .. } => Self::Conflict(message),
            PolicyError::Compile(CompileError::Refused { reason, .. }) if reason == "TooLarge" => {
                Self::TooLarge(message)
            }
            PolicyError::Compile(CompileError::Refused { reason, .. }) => Self::Refused { reason, message },
            PolicyError::Compile(CompileError::Exploded { .. }) => {
                Self::Refused { reason: "CompilationExploded".to_owned(), message }
            }
            PolicyError::Signature(fault) => Self::Refused { reason: fault.reason, message },
            PolicyError::Load(error) => Self::Refused { reason: error.reason().to_owned(), message },
            PolicyError::Inspect { error, .. } => Self::Refused { reason: error.reason().to_owned(), message },
            PolicyError::Ended | PolicyError::Busy(_) => Self::Unavailable(message),
            PolicyError::Compile(CompileError::Process(_)) | PolicyError::Store(_) | PolicyError::Internal(_) => {
                tracing::error!("{message}");
                Self::Internal(message)
            }
        }
    }
}
