//! What only a server's database does: on real servers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;

use sqlx::migrate::MigrationType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::connect::MIGRATIONS;
use super::*;
use crate::config::StoreUrl;
use crate::store::database::Database;
use crate::store::tests::support::{PASSWORD, Postgres};
use crate::store::tests::{Place, pod, put, upsert};
use crate::store::{LedgerChange, Store};

/// Waits until there is an answer.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let until = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(std::time::Instant::now() < until, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a row can be committed.
async fn committed(store: &Store, address: &str, slot: &str) {
    eventually("a commit", async || store.commit_ledger(&[put(address, slot)]).await.ok()).await;
}

/// Ends the sessions whose name has this end.
fn end_sessions(database: &str, like: &str) {
    Postgres::shared().query(
        database,
        &format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
             AND application_name LIKE '{like}'"
        ),
    );
}

#[tokio::test]
async fn one_process_has_a_database() {
    let place = Place::postgres();
    let store = place.open().await;
    let other = tempfile::TempDir::new().unwrap();
    let error = Store::open_at(&place.url, other.path()).await.unwrap_err().to_string();
    for part in ["is in use by `causeway ", " at 127.0.0.1 as user causeway", "the server's process", "--store"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert!(error.contains(&format!(" {} ", std::process::id())), "{error}");
    assert!(matches!(place.try_open().await, Err(StoreError::Locked { .. })), "the folder is in use as well");
    store.close().await;
    assert!(
        store.load_ledger().await.is_err() && store.apply_pods(vec![upsert("east", pod("p", "1"))], 1).await.is_err()
    );
    let store = Store::open_at(&place.url, other.path()).await.unwrap();
    // One that is gone without a word leaves the lock to the next.
    drop(store);
    place.open().await;
}

#[tokio::test]
async fn two_that_start_at_once_do_not_clash() {
    let place = Place::postgres();
    let dirs = [0, 1, 2].map(|_| tempfile::TempDir::new().unwrap());
    let opened = futures::future::join_all(dirs.iter().map(|dir| Store::open_at(&place.url, dir.path()))).await;
    let (won, lost): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 2));
    for error in lost {
        assert!(matches!(error, Err(StoreError::InUse { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn migrations_only_go_forward_and_are_recorded() {
    let versions: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    assert_eq!(versions, (1..=versions.len() as i64).collect::<Vec<_>>());
    assert!(MIGRATIONS.iter().all(|migration| migration.migration_type == MigrationType::Simple));
    let place = Place::postgres();
    place.open().await.close().await;
    let by_hand = place.person("").await;
    let recorded = "SELECT version || ' ' || success FROM _sqlx_migrations ORDER BY version";
    let all: Vec<String> = versions.iter().map(|version| format!("{version} true")).collect();
    assert_eq!(by_hand.text(recorded).await, all);
    place.open().await.close().await;
    assert_eq!(by_hand.text(recorded).await, all, "nothing was left to do");

    let future = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                  VALUES (99, 'of the future', TRUE, '\\x00', 0)";
    by_hand.execute(future).await.unwrap();
    let error = place.try_open().await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { migration: 99, .. }), "{error}");
    by_hand.execute("DELETE FROM _sqlx_migrations WHERE version = 99").await.unwrap();
    // A migration that was edited after it had been applied somewhere.
    by_hand.execute("UPDATE _sqlx_migrations SET checksum = '\\x00'").await.unwrap();
    let error = place.try_open().await.unwrap_err();
    assert!(matches!(error, StoreError::Migrate { .. }), "{error}");
}

#[tokio::test]
async fn what_the_server_refuses_is_told_without_the_password() {
    let server = Postgres::shared();
    let place = Place::postgres();
    let database = place.database.clone().unwrap();
    let open = async |text: &str| {
        let dir = tempfile::TempDir::new().unwrap();
        Store::open_at(&StoreUrl::parse(text).unwrap(), dir.path()).await.unwrap_err()
    };
    let url = server.url(&database);
    let wrong = open(&url.replace("p%40ss", "gu%65ss")).await;
    assert!(wrong.to_string().contains("password authentication failed"), "{wrong}");
    let none = open(&url.replace(&database, "nowhere")).await;
    assert!(none.to_string().contains("\"nowhere\" does not exist"), "{none}");
    server.query(&database, "CREATE ROLE guest LOGIN PASSWORD 'guest'");
    let guest = open(&url.replace("causeway:p%40ss%20w0rd%2F%25", "guest:guest")).await;
    assert!(matches!(guest, StoreError::Denied { .. }), "{guest}");
    assert!(guest.to_string().contains("let the user own the schema `causeway`"), "{guest}");
    let store = place.open().await;
    for shown in [format!("{wrong} {wrong:?} {none} {none:?} {guest} {guest:?}"), format!("{:?} {store:?}", place.url)]
    {
        for secret in [PASSWORD, "p%40ss", "gu%65ss", "guess", "w0rd"] {
            assert!(!shown.contains(secret), "{secret} is in {shown}");
        }
        assert!(shown.contains("127.0.0.1"), "{shown}");
    }
}

#[tokio::test]
async fn a_lost_session_is_taken_again() {
    let place = Place::postgres();
    let database = place.database.clone().unwrap();
    let store = place.open().await;
    store.load_ledger().await.unwrap();
    store.commit_ledger(&[put("240.11.0.1", "a")]).await.unwrap();
    store.apply_pods(vec![upsert("east", pod("p", "1"))], 1).await.unwrap();
    for n in 2..6 {
        // All sessions, that of the ledger, or the others.
        end_sessions(&database, ["causeway %", "causeway % ________", "causeway % inventory"][n % 3]);
        committed(&store, &format!("240.11.0.{n}"), &n.to_string()).await;
        let name = n.to_string();
        eventually("pods", async || store.apply_pods(vec![upsert("east", pod(&name, "1"))], 1).await.ok()).await;
    }
    assert_eq!(store.load_ledger().await.unwrap().len(), 5);
    assert_eq!(store.count_pods().await.unwrap(), 5);
    assert_eq!(store.outage(), None);
    assert!(store.errors() > 0);
}

#[tokio::test]
async fn whoever_lost_the_lock_writes_nothing_and_goes_on_only_where_nobody_else_has_written() {
    let place = Place::postgres();
    let store = place.open().await;
    store.load_ledger().await.unwrap();
    store.commit_ledger(&[put("240.11.0.1", "a")]).await.unwrap();
    store.apply_pods(vec![upsert("east", pod("p", "1"))], 1).await.unwrap();
    // Somebody else waits for the lock, and has it when the session ends.
    let usurper = place.person("").await;
    let [class, object] = [i32::from_be_bytes(*b"caus"), i32::from_be_bytes(*b"eway")];
    let holders = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND database = \
                   (SELECT oid FROM pg_database WHERE datname = current_database())";
    usurper
        .execute(&format!(
            "SELECT pg_terminate_backend(pid) FROM ({holders}) AS holder; SELECT pg_advisory_lock({class}, {object})"
        ))
        .await
        .unwrap();
    let why =
        eventually("the outage to be known", async || store.outage().filter(|why| why.contains("in use by"))).await;
    assert!(why.contains("the server's process"), "{why}");
    let error = store.commit_ledger(&[put("240.11.0.2", "b")]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let pods = vec![upsert("east", pod("q", "1"))];
    assert!(matches!(store.apply_pods(pods.clone(), 2).await, Err(StoreError::Unreachable { .. })));

    usurper.execute("UPDATE ledger SET slot = 'z' WHERE slot = 'a'").await.unwrap();
    usurper.execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    let changed = "somebody else has written to it";
    eventually("the change to be seen", async || store.outage().filter(|why| why.contains(changed))).await;
    assert!(store.commit_ledger(&[put("240.11.0.2", "b")]).await.is_err());
    assert_eq!(usurper.text("SELECT slot FROM ledger").await, ["z"]);
    assert_eq!(usurper.text("SELECT name FROM pod").await, ["p"]);
    // Only when it is again as it was.
    usurper.execute("UPDATE ledger SET slot = 'a' WHERE slot = 'z'").await.unwrap();
    committed(&store, "240.11.0.2", "b").await;
    store.apply_pods(pods, 3).await.unwrap();
    assert_eq!(usurper.text("SELECT slot FROM ledger ORDER BY slot").await, ["a", "b"]);
}

/// Passes bytes on between the store and its server. Once it is deaf, the server's answers are lost, and the store's
/// connection; the server's stays, as if nobody had told it.
async fn line(to: u16, is_deaf: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let is_deaf = is_deaf.clone();
            tokio::spawn(async move {
                let far = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await.unwrap();
                let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut near_in, &mut far_out).await;
                    std::future::pending::<()>().await;
                });
                let mut bytes = vec![0; 1 << 16];
                while let Ok(count @ 1..) = far_in.read(&mut bytes).await {
                    if is_deaf.load(Ordering::SeqCst) {
                        drop(near_out);
                        std::future::pending::<()>().await;
                        return;
                    }
                    near_out.write_all(&bytes[..count]).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_taken_back() {
    let mut place = Place::postgres();
    let server = Postgres::shared();
    let is_deaf = Arc::new(AtomicBool::new(false));
    let line = line(server.port(), is_deaf.clone()).await;
    let url =
        server.url(place.database.as_ref().unwrap()).replace(&server.port().to_string(), &line.port().to_string());
    place.url = StoreUrl::parse(&url).unwrap();
    let store = place.open().await;
    store.load_ledger().await.unwrap();
    store.commit_ledger(&[put("240.11.0.1", "a"), put("240.11.0.2", "b")]).await.unwrap();
    let before = store.load_ledger().await.unwrap();
    let Database::Postgres { server: inner, .. } = &store.inner.ledger else { panic!("it is a database") };

    let mut tx = inner.begin(Kind::Ledger, "committing").await.unwrap();
    let changes = [LedgerChange::Delete("240.11.0.1".parse().unwrap()), put("240.11.0.2", "b"), put("240.11.0.3", "a")];
    tx.announce(|rows| ledger::apply(rows, &changes));
    tx.execute(ledger::delete("240.11.0.1".parse().unwrap())).await.unwrap();
    let LedgerChange::Put(moved) = &changes[2] else { panic!("it is put") };
    tx.execute(ledger::put(moved)).await.unwrap();
    is_deaf.store(true, Ordering::SeqCst);
    let error = tx.commit().await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let by_hand = place.person_direct().await;
    assert_eq!(by_hand.text("SELECT address FROM ledger ORDER BY address").await, ["240.11.0.2", "240.11.0.3"]);

    // The server holds the lock for a session that is lost; it is ended, and no other.
    is_deaf.store(false, Ordering::SeqCst);
    committed(&store, "240.11.0.4", "d").await;
    let mut rows = store.load_ledger().await.unwrap();
    assert_eq!(rows.pop().unwrap().slot, "d");
    assert_eq!(rows, before);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_soon_and_told_at_once() {
    let server = Postgres::start();
    let place = Place::database_of(&server);
    let store = place.open().await;
    store.load_ledger().await.unwrap();
    store.commit_ledger(&[put("240.11.0.1", "a")]).await.unwrap();
    server.freeze();
    let begun = std::time::Instant::now();
    let error = store.commit_ledger(&[put("240.11.0.2", "b")]).await.unwrap_err();
    let waited = begun.elapsed();
    assert!(matches!(error, StoreError::Unreachable { .. }) && waited < Duration::from_secs(8), "{waited:?}: {error}");
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        store.commit_ledger(&[put("240.11.0.2", "b")]).await.unwrap_err();
        store.apply_pods(vec![upsert("east", pod("p", "1"))], 1).await.unwrap_err();
    }
    eprintln!("given up after {waited:?}, then 200 answers in {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    server.thaw();
    committed(&store, "240.11.0.2", "b").await;
    store.apply_pods(vec![upsert("east", pod("p", "1"))], 1).await.unwrap();

    // Stopped and killed, with what was acknowledged before.
    for stop in [Postgres::stop, Postgres::crash] {
        stop(&server);
        eventually("the outage to be known", async || store.outage()).await;
        server.resume();
        let n = store.errors();
        committed(&store, "240.11.0.3", "c").await;
        assert!(store.errors() >= n);
    }
    assert_eq!(store.load_ledger().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let server = Postgres::start();
    let place = Place::database_of(&server);
    server.stop();
    let opening = tokio::spawn(async move { place.open().await.load_ledger().await });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!opening.is_finished());
    server.resume();
    assert_eq!(opening.await.unwrap().unwrap(), []);
}

#[tokio::test]
async fn durability_is_asked_for_where_the_server_has_it_off() {
    let place = Place::postgres();
    let database = place.database.clone().unwrap();
    Postgres::shared().query("postgres", &format!("ALTER DATABASE {database} SET synchronous_commit = off"));
    let store = place.open().await;
    let Database::Postgres { server, .. } = &store.inner.ledger else { panic!("it is a database") };
    for kind in [Kind::Ledger, Kind::Policies, Kind::Inventory] {
        let rows = server.fetch(kind, "asking", Statement::new("SHOW synchronous_commit")).await.unwrap();
        assert_eq!(rows[0].get::<String>("synchronous_commit").unwrap(), "on", "{kind:?}");
    }
}

#[tokio::test]
async fn what_the_server_cannot_hold_is_kept_as_it_can() {
    let place = Place::postgres();
    let store = place.open().await;
    let mut odd = pod("p", "1");
    odd.phase = "a\0b".into();
    store.apply_pods(vec![upsert("east", odd)], 1).await.unwrap();
    assert_eq!(place.person("").await.text("SELECT phase FROM pods").await, ["a\u{2400}b"]);
}

#[tokio::test]
async fn tls_is_spoken_and_who_cannot_prove_itself_is_refused() {
    let server = Postgres::shared();
    let database = server.database();
    let dir = tempfile::TempDir::new().unwrap();
    let open = async |parameters: &str| {
        let url = server.url(&database).replace("sslmode=disable", parameters);
        Store::open_at(&StoreUrl::parse(&url).unwrap(), dir.path()).await
    };
    let encrypted = "SELECT count(*) || ' ' || bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name LIKE 'causeway %' AND datname = current_database()";
    let error = open("sslmode=verify-full").await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    let authority = server.authority();
    for (parameters, expected) in [
        (&*format!("sslmode=verify-full&sslrootcert={}", authority.display()), "1 true"),
        ("sslmode=require", "1 true"),
        ("sslmode=prefer", "1 true"),
        ("sslmode=disable", "1 false"),
    ] {
        let store = open(parameters).await.unwrap();
        assert_eq!(server.query(&database, encrypted), [expected], "{parameters}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_ledger_of_files_is_not_forgotten() {
    let place = Place::postgres();
    let files = Store::open(place.dir.path()).await.unwrap();
    files.close().await;
    place.open().await.close().await;
    let files = Store::open(place.dir.path()).await.unwrap();
    files.commit_ledger(&[put("240.11.0.1", "a"), put("240.11.0.2", "b")]).await.unwrap();
    files.close().await;
    let error = place.try_open().await.unwrap_err();
    assert!(matches!(error, StoreError::LedgerElsewhere { rows: 2, .. }), "{error}");
    assert!(error.to_string().contains("ledger.db"), "{error}");
    // Where the database has a ledger, it is the one that counts.
    place
        .person("")
        .await
        .execute(
            "INSERT INTO ledger VALUES ('240.11.0.9', 'c', 'p', 'a', 's', NULL, 'IPv4', NULL, 'Held', \
        NULL, '[]', 5, 'ControlPlane', 1, 1)",
        )
        .await
        .unwrap();
    assert_eq!(place.open().await.load_ledger().await.unwrap().len(), 1);
}
