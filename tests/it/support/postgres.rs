//! Real PostgreSQL servers on loopback, each with as many databases as tests want.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A server starts in 2 s; beside other tests in more.
const START: Duration = Duration::from_secs(60);

/// The password of the databases' owner.
pub const PASSWORD: &str = "p@ss w0rd/%";

/// The folder of `postgres`, `initdb` and `psql`: `CAUSEWAY_POSTGRES_BIN`, else the newest of Debian's packages. There is
/// no skipping: without one the test fails.
pub fn binaries() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        if let Some(dir) = std::env::var_os("CAUSEWAY_POSTGRES_BIN") {
            return dir.into();
        }
        let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let newest = installed
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|version| Path::new(&format!("/usr/lib/postgresql/{version}/bin/initdb")).is_file())
            .max();
        let newest = newest.expect("no PostgreSQL: run the tests through ./tests/run.sh, or set CAUSEWAY_POSTGRES_BIN");
        PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
    })
}

/// A server, which ends with this process.
pub struct Postgres {
    address: IpAddr,
    port: u16,
    dir: PathBuf,
    supervisor: Mutex<Supervisor>,
}

struct Supervisor {
    process: Child,
    /// Closing it ends the server.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Postgres {
    /// The server that tests share who do nothing to it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts one.
    pub fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), None)
    }

    /// Starts one at an address of a network namespace of this machine.
    pub fn start_at(address: IpAddr, namespace: Option<&str>) -> Self {
        // The script removes it.
        let dir = tempfile::tempdir().expect("a folder").keep();
        let port = free_port();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/serve.sh");
        let mut process = Command::new(script)
            .arg(binaries())
            .arg(&dir)
            .arg(address.to_string())
            .arg(port.to_string())
            .arg(PASSWORD)
            .args(namespace)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{script}: {error}"));
        let commands = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("it was piped"));
        let server = Self { address, port, dir, supervisor: Mutex::new(Supervisor { process, commands, answers }) };
        server.resume();
        server
    }

    fn tell(&self, command: &str) {
        let mut supervisor = self.supervisor.lock().unwrap();
        writeln!(supervisor.commands.as_mut().expect("it runs"), "{command}").expect("the supervisor listens");
        let mut answer = String::new();
        supervisor.answers.read_line(&mut answer).expect("the supervisor answers");
        assert_eq!(answer.trim(), command, "the server's script ended");
    }

    /// Starts it after [`Postgres::stop`] or [`Postgres::crash`], with what it held.
    pub fn resume(&self) {
        self.tell("start");
        let until = Instant::now() + START;
        // It takes connections before it is ready to answer.
        while self.try_query("postgres", "SELECT 1").is_err() {
            assert!(Instant::now() < until, "the server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it as an operator would: connections end, and new ones are refused.
    pub fn stop(&self) {
        self.tell("stop");
        assert!(TcpStream::connect((self.address, self.port)).is_err(), "somebody still listens");
    }

    /// Kills all its processes.
    pub fn crash(&self) {
        self.tell("crash");
    }

    /// From now on it answers nobody; connections stay, and new ones are taken by the system.
    pub fn freeze(&self) {
        self.tell("freeze");
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.tell("thaw");
    }

    /// Makes a new database; gives its name.
    pub fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.query("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// The URL of a database, as `--store` takes it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://causeway:p%40ss%20w0rd%2F%25@{}:{}/{database}?sslmode=disable", self.address, self.port)
    }

    /// The file of who vouches for its certificate.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `psql` prints, a row a line, its columns apart by `|`.
    pub fn query(&self, database: &str, sql: &str) -> Vec<String> {
        self.try_query(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub fn try_query(&self, database: &str, sql: &str) -> Result<Vec<String>, String> {
        let output = Command::new(binaries().join("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username=causeway"])
            .args([
                &format!("--host={}", self.address),
                &format!("--port={}", self.port),
                &format!("--dbname={database}"),
                &format!("--command={sql}"),
            ])
            .env("PGPASSWORD", PASSWORD)
            .env("PGCONNECT_TIMEOUT", "5")
            .output()
            .expect("psql runs");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

/// None of those that the system gives to outgoing connections, so that no connection takes it while the server is down.
fn free_port() -> u16 {
    const FIRST: u32 = 5_500;
    const COUNT: u32 = 4_400;
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(31)));
    let ports = (0..COUNT).filter_map(|_| u16::try_from(FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT).ok());
    let mut free = ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().expect("loopback has a free port")
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let supervisor = self.supervisor.get_mut().unwrap();
        supervisor.commands = None;
        let _ = supervisor.process.wait();
    }
}
