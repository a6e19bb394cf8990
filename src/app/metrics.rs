//! Counters of others as Prometheus families.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::admin::metrics::{Family, Kind};
use crate::ads::Metrics;
use crate::ads::loads::LoadMetrics;
use crate::kube::down::{Board, Writes};
use crate::kube::writer::Counters;
use crate::policy::{Counts, Tallied, Tally, Times};
use crate::snapshot::ResourceType;
use crate::store::Store;

/// The families of what is written to the primary's API server.
pub fn kube_families(counters: &Arc<Counters>) -> Vec<Family> {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let writes = Family::new("causeway_kube_writes", "Objects written to the primary's API server.", Kind::Counter)
        .with([("what", "status")], read(&counters.statuses))
        .with([("what", "snapshot")], read(&counters.snapshots))
        .with([("what", "snapshot_deletion")], read(&counters.deletions));
    let failures =
        Family::new("causeway_kube_write_failures", "Writes to the primary's API server that failed.", Kind::Counter)
            .with::<0>([], read(&counters.failures));
    vec![writes, failures]
}

/// The families of what is written to sub-clusters.
pub fn down_families(board: &Board) -> Vec<Family> {
    let help = "Objects of sub-clusters that were written, so that their clients reach what other clusters have.";
    let mut writes = Family::new("causeway_sync_down_writes", help, Kind::Counter);
    let mut failures = Family::new("causeway_sync_down_write_failures", "Such writes that failed.", Kind::Counter);
    let help = "Objects that a sub-cluster shall have, in namespaces that it has.";
    let mut objects = Family::new("causeway_sync_down_objects", help, Kind::Gauge);
    let help = "1 while a sub-cluster has everything that it shall have.";
    let mut synced = Family::new("causeway_sync_down_synced", help, Kind::Gauge);
    for (cluster, summary) in board.summaries() {
        let label = ("cluster", cluster.as_str());
        let Writes { created, changed, deleted, failures: failed } = summary.writes;
        for (what, count) in [("create", created), ("change", changed), ("delete", deleted)] {
            writes = writes.with([label, ("what", what)], count as f64);
        }
        failures = failures.with([label], failed as f64);
        objects = objects.with([label], summary.wanted as f64);
        synced = synced.with([label], f64::from(u8::from(summary.is_done)));
    }
    vec![writes, failures, objects, synced]
}

/// The families of the store.
pub fn store_families(store: &Store) -> Vec<Family> {
    let backend = [("backend", store.backend().name())];
    let is_up = if store.outage().is_none() { 1.0 } else { 0.0 };
    let up = "1 while the store can be used; 0 while its database cannot, and what is to be written waits.";
    let errors = "What was asked of the store's database in vain.";
    vec![
        Family::new("causeway_store_up", up, Kind::Gauge).with(backend, is_up),
        Family::new("causeway_store_errors", errors, Kind::Counter).with(backend, store.errors() as f64),
    ]
}

/// The families of the xDS service.
pub fn families(metrics: &Arc<Metrics>) -> Vec<Family> {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let by_type = |name: &str, help: &str, kind: Kind, of: fn(&crate::ads::metrics::TypeMetrics) -> &AtomicU64| {
        ResourceType::ALL.into_iter().fold(Family::new(name, help, kind), |family, ty| {
            family.with([("type", ty.label())], read(of(metrics.of(ty))))
        })
    };
    let total = |name: &str, help: &str, counter: &AtomicU64| {
        Family::new(name, help, Kind::Counter).with::<0>([], read(counter))
    };
    vec![
        by_type("causeway_xds_responses", "Responses sent.", Kind::Counter, |m| &m.responses),
        by_type("causeway_xds_resources", "Resources sent.", Kind::Counter, |m| &m.resources),
        by_type("causeway_xds_removals", "Removals sent.", Kind::Counter, |m| &m.removals),
        by_type("causeway_xds_response_bytes", "Bytes of responses sent.", Kind::Counter, |m| &m.bytes),
        by_type("causeway_xds_response_largest_bytes", "The largest response so far.", Kind::Gauge, |m| &m.largest),
        by_type("causeway_xds_acks", "Responses acknowledged.", Kind::Counter, |m| &m.acks),
        by_type("causeway_xds_nacks", "Responses refused.", Kind::Counter, |m| &m.nacks),
        total("causeway_xds_streams_opened", "Streams that began.", &metrics.streams_opened),
        total("causeway_xds_streams_closed", "Streams that ended.", &metrics.streams_closed),
        total("causeway_xds_streams_refused", "Streams that were refused.", &metrics.streams_refused),
        total("causeway_xds_slow_clients", "Streams closed for not reading in time.", &metrics.slow_clients),
        total("causeway_xds_violations", "Streams closed for breaking the protocol.", &metrics.violations),
    ]
}

/// The families of the reports of loads.
pub fn load_families(metrics: &LoadMetrics) -> Vec<Family> {
    let total = |name: &str, help: &str, counter: &AtomicU64| {
        Family::new(name, help, Kind::Counter).with::<0>([], counter.load(Ordering::Relaxed) as f64)
    };
    vec![
        total("causeway_load_streams_opened", "Streams of load reports that began.", &metrics.streams_opened),
        total("causeway_load_streams_closed", "Streams of load reports that ended.", &metrics.streams_closed),
        total("causeway_load_reports", "Load reports of Envoys.", &metrics.reports),
        total("causeway_load_reports_forgotten", "Load reports that were too many to keep.", &metrics.forgotten),
    ]
}

/// The families of policies: as many numbers as there are policies and reasons, however much is decided.
pub fn policy_families(tally: &Tally) -> Vec<Family> {
    let counter = |name: &str, help: &str| Family::new(name, help, Kind::Counter);
    let mut info = Family::new(
        "causeway_policy_info",
        "Always 1; the labels say which component is in force under a policy's name.",
        Kind::Gauge,
    );
    let mut calls = counter("causeway_policy_calls", "Calls of policies.");
    let mut memo_hits = counter(
        "causeway_policy_memo_hits",
        "Questions that were answered without a call, from what a policy answered before.",
    );
    let mut failures = counter("causeway_policy_failures", "Answers of policies that could not be used, by reason.");
    let mut fallbacks = counter(
        "causeway_policy_fallbacks",
        "Decisions that were made in a policy's place, by the reason why it made none.",
    );
    let mut fuel = counter("causeway_policy_fuel_used", "Instructions, of all calls of a policy.");
    let mut open = Family::new(
        "causeway_policy_circuits_open",
        "Views of services about which a policy failed so often that it is not asked for a while.",
        Kind::Gauge,
    );
    let mut seconds = Family::new("causeway_policy_call_seconds", "How long calls of policies took.", Kind::Histogram);
    for Tallied { name, in_force, counts } in tally.all() {
        let label = ("policy", &*name);
        if let Some((world, digest)) = in_force {
            let digest = digest.to_string();
            info = info.with([label, ("world", world.name()), ("digest", &digest)], 1.0);
        }
        calls = calls.with([label], counts.calls as f64);
        memo_hits = memo_hits.with([label], counts.memo_hits as f64);
        for (reason, count) in &counts.failures {
            failures = failures.with([label, ("reason", reason)], *count as f64);
        }
        for (reason, count) in &counts.fallbacks {
            fallbacks = fallbacks.with([label, ("reason", reason)], *count as f64);
        }
        fuel = fuel.with([label], counts.fuel_used as f64);
        open = open.with([label], counts.circuits_open as f64);
        seconds = seconds.spread([label], buckets(&counts), counts.times.sum.as_secs_f64());
    }
    vec![info, calls, memo_hits, failures, fallbacks, fuel, open, seconds]
}

fn buckets(counts: &Counts) -> Vec<(f64, u64)> {
    let bounds = Times::BOUNDS.iter().map(|micros| *micros as f64 / 1e6);
    let times = &counts.times;
    bounds.zip(times.counts).chain([(f64::MAX, times.longer)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Engine, Policies, World};

    #[test]
    fn what_is_counted_of_policies_is_shown() {
        let policies = Policies::new(Engine::new(None).unwrap()).unwrap();
        policies.choose(World::Lb, None, &serde_json::json!({})).unwrap();
        policies.choose(World::Lb, None, &serde_json::json!({ "localityPriority": 7 })).unwrap_err();
        let families = policy_families(&policies.tally());
        let page = crate::admin::metrics::Registry::new().encode(families).unwrap();
        let digest = policies.in_force().find(|policy| &*policy.name == "lb-locality").unwrap().component.digest();
        for line in [
            &format!("causeway_policy_info{{policy=\"lb-locality\",world=\"lb-policy\",digest=\"{digest}\"}} 1.0"),
            "causeway_policy_calls_total{policy=\"lb-locality\"} 2.0",
            "causeway_policy_failures_total{policy=\"lb-locality\",reason=\"PolicyError\"} 1.0",
            "causeway_policy_memo_hits_total{policy=\"lb-locality\"} 0.0",
            "causeway_policy_circuits_open{policy=\"lb-locality\"} 0.0",
            "causeway_policy_call_seconds_count{policy=\"lb-locality\"} 2",
            "causeway_policy_call_seconds_bucket{le=\"+Inf\",policy=\"lb-locality\"} 2",
            "# TYPE causeway_policy_call_seconds histogram",
            "# TYPE causeway_policy_fallbacks counter",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in:\n{page}");
        }
        let fuel =
            page.lines().find_map(|line| line.strip_prefix("causeway_policy_fuel_used_total{policy=\"lb-locality\"} "));
        assert!(fuel.unwrap().parse::<f64>().unwrap() > 1_000.0, "{page}");
    }
}
