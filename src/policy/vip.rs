//! The default VIP policy: the address asked for, else the first free one of the first pool.

use crate::model::decision::{PoolChoice, VipDecision, VipInput};
use crate::model::object::Family;

/// Decides by the order of the pools' names, so that addresses fill one pool before the next. For
/// a requested address it names the pool that offers just that address, else the first one, and
/// leaves it to the host to say what is wrong with it.
pub fn vip_default(input: &VipInput) -> VipDecision {
    if let Some(address) = input.requested {
        let offers = |choice: &&PoolChoice| choice.next_free == Some(address);
        return match input.pools.iter().find(offers).or(input.pools.first()) {
            Some(choice) => VipDecision::Take { pool: choice.pool.clone(), address },
            None => VipDecision::Refuse { reason: format!("no pool that may be used has {address}") },
        };
    }
    let fits = |choice: &PoolChoice| choice.next_free.filter(|address| Family::of(*address) == input.family);
    match input.pools.iter().find_map(|choice| fits(choice).map(|address| (choice.pool.clone(), address))) {
        Some((pool, address)) => VipDecision::Take { pool, address },
        None => VipDecision::Refuse { reason: refusal(input) },
    }
}

fn refusal(input: &VipInput) -> String {
    let family = match input.family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    if input.pools.is_empty() {
        return format!("there is no pool with {family} addresses that namespace {} may use", input.access.namespace);
    }
    let names: Vec<&str> = input.pools.iter().map(|choice| choice.pool.as_str()).collect();
    format!("no {family} address is free in {}", names.join(", "))
}
