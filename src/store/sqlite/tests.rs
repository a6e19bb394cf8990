//! What only files do: on real ones.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sqlx::migrate::MigrationType;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tempfile::TempDir;

use super::*;
use crate::store::tests::{file, pod, put, upsert};
use crate::store::{LedgerChange, Store, StoreError};

/// A connection as a person's, beside the store's own.
async fn person(dir: &Path, file: &str) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(dir.join(file)).busy_timeout(Duration::from_secs(1));
    SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap()
}

async fn text(pool: &SqlitePool, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a/b");
    let store = Store::open(&path).await.unwrap();
    // A second opening within the process is as bad as another process (see the integration test).
    match Store::open(&path).await {
        Err(StoreError::Locked { holder, .. }) => assert_eq!(holder, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    let clone = store.clone();
    drop(store);
    assert!(matches!(Store::open(&path).await, Err(StoreError::Locked { .. })));
    clone.close().await;
    let again = Store::open(&path).await.unwrap();
    assert!(clone.load_ledger().await.is_err(), "a closed store stays closed");
    drop(again);
    Store::open(&path).await.unwrap();
    let mode = |name: &str| std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("."), 0o700);
    for file in ["ledger.db", "inventory.db", "policies.db", "causeway.lock"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_directory_that_is_none_is_told() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = Store::open(&file).await.unwrap_err();
    assert!(matches!(error, StoreError::Directory { .. }), "{error}");
    assert!(error.to_string().contains("--data-dir"), "{error}");
}

#[tokio::test]
async fn a_corrupt_ledger_does_not_open() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let rows: Vec<LedgerChange> =
        (0..500).map(|n| put(&format!("240.11.{}.{}", n / 250, n % 250), &format!("slot {n}"))).collect();
    store.commit_ledger(&rows).await.unwrap();
    store.close().await;
    let path = dir.path().join("ledger.db");
    let good = std::fs::read(&path).unwrap();
    assert!(good.len() > 5 * 4096, "{} bytes", good.len());

    let mut middle = good.clone();
    middle[3 * 4096..4 * 4096].fill(0xa5);
    let cases = [
        ("no database at all", b"this is not a database, it is a letter to the operator".repeat(100)),
        ("a damaged page", middle),
        ("the end is missing", good[..3 * 4096].to_vec()),
    ];
    for (what, bytes) in cases {
        std::fs::write(&path, &bytes).unwrap();
        match Store::open(dir.path()).await {
            Err(StoreError::Corrupt { path: told, .. }) => assert_eq!(told, path, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{what}: the evidence was changed");
    }
    // Empty or gone, while the inventory shows that there was one.
    for gone in [false, true] {
        if gone {
            std::fs::remove_file(&path).unwrap();
        } else {
            std::fs::write(&path, b"").unwrap();
        }
        let error = Store::open(dir.path()).await.unwrap_err();
        assert!(matches!(error, StoreError::LedgerMissing { .. }), "{error}");
    }
    // A ledger whose content was in a log that is lost.
    let empty = TempDir::new().unwrap();
    let other = person_created(&empty.path().join("ledger.db")).await;
    other.close().await;
    std::fs::copy(empty.path().join("ledger.db"), &path).unwrap();
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::LedgerMissing { .. }), "{error}");

    std::fs::write(&path, &good).unwrap();
    assert_eq!(Store::open(dir.path()).await.unwrap().load_ledger().await.unwrap().len(), 500);
}

/// A database with nothing of ours in it.
async fn person_created(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
    sqlx::query("CREATE TABLE other (a)").execute(&pool).await.unwrap();
    pool
}

#[tokio::test]
async fn a_corrupt_inventory_is_set_aside() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    store.commit_ledger(&[put("240.11.0.1", "a")]).await.unwrap();
    store.apply_pods(vec![upsert("east", pod("p", "1"))], 1).await.unwrap();
    store.close().await;
    let path = dir.path().join("inventory.db");
    for content in [b"nonsense".repeat(1_000), b"other nonsense".repeat(1_000)] {
        std::fs::write(&path, &content).unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let aside = store.set_aside().expect("it was set aside").to_owned();
        assert_eq!(std::fs::read(aside).unwrap(), content);
        assert_eq!(store.count_pods().await.unwrap(), 0);
        store.apply_pods(vec![upsert("east", pod("p", "1"))], 1).await.unwrap();
        assert_eq!(store.load_ledger().await.unwrap().len(), 1);
        store.close().await;
    }
    assert_eq!(Store::open(dir.path()).await.unwrap().set_aside(), None);
}

#[tokio::test]
async fn migrations_only_go_forward_and_are_recorded() {
    let files = [
        ("ledger.db", &LEDGER_MIGRATIONS),
        ("inventory.db", &INVENTORY_MIGRATIONS),
        ("policies.db", &POLICIES_MIGRATIONS),
    ];
    for (_, migrator) in files {
        let versions: Vec<i64> = migrator.iter().map(|migration| migration.version).collect();
        assert_eq!(versions, (1..=versions.len() as i64).collect::<Vec<_>>());
        assert!(migrator.iter().all(|migration| migration.migration_type == MigrationType::Simple));
    }
    let dir = TempDir::new().unwrap();
    Store::open(dir.path()).await.unwrap().close().await;
    for (file, migrator) in files {
        let by_hand = person(dir.path(), file).await;
        let recorded = "SELECT version || ' ' || success FROM _sqlx_migrations ORDER BY version";
        let all: Vec<String> = migrator.iter().map(|migration| format!("{} 1", migration.version)).collect();
        assert_eq!(text(&by_hand, recorded).await, all, "{file}");
        by_hand.close().await;
        // Once more: nothing is left to do.
        Store::open(dir.path()).await.unwrap().close().await;

        let by_hand = person(dir.path(), file).await;
        assert_eq!(text(&by_hand, recorded).await, all, "{file}");
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (99, 'of the future', 1, x'00', 0)",
        )
        .execute(&by_hand)
        .await
        .unwrap();
        match Store::open(dir.path()).await {
            Err(StoreError::NewerSchema { path, migration }) => {
                assert_eq!((path, migration), (dir.path().join(file), 99));
            }
            other => panic!("{file}: {other:?}"),
        }
        sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 99").execute(&by_hand).await.unwrap();
        // A migration that was edited after it had been applied somewhere.
        sqlx::query("UPDATE _sqlx_migrations SET checksum = x'00'").execute(&by_hand).await.unwrap();
        let error = Store::open(dir.path()).await.unwrap_err();
        assert!(matches!(error, StoreError::Migrate { .. }), "{file}: {error}");
        for migration in migrator.iter() {
            let checksum = migration.checksum.to_vec();
            let query = sqlx::query("UPDATE _sqlx_migrations SET checksum = ?1 WHERE version = ?2");
            query.bind(checksum).bind(migration.version).execute(&by_hand).await.unwrap();
        }
        by_hand.close().await;
    }
    Store::open(dir.path()).await.unwrap();
}

#[tokio::test]
async fn the_files_are_what_they_promise() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    for (database, synchronous) in
        [(&store.inner.ledger, 2_i64), (&store.inner.inventory, 1), (&store.inner.policies, 2)]
    {
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(file(database).pool()).await.unwrap();
        let level: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(file(database).pool()).await.unwrap();
        assert_eq!((mode.as_str(), level), ("wal", synchronous));
    }
}

#[tokio::test]
async fn a_ledger_that_was_taken_away_acknowledges_nothing() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    store.commit_ledger(&[put("240.11.0.1", "a")]).await.unwrap();
    let path = dir.path().join("ledger.db");
    let away = dir.path().join("away");
    std::fs::copy(&path, dir.path().join("backup")).unwrap();
    std::fs::rename(&path, &away).unwrap();
    for replaced in [false, true] {
        if replaced {
            std::fs::rename(dir.path().join("backup"), &path).unwrap();
        }
        let error = store.commit_ledger(&[put("240.11.0.2", "b")]).await.unwrap_err();
        assert!(matches!(error, StoreError::Replaced { .. }), "{error}");
    }
    std::fs::rename(&away, &path).unwrap();
    store.commit_ledger(&[put("240.11.0.2", "b")]).await.unwrap();
    assert_eq!(store.load_ledger().await.unwrap().len(), 2);
}
