//! On real files.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrationType;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tempfile::TempDir;

use super::*;
use crate::model::id::{ClusterName, NamespacedName, NodeId};
use crate::model::object::{Locality, Pod};
use crate::model::world::PodChange;

fn row(address: &str, slot: &str) -> LedgerRow {
    LedgerRow {
        address: address.parse().unwrap(),
        slot: slot.to_owned(),
        pool: "edge".to_owned(),
        access: "shop/checkout".to_owned(),
        service: "shop/checkout".to_owned(),
        pod: None,
        node: None,
        phase: "Held".to_owned(),
        since: None,
        ports: serde_json::json!([{"name": "http", "port": 80, "protocol": "Http"}]),
        ttl_seconds: 5,
        assigned_by: "ControlPlane".to_owned(),
        allocated_at: 1_000,
        changed_at: 2_000,
    }
}

fn put(address: &str, slot: &str) -> LedgerChange {
    LedgerChange::Put(row(address, slot))
}

fn pod(name: &str, uid: &str) -> Pod {
    Pod {
        id: NamespacedName::new("shop", name),
        uid: uid.into(),
        resource_version: "7".into(),
        node: Some("n1".into()),
        addresses: vec!["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()],
        phase: "Running".into(),
        ready: true,
        labels: BTreeMap::from([("app".into(), "checkout".into())]),
        weight: 3,
        created_at: 1_700_000_000,
    }
}

fn upsert(cluster: &str, pod: Pod) -> PodChange {
    PodChange::Upsert { cluster: cluster.into(), pod: Arc::new(pod) }
}

/// A connection as a person's, beside the store's own.
async fn person(dir: &Path, file: &str) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(dir.join(file)).busy_timeout(Duration::from_secs(1));
    SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap()
}

async fn text(pool: &SqlitePool, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn the_ledger_comes_back_as_it_was_committed() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(store.load_ledger().await.unwrap(), []);
    store.commit_ledger(&[]).await.unwrap();
    let mut rich = row("fd00:11::7", "b");
    rich.pod = Some("checkout-0".to_owned());
    rich.node = Some("gw'1\"; DROP TABLE ledger; --\u{1f4a5}".to_owned());
    rich.phase = "Draining".to_owned();
    rich.since = Some(i64::MAX);
    rich.ttl_seconds = u32::MAX;
    rich.ports = serde_json::json!([]);
    let changes = [LedgerChange::Put(rich.clone()), put("240.11.0.10", "c"), put("240.11.0.9", "a")];
    store.commit_ledger(&changes).await.unwrap();
    // Addresses in their order, not their texts'.
    let expected = vec![row("240.11.0.9", "a"), row("240.11.0.10", "c"), rich.clone()];
    assert_eq!(store.load_ledger().await.unwrap(), expected);

    rich.phase = "Removing".to_owned();
    let address: IpAddr = "240.11.0.9".parse().unwrap();
    let changes = [
        LedgerChange::Put(rich.clone()),
        LedgerChange::Delete(address),
        LedgerChange::Delete(address),
        put("240.11.0.11", "a"),
    ];
    store.commit_ledger(&changes).await.unwrap();
    store.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    let expected = vec![row("240.11.0.10", "c"), row("240.11.0.11", "a"), rich];
    assert_eq!(store.load_ledger().await.unwrap(), expected);
    assert_eq!(store.set_aside(), None);
}

#[tokio::test]
async fn a_contradiction_commits_nothing() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    store.commit_ledger(&[put("240.11.0.1", "a"), put("240.11.0.2", "b")]).await.unwrap();
    let before = store.load_ledger().await.unwrap();

    let error = store.commit_ledger(&[put("240.11.0.3", "c"), put("240.11.0.1", "d")]).await.unwrap_err();
    assert_eq!(error.to_string(), "240.11.0.1 is held by a and cannot be given to d");
    let error = store.commit_ledger(&[put("240.11.0.3", "c"), put("240.11.0.4", "b")]).await.unwrap_err();
    assert_eq!(error.to_string(), "b holds 240.11.0.2 and cannot be given 240.11.0.4 as well");
    // An address of one slot for another that has one: it is the address that is taken.
    let error = store.commit_ledger(&[put("240.11.0.1", "b")]).await.unwrap_err();
    assert!(matches!(error, StoreError::AddressTaken { .. } | StoreError::SlotTaken { .. }), "{error}");
    let mut nameless = row("240.11.0.5", "e");
    nameless.phase.clear();
    let error = store.commit_ledger(&[LedgerChange::Put(nameless)]).await.unwrap_err();
    assert!(matches!(error, StoreError::Sql { .. }), "{error}");
    assert_eq!(store.load_ledger().await.unwrap(), before);

    // The connection is usable after all that.
    store.commit_ledger(&[LedgerChange::Delete(before[0].address), put("240.11.0.1", "d")]).await.unwrap();
    assert_eq!(store.load_ledger().await.unwrap()[0].slot, "d");
}

#[tokio::test]
async fn a_row_that_makes_no_sense_makes_the_ledger_unreadable() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    store.commit_ledger(&[put("240.11.0.1", "a"), put("fd00::1", "b")]).await.unwrap();
    let by_hand = person(dir.path(), "ledger.db").await;
    for (edit, undo, column) in [
        (
            "UPDATE ledger SET address = 'nowhere' WHERE slot = 'a'",
            "UPDATE ledger SET address = '240.11.0.1' WHERE slot = 'a'",
            "address",
        ),
        (
            "UPDATE ledger SET address = 'fd00:0::1' WHERE slot = 'b'",
            "UPDATE ledger SET address = 'fd00::1' WHERE slot = 'b'",
            "address",
        ),
        ("UPDATE ledger SET family = 'IPv6'", "UPDATE ledger SET family = iif(slot = 'a', 'IPv4', 'IPv6')", "family"),
        ("UPDATE ledger SET ttl_seconds = 1 << 40", "UPDATE ledger SET ttl_seconds = 5", "ttl_seconds"),
    ] {
        sqlx::query(edit).execute(&by_hand).await.unwrap();
        match store.load_ledger().await {
            Err(StoreError::LedgerRow { column: found, .. }) => assert_eq!(found, column),
            other => panic!("{edit}: {other:?}"),
        }
        sqlx::query(undo).execute(&by_hand).await.unwrap();
        assert_eq!(store.load_ledger().await.unwrap().len(), 2);
    }
    // What the schema itself refuses.
    for edit in ["UPDATE ledger SET ports = '[' ", "UPDATE ledger SET slot = 'a'", "UPDATE ledger SET since = 'soon'"] {
        assert!(sqlx::query(edit).execute(&by_hand).await.is_err(), "{edit}");
    }
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
        ("ledger.db", &database::LEDGER_MIGRATIONS),
        ("inventory.db", &database::INVENTORY_MIGRATIONS),
        ("policies.db", &database::POLICIES_MIGRATIONS),
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
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(database.pool()).await.unwrap();
        let level: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(database.pool()).await.unwrap();
        assert_eq!((mode.as_str(), level), ("wal", synchronous));
    }
}

#[tokio::test]
async fn people_ask_while_causeway_runs() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let mut down = pod("checkout-1", "u1");
    down.ready = false;
    down.node = None;
    down.labels = BTreeMap::new();
    down.created_at = 0;
    let changes = vec![
        upsert("east", pod("checkout-0", "u0")),
        upsert("east", down),
        upsert("west", pod("checkout-0", "w0")),
        upsert("west", pod("gone", "w1")),
        PodChange::Delete { cluster: "west".into(), id: NamespacedName::new("shop", "gone") },
    ];
    store.apply_pods(changes, 1_000).await.unwrap();
    let locality = Locality { region: "eu-1".into(), zone: "a".into() };
    let east = ClusterName::from("east");
    let n1 = (east.clone(), "n1".into());
    store.apply_kube_nodes(&[(n1, Some(locality))].into(), 1_000).await.unwrap();
    store.commit_ledger(&[put("240.11.0.7", "shop/checkout")]).await.unwrap();

    let inventory = person(dir.path(), "inventory.db").await;
    let ask = async |query| text(&inventory, query).await;
    assert_eq!(ask("SELECT cluster || '/' || name FROM pods WHERE NOT ready").await, ["east/checkout-1"]);
    assert_eq!(
        ask("SELECT cluster || '/' || name FROM pods WHERE labels ->> 'app' = 'checkout' ORDER BY 1").await,
        ["east/checkout-0", "west/checkout-0"]
    );
    assert_eq!(ask("SELECT DISTINCT value FROM pods, json_each(addresses)").await, ["10.1.2.3", "fd00::3"]);
    assert_eq!(ask("SELECT uid || ' ' || region || ' ' || zone FROM pods WHERE zone IS NOT NULL").await, ["u0 eu-1 a"]);
    assert_eq!(ask("SELECT name FROM pods WHERE node IS NULL AND created_at IS NULL").await, ["checkout-1"]);
    assert_eq!(
        ask("SELECT datetime(created_at / 1000, 'unixepoch') FROM pods WHERE uid = 'w0'").await,
        ["2023-11-14 22:13:20"]
    );
    let ledger = person(dir.path(), "ledger.db").await;
    assert_eq!(
        text(&ledger, "SELECT address FROM ledger, json_each(ports) WHERE value ->> 'port' = 80").await,
        ["240.11.0.7"]
    );
}

#[tokio::test]
async fn a_persons_open_transaction_is_waited_for_and_named() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let by_hand = person(dir.path(), "ledger.db").await;
    let tx = by_hand.begin_with("BEGIN IMMEDIATE").await.unwrap();
    // Reading goes on meanwhile, and pods are in another file.
    assert_eq!(store.load_ledger().await.unwrap(), []);
    store.apply_pods(vec![upsert("east", pod("p", "1"))], 1).await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.commit_ledger(&[put("240.11.0.1", "a")]).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    tx.rollback().await.unwrap();
    waiting.await.unwrap().unwrap();

    let _tx = by_hand.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = store.commit_ledger(&[put("240.11.0.2", "b")]).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { waited_ms: 5_000, .. }), "{error}");
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

async fn times(store: &Store) -> Vec<(String, i64, i64, i64)> {
    sqlx::query_as("SELECT name, first_seen_at, updated_at, seen_at FROM pods ORDER BY cluster, name")
        .fetch_all(store.inner.inventory.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_pods_times_follow_what_it_is() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let time = |first, updated, seen| ("p".to_owned(), first, updated, seen);
    store.apply_pods(vec![upsert("east", pod("p", "1"))], 10).await.unwrap();
    assert_eq!(times(&store).await, [time(10, 10, 10)]);
    // The same again, as after a restart; only the resource version moved.
    let mut same = pod("p", "1");
    same.resource_version = "8".into();
    store.apply_pods(vec![upsert("east", same)], 20).await.unwrap();
    assert_eq!(times(&store).await, [time(10, 10, 20)]);
    let mut moved = pod("p", "1");
    moved.node = None;
    store.apply_pods(vec![upsert("east", moved)], 30).await.unwrap();
    assert_eq!(times(&store).await, [time(10, 30, 30)]);
    // Another pod of the same name.
    store.apply_pods(vec![upsert("east", pod("p", "2"))], 40).await.unwrap();
    assert_eq!(times(&store).await, [time(40, 40, 40)]);
}

#[tokio::test]
async fn the_order_within_a_batch_counts() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let delete = |cluster: &str, name: &str| PodChange::Delete {
        cluster: cluster.into(),
        id: NamespacedName::new("shop", name),
    };
    let forget = |cluster: &str| PodChange::ForgetCluster { cluster: cluster.into() };
    let names = async || times(&store).await.into_iter().map(|row| row.0).collect::<Vec<_>>();
    store.apply_pods(Vec::new(), 1).await.unwrap();
    let batch = vec![
        upsert("east", pod("a", "1")),
        upsert("east", pod("b", "1")),
        upsert("west", pod("c", "1")),
        delete("x", "y"),
    ];
    store.apply_pods(batch, 1).await.unwrap();
    assert_eq!(names().await, ["a", "b", "c"]);
    let batch = vec![upsert("east", pod("d", "1")), forget("east"), upsert("east", pod("b", "2")), delete("west", "c")];
    store.apply_pods(batch, 2).await.unwrap();
    assert_eq!(names().await, ["b"]);
    let batch =
        vec![delete("east", "b"), upsert("east", pod("b", "3")), upsert("east", pod("e", "1")), delete("east", "e")];
    store.apply_pods(batch, 3).await.unwrap();
    assert_eq!(names().await, ["b"]);

    // What went away while nobody looked.
    store.apply_pods(vec![upsert("east", pod("new", "1")), upsert("west", pod("old", "1"))], 9).await.unwrap();
    assert_eq!(store.prune_pods(&"east".into(), 9).await.unwrap(), 1);
    assert_eq!(names().await, ["new", "old"]);
    store.apply_pods(vec![forget("east"), forget("west"), forget("never")], 10).await.unwrap();
    assert_eq!(store.count_pods().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_pods_and_a_ledger_that_does_not_wait() {
    const PODS: usize = 100_000;
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let changes = || (0..PODS).map(|n| upsert("east", pod(&format!("pod-{n:06}"), "1"))).collect::<Vec<_>>();
    let batch = changes();
    let begun = std::time::Instant::now();
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.apply_pods(batch, 1).await }
    });
    let mut slowest = Duration::ZERO;
    let mut commits = 0_u32;
    while !writing.is_finished() {
        let begun = std::time::Instant::now();
        let [b, c] = [commits / 250, commits % 250];
        store.commit_ledger(&[put(&format!("240.0.{b}.{c}"), &commits.to_string())]).await.unwrap();
        slowest = slowest.max(begun.elapsed());
        commits += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    writing.await.unwrap().unwrap();
    let inserted = begun.elapsed();
    assert_eq!(store.count_pods().await.unwrap(), PODS as u64);
    let begun = std::time::Instant::now();
    store.apply_pods(changes(), 2).await.unwrap();
    let again = begun.elapsed();
    store.close().await;
    let begun = std::time::Instant::now();
    let store = Store::open(dir.path()).await.unwrap();
    let opened = begun.elapsed();
    assert_eq!(store.count_pods().await.unwrap(), PODS as u64);
    eprintln!("inserted in {inserted:?}, again in {again:?}, opened in {opened:?}");
    eprintln!("{commits} ledger commits meanwhile, the slowest in {slowest:?}");
    // Without optimisation only the order of magnitude is held.
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 5 });
    assert!(inserted < limit && again < limit, "{inserted:?}, {again:?}");
    assert!(commits > 1);
}

fn event(node: &str, at: i64, detail: &str) -> NodeEvent {
    NodeEvent { node: node.into(), at, event: "Connected".to_owned(), detail: detail.to_owned() }
}

#[tokio::test]
async fn the_history_of_nodes_is_bounded() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    store.record_node_events(&[]).await.unwrap();
    store.record_node_events(&[event("quiet", 1, "first")]).await.unwrap();
    let noisy: Vec<NodeEvent> = (0..1_000).map(|n| event("noisy", n, "")).collect();
    for part in noisy.chunks(300) {
        store.record_node_events(part).await.unwrap();
    }
    let quiet = store.node_events(Some(&NodeId::from("quiet")), 10).await.unwrap();
    assert_eq!(quiet, [event("quiet", 1, "first")]);
    let kept = store.node_events(Some(&NodeId::from("noisy")), u32::MAX).await.unwrap();
    assert_eq!((kept.len(), kept[0].at, kept[199].at), (200, 999, 800));
    assert_eq!(store.node_events(None, 3).await.unwrap().len(), 3);

    // Ids are the nodes' own: many of them, and long ones, cost no more than the bound.
    let long = "\u{e4}".repeat(10_000);
    store.record_node_events(&[event(&long, 5, &long)]).await.unwrap();
    let cut = store.node_events(Some(&NodeId::from(long.as_str())), 1).await.unwrap();
    assert_eq!((cut[0].node.as_str().len(), cut[0].detail.len()), (512, 4_096));
    sqlx::query("UPDATE sqlite_sequence SET seq = 60000").execute(store.inner.inventory.pool()).await.unwrap();
    store.record_node_events(&[event("late", 6, "")]).await.unwrap();
    let all = store.node_events(None, 100).await.unwrap();
    assert_eq!(all, [event("late", 6, "")]);
}

#[tokio::test]
async fn last_good_manifests_are_kept_until_they_are_deleted() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (east, west) = (ClusterName::from("east"), ClusterName::from("west"));
    let put = |cluster: &ClusterName, path: &str, content: &str| ManifestChange::Put {
        cluster: cluster.clone(),
        path: path.to_owned(),
        content: content.to_owned(),
    };
    let delete = |cluster: &ClusterName| ManifestChange::Delete { cluster: cluster.clone(), path: "a.yaml".to_owned() };
    let first = [put(&east, "b.yaml", "kind: Service\n"), put(&east, "a.yaml", ""), put(&west, "a.yaml", "other")];
    store.apply_manifests(&first, 1).await.unwrap();
    let second = [put(&east, "b.yaml", "kind: Service\n"), put(&west, "a.yaml", "newer \u{1f4a5}\r\n")];
    store.apply_manifests(&second, 2).await.unwrap();
    assert_eq!(store.manifest_clusters().await.unwrap(), [east.clone(), west.clone()]);
    let files = store.get_manifests(&east).await.unwrap();
    let paths: Vec<(&str, &str, i64)> =
        files.iter().map(|f| (f.path.as_str(), f.content.as_str(), f.updated_at)).collect();
    assert_eq!(paths, [("a.yaml", "", 1), ("b.yaml", "kind: Service\n", 1)]);
    assert_eq!(files[0].sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let [file] = &store.get_manifests(&west).await.unwrap()[..] else { panic!() };
    assert_eq!((file.content.as_str(), file.updated_at), ("newer \u{1f4a5}\r\n", 2));

    // Content that nobody wrote is not served.
    sqlx::query("UPDATE manifest_files SET content = 'forged' WHERE path = 'b.yaml'")
        .execute(store.inner.inventory.pool())
        .await
        .unwrap();
    assert_eq!(store.get_manifests(&east).await.unwrap().len(), 1);

    store.apply_manifests(&[delete(&east), delete(&east)], 3).await.unwrap();
    assert_eq!(store.get_manifests(&east).await.unwrap(), []);
    store.apply_manifests(&[delete(&west)], 3).await.unwrap();
    assert_eq!(store.get_manifests(&west).await.unwrap(), []);
}
