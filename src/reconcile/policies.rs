//! Which policies are in force, and which of them each access has.

use std::collections::BTreeMap;

use crate::model::id::NamespacedName;
use crate::model::object::Access;
use crate::policy::{Choice, ChoiceError, DEFAULT_LB, DEFAULT_VIP, Digest, Policies, World};

/// What an access has of policies.
#[derive(Clone, Debug, PartialEq)]
pub struct OfAccess {
    /// Who decides where traffic goes.
    pub load_balancing: Choice,
    /// Who decides which addresses it gets.
    pub vip: Choice,
    /// Why it is not what the access asks for, by field.
    pub faults: Vec<(&'static str, ChoiceError)>,
}

/// What all accesses have of policies.
#[derive(Clone, Debug)]
pub struct Chosen {
    by_access: BTreeMap<NamespacedName, OfAccess>,
    defaults: OfAccess,
}

impl Chosen {
    /// Nobody has asked for anything yet.
    pub fn new(policies: &Policies) -> Self {
        Self { by_access: BTreeMap::new(), defaults: defaults(policies) }
    }

    /// Somebody may have put another policy in the place of a default.
    pub fn renew_defaults(&mut self, policies: &Policies) {
        self.defaults = defaults(policies);
    }

    /// Finds out anew what an access has; says whether that differs. What cannot be had leaves what was had before.
    pub fn update(&mut self, id: &NamespacedName, access: Option<&Access>, policies: &Policies) -> bool {
        let Some(access) = access else { return self.by_access.remove(id).is_some() };
        let before = self.by_access.get(id).unwrap_or(&self.defaults);
        let mut faults = Vec::new();
        let mut choose = |world, asked: &crate::model::object::PolicyRef, field, before: &Choice| {
            policies.choose(world, asked.name.as_ref(), &asked.config).unwrap_or_else(|error| {
                faults.push((field, error));
                before.clone()
            })
        };
        let load_balancing =
            choose(World::Lb, &access.load_balancing, "spec.policies.loadBalancing", &before.load_balancing);
        let vip = choose(World::Vip, &access.vip_policy, "spec.policies.vip", &before.vip);
        let now = OfAccess { load_balancing, vip, faults };
        let differs = self.by_access.get(id) != Some(&now);
        self.by_access.insert(id.clone(), now);
        differs
    }

    /// What an access has; the defaults where it is not known.
    pub fn of(&self, access: &NamespacedName) -> &OfAccess {
        self.by_access.get(access).unwrap_or(&self.defaults)
    }

    /// Who decides where an access's traffic goes.
    pub fn load_balancing(&self, access: &NamespacedName) -> Choice {
        self.of(access).load_balancing.clone()
    }
}

/// What accesses have that ask for nothing.
fn defaults(policies: &Policies) -> OfAccess {
    let mut faults = Vec::new();
    let mut choose = |world, name: &str, field| {
        policies.choose(world, None, &serde_json::Value::Null).unwrap_or_else(|error| {
            faults.push((field, error));
            // It is asked all the same, and what it says then is told.
            Choice { policy: name.into(), digest: Digest::of(b""), config: "null".into(), buckets: 1 }
        })
    };
    let load_balancing = choose(World::Lb, DEFAULT_LB, "spec.policies.loadBalancing");
    let vip = choose(World::Vip, DEFAULT_VIP, "spec.policies.vip");
    OfAccess { load_balancing, vip, faults }
}
