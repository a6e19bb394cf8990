//! The worlds are an API: what was built with one of their versions is served, whatever they have become since.

use std::net::IpAddr;
use std::sync::Arc;

use causeway::model::decision::{PoolChoice, VipDecision, VipInput};
use causeway::model::id::NamespacedName;
use causeway::model::object::Family;
use causeway::policy::{ALL_PERCENT, Component, Engine, Limits, OnFailure, Policies, Policy, World};
use serde_json::{Value, json};

use crate::guests::{Asked, addresses, endpoint};

const LB_0_1_0: &[u8] = include_bytes!("../fixtures/worlds/0.1.0/lb-policy.wasm");
const VIP_0_1_0: &[u8] = include_bytes!("../fixtures/worlds/0.1.0/vip-policy.wasm");

fn with(name: &str, world: World, bytes: &[u8]) -> Policies {
    let engine = Engine::new(None).expect("this machine runs policies");
    let mut policies = Policies::new(engine).expect("the built-in ones");
    let component = Arc::new(Component::load(policies.engine(), world, bytes).expect("it is still a component"));
    let (name, limits, on_failure) = (name.into(), Limits::default(), OnFailure::KeepLast);
    policies.put(Policy { name, component, limits, max_removed_percent: ALL_PERCENT, config: Value::Null, on_failure });
    policies
}

#[test]
fn a_load_balancing_policy_of_0_1_0_still_decides() {
    let policies = with("old", World::Lb, LB_0_1_0);
    let config = json!({"clusters": {"east": 90, "west": 9, "north": 1}});
    let choice = policies.choose(World::Lb, Some(&"old".into()), &config).expect("its configuration is taken");
    let asked = Asked::about((0..9).map(endpoint).collect());
    let decided = policies.decide(&asked.subject("checkout"), &choice, &asked.question(&choice.config), 0);
    assert_eq!(decided.failure, None);
    assert_eq!(addresses(&decided.decision).len(), 9);
    let weights: Vec<u64> = decided.decision.groups.iter().map(|group| u64::from(group.weight)).collect();
    assert_eq!(policies.counts("old").memo_hits, 0);
    assert!(weights.iter().sum::<u64>() > 0, "{weights:?}");
}

#[test]
fn a_vip_policy_of_0_1_0_still_chooses() {
    let policies = with("old", World::Vip, VIP_0_1_0);
    let config = json!({"tenants": {"shop": {"pools": ["edge"], "quota": 10}}});
    let choice = policies.choose(World::Vip, Some(&"old".into()), &config).expect("its configuration is taken");
    let address: IpAddr = "240.11.0.7".parse().expect("an address");
    let pool =
        PoolChoice { pool: "edge".into(), candidates: vec![address], free: 10, held_by_namespace: 0, gateways: 1 };
    let input = VipInput {
        access: NamespacedName::new("shop", "checkout"),
        service: NamespacedName::new("shop", "checkout"),
        pod: None,
        family: Family::V4,
        requested: None,
        pools: vec![pool],
    };
    let (decision, failure) = policies.assign(&choice, &input, 0);
    assert_eq!((decision, failure), (VipDecision::Take { pool: "edge".into(), address }, None));
}
