//! What the store gives back, which an older version may have written, or somebody by hand.

use causeway::model::object::Object;
use causeway::reconcile::{from_row, to_row};
use causeway::store::LedgerRow;

/// The first byte says what the rest is: an object, or a row of the ledger, whose columns are lines.
pub fn store_rows(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if first % 2 == 0 {
        let Ok(object) = serde_json::from_str::<Object>(text) else { return };
        let again = serde_json::to_string(&object).map(|text| serde_json::from_str::<Object>(&text).ok());
        return assert_eq!(again.ok().flatten(), Some(object));
    }
    let Some(row) = row(text) else { return };
    match from_row(&row) {
        Ok(vip) => {
            let again = to_row(&vip).unwrap_or_else(|error| panic!("{vip:?} cannot be kept: {error}"));
            assert_eq!(from_row(&again).ok(), Some(vip));
        }
        Err(refused) => {
            let column = ["ports: ", "slot: ", "phase: "].iter().any(|column| refused.to_string().contains(column));
            assert!(column, "names no column: {refused}");
        }
    }
}

fn row(text: &str) -> Option<LedgerRow> {
    let mut lines = text.splitn(7, '\n');
    let address = lines.next()?.parse().ok()?;
    let mut next = || lines.next().unwrap_or_default();
    let (slot, pool, phase) = (next().to_owned(), next().to_owned(), next().to_owned());
    let (since, ttl, ports) = (next().parse().ok(), next().parse().unwrap_or(5), next());
    Some(LedgerRow {
        address,
        slot,
        pool,
        access: "shop/web".to_owned(),
        service: "shop/web".to_owned(),
        pod: None,
        node: None,
        phase,
        since,
        ports: serde_json::from_str(ports).ok()?,
        ttl_seconds: ttl,
        assigned_by: "ControlPlane".to_owned(),
        allocated_at: 1,
        changed_at: 2,
    })
}
