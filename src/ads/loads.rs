//! `envoy.service.load_stats.v3.LoadReportingService` (LRS): what Envoys tell of the requests that they send, by cluster,
//! locality and endpoint. Kept are the rates of each stream's last report, while it is no older than three intervals.
//!
//! [`server`]: the tonic service.

pub mod server;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use xds_api::pb::envoy::config::core::v3::{Address, address, socket_address};
use xds_api::pb::envoy::config::endpoint::v3::{ClusterStats, UpstreamEndpointStats, UpstreamLocalityStats};

use super::metrics::add;

/// Clusters, localities and endpoints that are kept of all reports together.
const MAX_ROWS: usize = 2_000_000;

/// Streams at a time.
const MAX_STREAMS: usize = 20_000;

/// Reports are believed for so many intervals.
const INTERVALS: u32 = 3;

/// What is sent somewhere, over the last interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Requests that were sent, a second.
    pub requests_per_second: f64,
    /// Requests that failed, a second.
    pub errors_per_second: f64,
    /// Requests in flight at the interval's end.
    pub in_flight: u64,
}

impl Rates {
    fn new(issued: u64, errors: u64, in_flight: u64, seconds: f64) -> Self {
        Self { requests_per_second: issued as f64 / seconds, errors_per_second: errors as f64 / seconds, in_flight }
    }

    fn and(self, other: Self) -> Self {
        Self {
            requests_per_second: self.requests_per_second + other.requests_per_second,
            errors_per_second: self.errors_per_second + other.errors_per_second,
            in_flight: self.in_flight.saturating_add(other.in_flight),
        }
    }
}

/// An endpoint as one Envoy uses it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointLoad {
    /// Its address.
    pub address: SocketAddr,
    /// What is sent there.
    #[serde(flatten)]
    pub rates: Rates,
}

/// A locality as one Envoy uses it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalityLoad {
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// Of which priority its endpoints are.
    pub priority: u32,
    /// What is sent there.
    #[serde(flatten)]
    pub rates: Rates,
    /// Those of its endpoints that anything was sent to.
    pub endpoints: Vec<EndpointLoad>,
}

/// A cluster as one Envoy uses it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterLoad {
    /// Its name.
    pub cluster: String,
    /// What is sent there.
    #[serde(flatten)]
    pub rates: Rates,
    /// Requests that the Envoy dropped instead of sending them, a second.
    pub dropped_per_second: f64,
    /// Those of its localities that anything was sent to.
    pub localities: Vec<LocalityLoad>,
}

/// The last report of one stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeLoad {
    /// How long ago it came, in milliseconds.
    pub ago_ms: u64,
    /// The clusters that anything was sent to.
    pub clusters: Arc<[ClusterLoad]>,
}

/// Counters.
#[derive(Debug, Default)]
pub struct LoadMetrics {
    /// Streams that began.
    pub streams_opened: AtomicU64,
    /// Streams that ended.
    pub streams_closed: AtomicU64,
    /// Reports that came.
    pub reports: AtomicU64,
    /// Reports that were not kept, there being too many.
    pub forgotten: AtomicU64,
}

/// The reports that are believed now. Cloning shares them.
#[derive(Clone)]
pub struct Loads {
    interval: Duration,
    streams: Arc<Mutex<Streams>>,
    metrics: Arc<LoadMetrics>,
}

#[derive(Default)]
struct Streams {
    next: u64,
    by_id: BTreeMap<u64, Reported>,
    rows: usize,
}

struct Reported {
    node: Arc<str>,
    at: Instant,
    rows: usize,
    clusters: Arc<[ClusterLoad]>,
}

impl Loads {
    /// None yet. Clients are asked for reports at this interval.
    pub fn new(interval: Duration) -> Self {
        Self { interval, streams: Arc::default(), metrics: Arc::default() }
    }

    /// How often clients report.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Counters.
    pub fn metrics(&self) -> &Arc<LoadMetrics> {
        &self.metrics
    }

    /// What a node's streams reported last, in the order in which they began. A node has one stream.
    pub fn of_node(&self, node: &str, now: Instant) -> Vec<NodeLoad> {
        let age = |reported: &Reported| now.saturating_duration_since(reported.at);
        let streams = self.lock();
        let of_node = streams.by_id.values().filter(|reported| *reported.node == *node);
        let believed = of_node.filter(|reported| age(reported) <= self.interval * INTERVALS);
        believed
            .map(|reported| NodeLoad {
                ago_ms: u64::try_from(age(reported).as_millis()).unwrap_or(u64::MAX),
                clusters: reported.clusters.clone(),
            })
            .collect()
    }

    /// What is sent to a cluster's endpoints by all nodes together.
    pub fn of_cluster(&self, cluster: &str, now: Instant) -> BTreeMap<SocketAddr, Rates> {
        let mut sums: BTreeMap<SocketAddr, Rates> = BTreeMap::new();
        let streams = self.lock();
        for reported in streams.by_id.values() {
            if now.saturating_duration_since(reported.at) > self.interval * INTERVALS {
                continue;
            }
            let of_cluster = reported.clusters.iter().filter(|load| load.cluster == cluster);
            for endpoint in of_cluster.flat_map(|load| &load.localities).flat_map(|load| &load.endpoints) {
                let sum = sums.entry(endpoint.address).or_default();
                *sum = sum.and(endpoint.rates);
            }
        }
        sums
    }

    /// A stream begins; `None` where there are too many.
    fn begin(&self, node: &str, now: Instant) -> Option<Place> {
        let mut streams = self.lock();
        if streams.by_id.len() >= MAX_STREAMS {
            return None;
        }
        streams.next += 1;
        let id = streams.next;
        let reported = Reported { node: Arc::from(node), at: now, rows: 0, clusters: Arc::default() };
        streams.by_id.insert(id, reported);
        add(&self.metrics.streams_opened, 1);
        Some(Place { loads: self.clone(), id })
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream's place among the reports; what it reported goes with it.
struct Place {
    loads: Loads,
    id: u64,
}

impl Place {
    /// A report takes the place of the one before.
    fn report(&self, stats: &[ClusterStats], now: Instant) {
        add(&self.loads.metrics.reports, 1);
        let clusters: Arc<[ClusterLoad]> =
            stats.iter().filter_map(|stats| cluster(stats, self.loads.interval)).collect();
        let rows =
            clusters.iter().flat_map(|load| &load.localities).map(|load| 1 + load.endpoints.len()).sum::<usize>()
                + clusters.len();
        let mut streams = self.loads.lock();
        let others = streams.rows - streams.by_id.get(&self.id).map_or(0, |reported| reported.rows);
        let is_room = others + rows <= MAX_ROWS;
        if !is_room {
            add(&self.loads.metrics.forgotten, 1);
        }
        let (rows, clusters) = if is_room { (rows, clusters) } else { (0, Arc::default()) };
        streams.rows = others + rows;
        if let Some(reported) = streams.by_id.get_mut(&self.id) {
            (reported.at, reported.rows, reported.clusters) = (now, rows, clusters);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.loads.lock();
        if let Some(reported) = streams.by_id.remove(&self.id) {
            streams.rows -= reported.rows;
        }
        add(&self.loads.metrics.streams_closed, 1);
    }
}

/// A cluster's part of a report; `None` where nothing was sent and nothing dropped.
fn cluster(stats: &ClusterStats, asked: Duration) -> Option<ClusterLoad> {
    let told = stats.load_report_interval.as_ref();
    let told = told.map_or(0.0, |told| told.seconds as f64 + f64::from(told.nanos) / 1e9);
    // Clients say over which time they counted; a wrong one must not make everything infinite.
    let seconds = if told > 0.0 { told.max(0.001) } else { asked.as_secs_f64().max(0.001) };
    let localities: Vec<LocalityLoad> =
        stats.upstream_locality_stats.iter().map(|stats| locality(stats, seconds)).collect();
    if localities.is_empty() && stats.total_dropped_requests == 0 {
        return None;
    }
    Some(ClusterLoad {
        cluster: stats.cluster_name.clone(),
        rates: localities.iter().fold(Rates::default(), |sum, load| sum.and(load.rates)),
        dropped_per_second: stats.total_dropped_requests as f64 / seconds,
        localities,
    })
}

fn locality(stats: &UpstreamLocalityStats, seconds: f64) -> LocalityLoad {
    let locality = stats.locality.clone().unwrap_or_default();
    let errors = stats.total_error_requests;
    let issued = issued(stats.total_issued_requests, stats.total_successful_requests, errors);
    LocalityLoad {
        region: locality.region,
        zone: locality.zone,
        priority: stats.priority,
        rates: Rates::new(issued, errors, stats.total_requests_in_progress, seconds),
        endpoints: stats.upstream_endpoint_stats.iter().filter_map(|stats| endpoint(stats, seconds)).collect(),
    }
}

fn endpoint(stats: &UpstreamEndpointStats, seconds: f64) -> Option<EndpointLoad> {
    let errors = stats.total_error_requests;
    let issued = issued(stats.total_issued_requests, stats.total_successful_requests, errors);
    let rates = Rates::new(issued, errors, stats.total_requests_in_progress, seconds);
    Some(EndpointLoad { address: socket(stats.address.as_ref()?)?, rates })
}

/// Clients that do not count what they begin count what ends.
fn issued(issued: u64, successes: u64, errors: u64) -> u64 {
    if issued > 0 { issued } else { successes.saturating_add(errors) }
}

fn socket(address: &Address) -> Option<SocketAddr> {
    let Some(address::Address::SocketAddress(socket)) = &address.address else { return None };
    let Some(socket_address::PortSpecifier::PortValue(port)) = socket.port_specifier else { return None };
    Some(SocketAddr::new(socket.address.parse::<IpAddr>().ok()?, u16::try_from(port).ok()?))
}

#[cfg(test)]
mod tests;
