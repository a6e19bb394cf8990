//! What is done with an input of each fuzz target: a decoder takes it or refuses it with a reason that helps, and what
//! the decoder says of itself holds. A panic is a finding.
//!
//! The fuzzer calls these functions (`fuzz_targets`), and so does a test with every input of `corpus`
//! (`tests/it/corpus.rs`).

mod agent;
mod configuration;
mod dns;
mod member;
mod objects;
mod policy;
mod registry;
mod store;
mod xds;

pub use agent::{agent_reports, agent_requests, agent_state, envoy_admin};
pub use configuration::{config_file, config_texts};
pub use dns::{dns_questions, dns_replies};
pub use member::{member_inbound, member_objects, member_outbound};
pub use objects::{kubeconfig, kubernetes, manifests_json, manifests_yaml};
pub use policy::{policy_answers, policy_components, signatures};
pub use registry::registry;
pub use store::store_rows;
pub use xds::{client_status, load_reports, reflection, xds_requests, xds_responses};

use causeway::kube::field::Invalid;

/// A target: it panics where an input shows a mistake.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus too.
pub const TARGETS: &[(&str, Target)] = &[
    ("agent_reports", agent_reports),
    ("agent_requests", agent_requests),
    ("agent_state", agent_state),
    ("client_status", client_status),
    ("config_file", config_file),
    ("config_texts", config_texts),
    ("dns_questions", dns_questions),
    ("dns_replies", dns_replies),
    ("envoy_admin", envoy_admin),
    ("kubeconfig", kubeconfig),
    ("kubernetes", kubernetes),
    ("load_reports", load_reports),
    ("manifests_json", manifests_json),
    ("manifests_yaml", manifests_yaml),
    ("member_inbound", member_inbound),
    ("member_objects", member_objects),
    ("member_outbound", member_outbound),
    ("policy_answers", policy_answers),
    ("policy_components", policy_components),
    ("reflection", reflection),
    ("registry", registry),
    ("signatures", signatures),
    ("store_rows", store_rows),
    ("xds_requests", xds_requests),
    ("xds_responses", xds_responses),
];

/// Takes a sequence of messages apart: each follows its length in two bytes. One that is cut short is the last.
fn messages(mut left: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some((length, rest)) = left.split_first_chunk() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        all.push(message);
        left = rest;
    }
    all
}

/// Holds a refusal to what people need of it: where, what, and what to do.
fn helps(faults: &[Invalid]) {
    assert!(!faults.is_empty(), "refused for no reason");
    for fault in faults {
        let said = [&fault.field, &fault.message, &fault.remedy];
        assert!(said.iter().all(|text| !text.is_empty()), "{fault:?}");
    }
}
