//! Where clusters export a service in different forms: who decides, and what is told of it. The Multi-Cluster Services
//! API has the oldest export decide, and wants all exports to be told.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::exports::Constituent;
use super::imports::{ExportCondition, ImportPort, no_conflict};
use crate::model::export::Transport;

/// How many disagreements are told at most.
const MOST_TOLD: usize = 3;

/// What may be in conflict: the reason of the condition, a noun, and what an export says of it.
type Aspect = (&'static str, &'static str, fn(&Constituent<'_>) -> String);

const ASPECTS: [Aspect; 9] = [
    ("TypeConflict", "type", |one| if one.service.headless { "headless" } else { "not headless" }.to_owned()),
    ("PortConflict", "ports", |one| {
        let ports: BTreeSet<String> = ports(one).map(|port| show(&port)).collect();
        joined(ports)
    }),
    ("SessionAffinityConflict", "sessionAffinity", |one| {
        if one.service.traits.client_ip_affinity.is_some() { "ClientIP" } else { "None" }.to_owned()
    }),
    ("SessionAffinityConfigConflict", "sessionAffinityConfig", |one| match one.service.traits.client_ip_affinity {
        Some(seconds) => format!("{seconds} s"),
        None => String::new(),
    }),
    ("InternalTrafficPolicyConflict", "internalTrafficPolicy", |one| {
        if one.service.traits.internal_traffic_local { "Local" } else { "Cluster" }.to_owned()
    }),
    ("TrafficDistributionConflict", "trafficDistribution", |one| {
        one.service.traits.traffic_distribution.as_deref().unwrap_or("unset").to_owned()
    }),
    ("IPFamilyConflict", "ipFamilies", |one| {
        // Their order says which is preferred within a cluster.
        joined(one.service.traits.families().iter().map(|family| format!("{family:?}")).collect())
    }),
    ("LabelsConflict", "exportedLabels", |one| {
        joined(one.export.labels.iter().map(|(key, value)| format!("{key}={value}")).collect())
    }),
    ("AnnotationsConflict", "exportedAnnotations", |one| {
        joined(one.export.annotations.iter().map(|(key, value)| format!("{key}={value}")).collect())
    }),
];

/// The longest word on what an export says, in characters: annotations may be long.
const MOST_WORDS: usize = 120;

/// The condition `Conflict` of all exports of a service, which come from the strongest to the weakest.
pub(super) fn conflict(constituents: &[Constituent<'_>]) -> ExportCondition {
    let Some((strongest, weaker)) = constituents.split_first() else { return no_conflict() };
    let (mut reasons, mut told, mut more) = (Vec::new(), Vec::new(), 0_usize);
    for (reason, noun, said_by) in ASPECTS {
        let decided = said_by(strongest);
        // Where affinity differs, so do its settings, which is no second conflict.
        let is_moot =
            |said: &String| reason == "SessionAffinityConfigConflict" && (said.is_empty() || decided.is_empty());
        let all = weaker.iter().map(|one| (one, said_by(one)));
        for (one, said) in all.filter(|(_, said)| *said != decided && !is_moot(said)) {
            if reasons.last() != Some(&reason) {
                reasons.push(reason);
            }
            if told.len() == MOST_TOLD {
                more += 1;
                continue;
            }
            let what = if reason == "PortConflict" { "; all that do not collide are served" } else { "" };
            told.push(format!(
                "cluster {} says {noun} {}, and cluster {}, whose export is the oldest and decides, {}{what}",
                one.cluster,
                short(&said),
                strongest.cluster,
                short(&decided)
            ));
        }
    }
    if reasons.is_empty() {
        return no_conflict();
    }
    let mut message = told.join("; ");
    if more > 0 {
        message.push_str(&format!("; and {more} more"));
    }
    let remedy = "make the Services and the ServiceExports of all clusters alike".to_owned();
    ExportCondition { kind: "Conflict", holds: true, reason: reasons.join(",").into(), message, remedy }
}

/// The union of the ports of all, which come from the strongest to the weakest: where two collide, the stronger's stays.
pub(super) fn union(constituents: &[Constituent<'_>]) -> Vec<ImportPort> {
    let mut all: Vec<ImportPort> = Vec::new();
    for port in constituents.iter().flat_map(ports) {
        let collides = |known: &ImportPort| {
            known.name == port.name || (known.port, known.transport) == (port.port, port.transport)
        };
        if !all.iter().any(collides) {
            all.push(port);
        }
    }
    all.sort_by(|a, b| (a.port, a.transport, &a.name).cmp(&(b.port, b.transport, &b.name)));
    all
}

/// All ports of an exported Service.
fn ports(one: &Constituent<'_>) -> impl Iterator<Item = ImportPort> {
    let traits = &one.service.traits;
    let tcp = one.service.ports.iter().map(|port| ImportPort {
        name: port.name.clone(),
        port: port.port,
        transport: Transport::Tcp,
        app_protocol: traits.app_protocols.get(&port.name).cloned(),
    });
    let others = traits.other_ports.iter().map(|port| ImportPort {
        name: port.name.clone(),
        port: port.port,
        transport: port.transport,
        app_protocol: port.app_protocol.clone(),
    });
    tcp.chain(others)
}

fn show(port: &ImportPort) -> String {
    let name = if port.name.is_empty() { "(unnamed)" } else { &port.name };
    let spoken = port.app_protocol.as_ref().map(|word| format!(" {word}")).unwrap_or_default();
    format!("{name} {}/{}{spoken}", port.port, port.transport.as_str())
}

fn joined(words: BTreeSet<String>) -> String {
    if words.is_empty() { "none".to_owned() } else { words.into_iter().collect::<Vec<_>>().join(", ") }
}

fn short(said: &str) -> Cow<'_, str> {
    match said.char_indices().nth(MOST_WORDS) {
        Some((end, _)) => Cow::Owned(format!("{}…", &said[..end])),
        None => Cow::Borrowed(said),
    }
}
