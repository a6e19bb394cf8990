//! Load balancing: which endpoints of a service a client gets, in what order and with what share.

mod groups;
mod usable;

use std::fmt;

pub use groups::Groups;
pub use usable::Usable;

pub use crate::bindings::lb::causeway::policy::lb::{
    Algorithm, Client, Cluster, Decision, Endpoints, Group, HealthCheck, Locality, Name, Needs, OutlierDetection, Port,
    Protocol, Question, Ring, Role,
};
use crate::{Named, Settings, log, settings};

/// A policy that decides how a service's traffic is spread.
pub trait LbPolicy {
    /// What can be set.
    type Config: Settings;

    /// What the policy needs to be told.
    fn needs(config: &Self::Config) -> Needs {
        let _ = config;
        Needs { buckets: 1 }
    }

    /// Decides, for the Envoys of one view.
    ///
    /// # Errors
    /// What went wrong, for people. It is shown at the service, which keeps its last decision or gets the default
    /// policy's.
    fn decide(question: &Question, config: &Self::Config) -> Result<Decision, String>;
}

/// Whether an endpoint may get traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// New requests may go there.
    Ready,
    /// Terminating but still serving: requests in flight end there, new ones go elsewhere.
    Draining,
    /// Not usable.
    NotReady,
}

/// One of a question's endpoints: a place in its columns, which costs nothing to pass around.
#[derive(Clone, Copy)]
pub struct Endpoint<'a> {
    question: &'a Question,
    index: u32,
}

impl<'a> Endpoint<'a> {
    /// Its place in the question's lists.
    pub fn index(self) -> u32 {
        self.index
    }

    /// A hash of address and port: the same endpoint has the same in every question.
    pub fn key(self) -> u64 {
        self.question.endpoints.keys[self.index as usize]
    }

    /// The Kubernetes cluster that it runs in.
    pub fn cluster(self) -> &'a Cluster {
        &self.question.clusters[self.cluster_index() as usize]
    }

    /// The cluster's place in the question's `clusters`.
    pub fn cluster_index(self) -> u32 {
        self.question.endpoints.clusters[self.index as usize]
    }

    /// Where it runs.
    pub fn locality(self) -> &'a Locality {
        &self.question.localities[self.locality_index() as usize]
    }

    /// The locality's place in the question's `localities`.
    pub fn locality_index(self) -> u32 {
        self.question.endpoints.localities[self.index as usize]
    }

    /// Whether it may get traffic.
    pub fn readiness(self) -> Readiness {
        Readiness::of(self.question.endpoints.states[self.index as usize])
    }

    /// Relative share of traffic, 1 to 1000.
    pub fn weight(self) -> u32 {
        self.question.endpoints.weights[self.index as usize]
    }

    /// Requests in flight, where the data plane reports them.
    pub fn load(self) -> Option<u32> {
        self.question.endpoints.loads.get(self.index as usize).copied()
    }
}

impl fmt::Debug for Endpoint<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Endpoint").field("index", &self.index).field("key", &self.key()).finish_non_exhaustive()
    }
}

impl Question {
    /// One endpoint, by its place in the question's lists.
    ///
    /// # Panics
    /// When it is asked something and there are not so many endpoints.
    pub fn endpoint(&self, index: u32) -> Endpoint<'_> {
        Endpoint { question: self, index }
    }

    /// How many endpoints there are.
    pub fn count(&self) -> u32 {
        self.endpoints.keys.len() as u32
    }

    /// All endpoints, in the question's order.
    pub fn endpoints(&self) -> impl ExactSizeIterator<Item = Endpoint<'_>> {
        (0..self.count()).map(|index| self.endpoint(index))
    }

    /// The endpoints of these indexes.
    pub fn pick<'a>(&'a self, indexes: &'a [u32]) -> impl ExactSizeIterator<Item = Endpoint<'a>> {
        indexes.iter().map(|index| self.endpoint(*index))
    }
}

impl Readiness {
    fn of(state: u8) -> Self {
        match state {
            0 => Self::Ready,
            1 => Self::Draining,
            _ => Self::NotReady,
        }
    }
}

/// The less busy of two: Causeway's default.
impl Default for Algorithm {
    fn default() -> Self {
        Self::LeastRequest(2)
    }
}

/// Envoy's own default.
impl Default for Ring {
    fn default() -> Self {
        Self { minimum: 1024, maximum: 8_388_608 }
    }
}

/// No endpoints, and Causeway's defaults.
impl Default for Decision {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            endpoints: Vec::new(),
            weights: Vec::new(),
            algorithm: Algorithm::default(),
            overprovisioning_percent: 140,
            panic_threshold_percent: 1,
            drop_per_million: 0,
            outlier_detection: None,
            health_check: None,
        }
    }
}

#[doc(hidden)]
pub fn inspect<P: LbPolicy + Named>(config: &str) -> Result<Needs, String> {
    log::log_panics();
    settings::parse(P::NAME, config).map(|config| P::needs(&config))
}

#[doc(hidden)]
pub fn decide<P: LbPolicy + Named>(question: &Question) -> Result<Decision, String> {
    log::log_panics();
    P::decide(question, &settings::parse(P::NAME, &question.config)?)
}

#[cfg(test)]
mod tests;
