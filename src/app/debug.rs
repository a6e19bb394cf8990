//! `/debug/xds`: what the xDS streams know of themselves, with bodies as readable JSON.

use std::time::Instant;

use serde_json::{Value, json};

use crate::admin::XdsDebug;
use crate::ads::Registry;
use crate::ads::loads::Loads;
use crate::ads::stream::StreamDebug;
use crate::snapshot::ResourceType;
use crate::xds;

/// Shows the streams of the registry, and what their nodes report of the requests that they send.
pub struct Streams {
    /// The streams.
    pub registry: Registry,
    /// The reports, where they are asked for.
    pub loads: Option<Loads>,
}

impl XdsDebug for Streams {
    fn nodes(&self) -> Vec<Value> {
        self.registry.list().into_iter().filter_map(|row| serde_json::to_value(row).ok()).collect()
    }

    fn node(&self, id: &str, resource: &str) -> Option<Value> {
        let streams = self.registry.node(id);
        if streams.is_empty() {
            return None;
        }
        let streams: Vec<Value> = streams.iter().map(|stream| self.with_contents(stream, resource)).collect();
        let loads = self.loads.as_ref().map(|loads| loads.of_node(id, Instant::now()));
        Some(json!({"node": id, "streams": streams, "loads": loads.unwrap_or_default()}))
    }
}

/// Contents that a page shows. As JSON a resource takes many times its size in memory, and a large fleet has thousands.
const CONTENTS: usize = 200;

impl Streams {
    /// The stream's state, and beside each resource what is served of it now: its version, and the content of those whose
    /// names contain the text.
    fn with_contents(&self, stream: &StreamDebug, text: &str) -> Value {
        let Ok(mut value) = serde_json::to_value(stream) else { return Value::Null };
        let Some(snapshot) = self.registry.snapshot(stream.stream) else { return value };
        let (mut shown, mut left_out) = (0, 0);
        for ty in ResourceType::ALL {
            let Some(resources) = value["types"][format!("{ty:?}")]["resources"].as_object_mut() else { continue };
            for (name, row) in resources {
                let Some(resource) = snapshot.get(ty, name) else { continue };
                row["current"] = json!(resource.version());
                if !name.contains(text) {
                    continue;
                }
                if shown == CONTENTS {
                    left_out += 1;
                    continue;
                }
                shown += 1;
                row["content"] = xds::json(ty.type_url(), resource.body())
                    .unwrap_or_else(|error| json!({"error": error.to_string()}));
            }
        }
        if left_out > 0 {
            value["contentsLeftOut"] = json!({"count": left_out, "remedy": "choose by ?resource=PART-OF-A-NAME"});
        }
        value
    }
}
