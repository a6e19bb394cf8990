//! Watches over which nothing comes any more, while the API server answers all else: no pulse notices that.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use causeway::kube::connect::Credential;
use causeway::kube::watch::{Item, Session, Told};
use causeway::model::object::ObjectKind;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::apiserver::shared;

const WITHIN: Duration = Duration::from_secs(60);

/// Passes connections on to an API server, until told to keep silent on those that it has: they stay open.
struct Forwarder {
    address: SocketAddr,
    silent: watch::Sender<()>,
}

impl Forwarder {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("bound");
        let (silent, _) = watch::channel(());
        let told = silent.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, to, told.subscribe()));
            }
        });
        Self { address, silent }
    }
}

async fn pass(mut near: TcpStream, to: SocketAddr, mut silent: watch::Receiver<()>) {
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        Ok(()) = silent.changed() => std::future::pending().await,
    }
}

/// Waits until the watch tells of the service.
async fn told_of(session: &mut Session, name: &str) {
    while let Some(told) = session.told.recv().await {
        if let Told::Items(_, items) = told {
            let is_it = |item: &Item| matches!(item, Item::Object(object) if &*object.key().name == name);
            if items.iter().any(is_it) {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_fell_silent_alone_is_taken_up_again() {
    let server = shared(1);
    let namespace = server.namespace("silence");
    let forwarder = Forwarder::start(server.address()).await;
    let (old, new) = (server.address().to_string(), forwarder.address.to_string());
    let kubeconfig = server.kubeconfig_for("admin-token").replace(&old, &new);
    let client = Credential::parse(&kubeconfig).unwrap().client().await.unwrap();
    let mut session = Session::open(client);
    session.begin(&[ObjectKind::Service]);
    let create = |name: &str| server.kubectl(&["-n", &namespace, "create", "service", "clusterip", name, "--tcp=80"]);
    create("before");
    told_of(&mut session, "before").await;

    forwarder.silent.send_replace(());
    create("since");
    let since = Instant::now();
    tokio::time::timeout(WITHIN, told_of(&mut session, "since")).await.expect("the watch is taken up again");
    println!("told after {:.1} s", since.elapsed().as_secs_f64());
    let pulse = session.pulse.borrow().clone();
    assert!(pulse.failing.is_none() && pulse.identity.is_some(), "{pulse:?}");
}
