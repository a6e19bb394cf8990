//! One client's resources with what is known of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xds_api::pb::envoy::admin::v3::{ClientResourceStatus, UpdateFailureState};
use xds_api::pb::envoy::config::core::v3::node::UserAgentVersionType;
use xds_api::pb::envoy::config::core::v3::{Locality, Node};
use xds_api::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use xds_api::pb::envoy::service::status::v3::{ClientConfig, ConfigStatus};
use xds_api::pb::google::protobuf::{Any, Timestamp};

use super::Contents;
use crate::ads::stream::{RefusedDebug, StreamDebug, TypeDebug};
use crate::ads::{Millis, NodeInfo};
use crate::snapshot::{Resource, ResourceType, XdsSnapshot};

/// A node's streams, the oldest first, as one client. Where two speak of one resource, what the newer says counts.
/// `None` where all have ended meanwhile.
pub(super) fn of_client(
    streams: impl Iterator<Item = (StreamDebug, Option<Arc<XdsSnapshot>>)>,
    contents: Contents,
) -> Option<ClientConfig> {
    let mut node = None;
    let mut configs: BTreeMap<(ResourceType, Arc<str>), GenericXdsConfig> = BTreeMap::new();
    for (stream, snapshot) in streams {
        for (ty, told) in &stream.types {
            for name in names(*ty, told, snapshot.as_deref()) {
                let current = snapshot.as_ref().and_then(|snapshot| snapshot.get(*ty, &name));
                let config = of_resource(*ty, &name, told, current.map(|resource| &**resource), contents);
                configs.insert((*ty, name), config);
            }
        }
        node = Some(stream.node);
    }
    let node = node.map(|node| of_node(&node));
    node.map(|node| ClientConfig {
        node: Some(node),
        generic_xds_configs: configs.into_values().collect(),
        ..ClientConfig::default()
    })
}

/// What the client has, may have, or wants; what it has refused is among that.
fn names(ty: ResourceType, told: &TypeDebug, snapshot: Option<&XdsSnapshot>) -> BTreeSet<Arc<str>> {
    let all = snapshot.filter(|_| told.wildcard).map(|snapshot| snapshot.resources(ty).map(|r| r.name()));
    let known = told.resources.keys().chain(&told.names);
    known.chain(all.into_iter().flatten()).cloned().collect()
}

fn of_resource(
    ty: ResourceType,
    name: &Arc<str>,
    told: &TypeDebug,
    current: Option<&Resource>,
    contents: Contents,
) -> GenericXdsConfig {
    let known = told.resources.get(name);
    let accepted = known.and_then(|known| known.accepted.as_ref());
    let offered = known.and_then(|known| known.offered.as_ref());
    let refused = current.and_then(|current| last_refused(told, name, current.version()));
    let has = |version: &Arc<str>| accepted == Some(version);
    let (client, config) = match current {
        // Asked for by its name, and answered that there is none.
        None if accepted.is_none() => (ClientResourceStatus::DoesNotExist, ConfigStatus::NotSent),
        // Its removal is on its way.
        None => (ClientResourceStatus::Acked, ConfigStatus::Stale),
        Some(_) if refused.is_some() => (ClientResourceStatus::Nacked, ConfigStatus::Error),
        Some(current) if has(current.version()) => (ClientResourceStatus::Acked, ConfigStatus::Synced),
        Some(current) => {
            let is_sent = offered == Some(current.version());
            let config = if is_sent { ConfigStatus::Stale } else { ConfigStatus::NotSent };
            let client = match accepted {
                Some(_) => ClientResourceStatus::Acked,
                None => ClientResourceStatus::Requested,
            };
            (client, config)
        }
    };
    let version = current.map(Resource::version).or(accepted);
    let body = current.filter(|_| contents == Contents::Shown).map(|current| any(ty, current));
    let error_state = refused.map(|refused| UpdateFailureState {
        failed_configuration: body.clone(),
        last_update_attempt: Some(timestamp(refused.at)),
        details: refused.detail.clone(),
        version_info: refused.version.to_string(),
    });
    GenericXdsConfig {
        type_url: ty.type_url().to_owned(),
        name: name.to_string(),
        version_info: version.map(|version| version.to_string()).unwrap_or_default(),
        xds_config: body,
        last_updated: known.and_then(|known| known.sent_at).map(timestamp),
        config_status: config.into(),
        client_status: client.into(),
        error_state,
        is_static_resource: false,
    }
}

fn last_refused<'a>(told: &'a TypeDebug, name: &str, version: &str) -> Option<&'a RefusedDebug> {
    told.refused.iter().rev().find(|refused| *refused.name == *name && *refused.version == *version)
}

fn any(ty: ResourceType, resource: &Resource) -> Any {
    Any { type_url: ty.type_url().to_owned(), value: resource.body().to_vec() }
}

fn timestamp(at: Millis) -> Timestamp {
    let nanos = i32::try_from(at.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: at.div_euclid(1000), nanos }
}

/// What the node said of itself, without its metadata, of which `/debug/xds` tells.
fn of_node(info: &NodeInfo) -> Node {
    let (agent, version) = info.user_agent_version.split_once(' ').unwrap_or((&info.user_agent_version, ""));
    let locality = Locality { region: info.region.clone(), zone: info.zone.clone(), ..Locality::default() };
    Node {
        id: info.id.clone(),
        cluster: info.cluster.clone(),
        locality: (locality != Locality::default()).then_some(locality),
        user_agent_name: agent.to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(version.to_owned()))
            .filter(|_| !version.is_empty()),
        ..Node::default()
    }
}

#[cfg(test)]
mod tests;
