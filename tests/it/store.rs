//! The store against processes that die, and processes that come second.
//!
//! The child processes are this test binary itself: [`child`] is a test that does nothing unless
//! the environment tells it to.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use causeway::config::StoreUrl;
use causeway::store::{LedgerChange, LedgerRow, Store, StoreError};
use tempfile::TempDir;

use crate::support::postgres::{PASSWORD, Postgres};

const DIR: &str = "CAUSEWAY_TEST_STORE_DIR";
const URL: &str = "CAUSEWAY_TEST_STORE_URL";
const FIRST: &str = "CAUSEWAY_TEST_STORE_FIRST";

fn row(n: u32) -> LedgerRow {
    LedgerRow {
        address: std::net::Ipv4Addr::from(0xF000_0000 + n).into(),
        slot: format!("slot {n}"),
        pool: "edge".to_owned(),
        access: "shop/checkout".to_owned(),
        service: "shop/checkout".to_owned(),
        pod: None,
        node: None,
        phase: "Held".to_owned(),
        since: None,
        ports: serde_json::json!([]),
        ttl_seconds: 5,
        assigned_by: "ControlPlane".to_owned(),
        allocated_at: i64::from(n),
        changed_at: i64::from(n),
    }
}

/// Commits row after row and says so on standard output after each, until it is killed.
#[tokio::test]
async fn child() {
    let (Ok(dir), Ok(first)) = (std::env::var(DIR), std::env::var(FIRST)) else { return };
    let url = StoreUrl::parse(&std::env::var(URL).unwrap()).unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    let store = loop {
        match Store::open_at(&url, Path::new(&dir)).await {
            // A process that another test is just starting has all files for a moment, the lock's too.
            Err(StoreError::Locked { .. }) if Instant::now() < until => tokio::task::yield_now().await,
            opened => break opened.unwrap(),
        }
    };
    // What is loaded is also what is compared where a session is lost.
    store.load_ledger().await.unwrap();
    let first: u32 = first.parse().unwrap();
    for n in first.. {
        // Each commit also moves the row before it, so that a torn commit would be seen.
        let mut before = row(n.saturating_sub(1));
        before.phase = "Removing".to_owned();
        store.commit_ledger(&[LedgerChange::Put(before), LedgerChange::Put(row(n))]).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "\ncommitted {n}").and_then(|()| out.flush()).unwrap();
    }
}

fn start_child(dir: &Path, url: &str, first: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["store::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(URL, url)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The row that a line of the child's output acknowledges.
fn acknowledged(line: &str) -> Option<u32> {
    line.strip_prefix("committed ")?.parse().ok()
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = TempDir::new().unwrap();
    kill_again_and_again(&dir, &files(&dir), Duration::from_secs(30)).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_with_a_database() {
    let server = Postgres::shared();
    // The server has to see each time that a process is dead.
    let most = Duration::from_secs(120);
    kill_again_and_again(&TempDir::new().unwrap(), &server.url(&server.database()), most).await;
}

fn files(dir: &TempDir) -> String {
    format!("sqlite://{}", dir.path().display())
}

async fn kill_again_and_again(dir: &TempDir, url: &str, most: Duration) {
    let open = async || Store::open_at(&StoreUrl::parse(url).unwrap(), dir.path()).await.unwrap();
    let begun = Instant::now();
    let mut next = 1;
    for round in 0..24_u64 {
        let mut child = start_child(dir.path(), url, next);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = None;
        let mut killed = false;
        // After some commits and a moment that differs each time, so that the kill meets the
        // child in another place; what it still says until it is dead counts, too.
        for line in lines {
            let Ok(line) = line else { break };
            last = acknowledged(&line).or(last);
            if !killed && last.is_some_and(|n| n >= next + 3) {
                std::thread::sleep(Duration::from_micros(round * 700));
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        let last = last.expect("the child committed nothing");

        let store = open().await;
        let rows = store.load_ledger().await.unwrap();
        // Row 0 came with the first commit. One commit may have been done and not yet told.
        let top = rows.len() as u32 - 1;
        assert!(top == last || top == last + 1, "{} rows, but {last} was acknowledged", rows.len());
        for (n, found) in (0..).zip(&rows) {
            let mut expected = row(n);
            if n < top {
                expected.phase = "Removing".to_owned();
            }
            assert_eq!(*found, expected);
        }
        next = top + 1;
        store.close().await;
    }
    assert!(begun.elapsed() < most, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_is_dead() {
    let dir = TempDir::new().unwrap();
    let mut child = start_child(dir.path(), &files(&dir), 1);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| acknowledged(&line).is_some())));
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { holder: Some(pid), .. } if pid == child.id()), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("in use by process {}", child.id())), "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
    // The lock's file is still there, but nobody holds it.
    let store = Store::open(dir.path()).await.unwrap();
    assert!(!store.load_ledger().await.unwrap().is_empty());
}

/// Whether a child with this URL and environment can commit.
fn commits(url: &str, environment: (&str, &std::ffi::OsStr)) -> bool {
    let dir = TempDir::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["store::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir.path())
        .env(URL, url)
        .env(FIRST, "1")
        .env_remove("PGPASSWORD")
        .env(environment.0, environment.1)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let has_committed = lines.any(|line| line.is_ok_and(|line| acknowledged(&line).is_some()));
    let _ = child.kill();
    child.wait().unwrap();
    has_committed
}

#[test]
fn the_password_may_be_in_the_environment_or_in_a_file() {
    use std::os::unix::fs::PermissionsExt;
    let server = Postgres::shared();
    let url = || {
        let with_password = server.url(&server.database());
        let (before, after) = with_password.split_once('@').unwrap();
        assert!(before.starts_with("postgres://causeway:"), "{before}");
        format!("postgres://causeway@{after}")
    };
    assert!(commits(&url(), ("PGPASSWORD", PASSWORD.as_ref())));
    assert!(!commits(&url(), ("PGPASSWORD", "another".as_ref())));
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("pgpass");
    std::fs::write(&file, format!("*:*:*:causeway:{PASSWORD}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(commits(&url(), ("PGPASSFILE", file.as_os_str())));
}
