//! For a policy's own tests, which run on the host: makes questions, shows answers and checks them as Causeway does.
//!
//! ```
//! use causeway_policy::testing::{backend, check_lb, question, show};
//! # use causeway_policy::lb::{Decision, Groups, LbPolicy, Question};
//! # struct All;
//! # impl LbPolicy for All {
//! #     type Config = ();
//! #     fn decide(question: &Question, _: &()) -> Result<Decision, String> {
//! #         let mut groups = Groups::new(question);
//! #         question.endpoints().for_each(|endpoint| groups.add(0, endpoint));
//! #         Ok(groups.decide())
//! #     }
//! # }
//!
//! let asked = question([backend(1).at("eu", "a"), backend(2).at("us", "b").weight(7)]);
//! let decision = All::decide(&asked, &()).expect("it decides");
//! check_lb(&asked, &decision).expect("it is a decision that Causeway takes");
//! assert_eq!(show(&asked, &decision), ["0 eu/a 1: 1*1", "0 us/b 7: 2*7"]);
//! ```

mod envelope;

use std::cell::RefCell;

pub use envelope::check_lb;

use crate::Named;
use crate::lb::{
    self, Client, Cluster, Decision, Endpoints, LbPolicy, Locality, Needs, Port, Protocol, Question, Readiness, Role,
};
use crate::log::Level;
use crate::vip::{self, VipPolicy};

/// An endpoint of a question that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// What stands for its address.
    pub key: u64,
    /// The Kubernetes cluster.
    pub cluster: String,
    /// The cluster's network. A cluster has one: name another cluster where it is to be another.
    pub network: String,
    /// Where it runs.
    pub region: String,
    /// Where it runs.
    pub zone: String,
    /// Whether it may get traffic.
    pub readiness: Readiness,
    /// 1 to 1000.
    pub weight: u32,
    /// Requests in flight.
    pub load: Option<u32>,
}

/// A ready endpoint of weight 1 in the cluster `east` of the network `flat`.
pub fn backend(key: u64) -> Backend {
    Backend {
        key,
        cluster: "east".into(),
        network: "flat".into(),
        region: String::new(),
        zone: String::new(),
        readiness: Readiness::Ready,
        weight: 1,
        load: None,
    }
}

impl Backend {
    /// Where it runs.
    pub fn at(self, region: &str, zone: &str) -> Self {
        Self { region: region.into(), zone: zone.into(), ..self }
    }

    /// Its cluster, in the network `flat`.
    pub fn of(self, cluster: &str) -> Self {
        Self { cluster: cluster.into(), ..self }
    }

    /// Its cluster's network.
    pub fn network(self, network: &str) -> Self {
        Self { network: network.into(), ..self }
    }

    /// Whether it may get traffic.
    pub fn state(self, readiness: Readiness) -> Self {
        Self { readiness, ..self }
    }

    /// Its share, 1 to 1000.
    pub fn weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// Requests in flight.
    pub fn load(self, load: u32) -> Self {
        Self { load: Some(load), ..self }
    }
}

/// Asks for the service `shop/checkout`, for a gateway in the network `flat` at `eu/a`, without a configuration.
/// Everything in it can be changed.
pub fn question(backends: impl IntoIterator<Item = Backend>) -> Question {
    let (mut clusters, mut localities) = (Vec::<Cluster>::new(), Vec::<Locality>::new());
    let mut endpoints = Endpoints {
        keys: Vec::new(),
        clusters: Vec::new(),
        localities: Vec::new(),
        states: Vec::new(),
        weights: Vec::new(),
        loads: Vec::new(),
    };
    let mut loads = Vec::new();
    for backend in backends {
        let cluster = Cluster { name: backend.cluster, network: backend.network, stale: false };
        let locality = Locality { region: backend.region, zone: backend.zone };
        endpoints.keys.push(backend.key);
        endpoints.clusters.push(place(&mut clusters, cluster));
        endpoints.localities.push(place(&mut localities, locality));
        endpoints.states.push(match backend.readiness {
            Readiness::Ready => 0,
            Readiness::Draining => 1,
            Readiness::NotReady => 2,
        });
        endpoints.weights.push(backend.weight);
        loads.push(backend.load);
    }
    if loads.iter().any(Option::is_some) {
        endpoints.loads = loads.into_iter().map(Option::unwrap_or_default).collect();
    }
    Question {
        service: lb::Name { namespace: "shop".into(), name: "checkout".into() },
        port: Port { name: "http".into(), number: 80, protocol: Protocol::Http },
        client: Client {
            role: Role::Gateway,
            cluster: None,
            network: Some("flat".into()),
            locality: Locality { region: "eu".into(), zone: "a".into() },
            bucket: 0,
            buckets: 1,
        },
        clusters,
        localities,
        endpoints,
        config: "null".into(),
    }
}

fn place<T: PartialEq>(known: &mut Vec<T>, wanted: T) -> u32 {
    let at = known.iter().position(|one| *one == wanted).unwrap_or_else(|| {
        known.push(wanted);
        known.len() - 1
    });
    at as u32
}

/// Checks a configuration, as the component's `inspect` does.
///
/// # Errors
/// What the policy says.
pub fn inspect<P: LbPolicy + Named>(config: &str) -> Result<Needs, String> {
    lb::inspect::<P>(config)
}

/// Decides by the question's own configuration, as the component's `decide` does.
///
/// # Errors
/// What the policy says.
pub fn decide<P: LbPolicy + Named>(question: &Question) -> Result<Decision, String> {
    lb::decide::<P>(question)
}

/// Checks a configuration, as the component's `inspect` does.
///
/// # Errors
/// What the policy says.
pub fn inspect_vip<P: VipPolicy + Named>(config: &str) -> Result<(), String> {
    vip::inspect::<P>(config)
}

/// Decides by the question's own configuration, as the component's `assign` does.
///
/// # Errors
/// What the policy says.
pub fn assign<P: VipPolicy + Named>(question: &vip::Question) -> Result<vip::Decision, String> {
    vip::assign::<P>(question)
}

/// A pool as `name`, its candidates, and 1,000 addresses free where there are candidates.
pub fn pool(name: &str, candidates: &[&str]) -> vip::Pool {
    vip::Pool {
        name: name.into(),
        candidates: candidates.iter().map(|text| (*text).to_owned()).collect(),
        free: if candidates.is_empty() { 0 } else { 1000 },
        held_by_namespace: 0,
        gateways: 1,
    }
}

/// Asks for an IPv4 address for the access and service `shop/checkout`, without a configuration.
pub fn vip_question(pools: impl IntoIterator<Item = vip::Pool>) -> vip::Question {
    let name = || vip::Name { namespace: "shop".into(), name: "checkout".into() };
    vip::Question {
        access: name(),
        service: name(),
        pod: None,
        family: vip::Family::Ipv4,
        requested: None,
        pools: pools.into_iter().collect(),
        config: "null".into(),
    }
}

/// A decision's groups as `priority region/zone weight: key*weight …`, with a `-` before what drains.
pub fn show(question: &Question, decision: &Decision) -> Vec<String> {
    let mut at = 0;
    let mut lines = Vec::new();
    for group in &decision.groups {
        let locality = &question.localities[group.locality as usize];
        let mut line = format!("{} {}/{} {}:", group.priority, locality.region, locality.zone, group.weight);
        for i in at..at + group.count as usize {
            let endpoint = question.endpoint(decision.endpoints[i]);
            let weight = decision.weights.get(i).copied().unwrap_or(endpoint.weight());
            let sign = if group.draining { "-" } else { "" };
            line.push_str(&format!(" {sign}{}*{weight}", endpoint.key()));
        }
        at += group.count as usize;
        lines.push(line);
    }
    lines
}

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn keep(level: Level, message: &str) {
    LINES.with_borrow_mut(|lines| lines.push((level, message.to_owned())));
}

/// What was logged by this thread since this was last asked.
pub fn logged() -> Vec<(Level, String)> {
    LINES.take()
}
