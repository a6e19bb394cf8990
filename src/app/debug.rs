//! `/debug/xds`: what the xDS streams know of themselves, with bodies as readable JSON.

use serde_json::{Value, json};

use crate::admin::XdsDebug;
use crate::ads::Registry;

/// Shows the streams of the registry.
pub struct Streams(pub Registry);

impl XdsDebug for Streams {
    fn nodes(&self) -> Vec<Value> {
        self.0.list().into_iter().filter_map(|row| serde_json::to_value(row).ok()).collect()
    }

    fn node(&self, id: &str) -> Option<Value> {
        let streams = self.0.node(id);
        if streams.is_empty() {
            return None;
        }
        let streams: Vec<Value> = streams.iter().filter_map(|stream| serde_json::to_value(stream).ok()).collect();
        Some(json!({"node": id, "streams": streams}))
    }
}
