//! Tables for each transition and disagreement.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::feedback::{NodeFacts, Protocol};
use crate::model::decision::{ClientView, NodeRole, VipDecision, VipInput};
use crate::model::id::NamespacedName;
use crate::model::object::{
    AddressRange, AssignedBy, Family, Labels, Locality, Pool, PublishRule, Selector, ServicePort,
};

use super::*;

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn range(first: &str, last: &str) -> AddressRange {
    AddressRange { first: ip(first), last: ip(last) }
}

pub(super) fn labels(key: &str, value: &str) -> Labels {
    BTreeMap::from([(Arc::from(key), Arc::from(value))])
}

pub(super) fn selector(key: &str, value: &str) -> Selector {
    Selector { match_labels: labels(key, value), match_expressions: vec![] }
}

pub(super) fn port(number: u16) -> ServicePort {
    ServicePort { name: format!("p{number}").into(), port: number, protocol: crate::model::object::Protocol::Http }
}

pub(super) fn edge_pool() -> Pool {
    Pool {
        name: "edge".into(),
        ranges: vec![range("240.0.0.1", "240.0.0.6")],
        reserved: Default::default(),
        gateways: Selector::default(),
        namespaces: Selector::default(),
        quota_per_namespace: None,
        assigned_by: AssignedBy::ControlPlane,
    }
}

pub(super) fn agent_pool() -> Pool {
    Pool { name: "agents".into(), ranges: vec![], assigned_by: AssignedBy::DataPlane, ..edge_pool() }
}

pub(super) fn claim(access: &str, pool: &str) -> Claim {
    Claim {
        access: NamespacedName::new("shop", access),
        service: NamespacedName::new("shop", "web"),
        pod: None,
        family: Family::V4,
        ports: vec![port(80)],
        pool: (!pool.is_empty()).then(|| pool.into()),
        requested: None,
        publish: PublishRule::default(),
        hostnames: vec!["web.shop.svc.clusterset.local".into()],
    }
}

pub(super) fn gateway(id: &str, labels: Labels) -> NodeFacts {
    let view = ClientView { role: NodeRole::Gateway, cluster: None, network: None, locality: Locality::default() };
    NodeFacts { id: id.into(), view, labels, version: "1.40.0".into(), protocol: Protocol::Delta }
}

/// Takes what is requested, else the first pool's next.
pub(super) fn choose_first(input: &VipInput) -> VipDecision {
    let with_free = input.pools.iter().find(|pool| pool.next_free.is_some());
    match (input.requested, with_free.or(input.pools.first())) {
        (Some(address), Some(choice)) => VipDecision::Take { pool: choice.pool.clone(), address },
        (None, Some(choice)) if choice.next_free.is_some() => {
            VipDecision::Take { pool: choice.pool.clone(), address: choice.next_free.unwrap() }
        }
        _ => VipDecision::Refuse { reason: "nothing is free".into() },
    }
}
