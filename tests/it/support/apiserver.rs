//! Real API servers: kube-apiserver and etcd on loopback. Nothing else of Kubernetes runs, so no EndpointSlice is made,
//! no pod is started, no deleted namespace goes away and no owner's objects are collected; tests do that themselves.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, OnceLock};
use std::time::Duration;

use super::host::Host;
use super::{built, eventually, free_addr};

/// The user of the kubeconfigs: may do everything.
const ADMIN_TOKEN: &str = "admin-token";
/// Servers start in 3 to 6 s; beside other tests on two cores in more.
const START: Duration = Duration::from_secs(120);

/// The folder of kube-apiserver, etcd and kubectl, built by `tests/apiserver/build.sh` where it is not there.
pub fn binaries() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| built("tests/apiserver/build.sh"))
}

/// Room for API servers that a test has for itself. Each holds 300 MB and keeps a core busy for 5 s when it starts, so
/// that too many at once only time out; a test that starts some waits until there is room for all of them.
pub struct Room(usize);

static TAKEN: Mutex<usize> = Mutex::new(0);
static LEFT: Condvar = Condvar::new();

impl Room {
    /// Waits for room, which is there again when this goes out of scope.
    pub fn take(count: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let most = (3 * cores).max(count);
        let taken = TAKEN.lock().unwrap();
        let mut taken = LEFT.wait_while(taken, |taken| *taken + count > most).unwrap();
        *taken += count;
        Self(count)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap() -= self.0;
        LEFT.notify_all();
    }
}

/// A process that ends with this one.
pub(super) struct Supervised {
    supervisor: Child,
    /// Closing it ends the process.
    signals: Option<ChildStdin>,
}

impl Supervised {
    pub(super) fn spawn(log: &Path, away: Option<&Away>, program: &Path, args: &[String]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apiserver/supervise.sh");
        let mut command = Command::new(script);
        command.arg(log);
        if let Some(away) = away {
            command.args(["ip", "netns", "exec", &away.namespace]);
        }
        let mut supervisor =
            command.arg(program).args(args).stdin(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{script}: {e}"));
        let signals = supervisor.stdin.take();
        Self { supervisor, signals }
    }

    pub(super) fn signal(&mut self, name: &str) {
        if let Some(pipe) = &mut self.signals {
            writeln!(pipe, "{name}").expect("the supervisor listens");
        }
    }

    fn end(&mut self) {
        self.signals = None;
        let _ = self.supervisor.wait();
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.end();
    }
}

/// Another host.
pub(super) struct Away {
    namespace: String,
    address: IpAddr,
}

impl Away {
    /// A command that runs there, or here where there is none.
    fn command(away: Option<&Self>, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let Some(away) = away else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &away.namespace]).arg(program);
        command
    }
}

/// An etcd and the folder that it and its API servers write to.
pub struct Etcd {
    dir: tempfile::TempDir,
    client: SocketAddr,
    peer: SocketAddr,
    /// Where it and its API servers run, where it is not here.
    away: Option<Away>,
    process: Mutex<Option<Supervised>>,
}

impl Etcd {
    /// Starts an empty one.
    pub fn start() -> Self {
        Self::start_at(None)
    }

    /// Starts an empty one on another host, which has to last as long.
    pub fn start_on(host: &Host) -> Self {
        Self::start_at(Some(Away { namespace: host.name.clone(), address: host.far() }))
    }

    /// Starts an empty one on another host, on that one's loopback interface: nothing outside reaches it or its API servers.
    pub fn start_hidden(host: &Host) -> Self {
        Self::start_at(Some(Away { namespace: host.name.clone(), address: IpAddr::V4(Ipv4Addr::LOCALHOST) }))
    }

    fn start_at(away: Option<Away>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let key = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"])
            .arg(dir.path().join("sa.key"))
            .output()
            .expect("openssl runs");
        assert!(key.status.success(), "openssl: {}", String::from_utf8_lossy(&key.stderr));
        fs::write(dir.path().join("tokens.csv"), format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n")).unwrap();
        let address = || SocketAddr::new(ip_of(away.as_ref()), free_addr().port());
        let etcd = Self { dir, client: address(), peer: address(), process: Mutex::new(None), away };
        etcd.resume();
        etcd
    }

    /// Ends it; what it holds stays on disk.
    pub fn stop(&self) {
        *self.process.lock().unwrap() = None;
    }

    /// Starts it with what it held before.
    pub fn resume(&self) {
        let url = |address: SocketAddr| format!("http://{address}");
        let args = [
            "--name=test".to_owned(),
            format!("--data-dir={}", self.dir.path().join("etcd").display()),
            format!("--listen-client-urls={}", url(self.client)),
            format!("--advertise-client-urls={}", url(self.client)),
            format!("--listen-peer-urls={}", url(self.peer)),
            format!("--initial-advertise-peer-urls={}", url(self.peer)),
            format!("--initial-cluster=test={}", url(self.peer)),
            // Test data: no flush for each write.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let log = self.dir.path().join("etcd.log");
        *self.process.lock().unwrap() =
            Some(Supervised::spawn(&log, self.away.as_ref(), &binaries().join("etcd"), &args));
        let health = format!("{}/health", url(self.client));
        eventually("etcd to answer", START, || {
            let mut curl = Away::command(self.away.as_ref(), "curl");
            let asked =
                curl.args(["-fsS", "-o", "/dev/null", "--max-time", "2", &health]).stderr(Stdio::null()).status();
            asked.expect("curl runs").success().then_some(())
        });
    }
}

/// One API server: a cluster.
pub struct ApiServer {
    name: String,
    address: SocketAddr,
    etcd: &'static Etcd,
    process: Mutex<Option<Supervised>>,
    kubeconfig: PathBuf,
}

impl ApiServer {
    /// Starts a cluster with an etcd of its own. What describes it is not freed before the process ends.
    pub fn start_own(name: &str) -> &'static ApiServer {
        Self::leaked(name, Box::leak(Box::new(Etcd::start())))
    }

    /// As [`ApiServer::start_own`], on another host.
    pub fn start_on(name: &str, host: &Host) -> &'static ApiServer {
        Self::leaked(name, Box::leak(Box::new(Etcd::start_on(host))))
    }

    /// As [`ApiServer::start_on`], where nothing outside that host reaches it.
    pub fn start_hidden(name: &str, host: &Host) -> &'static ApiServer {
        Self::leaked(name, Box::leak(Box::new(Etcd::start_hidden(host))))
    }

    /// As [`ApiServer::start`], for those who keep no owner.
    pub fn leaked(name: &str, etcd: &'static Etcd) -> &'static ApiServer {
        Box::leak(Box::new(Self::start(name, etcd)))
    }

    /// Starts an API server whose objects are apart from those of others on the same etcd.
    pub fn start(name: &str, etcd: &'static Etcd) -> Self {
        let dir = etcd.dir.path();
        let kubeconfig = dir.join(format!("{name}.kubeconfig"));
        let address = SocketAddr::new(ip_of(etcd.away.as_ref()), free_addr().port());
        let server = Self { name: name.to_owned(), address, etcd, process: Mutex::new(None), kubeconfig };
        server.resume();
        fs::write(&server.kubeconfig, server.kubeconfig_for(ADMIN_TOKEN)).expect("the kubeconfig is written");
        server
    }

    /// Ends the server; its etcd stays.
    pub fn stop(&self) {
        *self.process.lock().unwrap() = None;
    }

    /// Starts it at the address that it had, and waits until it is ready.
    pub fn resume(&self) {
        let dir = self.etcd.dir.path();
        let path = |name: &str| dir.join(name).display().to_string();
        let (key, name) = (path("sa.key"), &self.name);
        let args = [
            format!("--etcd-servers=http://{}", self.etcd.client),
            format!("--etcd-prefix=/{name}"),
            format!("--bind-address={}", self.address.ip()),
            format!("--advertise-address={}", self.address.ip()),
            format!("--secure-port={}", self.address.port()),
            format!("--cert-dir={}", path(&format!("certs-{name}"))),
            format!("--token-auth-file={}", path("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            format!("--service-account-issuer={}", self.issuer()),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            // No controller makes the service account that it asks for.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ];
        let log = dir.join(format!("{name}.log"));
        let program = binaries().join("kube-apiserver");
        *self.process.lock().unwrap() = Some(Supervised::spawn(&log, self.etcd.away.as_ref(), &program, &args));
        self.wait_ready();
    }

    /// Waits until it says that it is ready, its etcd included.
    pub fn wait_ready(&self) {
        let ready = || {
            let url = format!("https://{}/readyz", self.address);
            let auth = format!("Authorization: Bearer {ADMIN_TOKEN}");
            let args = ["-kfsS", "-o", "/dev/null", "--max-time", "2", "-H", &auth, &url];
            Away::command(self.etcd.away.as_ref(), "curl")
                .args(args)
                .stderr(Stdio::null())
                .status()
                .expect("curl runs")
                .success()
                .then_some(())
        };
        let log = self.etcd.dir.path().join(format!("{}.log", self.name));
        eventually(&format!("the API server of {} to be ready; see {}", self.name, log.display()), START, ready);
    }

    /// The key that signs the tokens of its service accounts.
    pub fn signing_key(&self) -> PathBuf {
        self.etcd.dir.path().join("sa.key")
    }

    /// Who issues them.
    pub fn issuer(&self) -> String {
        format!("https://{}.test", self.name)
    }

    /// Sends a signal to the server, such as `STOP` and `CONT`: silence without a closed connection.
    pub fn signal(&self, name: &str) {
        if let Some(process) = self.process.lock().unwrap().as_mut() {
            process.signal(name);
        }
    }

    /// The etcd that keeps its objects.
    pub fn etcd(&self) -> &Etcd {
        self.etcd
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig that may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The text of a kubeconfig with this bearer token.
    pub fn kubeconfig_for(&self, token: &str) -> String {
        let certificate = fs::read(self.etcd.dir.path().join(format!("certs-{}/apiserver.crt", self.name)));
        // The server writes its leaf and the CA that signed it into one file.
        let ca = base64(&certificate.expect("the server made its certificate"));
        let (name, address) = (&self.name, self.address);
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: {name}\n  cluster:\n    server: https://{address}\n    \
             certificate-authority-data: {ca}\nusers:\n- name: user\n  user:\n    token: {token}\ncontexts:\n\
             - name: {name}\n  context: {{cluster: {name}, user: user}}\ncurrent-context: {name}\n"
        )
    }

    /// Runs kubectl with a text on its standard input.
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Output {
        let mut child = Away::command(self.etcd.away.as_ref(), binaries().join("kubectl"))
            .env("KUBECONFIG", &self.kubeconfig)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("piped");
        // One that fails at once does not read it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("kubectl ends")
    }

    /// Runs kubectl, which must succeed; gives what it prints.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.kubectl_with(args, "");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {args:?} on {}: {errors}", self.name);
        String::from_utf8(output.stdout).expect("kubectl prints UTF-8")
    }

    /// Applies manifests by server-side apply as somebody who is not Causeway.
    pub fn apply(&self, manifests: &str) {
        let args = ["apply", "--server-side", "--force-conflicts", "--field-manager=test", "-f", "-"];
        let output = self.kubectl_with(&args, manifests);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "apply on {}: {errors}\n{manifests}", self.name);
    }

    /// A new namespace that no other test uses.
    pub fn namespace(&self, prefix: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&["create", "namespace", &name]);
        name
    }
}

/// One of the clusters that all tests share, each in namespaces of its own. It is started when it is first asked for.
pub fn shared(index: usize) -> &'static ApiServer {
    static ETCD: LazyLock<&'static Etcd> = LazyLock::new(|| Box::leak(Box::new(Etcd::start())));
    static SERVERS: [OnceLock<ApiServer>; 5] = [const { OnceLock::new() }; 5];
    SERVERS[index].get_or_init(|| ApiServer::start(&format!("shared{index}"), &ETCD))
}

fn ip_of(away: Option<&Away>) -> IpAddr {
    away.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |away| away.address)
}

fn base64(bytes: &[u8]) -> String {
    let mut child =
        Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("base64 runs");
    child.stdin.take().expect("piped").write_all(bytes).expect("base64 reads");
    String::from_utf8(child.wait_with_output().expect("base64 ends").stdout).expect("ASCII")
}
