//! What a node says of itself.

use serde::Serialize;
use serde_json::{Map, Number, Value};
use xds_api::pb::envoy::config::core::v3::{Node, node::UserAgentVersionType};
use xds_api::pb::google::protobuf;

use super::Violation;

/// The deepest nesting of metadata that is kept; deeper values become null. The protobuf decoder
/// stops at a hundred levels, which is more than anything here should walk.
const MAX_METADATA_DEPTH: usize = 16;

/// The identity that came with a stream's first request. It is a claim, not a proof: who may present
/// it is decided by those who see the connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeInfo {
    /// `node.id`, never empty.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `node.metadata`.
    pub metadata: Map<String, Value>,
    /// `node.locality.region`.
    pub region: String,
    /// `node.locality.zone`.
    pub zone: String,
    /// The client and its version, as `envoy 1.40.0`.
    pub user_agent_version: String,
}

impl NodeInfo {
    /// Reads the identity of a first request.
    pub fn read(node: Option<&Node>) -> Result<Self, Violation> {
        let node = node.filter(|node| !node.id.is_empty()).ok_or(Violation::NoNode)?;
        let locality = node.locality.clone().unwrap_or_default();
        Ok(Self {
            id: node.id.clone(),
            cluster: node.cluster.clone(),
            metadata: node.metadata.as_ref().map(|m| object(m, 0)).unwrap_or_default(),
            region: locality.region,
            zone: locality.zone,
            user_agent_version: user_agent(node),
        })
    }

    /// Holds a later request to the identity (rule 13). Clients may repeat the node with each request;
    /// only another id or cluster is a contradiction, and what else it says is not looked at.
    pub fn hold(&self, node: Option<&Node>) -> Result<(), Violation> {
        let Some(node) = node else { return Ok(()) };
        let same_id = node.id.is_empty() || node.id == self.id;
        let same_cluster = node.cluster.is_empty() || node.cluster == self.cluster;
        if same_id && same_cluster {
            return Ok(());
        }
        let text = |id: &str, cluster: &str| format!("{id} (cluster {cluster})");
        Err(Violation::NodeChanged { bound: text(&self.id, &self.cluster), claimed: text(&node.id, &node.cluster) })
    }
}

fn user_agent(node: &Node) -> String {
    let version = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => version.clone(),
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
            .version
            .as_ref()
            .map(|v| format!("{}.{}.{}", v.major_number, v.minor_number, v.patch))
            .unwrap_or_default(),
        None => String::new(),
    };
    format!("{} {version}", node.user_agent_name).trim().to_owned()
}

fn object(fields: &protobuf::Struct, depth: usize) -> Map<String, Value> {
    fields.fields.iter().map(|(key, v)| (key.clone(), value(v, depth + 1))).collect()
}

fn value(from: &protobuf::Value, depth: usize) -> Value {
    use protobuf::value::Kind;
    if depth > MAX_METADATA_DEPTH {
        return Value::Null;
    }
    match &from.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::BoolValue(flag)) => Value::Bool(*flag),
        Some(Kind::StructValue(fields)) => Value::Object(object(fields, depth)),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(|v| value(v, depth + 1)).collect()),
    }
}
