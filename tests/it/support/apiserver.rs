//! Real API servers: kube-apiserver and etcd on loopback. Nothing else of Kubernetes runs, so no EndpointSlice is made,
//! no pod is started, no deleted namespace goes away and no owner's objects are collected; tests do that themselves.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::Duration;

use super::{eventually, free_addr};

/// The user of the kubeconfigs: may do everything.
const ADMIN_TOKEN: &str = "admin-token";
/// Servers start in 3 to 6 s; beside other tests on two cores in more.
const START: Duration = Duration::from_secs(120);

/// The folder of kube-apiserver, etcd and kubectl, built by `tests/apiserver/build.sh` where it is not there.
pub fn binaries() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apiserver/build.sh");
        let output = Command::new(script).stderr(Stdio::inherit()).output().expect("build.sh runs");
        assert!(output.status.success(), "{script} failed");
        PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
    })
}

/// A process that ends with this one.
struct Supervised {
    supervisor: Child,
    /// Closing it ends the process.
    signals: Option<ChildStdin>,
}

impl Supervised {
    fn spawn(log: &Path, program: &Path, args: &[String]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apiserver/supervise.sh");
        let mut supervisor = Command::new(script)
            .arg(log)
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{script}: {e}"));
        let signals = supervisor.stdin.take();
        Self { supervisor, signals }
    }

    fn signal(&mut self, name: &str) {
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

/// An etcd and the folder that it and its API servers write to.
pub struct Etcd {
    dir: tempfile::TempDir,
    client: SocketAddr,
    peer: SocketAddr,
    process: Mutex<Option<Supervised>>,
}

impl Etcd {
    /// Starts an empty one.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let key = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"])
            .arg(dir.path().join("sa.key"))
            .output()
            .expect("openssl runs");
        assert!(key.status.success(), "openssl: {}", String::from_utf8_lossy(&key.stderr));
        fs::write(dir.path().join("tokens.csv"), format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n")).unwrap();
        let etcd = Self { dir, client: free_addr(), peer: free_addr(), process: Mutex::new(None) };
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
        *self.process.lock().unwrap() = Some(Supervised::spawn(&log, &binaries().join("etcd"), &args));
        eventually("etcd to answer", START, || std::net::TcpStream::connect(self.client).ok());
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
    /// Starts a cluster of its own for a test that stops it or its etcd. Neither is freed before the process ends.
    pub fn start_own(name: &str) -> &'static ApiServer {
        Box::leak(Box::new(Self::start(name, Box::leak(Box::new(Etcd::start())))))
    }

    /// Starts an API server whose objects are apart from those of others on the same etcd.
    pub fn start(name: &str, etcd: &'static Etcd) -> Self {
        let dir = etcd.dir.path();
        let kubeconfig = dir.join(format!("{name}.kubeconfig"));
        let server = Self { name: name.to_owned(), address: free_addr(), etcd, process: Mutex::new(None), kubeconfig };
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
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.address.port()),
            format!("--cert-dir={}", path(&format!("certs-{name}"))),
            format!("--token-auth-file={}", path("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            format!("--service-account-issuer=https://{name}.test"),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            // No controller makes the service account that it asks for.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ];
        let log = dir.join(format!("{name}.log"));
        *self.process.lock().unwrap() = Some(Supervised::spawn(&log, &binaries().join("kube-apiserver"), &args));
        let ready = || {
            let url = format!("https://{}/readyz", self.address);
            let auth = format!("Authorization: Bearer {ADMIN_TOKEN}");
            let args = ["-kfsS", "-o", "/dev/null", "--max-time", "2", "-H", &auth, &url];
            Command::new("curl").args(args).stderr(Stdio::null()).status().expect("curl runs").success().then_some(())
        };
        eventually(&format!("the API server of {name} to be ready; see {}", log.display()), START, ready);
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
        let mut child = Command::new(binaries().join("kubectl"))
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

    /// What the API server says where it refuses the manifests; it must.
    pub fn refusal(&self, manifests: &str) -> String {
        let output = self.kubectl_with(&["create", "-f", "-"], manifests);
        assert!(!output.status.success(), "accepted: {manifests}");
        String::from_utf8(output.stderr).expect("kubectl prints UTF-8")
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

fn base64(bytes: &[u8]) -> String {
    let mut child =
        Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("base64 runs");
    child.stdin.take().expect("piped").write_all(bytes).expect("base64 reads");
    String::from_utf8(child.wait_with_output().expect("base64 ends").stdout).expect("ASCII")
}
