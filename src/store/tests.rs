//! On real files, and on a real server.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tempfile::TempDir;

use super::*;
use crate::model::id::{ClusterName, NamespacedName, NodeId};
use crate::model::object::{Locality, Pod};
use crate::model::world::PodChange;
use support::Postgres;

#[path = "../../tests/it/support/postgres.rs"]
#[allow(dead_code, reason = "the integration tests use more of it")]
pub(super) mod support;

/// Where a test's store is.
pub(super) struct Place {
    pub dir: TempDir,
    pub url: StoreUrl,
    /// The database, where it is one.
    pub database: Option<String>,
}

impl Place {
    pub fn files() -> Self {
        let dir = TempDir::new().unwrap();
        let url = StoreUrl::Sqlite(dir.path().to_owned());
        Self { dir, url, database: None }
    }

    pub fn postgres() -> Self {
        Self::database_of(Postgres::shared())
    }

    pub fn database_of(server: &Postgres) -> Self {
        let database = server.database();
        let url = StoreUrl::parse(&server.url(&database)).unwrap();
        Self { dir: TempDir::new().unwrap(), url, database: Some(database) }
    }

    pub async fn try_open(&self) -> Result<Store, StoreError> {
        Store::open_at(&self.url, self.dir.path()).await
    }

    pub async fn open(&self) -> Store {
        self.try_open().await.unwrap()
    }

    /// As [`Place::person`], of a database whose URL leads over a line of the test's.
    pub async fn person_direct(&self) -> Person {
        let url = StoreUrl::parse(&Postgres::shared().url(self.database.as_ref().unwrap())).unwrap();
        let place = Self { dir: TempDir::new().unwrap(), url, database: None };
        place.person("").await
    }

    /// A connection as a person's, beside the store's own.
    pub async fn person(&self, file: &str) -> Person {
        let StoreUrl::Postgres(url) = &self.url else {
            let options =
                SqliteConnectOptions::new().filename(self.dir.path().join(file)).busy_timeout(Duration::from_secs(1));
            return Person::Sqlite(SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap());
        };
        let options: sqlx::postgres::PgConnectOptions = url.secret().parse().unwrap();
        let options = options.options([("search_path", "causeway")]);
        Person::Postgres(PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap())
    }
}

/// Somebody with a program of their own.
pub(super) enum Person {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Person {
    pub async fn execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Person::Sqlite(pool) => sql.execute(pool).await.map(|done| done.rows_affected()),
            Person::Postgres(pool) => sql.execute(pool).await.map(|done| done.rows_affected()),
        }
    }

    pub async fn text(&self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Person::Sqlite(pool) => sqlx::query_scalar(sql).fetch_all(pool).await.unwrap(),
            Person::Postgres(pool) => sqlx::query_scalar(sql).fetch_all(pool).await.unwrap(),
        }
    }
}

/// The file of a part.
pub(super) fn file(database: &Database) -> &File {
    match database {
        Database::Sqlite(file) => file,
        Database::Postgres { .. } => panic!("it is a database"),
    }
}

/// Each test twice: on files, and on a server.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_files {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&$crate::store::tests::Place::files()).await;
            })*
        }

        mod on_a_server {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&$crate::store::tests::Place::postgres()).await;
            })*
        }
    };
}
pub(super) use on_both;

pub(super) fn row(address: &str, slot: &str) -> LedgerRow {
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

pub(super) fn put(address: &str, slot: &str) -> LedgerChange {
    LedgerChange::Put(row(address, slot))
}

pub(super) fn pod(name: &str, uid: &str) -> Pod {
    Pod {
        id: NamespacedName::new("shop", name),
        uid: uid.into(),
        resource_version: "7".into(),
        node: Some("n1".into()),
        addresses: ["10.1.2.3", "fd00::3"].map(|address| address.parse().unwrap()).into_iter().collect(),
        phase: "Running".into(),
        ready: true,
        labels: Arc::new(BTreeMap::from([("app".into(), "checkout".into())])),
        weight: 3,
        created_at: 1_700_000_000,
    }
}

pub(super) fn upsert(cluster: &str, pod: Pod) -> PodChange {
    PodChange::Upsert { cluster: cluster.into(), pod: Arc::new(pod) }
}

on_both! {
    the_ledger_comes_back_as_it_was_committed,
    a_contradiction_commits_nothing,
    a_row_that_makes_no_sense_makes_the_ledger_unreadable,
    people_ask_while_causeway_runs,
    a_persons_open_transaction_is_waited_for_and_named,
    a_pods_times_follow_what_it_is,
    the_order_within_a_batch_counts,
    a_hundred_thousand_pods_and_a_ledger_that_does_not_wait,
    the_history_of_nodes_is_bounded,
    last_good_manifests_are_kept_until_they_are_deleted,
}

async fn the_ledger_comes_back_as_it_was_committed(place: &Place) {
    let store = place.open().await;
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
    let store = place.open().await;
    let expected = vec![row("240.11.0.10", "c"), row("240.11.0.11", "a"), rich];
    assert_eq!(store.load_ledger().await.unwrap(), expected);
    assert_eq!(store.set_aside(), None);
}

async fn a_contradiction_commits_nothing(place: &Place) {
    let store = place.open().await;
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

async fn a_row_that_makes_no_sense_makes_the_ledger_unreadable(place: &Place) {
    let store = place.open().await;
    store.commit_ledger(&[put("240.11.0.1", "a"), put("fd00::1", "b")]).await.unwrap();
    let by_hand = place.person("ledger.db").await;
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
        (
            "UPDATE ledger SET family = 'IPv6'",
            "UPDATE ledger SET family = CASE WHEN slot = 'a' THEN 'IPv4' ELSE 'IPv6' END",
            "family",
        ),
        ("UPDATE ledger SET ttl_seconds = 1099511627776", "UPDATE ledger SET ttl_seconds = 5", "ttl_seconds"),
    ] {
        by_hand.execute(edit).await.unwrap();
        match store.load_ledger().await {
            Err(StoreError::LedgerRow { column: found, .. }) => assert_eq!(found, column),
            other => panic!("{edit}: {other:?}"),
        }
        by_hand.execute(undo).await.unwrap();
        assert_eq!(store.load_ledger().await.unwrap().len(), 2);
    }
    // What the schema itself refuses.
    for edit in ["UPDATE ledger SET ports = '[' ", "UPDATE ledger SET slot = 'a'", "UPDATE ledger SET since = 'soon'"] {
        assert!(by_hand.execute(edit).await.is_err(), "{edit}");
    }
}

async fn people_ask_while_causeway_runs(place: &Place) {
    let store = place.open().await;
    let mut down = pod("checkout-1", "u1");
    down.ready = false;
    down.node = None;
    down.labels = Arc::default();
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

    let inventory = place.person("inventory.db").await;
    let ask = async |query: &str| inventory.text(query).await;
    assert_eq!(ask("SELECT cluster || '/' || name FROM pods WHERE NOT ready").await, ["east/checkout-1"]);
    assert_eq!(
        ask("SELECT cluster || '/' || name FROM pods WHERE labels ->> 'app' = 'checkout' ORDER BY 1").await,
        ["east/checkout-0", "west/checkout-0"]
    );
    assert_eq!(ask("SELECT uid || ' ' || region || ' ' || zone FROM pods WHERE zone IS NOT NULL").await, ["u0 eu-1 a"]);
    assert_eq!(ask("SELECT name FROM pods WHERE node IS NULL AND created_at IS NULL").await, ["checkout-1"]);
    let (elements, time, port) = match place.url {
        StoreUrl::Sqlite(_) => (
            "SELECT DISTINCT value FROM pods, json_each(addresses) ORDER BY 1",
            "SELECT datetime(created_at / 1000, 'unixepoch') FROM pods WHERE uid = 'w0'",
            "SELECT address FROM ledger, json_each(ports) WHERE value ->> 'port' = 80",
        ),
        StoreUrl::Postgres(_) => (
            "SELECT DISTINCT json_array_elements_text(addresses) FROM pods ORDER BY 1",
            "SELECT to_char(to_timestamp(created_at / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM pods \
             WHERE uid = 'w0'",
            "SELECT address FROM ledger, json_array_elements(ports::json) AS port WHERE port ->> 'port' = '80'",
        ),
    };
    assert_eq!(ask(elements).await, ["10.1.2.3", "fd00::3"]);
    assert_eq!(ask(time).await, ["2023-11-14 22:13:20"]);
    assert_eq!(place.person("ledger.db").await.text(port).await, ["240.11.0.7"]);
}

async fn a_persons_open_transaction_is_waited_for_and_named(place: &Place) {
    let store = place.open().await;
    let by_hand = place.person("ledger.db").await;
    let (lock, waited) = match place.url {
        StoreUrl::Sqlite(_) => ("BEGIN IMMEDIATE", 5_000),
        StoreUrl::Postgres(_) => ("BEGIN; LOCK TABLE ledger IN EXCLUSIVE MODE", 3_000),
    };
    by_hand.execute(lock).await.unwrap();
    // Reading goes on meanwhile, and pods are in another file.
    assert_eq!(store.load_ledger().await.unwrap(), []);
    store.apply_pods(vec![upsert("east", pod("p", "1"))], 1).await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.commit_ledger(&[put("240.11.0.1", "a")]).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    by_hand.execute("ROLLBACK").await.unwrap();
    waiting.await.unwrap().unwrap();

    by_hand.execute(lock).await.unwrap();
    let error = store.commit_ledger(&[put("240.11.0.2", "b")]).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { waited_ms, .. } if waited_ms == waited), "{error}");
    by_hand.execute("ROLLBACK").await.unwrap();
    store.commit_ledger(&[put("240.11.0.2", "b")]).await.unwrap();
}

async fn a_pods_times_follow_what_it_is(place: &Place) {
    let store = place.open().await;
    let time = |first, updated, seen| ("p".to_owned(), first, updated, seen);
    store.apply_pods(vec![upsert("east", pod("p", "1"))], 10).await.unwrap();
    assert_eq!(times(place).await, [time(10, 10, 10)]);
    // The same again, as after a restart; only the resource version moved.
    let mut same = pod("p", "1");
    same.resource_version = "8".into();
    store.apply_pods(vec![upsert("east", same)], 20).await.unwrap();
    assert_eq!(times(place).await, [time(10, 10, 20)]);
    let mut moved = pod("p", "1");
    moved.node = None;
    store.apply_pods(vec![upsert("east", moved)], 30).await.unwrap();
    assert_eq!(times(place).await, [time(10, 30, 30)]);
    // Another pod of the same name.
    store.apply_pods(vec![upsert("east", pod("p", "2"))], 40).await.unwrap();
    assert_eq!(times(place).await, [time(40, 40, 40)]);
}

async fn the_order_within_a_batch_counts(place: &Place) {
    let store = place.open().await;
    let delete = |cluster: &str, name: &str| PodChange::Delete {
        cluster: cluster.into(),
        id: NamespacedName::new("shop", name),
    };
    let forget = |cluster: &str| PodChange::ForgetCluster { cluster: cluster.into() };
    let names = async || times(place).await.into_iter().map(|row| row.0).collect::<Vec<_>>();
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

async fn a_hundred_thousand_pods_and_a_ledger_that_does_not_wait(place: &Place) {
    const PODS: usize = 100_000;
    let store = place.open().await;
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
    let store = place.open().await;
    let opened = begun.elapsed();
    assert_eq!(store.count_pods().await.unwrap(), PODS as u64);
    eprintln!("inserted in {inserted:?}, again in {again:?}, opened in {opened:?}");
    eprintln!("{commits} ledger commits meanwhile, the slowest in {slowest:?}");
    // Without optimisation only the order of magnitude is held.
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 5 });
    assert!(inserted < limit && again < limit, "{inserted:?}, {again:?}");
    assert!(commits > 1);
}

async fn the_history_of_nodes_is_bounded(place: &Place) {
    let store = place.open().await;
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
    let later = match place.url {
        StoreUrl::Sqlite(_) => "UPDATE sqlite_sequence SET seq = 60000",
        StoreUrl::Postgres(_) => "ALTER TABLE node_events ALTER COLUMN id RESTART WITH 60001",
    };
    place.person("inventory.db").await.execute(later).await.unwrap();
    store.record_node_events(&[event("late", 6, "")]).await.unwrap();
    let all = store.node_events(None, 100).await.unwrap();
    assert_eq!(all, [event("late", 6, "")]);
}

async fn last_good_manifests_are_kept_until_they_are_deleted(place: &Place) {
    let store = place.open().await;
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
    let by_hand = place.person("inventory.db").await;
    by_hand.execute("UPDATE manifest_files SET content = 'forged' WHERE path = 'b.yaml'").await.unwrap();
    assert_eq!(store.get_manifests(&east).await.unwrap().len(), 1);

    store.apply_manifests(&[delete(&east), delete(&east)], 3).await.unwrap();
    assert_eq!(store.get_manifests(&east).await.unwrap(), []);
    store.apply_manifests(&[delete(&west)], 3).await.unwrap();
    assert_eq!(store.get_manifests(&west).await.unwrap(), []);
}

fn event(node: &str, at: i64, detail: &str) -> NodeEvent {
    NodeEvent { node: node.into(), at, event: "Connected".to_owned(), detail: detail.to_owned() }
}

async fn times(place: &Place) -> Vec<(String, i64, i64, i64)> {
    let columns = "name || ' ' || first_seen_at || ' ' || updated_at || ' ' || seen_at";
    let person = place.person("inventory.db").await;
    let rows = person.text(&format!("SELECT {columns} FROM pods ORDER BY cluster, name")).await;
    let read = |row: &String| {
        let parts: Vec<&str> = row.split(' ').collect();
        let time = |place: usize| parts[place].parse().unwrap();
        (parts[0].to_owned(), time(1), time(2), time(3))
    };
    rows.iter().map(read).collect()
}
