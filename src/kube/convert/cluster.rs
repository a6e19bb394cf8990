//! ClusterInfo.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Conversion, Converted, NameRule, exactly_one, name_of, no_namespace};
use crate::kube::field::Faults;
use crate::kube::kinds::{ClusterInfo, SourceSpec};
use crate::kube::names;
use crate::model::id::ClusterName;
use crate::model::object::{ClusterSpec, Locality, Object};

/// A ClusterInfo. Sources other than folders of manifests are checked and left out for now.
///
/// # Errors
/// Lists every field that is not valid.
pub fn cluster_info(info: &ClusterInfo) -> Converted {
    let mut faults = Faults::default();
    // The name is a part of names such as `east.checkout.shop.svc.clusterset.local`.
    let name = name_of(&info.metadata, NameRule::Label, &mut faults);
    no_namespace(&info.metadata, "ClusterInfo", &mut faults);
    let spec = info.spec.clone().unwrap_or_default();
    let network = spec.network.unwrap_or_else(|| "default".to_owned());
    if network.trim().is_empty() || network.chars().any(char::is_control) {
        faults.add("spec.network", "the network's name is empty", "name it, or leave the field out for `default`");
    }
    let mut left_out = Vec::new();
    if let Some(source) = &spec.source {
        check_source(source, &mut left_out, &mut faults);
    }
    let mut excluded_namespaces: BTreeSet<Arc<str>> = BTreeSet::new();
    let exclude = spec.namespaces.and_then(|namespaces| namespaces.exclude).unwrap_or_default();
    for (i, namespace) in exclude.iter().enumerate() {
        if let Some(fault) = names::label_fault(namespace) {
            let remedy = "write a namespace's whole name; patterns are not understood";
            faults.add(format!("spec.namespaces.exclude[{i}]"), format!("`{namespace}` {fault}"), remedy);
        }
        excluded_namespaces.insert(Arc::from(namespace.as_str()));
    }
    let locality = spec.locality.unwrap_or_default();
    let object = Object::Cluster(ClusterSpec {
        name: ClusterName::from(name),
        role: spec.role.unwrap_or_default(),
        network: Arc::from(network),
        locality: Locality {
            region: Arc::from(locality.region.unwrap_or_default()),
            zone: Arc::from(locality.zone.unwrap_or_default()),
        },
        excluded_namespaces,
    });
    faults.or(Conversion { left_out, ..Conversion::of(object) })
}

fn check_source(source: &SourceSpec, left_out: &mut Vec<&'static str>, faults: &mut Faults) {
    let choices = [
        ("kubeconfig", source.kubeconfig.is_some()),
        ("member", source.member.is_some()),
        ("manifests", source.manifests.is_some()),
    ];
    if !exactly_one("spec.source", &choices, faults) {
        return;
    }
    if let Some(kubeconfig) = &source.kubeconfig {
        let choices = [
            ("configMapKeyRef", kubeconfig.config_map_key_ref.is_some()),
            ("secretKeyRef", kubeconfig.secret_key_ref.is_some()),
        ];
        exactly_one("spec.source.kubeconfig", &choices, faults);
    }
    if source.manifests.is_none() {
        left_out.push("sources of ClusterInfos other than `manifests`: the cluster's folder is read instead");
    }
}
