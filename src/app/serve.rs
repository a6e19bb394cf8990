//! `causeway serve`: every room, started from the store outwards and stopped in reverse.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use super::source::{self, Source};
use super::{debug, feedback, members, metrics, objects, policies, reflection, stop_on_signal};
use crate::admin::{self, AdminState};
use crate::ads::loads::{Loads, server::LoadsServer};
use crate::ads::{self, DiscoveryService, service::AdsServer, status::StatusServer};
use crate::agent::proto::feedback_server;
use crate::agent::service::FeedbackServer;
use crate::config::{Clusters, ListenAddr, PolicySources, ServeConfig};
use crate::kube::connect;
use crate::policy::apart::{CompileLimits, Compiler};
use crate::policy::{Engine, Policies};
use crate::reconcile::{self, Event, Inventory, Keeper, LedgerCopy, Outputs, Owner, view};
use crate::registry::{self, Registry};
use crate::snapshot::ResourceType;
use crate::store::Store;
use crate::trust::signature::Keys;
use crate::trust::{Action, Mode};
use crate::vip::{self, Ledger};
use crate::{dns, reconcile::from_row};

/// Events that wait for the owner. A turn takes as many at once, so that more would only wait longer.
const EVENTS: usize = 512;
/// Components that are held in memory for being uploaded: one that is compiled, and one that comes in.
const UPLOADS: usize = 2;
/// How long open requests may delay the end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// HTTP/2 windows: one stream carries everything, so a window of 64 KiB would stall large first responses.
const WINDOW: u32 = 4 << 20;
/// A peer that went without a word is noticed after about this long.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// What keeps it from starting: an address that is taken, a data directory in use, a ledger that cannot be read.
pub fn serve(config: ServeConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(run(config))
}

async fn run(config: ServeConfig) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    let store = tokio::select! {
        // A server that does not answer is waited for.
        () = shutdown.cancelled() => return Ok(()),
        store = Store::open_at(&config.store, &config.data_dir) => store.context("opening the store")?,
    };
    if let Some(aside) = store.set_aside() {
        tracing::warn!(path = %aside.display(), "the inventory was corrupt and is set aside; it fills again");
    }
    let ledger = load_ledger(&store).await?;
    tracing::info!(vips = ledger.len(), "the ledger is loaded");

    let mut tasks = JoinSet::new();
    let (events, events_rx) = mpsc::channel(EVENTS);
    let (table, table_rx) = watch::channel(Arc::new(dns::Table::pending()));
    let inventory = Inventory::default();
    let written = CancellationToken::new();
    let copy = LedgerCopy::new(store.clone());
    let mut writers = JoinSet::new();
    writers.spawn(inventory.clone().write(store.clone(), written.clone()));
    writers.spawn(copy.clone().write(written.clone()));

    let primary = source::primary(&config);
    let objects = match (&config.clusters, &primary) {
        (Clusters::Kubernetes { kubeconfig }, Some(primary)) => {
            Some(objects::start(kubeconfig.as_deref(), &store, primary, &events, &shutdown).await?)
        }
        _ => None,
    };
    let has_ledger_copy = objects.as_ref().is_some_and(|objects| objects.has_ledger_copy);
    let outbox = objects.as_ref().map(|objects| objects.outbox.clone());
    let (down, board) = objects.as_ref().map(|objects| (objects.down.clone(), objects.board.clone())).unzip();
    let registry = admin::metrics::Registry::new();
    if let Some(board) = board.clone() {
        registry.register(Arc::new(move || metrics::down_families(&board)));
    }
    let kept = store.clone();
    registry.register(Arc::new(move || metrics::store_families(&kept)));
    if let Some(counters) = objects.as_ref().map(|objects| objects.counters.clone()) {
        registry.register(Arc::new(move || metrics::kube_families(&counters)));
    }
    let cache = config.data_dir.join("compiled");
    let folder = cache.clone();
    let mut policies = tokio::task::spawn_blocking(move || Policies::new(Engine::new(Some(&folder))?))
        .await
        .context("compiling the built-in policies")??;
    let tally = policies.tally();
    registry.register(Arc::new(move || metrics::policy_families(&tally)));
    let most = CompileLimits {
        cpu_seconds: config.policy_compile_cpu.as_secs(),
        memory_mib: config.policy_compile_memory_mib,
    };
    let (declared, declared_rx) = watch::channel(Arc::default());
    let settings = policies::Settings {
        compiler: Compiler::new(&cache, most),
        sources: policies::Sources {
            folder: config.policies.folder.clone(),
            client: match &config.clusters {
                Clusters::Kubernetes { kubeconfig } => Some(connect::primary(kubeconfig.as_deref()).await?),
                Clusters::Manifests(_) => None,
            },
            registry: registry_of(&config.policies)?,
        },
        keys: keys_of(&config.policies)?,
        declared: declared_rx.clone(),
    };
    let life = policies::Life::start(store.clone(), settings, &mut policies, events.clone())
        .await
        .context("loading the policies that were uploaded")?;
    let life = Arc::new(life);
    tokio::spawn(policies::follow(life.clone(), declared_rx, shutdown.clone()));
    let outputs = Outputs {
        keeper: match objects {
            Some(objects) => Keeper::Objects(Box::new(objects.virtual_ips), copy.clone()),
            None => Keeper::Store(store.clone()),
        },
        inventory,
        dns: table,
        outbox: outbox.clone(),
        down,
        declared,
        nameservers: config.dns_addr.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect(),
    };
    let spans = vip::Settings { drain_ms: millis(config.drain), grace_ms: millis(config.grace), ..Default::default() };
    let settings = reconcile::Settings { primary, vip: spans, has_ledger_copy };
    let owner = Owner::new(ledger, settings, policies, outputs);
    let mut owner = tokio::spawn(owner.run(events_rx, shutdown.clone()));

    if let Some(address) = config.dns_addr {
        let (udp, tcp) = bind_dns(address).await?;
        let until = shutdown.clone();
        tasks.spawn(async move { dns::serve(udp, tcp, table_rx, until).await.context("DNS") });
    }
    // A drained listener's last connections are served for as long as a node that is gone is waited for.
    let limits = ads::Limits { drain_timeout: config.grace, ..ads::Limits::default() };
    let mode = if config.insecure { Mode::Insecure } else { Mode::Local };
    // What binds an address is a listener.
    let ads = AdsServer::with_acks_of(spawn_ads(&events), limits, &[ResourceType::Listener]);
    let loads = config.load_report_interval.map(Loads::new);
    if let Some(metrics) = loads.as_ref().map(|loads| loads.metrics().clone()) {
        registry.register(Arc::new(move || metrics::load_families(&metrics)));
    }
    serve_xds(&config, &ads, loads.as_ref(), &events, mode, &shutdown, &mut tasks).await?;
    let members = members::serve(&config, &shutdown, &mut tasks).await?;
    if let Some(counters) = members.as_ref().map(|(_, counters)| counters.clone()) {
        registry.register(Arc::new(move || members::families(&counters)));
    }
    let members = members.map(|(members, _)| members);
    let source = source::start(&config, &store, &events, outbox.zip(board), members, &shutdown).await?;
    serve_admin(&config, &ads, loads, source, life, registry, &events, mode, &shutdown, &mut tasks).await?;
    drop(events);

    let outcome = tokio::select! {
        // First, since all others end by it too.
        biased;
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => ended.context("a task ended").and_then(|result| result),
        // Without it the process would go on to say that it is alive and do nothing.
        ended = &mut owner => Err(ended.err().map_or_else(|| anyhow::anyhow!("the owner ended"), Into::into)),
    };
    shutdown.cancel();
    // Streams of Envoys never end by themselves, so that waiting has a bound.
    let _ = tokio::time::timeout(LAST_WORDS, async { while tasks.join_next().await.is_some() {} }).await;
    tasks.abort_all();
    if !owner.is_finished() {
        let _ = owner.await;
    }
    written.cancel();
    while writers.join_next().await.is_some() {}
    store.close().await;
    outcome
}

/// The keys with one of which each policy must be signed.
fn keys_of(config: &PolicySources) -> anyhow::Result<Keys> {
    let mut keys = Keys::default();
    for file in &config.keys {
        let shown = file.display().to_string();
        let text = std::fs::read_to_string(file).with_context(|| format!("reading --policy-key {shown}"))?;
        keys.extend([Keys::from_pem(&shown, &text).context("--policy-key")?]);
    }
    if !keys.is_empty() {
        tracing::info!(%keys, "policies must be signed");
    }
    Ok(keys)
}

fn registry_of(config: &PolicySources) -> anyhow::Result<Registry> {
    let options = registry::Options {
        credentials: config.registry_config.clone(),
        ca: config.registry_ca.clone(),
        plain_http: config.insecure_registries.clone(),
        ..registry::Options::default()
    };
    Registry::new(options).context("--registry-config or --registry-ca")
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

async fn load_ledger(store: &Store) -> anyhow::Result<Ledger> {
    let rows = store.load_ledger().await.context("reading the VIP ledger")?;
    let vips = rows.iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
    Ledger::from_rows(vips).context("the VIP ledger contradicts itself; restore it from a backup")
}

fn spawn_ads(events: &mpsc::Sender<Event>) -> mpsc::Sender<ads::Event> {
    let (sender, mut receiver) = mpsc::channel(EVENTS);
    let events = events.clone();
    tokio::spawn(async move {
        while let Some(event) = receiver.recv().await {
            if events.send(Event::Ads(event)).await.is_err() {
                return;
            }
        }
    });
    sender
}

async fn bind_dns(address: SocketAddr) -> anyhow::Result<(UdpSocket, TcpListener)> {
    let hint = || format!("binding --dns-addr {address} (is another DNS server there? choose another port)");
    let tcp = TcpListener::bind(address).await.with_context(hint)?;
    // With port 0 both have the port that TCP was given.
    let udp = UdpSocket::bind(tcp.local_addr()?).await.with_context(hint)?;
    tracing::info!(address = %tcp.local_addr()?, "DNS is served");
    Ok((udp, tcp))
}

/// Serves discovery, and the reports of agents and Envoys, on each address.
async fn serve_xds(
    config: &ServeConfig,
    ads: &AdsServer,
    loads: Option<&Loads>,
    events: &mpsc::Sender<Event>,
    mode: Mode,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let (told, told_rx) = mpsc::channel(EVENTS);
    tokio::spawn(feedback::pass_on(told_rx, events.clone()));
    let agents = FeedbackServer::new(told).into_service();
    let mut served = DiscoveryService::ALL.map(DiscoveryService::name).to_vec();
    served.push(<feedback_server::FeedbackServer<FeedbackServer> as NamedService>::NAME);
    let mut services = ads
        .services(admin::guard::grpc(mode, Action::Discover))
        .add_service(InterceptedService::new(agents, admin::guard::grpc(mode, Action::Report)));
    if let Some(loads) = loads {
        served.push(LoadsServer::NAME);
        let reports = LoadsServer::new(loads.clone());
        // An Envoy tells of itself, as it does when it asks to be served.
        let guarded = InterceptedService::new(reports, admin::guard::grpc(mode, Action::Discover));
        services = services.add_service(guarded);
    }
    let services = reflection::add(services, &served, admin::guard::grpc(mode, Action::Discover));
    for address in &config.xds_addrs {
        let router = Server::builder()
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_routes(services.clone());
        let until = shutdown.clone().cancelled_owned();
        match address {
            ListenAddr::Tcp(address) => {
                let listener = ads::net::bind(*address).with_context(|| format!("binding --xds-addr {address}"))?;
                tracing::info!(address = %listener.local_addr()?, "xDS is served");
                tasks.spawn(async move {
                    router.serve_with_incoming_shutdown(ads::net::incoming(listener), until).await.context("xDS")
                });
            }
            ListenAddr::Unix(path) => {
                let listener = bind_unix(path)?;
                tracing::info!(path = %path.display(), "xDS is served");
                tasks.spawn(async move {
                    let incoming = UnixListenerStream::new(listener);
                    router.serve_with_incoming_shutdown(incoming, until).await.context("xDS")
                });
            }
        }
    }
    Ok(())
}

/// Binds a Unix socket; one that an earlier run left behind, at which nobody listens, is taken away first.
fn bind_unix(path: &Path) -> anyhow::Result<UnixListener> {
    if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path).with_context(|| format!("removing the old socket {}", path.display()))?;
    }
    UnixListener::bind(path).with_context(|| format!("binding --xds-addr unix:{}", path.display()))
}

#[expect(clippy::too_many_arguments, reason = "the parts that it is wired to")]
async fn serve_admin(
    config: &ServeConfig,
    ads: &AdsServer,
    loads: Option<Loads>,
    source: Source,
    life: Arc<policies::Life>,
    registry: admin::metrics::Registry,
    events: &mpsc::Sender<Event>,
    mode: Mode,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let counters = ads.metrics();
    registry.register(Arc::new(move || metrics::families(&counters)));
    let uploads = Arc::new(admin::policies::Uploads::new(UPLOADS));
    registry.register(uploads.clone());
    let (inspect, inspect_rx) = mpsc::channel(EVENTS);
    tokio::spawn(answer(inspect_rx, source, events.clone(), shutdown.clone()));
    let state = AdminState {
        inspect,
        xds: Arc::new(debug::Streams { registry: ads.registry(), loads }),
        policies: life,
        uploads,
        metrics: Arc::new(registry),
        // Whoever sees what all nodes are served passes the admin interface's door, not that of the nodes.
        grpc: reflection::add(Routes::new(StatusServer::new(ads.registry())), &[StatusServer::NAME], Ok),
        mode,
    };
    let address = config.admin_addr;
    let listener = TcpListener::bind(address).await.with_context(|| format!("binding --admin-addr {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "the admin interface is served");
    let until = shutdown.clone().cancelled_owned();
    tasks.spawn(async move { admin::serve(listener, state, until).await.context("the admin interface") });
    Ok(())
}

/// Questions go to the owner; forgetting a cluster to the source that knows it.
async fn answer(
    mut asked: mpsc::Receiver<view::Inspect>,
    source: Source,
    events: mpsc::Sender<Event>,
    shutdown: CancellationToken,
) {
    loop {
        let inspect = tokio::select! {
            () = shutdown.cancelled() => break,
            inspect = asked.recv() => inspect,
        };
        match inspect {
            None => break,
            Some(view::Inspect::Query(query, reply)) => {
                if events.send(Event::Inspect(query, reply)).await.is_err() {
                    break;
                }
            }
            Some(view::Inspect::Forget { cluster, reply }) => {
                let _ = reply.send(source.forget(&cluster).await);
            }
        }
    }
    source.stop().await;
}
