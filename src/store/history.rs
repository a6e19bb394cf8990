//! What happened to Envoys, for people who look for the reason later. Bounded: by node, so that one
//! that flaps does not push out the others, and in all, as ids are the nodes' own choice.

use std::collections::BTreeSet;

use super::database::Tx;
use super::statement::Statement;
use super::{Store, StoreError};
use crate::model::Timestamp;
use crate::model::id::NodeId;

/// Events kept of one node.
const EVENTS_OF_NODE: i64 = 200;
/// Events kept in all; about 10 MB.
const EVENTS: i64 = 50_000;
/// Length of a detail, in bytes; Envoy's errors can be long, and their beginning says what is wrong.
const DETAIL: usize = 4_096;
/// Length of a node's id, in bytes, which is the node's own choice.
const NODE: usize = 512;

/// Something that happened to an Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEvent {
    /// The Envoy.
    pub node: NodeId,
    /// When.
    pub at: Timestamp,
    /// What, in CamelCase, for example `Connected`.
    pub event: String,
    /// More, for people; may be empty. Cut after 4 KiB.
    pub detail: String,
}

impl Store {
    /// Adds events, in their order, and removes the oldest above the bounds.
    ///
    /// # Errors
    /// What the database says, see [`StoreError`].
    pub async fn record_node_events(&self, events: &[NodeEvent]) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut tx = self.inner.inventory.begin("recording the history of nodes").await?;
        let outcome = record(&mut tx, events).await;
        tx.finish(outcome).await
    }

    /// The newest events first, at most `limit`; of one node, or of all.
    ///
    /// # Errors
    /// What the database says, see [`StoreError`].
    pub async fn node_events(&self, node: Option<&NodeId>, limit: u32) -> Result<Vec<NodeEvent>, StoreError> {
        let statement = match node {
            Some(node) => Statement::new(
                "SELECT node, at, event, detail FROM node_events WHERE node = $2 ORDER BY id DESC LIMIT $1",
            )
            .bind(limit)
            .bind(head(node.as_str(), NODE)),
            None => {
                Statement::new("SELECT node, at, event, detail FROM node_events ORDER BY id DESC LIMIT $1").bind(limit)
            }
        };
        let inventory = &self.inner.inventory;
        const DOING: &str = "reading the history of nodes";
        let rows = inventory.fetch(DOING, statement).await?;
        rows.iter()
            .map(|row| {
                Ok(NodeEvent {
                    node: NodeId::from(row.get::<String>("node")?),
                    at: row.get("at")?,
                    event: row.get("event")?,
                    detail: row.get("detail")?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|e| inventory.error(DOING, e))
    }
}

async fn record(tx: &mut Tx<'_>, events: &[NodeEvent]) -> Result<(), StoreError> {
    for event in events {
        let insert = Statement::new("INSERT INTO node_events (node, at, event, detail) VALUES ($1, $2, $3, $4)")
            .bind(head(event.node.as_str(), NODE))
            .bind(event.at)
            .bind(&event.event)
            .bind(head(&event.detail, DETAIL));
        tx.execute(insert).await?;
    }
    let nodes: BTreeSet<&str> = events.iter().map(|event| head(event.node.as_str(), NODE)).collect();
    for node in nodes {
        let trim = Statement::new(
            "DELETE FROM node_events WHERE node = $1 AND id <= \
             (SELECT id FROM node_events WHERE node = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)",
        );
        tx.execute(trim.bind(node).bind(EVENTS_OF_NODE)).await?;
    }
    let trim = Statement::new("DELETE FROM node_events WHERE id <= (SELECT max(id) FROM node_events) - $1");
    tx.execute(trim.bind(EVENTS)).await.map(|_| ())
}

/// The text, or as much of its beginning as fits without cutting a character.
fn head(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}
