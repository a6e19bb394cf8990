//! Metrics: the process's own, those of whoever registers, and those read off the state when
//! somebody asks. Names are whole (`causeway_…`, or the `process_…` that Prometheus' client libraries
//! agreed on), without the `_total` that the text format puts behind counters.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry as Native;

use crate::reconcile::view::{ClusterRow, NodeRow, StatusView};

/// What a family's numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often something was how large.
    Histogram,
}

/// One number of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Labels with their values, in the order in which they are written.
    pub labels: Vec<(String, String)>,
    /// The number.
    pub value: f64,
}

/// How often something was how large.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Labels with their values, in the order in which they are written.
    pub labels: Vec<(String, String)>,
    /// How often it was at most as large as each bound, and larger than the one before; bounds grow, and the last is
    /// [`f64::MAX`], which is written as infinity.
    pub buckets: Vec<(f64, u64)>,
    /// All together.
    pub sum: f64,
}

/// Numbers of the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The whole name, such as `causeway_xds_acks`.
    pub name: String,
    /// One sentence without a line break.
    pub help: String,
    /// What the numbers mean.
    pub kind: Kind,
    /// The numbers.
    pub samples: Vec<Sample>,
    /// Of a [`Kind::Histogram`] these instead.
    pub distributions: Vec<Distribution>,
}

impl Family {
    /// A family without numbers yet.
    pub fn new(name: &str, help: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), help: help.to_owned(), kind, samples: Vec::new(), distributions: Vec::new() }
    }

    /// Adds a number.
    pub fn with<const N: usize>(mut self, labels: [(&str, &str); N], value: f64) -> Self {
        self.samples.push(Sample { labels: owned(labels), value });
        self
    }

    /// Adds a distribution: see [`Distribution`].
    pub fn spread<const N: usize>(mut self, labels: [(&str, &str); N], buckets: Vec<(f64, u64)>, sum: f64) -> Self {
        self.distributions.push(Distribution { labels: owned(labels), buckets, sum });
        self
    }
}

fn owned<const N: usize>(labels: [(&str, &str); N]) -> Vec<(String, String)> {
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec()
}

/// Has numbers to show. Called once for each scrape, so it should read counters, not compute.
pub trait Source: Send + Sync {
    /// The numbers of this moment.
    fn collect(&self) -> Vec<Family>;
}

impl<F: Fn() -> Vec<Family> + Send + Sync> Source for F {
    fn collect(&self) -> Vec<Family> {
        self()
    }
}

/// Everything that `/metrics` shows.
pub struct Registry {
    native: Mutex<Native>,
    sources: Mutex<Vec<Arc<dyn Source>>>,
    started_seconds: f64,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// A registry with the process's own metrics. Makes the present the process's start time.
    pub fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            native: Mutex::new(Native::default()),
            sources: Mutex::new(Vec::new()),
            started_seconds: since_epoch.as_secs_f64(),
        }
    }

    /// Adds a source of families. Two sources may give the same family; their samples are joined.
    pub fn register(&self, source: Arc<dyn Source>) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// Gives access to the library's own registry, for what families do not express (histograms).
    pub fn native<T>(&self, with: impl FnOnce(&mut Native) -> T) -> T {
        with(&mut self.native.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything with `extra`, as OpenMetrics text.
    pub fn encode(&self, extra: Vec<Family>) -> Result<String, fmt::Error> {
        // Sources are called without the lock, so that one may register another.
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut families = self.process();
        families.extend(sources.iter().flat_map(|source| source.collect()));
        families.extend(extra);
        let mut joined = Native::default();
        joined.register_collector(Box::new(Joined(join(families))));
        let mut page = String::new();
        self.native(|native| text::encode_registry(&mut page, native))?;
        text::encode_registry(&mut page, &joined)?;
        text::encode_eof(&mut page)?;
        Ok(page)
    }

    fn process(&self) -> Vec<Family> {
        let version = env!("CARGO_PKG_VERSION");
        let mut families = vec![
            Family::new("causeway_build_info", "Always 1; the labels say what runs", Kind::Gauge)
                .with([("version", version)], 1.0),
            Family::new("process_start_time_seconds", "When the process began, since the Unix epoch", Kind::Gauge)
                .with([], self.started_seconds),
        ];
        if let Some(bytes) = resident_bytes() {
            let help = "Memory that is in RAM, in bytes";
            families.push(Family::new("process_resident_memory_bytes", help, Kind::Gauge).with([], bytes));
        }
        families
    }
}

/// The resident set (proc_pid_statm(5): the second number, in pages). `None` where there is no /proc.
fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_bytes() as f64)
}

/// The page size, from the auxiliary vector (getauxval(3): AT_PAGESZ is 6); 4096 where it is not said.
fn page_bytes() -> u64 {
    const AT_PAGESZ: u64 = 6;
    let words = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default();
    let found = words.chunks_exact(16).find(|pair| word(&pair[..8]) == AT_PAGESZ).map(|pair| word(&pair[8..]));
    found.unwrap_or(4096)
}

fn join(families: Vec<Family>) -> BTreeMap<String, Family> {
    let mut joined: BTreeMap<String, Family> = BTreeMap::new();
    for mut family in families {
        // The format adds it; twice would be another name.
        if family.kind == Kind::Counter
            && let Some(name) = family.name.strip_suffix("_total")
        {
            family.name = name.to_owned();
        }
        match joined.get_mut(&family.name) {
            Some(there) => {
                there.samples.extend(family.samples);
                there.distributions.extend(family.distributions);
            }
            None => drop(joined.insert(family.name.clone(), family)),
        }
    }
    joined
}

#[derive(Debug)]
struct Joined(BTreeMap<String, Family>);

impl Collector for Joined {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in self.0.values() {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(&family.name, &family.help, None, kind)?;
            for sample in &family.samples {
                labelled(&mut metric, &sample.labels, |metric| match family.kind {
                    Kind::Counter => metric.encode_counter::<[(String, String); 0], _, f64>(&sample.value, None),
                    Kind::Gauge => metric.encode_gauge(&sample.value),
                    // It has no single numbers.
                    Kind::Histogram => Ok(()),
                })?;
            }
            for Distribution { labels, buckets, sum } in &family.distributions {
                let count = buckets.iter().map(|(_, count)| count).sum();
                labelled(&mut metric, labels, |metric| {
                    metric.encode_histogram::<[(String, String); 0]>(*sum, count, buckets, None)
                })?;
            }
        }
        Ok(())
    }
}

/// Writes what has labels, or none.
fn labelled(
    metric: &mut MetricEncoder<'_>,
    labels: &[(String, String)],
    write: impl FnOnce(&mut MetricEncoder<'_>) -> Result<(), fmt::Error>,
) -> Result<(), fmt::Error> {
    if labels.is_empty() {
        return write(metric);
    }
    let labels: Vec<(&str, String)> = labels.iter().map(|(key, value)| (key.as_str(), escaped(value))).collect();
    write(&mut metric.encode_family(&labels)?)
}

/// OpenMetrics 1.0, "escaped-string". The library writes label values as they are, and a node's id
/// is whatever the node likes: without this one quote would spoil the page.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// What the owner of the truth said when somebody scraped.
#[derive(Debug)]
pub struct Observed {
    /// The whole.
    pub status: Box<StatusView>,
    /// Clusters.
    pub clusters: Vec<ClusterRow>,
    /// Envoys.
    pub nodes: Vec<NodeRow>,
}

/// The state as families; `None` where the owner did not answer, which is itself a number.
pub fn of_state(observed: Option<&Observed>) -> Vec<Family> {
    let gauge = |name: &str, help: &str| Family::new(name, help, Kind::Gauge);
    let truth = |fact: bool| if fact { 1.0 } else { 0.0 };
    let answers = gauge("causeway_up", "1 while the owner of the state answers").with([], truth(observed.is_some()));
    let Some(Observed { status, clusters, nodes }) = observed else { return vec![answers] };
    let mut vips = gauge("causeway_vips", "VIPs by state");
    for (state, count) in &status.vips {
        vips = vips.with([("state", state.as_str())], *count as f64);
    }
    let mut synced =
        gauge("causeway_cluster_synced", "1 while the cluster can be read, 0 while it is pending or unknown");
    for row in clusters {
        synced = synced.with([("cluster", row.name.as_str())], truth(row.state == "Synced"));
    }
    let mut by_kind: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for row in nodes {
        *by_kind.entry((row.role.as_str(), row.state.as_str())).or_default() += 1;
    }
    let mut fleet = gauge("causeway_nodes", "Envoys by role and state");
    for ((role, state), count) in by_kind {
        fleet = fleet.with([("role", role), ("state", state)], count as f64);
    }
    let rejected: usize = nodes.iter().map(|row| row.rejected).sum();
    let count = |name: &str, help: &str, count: usize| gauge(name, help).with([], count as f64);
    vec![
        answers,
        gauge("causeway_ready", "1 once every source is synced or known to be unreachable")
            .with([], truth(status.ready)),
        count("causeway_services", "Merged services", status.services),
        count("causeway_endpoints", "Endpoints of all merged services", status.endpoints),
        count("causeway_pods", "Pods of all clusters", status.pods),
        count("causeway_accesses", "Accesses", status.accesses),
        count("causeway_problems", "Things in sources and accesses that a person should mend", status.problems.len()),
        count("causeway_rejected_resources", "Resources that Envoys refuse at present", rejected),
        vips,
        synced,
        fleet,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_tells_of_itself() {
        let page = Registry::new().encode(Vec::new()).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert!(page.contains(&format!("causeway_build_info{{version=\"{version}\"}} 1.0\n")), "{page}");
        assert!(page.contains("\nprocess_start_time_seconds 1"), "{page}");
        let memory = page.lines().find_map(|l| l.strip_prefix("process_resident_memory_bytes ")).unwrap();
        assert!(memory.parse::<f64>().unwrap() > 1e6, "{memory}");
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn sources_of_the_same_family_are_joined_under_one_head() {
        let registry = Registry::new();
        for (name, stream) in [("causeway_acks", "a"), ("causeway_acks_total", "b")] {
            registry
                .register(Arc::new(move || vec![Family::new(name, "Acks", Kind::Counter).with([("s", stream)], 2.0)]));
        }
        let page = registry.encode(Vec::new()).unwrap();
        assert_eq!(page.matches("# TYPE causeway_acks counter").count(), 1, "{page}");
        assert!(page.contains("causeway_acks_total{s=\"a\"} 2.0\ncauseway_acks_total{s=\"b\"} 2.0\n"), "{page}");
    }

    #[test]
    fn label_values_cannot_break_the_page() {
        let hostile = Family::new("causeway_x", "X", Kind::Gauge).with([("node", "a\"} 9\nb\\")], 1.0);
        let page = Registry::new().encode(vec![hostile]).unwrap();
        assert!(page.contains("causeway_x{node=\"a\\\"} 9\\nb\\\\\"} 1.0\n"), "{page}");
    }

    #[test]
    fn buckets_add_up() {
        let buckets = vec![(0.001, 2), (0.01, 0), (f64::MAX, 1)];
        let family = Family::new("causeway_x_seconds", "X", Kind::Histogram).spread([("a", "b")], buckets, 0.5);
        let page = Registry::new().encode(vec![family]).unwrap();
        for line in [
            "# TYPE causeway_x_seconds histogram",
            "causeway_x_seconds_sum{a=\"b\"} 0.5",
            "causeway_x_seconds_count{a=\"b\"} 3",
            "causeway_x_seconds_bucket{le=\"0.001\",a=\"b\"} 2",
            "causeway_x_seconds_bucket{le=\"0.01\",a=\"b\"} 2",
            "causeway_x_seconds_bucket{le=\"+Inf\",a=\"b\"} 3",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in:\n{page}");
        }
    }

    #[test]
    fn the_libraries_own_metrics_are_shown_too() {
        let registry = Registry::new();
        let turns = prometheus_client::metrics::counter::Counter::<u64>::default();
        registry.native(|native| native.register("causeway_turns", "Turns", turns.clone()));
        turns.inc();
        assert!(registry.encode(Vec::new()).unwrap().contains("causeway_turns_total 1\n"));
    }

    #[test]
    fn an_owner_that_does_not_answer_is_a_number() {
        let families = of_state(None);
        assert_eq!(families.len(), 1);
        assert_eq!((families[0].name.as_str(), families[0].samples[0].value), ("causeway_up", 0.0));
    }
}
