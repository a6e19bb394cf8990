//! Write Causeway's policies in Rust.
//!
//! A policy is a pure function: what it is given is all that it knows, each call is of a new instance, and the same
//! question has the same answer everywhere. This crate turns a type into a component that Causeway takes:
//!
//! ```
//! use causeway_policy::lb::{Decision, Groups, LbPolicy, Question};
//!
//! /// The client's own zone first, everything else after it.
//! pub struct NearFirst;
//!
//! impl LbPolicy for NearFirst {
//!     type Config = ();
//!
//!     fn decide(question: &Question, _: &()) -> Result<Decision, String> {
//!         let usable = question.usable();
//!         let mut groups = Groups::new(question);
//!         for endpoint in question.pick(&usable.ready) {
//!             groups.add(u32::from(*endpoint.locality() != question.client.locality), endpoint);
//!         }
//!         for endpoint in question.pick(&usable.draining) {
//!             groups.drain(endpoint);
//!         }
//!         Ok(groups.decide())
//!     }
//! }
//!
//! causeway_policy::export_lb!(NearFirst);
//! # fn main() {}
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`lb`] | load balancing: the question, a view over its endpoints, a builder of decisions |
//! | [`vip`] | which address a service gets |
//! | [`settings`] | the configuration: typed, and refused with errors that help |
//! | [`log`] | lines for `causeway policy logs` |
//! | `testing` | questions and answers for a policy's own tests, which run on the host |

#[doc(hidden)]
pub mod bindings;
pub mod lb;
pub mod log;
#[cfg(target_family = "wasm")]
mod memory;
pub mod settings;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod vip;

pub use settings::Settings;

/// A policy that is exported under its package's name.
#[doc(hidden)]
pub trait Named {
    /// The package's name.
    const NAME: &'static str;
}

/// Makes a component of the world `lb-policy` out of a type that implements [`lb::LbPolicy`].
#[macro_export]
macro_rules! export_lb {
    ($policy:ident) => {
        impl $crate::Named for $policy {
            const NAME: &'static str = env!("CARGO_PKG_NAME");
        }
        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::bindings::lb as bindings;
            #[allow(dead_code, reason = "only the macro below names it")]
            struct Exported;
            impl bindings::Guest for Exported {
                fn inspect(config: String) -> Result<$crate::lb::Needs, String> {
                    $crate::lb::inspect::<$policy>(&config)
                }
                fn decide(question: $crate::lb::Question) -> Result<$crate::lb::Decision, String> {
                    $crate::lb::decide::<$policy>(&question)
                }
            }
    bindings::export_lb_world!(Exported with_types_in bindings);
        };
    };
}

/// Makes a component of the world `vip-policy` out of a type that implements [`vip::VipPolicy`].
#[macro_export]
macro_rules! export_vip {
    ($policy:ident) => {
        impl $crate::Named for $policy {
            const NAME: &'static str = env!("CARGO_PKG_NAME");
        }
        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::bindings::vip as bindings;
            #[allow(dead_code, reason = "only the macro below names it")]
            struct Exported;
            impl bindings::Guest for Exported {
                fn inspect(config: String) -> Result<(), String> {
                    $crate::vip::inspect::<$policy>(&config)
                }
                fn assign(question: $crate::vip::Question) -> Result<$crate::vip::Decision, String> {
                    $crate::vip::assign::<$policy>(&question)
                }
            }
    bindings::export_vip_world!(Exported with_types_in bindings);
        };
    };
}

/// The README's example has to build.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
