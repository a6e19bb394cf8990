//! Which address a service gets.

pub use crate::bindings::vip::causeway::policy::vip::{Choice, Decision, Family, Name, Pool, Question};
use crate::{Named, Settings, log, settings};

/// A policy that decides which address a service gets.
pub trait VipPolicy {
    /// What can be set.
    type Config: Settings;

    /// Decides, for one slot that has no address.
    ///
    /// # Errors
    /// What went wrong, for people. It is shown at the access, and the default policy decides in this one's place.
    fn assign(question: &Question, config: &Self::Config) -> Result<Decision, String>;
}

impl Family {
    /// As people write it.
    pub fn text(self) -> &'static str {
        match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        }
    }
}

impl Decision {
    /// An address of the pool: this one, or its first candidate.
    pub fn take_from(pool: &Pool, address: Option<&str>) -> Self {
        Self::Take(Choice { pool: pool.name.clone(), address: address.map(str::to_owned) })
    }
}

#[doc(hidden)]
pub fn inspect<P: VipPolicy + Named>(config: &str) -> Result<(), String> {
    log::log_panics();
    settings::parse::<P::Config>(P::NAME, config).map(drop)
}

#[doc(hidden)]
pub fn assign<P: VipPolicy + Named>(question: &Question) -> Result<Decision, String> {
    log::log_panics();
    P::assign(question, &settings::parse(P::NAME, &question.config)?)
}
