//! Pools and quotas by namespace.
//!
//! ```json
//! {"tenants": {"shop": {"pools": ["edge", "spare"], "quota": 10}, "lab": {}}, "default": "Refuse"}
//! ```
//! A tenant's pools are tried in the order in which they are written; without a list it may use every pool that the
//! access may, by name. Its quota is how many addresses it may have in all of its pools that are asked about.

use std::collections::BTreeMap;

use causeway_policy::Settings;
use causeway_policy::vip::{Decision, Pool, Question, VipPolicy};
use serde::Deserialize;

/// The policy.
pub struct VipTenant;

/// What a namespace may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tenant {
    /// The pools that it may use, the first one first. None: every one.
    pub pools: Option<Vec<String>>,
    /// How many addresses it may have. None: as many as there are.
    pub quota: Option<u32>,
}

/// What namespaces get that are no tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Others {
    /// No address.
    #[default]
    Refuse,
    /// Any.
    Any,
}

/// What can be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The tenants, by namespace.
    pub tenants: BTreeMap<String, Tenant>,
    /// What namespaces get that are no tenants.
    #[serde(rename = "default")]
    pub others: Others,
}

impl Settings for Config {
    const SETTINGS: &'static [(&'static str, &'static str)] = &[
        ("tenants", "a mapping of namespaces to what they may have, such as `{shop: {pools: [edge], quota: 10}}`"),
        ("default", "`Refuse` or `Any`"),
    ];

    fn check(&self) -> Result<(), String> {
        for (namespace, tenant) in &self.tenants {
            let pools = tenant.pools.as_deref().unwrap_or_default();
            if tenant.pools.is_some() && pools.is_empty() {
                let remedy = "list pools, or leave the field out for all";
                return Err(format!("tenants.{namespace}.pools: an empty list chooses no pool; {remedy}"));
            }
            for (i, name) in pools.iter().enumerate() {
                if pools[..i].contains(name) {
                    let field = format!("tenants.{namespace}.pools[{i}]");
                    return Err(format!("{field}: `{name}` is there twice; remove one of the two"));
                }
            }
        }
        Ok(())
    }
}

impl VipPolicy for VipTenant {
    type Config = Config;

    fn assign(question: &Question, config: &Config) -> Result<Decision, String> {
        let namespace = &question.access.namespace;
        let anyone = Tenant::default();
        let tenant = match (config.tenants.get(namespace), config.others) {
            (Some(tenant), _) => tenant,
            (None, Others::Any) => &anyone,
            (None, Others::Refuse) => {
                return Ok(Decision::Refuse(format!(
                    "namespace {namespace} is no tenant of `vip-tenant`'s configuration"
                )));
            }
        };
        let pools = pools_of(tenant, question);
        let held: u32 = pools.iter().map(|pool| pool.held_by_namespace).sum();
        if let Some(quota) = tenant.quota.filter(|quota| held >= *quota) {
            return Ok(Decision::Refuse(format!(
                "namespace {namespace} has {held} addresses, and its quota is {quota}"
            )));
        }
        Ok(match &question.requested {
            Some(address) => requested(&pools, address, namespace),
            None => first_free(&pools, question),
        })
    }
}

/// The tenant's pools among those that are asked about, in its order.
fn pools_of<'a>(tenant: &Tenant, question: &'a Question) -> Vec<&'a Pool> {
    match &tenant.pools {
        None => question.pools.iter().collect(),
        Some(names) => names.iter().filter_map(|name| question.pools.iter().find(|pool| pool.name == *name)).collect(),
    }
}

/// The pool that offers just that address, else the first one: the host says what is wrong with it.
fn requested(pools: &[&Pool], address: &str, namespace: &str) -> Decision {
    let offers = |pool: &&&Pool| pool.candidates.iter().any(|candidate| candidate == address);
    match pools.iter().find(offers).or(pools.first()) {
        Some(pool) => Decision::take_from(pool, Some(address)),
        None => Decision::Refuse(format!("no pool that namespace {namespace} may use has {address}")),
    }
}

fn first_free(pools: &[&Pool], question: &Question) -> Decision {
    let family = question.family.text();
    if pools.is_empty() {
        let namespace = &question.access.namespace;
        return Decision::Refuse(format!(
            "there is no pool with {family} addresses that namespace {namespace} may use"
        ));
    }
    match pools.iter().find_map(|pool| pool.candidates.first().map(|address| (pool, address))) {
        Some((pool, address)) => Decision::take_from(pool, Some(address)),
        None => {
            let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
            Decision::Refuse(format!("no {family} address is free in {}", names.join(", ")))
        }
    }
}

causeway_policy::export_vip!(VipTenant);

#[cfg(test)]
mod tests;
