//! Questions to VIP policies, and what becomes of the answers.

use std::net::IpAddr;

use super::bindings::vip::causeway::policy::vip as wit;
use crate::model::decision::{VipDecision, VipInput};
use crate::model::object::Family;

/// The longest reason that is passed on, in bytes.
const LONGEST_REASON: usize = 512;

/// Hands the question to `ask` in the form in which it crosses over.
pub fn handed_over<T>(input: &VipInput, config: &str, ask: impl FnOnce(wit::Question<'_>) -> T) -> T {
    let candidates: Vec<Vec<String>> =
        input.pools.iter().map(|pool| pool.candidates.iter().map(ToString::to_string).collect()).collect();
    let candidates: Vec<Vec<&str>> =
        candidates.iter().map(|of_pool| of_pool.iter().map(String::as_str).collect()).collect();
    let pools: Vec<wit::Pool<'_>> = input
        .pools
        .iter()
        .zip(&candidates)
        .map(|(pool, candidates)| wit::Pool {
            name: pool.pool.as_str(),
            candidates,
            free: pool.free,
            held_by_namespace: pool.held_by_namespace,
            gateways: pool.gateways,
        })
        .collect();
    let requested = input.requested.map(|address| address.to_string());
    ask(wit::Question {
        access: wit::Name { namespace: &input.access.namespace, name: &input.access.name },
        service: wit::Name { namespace: &input.service.namespace, name: &input.service.name },
        pod: input.pod.as_deref(),
        family: match input.family {
            Family::V4 => wit::Family::Ipv4,
            Family::V6 => wit::Family::Ipv6,
        },
        requested: requested.as_deref(),
        pools: &pools,
        config,
    })
}

/// Reads an answer. Whether the address is the pool's and free is checked by whoever allocates.
///
/// # Errors
/// When it names a pool that was not given, or an address that is none.
pub fn decided(input: &VipInput, answer: wit::Decision) -> Result<VipDecision, String> {
    let choice = match answer {
        wit::Decision::Take(choice) => choice,
        wit::Decision::Refuse(mut reason) => {
            reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
            return Ok(VipDecision::Refuse { reason });
        }
    };
    let Some(pool) = input.pools.iter().find(|pool| pool.pool.as_str() == choice.pool) else {
        return Err(format!(
            "pool `{}` is none of the {} that were given",
            choice.pool.escape_debug(),
            input.pools.len()
        ));
    };
    let address = match choice.address {
        Some(text) => match text.parse::<IpAddr>() {
            Ok(address) if Family::of(address) == input.family => address,
            Ok(address) => return Err(format!("{address} is not of the family that was asked for")),
            Err(_) => return Err(format!("`{}` is no address", text.escape_debug())),
        },
        None => match pool.candidates.first() {
            Some(address) => *address,
            None => return Err(format!("pool {} has no free address", pool.pool)),
        },
    };
    Ok(VipDecision::Take { pool: pool.pool.clone(), address })
}
