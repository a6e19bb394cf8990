//! The xDS service's counters as Prometheus families.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::admin::metrics::{Family, Kind};
use crate::ads::Metrics;
use crate::kube::writer::Counters;
use crate::snapshot::ResourceType;

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
