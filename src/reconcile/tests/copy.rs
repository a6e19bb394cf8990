use tokio_util::sync::CancellationToken;

use crate::reconcile::LedgerCopy;
use crate::store::{LedgerChange, LedgerRow, Store};

fn row(address: &str, slot: &str) -> LedgerRow {
    LedgerRow {
        address: address.parse().unwrap(),
        slot: slot.to_owned(),
        pool: "edge".to_owned(),
        access: "shop/web".to_owned(),
        service: "shop/web".to_owned(),
        pod: None,
        node: None,
        phase: "Held".to_owned(),
        since: None,
        ports: serde_json::json!([]),
        ttl_seconds: 5,
        assigned_by: "ControlPlane".to_owned(),
        allocated_at: 1,
        changed_at: 1,
    }
}

fn put(address: &str, slot: &str) -> LedgerChange {
    LedgerChange::Put(row(address, slot))
}

fn delete(address: &str) -> LedgerChange {
    LedgerChange::Delete(address.parse().unwrap())
}

/// Writes what waits, once.
async fn write(copy: &LedgerCopy) {
    let ended = CancellationToken::new();
    ended.cancel();
    copy.clone().write(ended).await;
}

async fn rows(store: &Store) -> Vec<String> {
    store.load_ledger().await.unwrap().iter().map(|row| format!("{} {}", row.address, row.slot)).collect()
}

#[tokio::test]
async fn the_copy_follows_changes_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let copy = LedgerCopy::new(store.clone());
    copy.change(vec![put("240.0.0.1", "a"), put("240.0.0.2", "b")]);
    write(&copy).await;
    assert_eq!(rows(&store).await, ["240.0.0.1 a", "240.0.0.2 b"]);
    // A slot that moves, an address that another slot gets, and what comes and goes before it was written.
    copy.change(vec![delete("240.0.0.1"), put("240.0.0.3", "a"), put("240.0.0.4", "d"), delete("240.0.0.4")]);
    copy.change(vec![delete("240.0.0.2"), put("240.0.0.1", "b")]);
    write(&copy).await;
    assert_eq!(rows(&store).await, ["240.0.0.1 b", "240.0.0.3 a"]);
    copy.change(vec![put("240.0.0.9", "z")]);
    copy.replace(vec![row("240.0.0.5", "e")]);
    copy.change(vec![put("240.0.0.6", "f")]);
    write(&copy).await;
    assert_eq!(rows(&store).await, ["240.0.0.5 e", "240.0.0.6 f"]);
}

#[tokio::test]
async fn what_could_not_be_copied_is_copied_later_below_what_came_since() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let copy = LedgerCopy::new(store.clone());
    copy.change(vec![put("240.0.0.1", "a"), put("240.0.0.2", "b")]);
    let database = dir.path().join("ledger.db");
    // A file that is not the one that is open is not written.
    std::fs::rename(&database, dir.path().join("away")).unwrap();
    write(&copy).await;
    assert_eq!(rows(&store).await, Vec::<String>::new());
    copy.change(vec![delete("240.0.0.2"), put("240.0.0.3", "b")]);
    write(&copy).await;
    std::fs::rename(dir.path().join("away"), &database).unwrap();
    write(&copy).await;
    assert_eq!(rows(&store).await, ["240.0.0.1 a", "240.0.0.3 b"]);
}
