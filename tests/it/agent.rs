//! The agent beside a real Envoy, and the control plane's end of its stream.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use causeway::agent::service::{AgentListener, AssignRequest, Control, Event, FeedbackServer, ListenerState};
use causeway::agent::{self, Options};
use causeway::model::id::NamespacedName;
use causeway::model::object::Family;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use crate::support::fleet::Process;
use crate::support::host::Host;

/// Much longer than anything takes on a busy machine; a test fails after it.
const LONG: Duration = Duration::from_secs(20);

/// An Envoy whose listeners come from a file.
struct Envoy {
    child: Child,
    dir: tempfile::TempDir,
    admin: SocketAddr,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Envoy {
    fn start(node: &str, listeners: &[SocketAddr]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let admin = free_address();
        let config = format!(
            r#"{{"node": {{"id": "{node}", "cluster": "edge"}},
                "admin": {{"address": {{"socket_address": {{"address": "127.0.0.1", "port_value": {}}}}}}},
                "dynamic_resources": {{"lds_config": {{"resource_api_version": "V3", "path_config_source": {{"path": "{}"}}}}}}}}"#,
            admin.port(),
            dir.path().join("lds.json").display(),
        );
        std::fs::write(dir.path().join("envoy.json"), config).unwrap();
        write_listeners(dir.path(), listeners);
        let binary = std::env::var_os("ENVOY_BIN").unwrap_or_else(|| "envoy".into());
        let child = Command::new(&binary)
            .arg("-c")
            .arg(dir.path().join("envoy.json"))
            .args(["--use-dynamic-base-id", "-l", "error", "--concurrency", "1"])
            .stderr(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("this test needs an Envoy: set ENVOY_BIN or put `envoy` into PATH ({binary:?}: {error})")
        });
        Self { child, dir, admin }
    }

    fn set_listeners(&self, listeners: &[SocketAddr]) {
        write_listeners(self.dir.path(), listeners);
    }

    fn post(&self, path: &str) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.admin).unwrap();
        write!(stream, "POST {path} HTTP/1.1\r\nhost: envoy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Envoy watches for the rename.
fn write_listeners(dir: &Path, listeners: &[SocketAddr]) {
    let listener = |address: &SocketAddr| {
        format!(
            r#"{{"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "vip/{address}",
                "address": {{"socket_address": {{"address": "{}", "port_value": {}}}}},
                "filter_chains": [{{"filters": [{{"name": "envoy.filters.network.tcp_proxy", "typed_config": {{
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": "t", "cluster": "none"}}}}]}}]}}"#,
            address.ip(),
            address.port()
        )
    };
    let resources: Vec<_> = listeners.iter().map(listener).collect();
    std::fs::write(dir.join("lds.new"), format!(r#"{{"resources": [{}]}}"#, resources.join(","))).unwrap();
    std::fs::rename(dir.join("lds.new"), dir.join("lds.json")).unwrap();
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The control plane's end, on a loopback port.
struct ControlPlane {
    address: SocketAddr,
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ControlPlane {
    async fn start() -> Self {
        Self::start_at("127.0.0.1").await
    }

    async fn start_at(host: &str) -> Self {
        let listener = tokio::net::TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, events) = mpsc::channel(64);
        let service = FeedbackServer::new(sender).into_service();
        let server = tonic::transport::Server::builder().add_service(service);
        let task = tokio::spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { address, events, task }
    }

    /// The next event that the function takes; it says `None` to go on.
    async fn until<T>(&mut self, what: &str, mut take: impl FnMut(Event) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the service runs");
                seen.push(format!("{event:?}"));
                if let Some(taken) = take(event) {
                    return taken;
                }
            }
        };
        let result = tokio::time::timeout(LONG, wait).await;
        result.unwrap_or_else(|_| panic!("waited in vain for: {what}; there was {seen:#?}"))
    }

    async fn connected(&mut self) -> (String, mpsc::Sender<Control>) {
        let take = |event| match event {
            Event::Connected { node_id, control, .. } => Some((node_id, control)),
            _ => None,
        };
        self.until("Connected", take).await
    }

    async fn listener(&mut self, what: &str, address: SocketAddr, test: impl Fn(&AgentListener) -> bool) {
        let name = format!("vip/{address}");
        let take = |event| match event {
            Event::Listeners { envoy_up: true, listeners, .. } => {
                listeners.iter().any(|l| l.name == name && test(l)).then_some(())
            }
            _ => None,
        };
        self.until(what, take).await;
    }
}

struct Agent {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), agent::Error>>,
}

impl Agent {
    fn start(control_plane: &ControlPlane, envoy: SocketAddr, flags: &[&str]) -> Self {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            options: Options,
        }
        let (url, admin) = (format!("http://{}", control_plane.address), envoy.to_string());
        let flags =
            ["agent", "--control-plane", &url, "--envoy-admin", &admin].into_iter().chain(flags.iter().copied());
        let options = <Cli as clap::Parser>::parse_from(flags).options;
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(agent::run(options, shutdown.clone()));
        Self { shutdown, task }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(LONG, self.task).await.expect("ends when told").unwrap().unwrap();
    }
}

fn request(slot: &str) -> AssignRequest {
    AssignRequest {
        slot: slot.into(),
        access: NamespacedName::new("shop", "checkout"),
        service: NamespacedName::new("shop", "checkout"),
        pod: None,
        ports: Vec::new(),
        hostnames: Vec::new(),
        family: Family::V4,
        current: None,
        rules_json: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_reports_what_a_real_envoy_does() {
    let (good, blocked) = (free_address(), TcpListener::bind("127.0.0.1:0").unwrap());
    let bad = blocked.local_addr().unwrap();
    let mut control_plane = ControlPlane::start().await;
    let mut envoy = Envoy::start("gw-1", &[good]);
    let agent = Agent::start(&control_plane, envoy.admin, &[]);

    let (node, _control) = control_plane.connected().await;
    assert_eq!(node, "gw-1", "the agent asks the Envoy for its name");
    let active = |l: &AgentListener| l.state == ListenerState::Active && l.error.is_empty();
    control_plane.listener("the good one active", good, |l| active(l) && l.address == Some(good)).await;

    envoy.set_listeners(&[good, bad]);
    let failed = |l: &AgentListener| {
        l.state == ListenerState::Failed && l.bindable == Some(false) && l.error.contains("Address already in use")
    };
    control_plane.listener("the blocked one failed", bad, failed).await;

    drop(blocked);
    let bindable = |l: &AgentListener| l.state == ListenerState::Failed && l.bindable == Some(true);
    control_plane.listener("the failed one bindable", bad, bindable).await;
    envoy.set_listeners(&[bad, good]);
    control_plane.listener("the failed one active", bad, active).await;

    let killed = Instant::now();
    envoy.child.kill().unwrap();
    let down = |event| match event {
        Event::Listeners { envoy_up: false, listeners, .. } => {
            assert!(listeners.is_empty());
            Some(())
        }
        _ => None,
    };
    control_plane.until("the Envoy down", down).await;
    assert!(killed.elapsed() < Duration::from_secs(1), "took {:?}", killed.elapsed());

    agent.stop().await;
    control_plane.until("the agent gone", |event| matches!(event, Event::Gone { .. }).then_some(())).await;
}

/// Its admin interface calls the listeners active all the same (tried on 1.40).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_does_not_believe_listeners_of_a_drained_envoy() {
    let address = free_address();
    let mut control_plane = ControlPlane::start().await;
    let envoy = Envoy::start("gw-2", &[address]);
    let agent = Agent::start(&control_plane, envoy.admin, &[]);
    control_plane.listener("active", address, |l| l.state == ListenerState::Active).await;
    envoy.post("/drain_listeners");
    control_plane.listener("draining", address, |l| l.state == ListenerState::Draining).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_keeps_addresses_over_restarts_and_the_second_agent_of_a_node_wins() {
    let state = tempfile::tempdir().unwrap();
    let mut control_plane = ControlPlane::start().await;
    // No Envoy is there: with its name given the agent reports that, and assigns.
    let nowhere = free_address();
    let flags = ["--node-id", "gw-3", "--assign", "240.11.0.0/29", "--state-dir", state.path().to_str().unwrap()];
    let assigned = |event| match event {
        Event::Assigned { slot, address, .. } => Some((slot, address)),
        Event::AssignFailed { reason, .. } => panic!("{reason}"),
        _ => None,
    };

    let agent = Agent::start(&control_plane, nowhere, &flags);
    let (node, control) = control_plane.connected().await;
    assert_eq!(node, "gw-3");
    control.send(Control::Assign(request("a"))).await.unwrap();
    let (slot, address) = control_plane.until("an address", assigned).await;
    assert_eq!(slot, "a");
    agent.stop().await;

    let agent = Agent::start(&control_plane, nowhere, &flags);
    let (_, control) = control_plane.connected().await;
    control.send(Control::Assign(request("b"))).await.unwrap();
    control.send(Control::Assign(request("a"))).await.unwrap();
    let (_, other) = control_plane.until("an address", assigned).await;
    assert_ne!(other, address);
    assert_eq!(control_plane.until("the same address", assigned).await, ("a".into(), address));

    let second = Agent::start(&control_plane, nowhere, &["--node-id", "gw-3"]);
    let mut gone = false;
    let take = |event| match event {
        Event::Gone { .. } => {
            gone = true;
            None
        }
        Event::Connected { ranges, control, .. } if ranges.is_empty() => {
            assert!(gone, "the first one's end is told before the second one is there");
            Some(control)
        }
        _ => None,
    };
    let control = control_plane.until("the second agent", take).await;
    agent.stop().await;
    control.try_send(Control::Assign(request("c"))).unwrap();
    // The first one may have come back once more before it was stopped; then the second one follows.
    let refused = |event| match event {
        Event::AssignFailed { reason, .. } => Some(reason),
        Event::Connected { ranges, control, .. } if ranges.is_empty() => {
            control.try_send(Control::Assign(request("c"))).unwrap();
            None
        }
        _ => None,
    };
    assert!(control_plane.until("a refusal", refused).await.contains("--assign"));
    second.stop().await;
}

/// What `ip` shows of a host's loopback interface: routes of the table `local` and IPv6 addresses, without those that
/// every host has.
fn local(host: &Host) -> Vec<String> {
    let mut lines = Vec::new();
    for arguments in
        ["-4 -d route show table local dev lo", "-6 -d route show table local dev lo", "-6 -o address show dev lo"]
    {
        let output = Command::new("ip").args(["-n", &host.name]).args(arguments.split(' ')).output().expect("ip runs");
        let text = String::from_utf8(output.stdout).unwrap();
        let ours = text
            .lines()
            .filter(|line| !line.contains("127.0.0") && !line.contains("::1 ") && !line.contains("::1/128"));
        lines.extend(ours.map(|line| line.trim().to_owned()));
    }
    lines
}

fn make_local(host: &Host, before: &[&str], ranges: &[&str]) -> Result<(), String> {
    let words = before.iter().chain(&[env!("CARGO_BIN_EXE_causeway"), "make-local"]).chain(ranges);
    let output = host.command("env").args(words).output().expect("ip runs");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
}

#[test]
fn ranges_are_made_local_as_ip_makes_them() {
    let (host, other) = (Host::new(), Host::new());
    for _ in 0..2 {
        make_local(&host, &[], &["240.11.0.0/16", "10.9.0.7", "fd00:11::1"]).unwrap();
    }
    other.make_local("240.11.0.0/16");
    other.make_local("10.9.0.7/32");
    other.add_address("fd00:11::1");
    assert_eq!(local(&host), local(&other));
    assert!(!local(&host).is_empty());

    let lacking = ["setpriv", "--bounding-set=-net_admin"];
    for (range, command) in [
        ("240.12.0.0/16", "ip -4 route replace local 240.12.0.0/16 dev lo"),
        ("fd00:11::2", "ip -6 address replace fd00:11::2/128 dev lo nodad"),
    ] {
        let said = make_local(&host, &lacking, &[range]).unwrap_err();
        assert!(said.contains(command) && said.contains("needs CAP_NET_ADMIN"), "{said}");
    }
    assert!(make_local(&host, &[], &["fd00:11::/64"]).unwrap_err().contains("one by one"));
    host.command("sysctl").args(["-qw", "net.ipv6.conf.lo.disable_ipv6=1"]).status().expect("sysctl runs");
    let said = make_local(&host, &[], &["fd00:11::2"]).unwrap_err();
    assert!(said.contains("IPv6 is off here"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_makes_what_it_assigns_local_until_it_is_released() {
    let (host, state) = (Host::new(), tempfile::tempdir().unwrap());
    let mut control_plane = ControlPlane::start_at(&host.near).await;
    let url = format!("http://{}", control_plane.address);
    let ranges = ["--assign", "240.12.0.0/24", "--assign", "fd00:12::/112", "--make-local", "--node-id", "gw-4"];
    let start = || {
        let mut command = host.command(env!("CARGO_BIN_EXE_causeway"));
        command.args(["agent", "--control-plane", &url]).arg("--state-dir").arg(state.path()).args(ranges);
        Process::start(state.path(), "agent", &mut command)
    };
    let has = |address: &str| local(&host).iter().any(|line| line.contains(address));
    let agent = start();
    let (_, control) = control_plane.connected().await;
    assert!(has("local 240.12.0.0/24") && has("local fd00:12::/112"), "{:?}", local(&host));
    control.send(Control::Assign(AssignRequest { family: Family::V6, ..request("a") })).await.unwrap();
    let assigned = |event| match event {
        Event::Assigned { address, .. } => Some(address),
        Event::AssignFailed { reason, .. } => panic!("{reason}"),
        _ => None,
    };
    let address = control_plane.until("an address", assigned).await;
    let text = format!(" {address}/128 ");
    assert!(has(&text), "{text}: {:?}", local(&host));

    // Whoever took it away meanwhile, it is there again before it is needed.
    drop(agent);
    crate::support::host::ip(&format!("-n {} -6 address delete {address}/128 dev lo", host.name));
    let _agent = start();
    let (_, control) = control_plane.connected().await;
    assert!(has(&text), "{text}: {:?}", local(&host));
    control.send(Control::Release { slot: "a".into(), address }).await.unwrap();
    let until = Instant::now() + LONG;
    while has(&text) {
        assert!(Instant::now() < until, "{text} stays: {:?}", local(&host));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
