//! `causeway bench xds` against a server of this house.

use std::net::SocketAddr;
use std::time::Duration;

use causeway::ads::service::AdsServer;
use causeway::ads::{Event, Limits, Refusal, net};
use causeway::snapshot::{Reference, Resource, ResourceType, SnapshotBuilder};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use xds_api::pb::envoy::config::cluster::v3::Cluster;
use xds_api::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};

use crate::cli::run;

const SERVICES: usize = 3;

/// Serves nodes whose metadata has the role `sidecar`, and changes an assignment every 50 milliseconds.
async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tx, mut events) = mpsc::channel(64);
    let router = tonic::transport::Server::builder().add_service(AdsServer::new(tx, Limits::default()));
    tokio::spawn(router.serve_with_incoming(net::incoming(listener)));
    let resource = |ty, n: usize, revision: u32| {
        let name = format!("s{n}");
        // In SotW a name stands in the body only.
        match ty {
            ResourceType::Cluster => {
                let cluster = Cluster { name: name.clone(), ..Cluster::default() };
                Resource::new(ty, &*name, &cluster).with_refs([Reference::new(ResourceType::Endpoint, &*name)])
            }
            _ => {
                let locality = LocalityLbEndpoints { priority: revision, ..LocalityLbEndpoints::default() };
                let (cluster_name, endpoints) = (name.clone(), vec![locality]);
                let assignment = ClusterLoadAssignment { cluster_name, endpoints, ..ClusterLoadAssignment::default() };
                Resource::new(ty, &*name, &assignment)
            }
        }
    };
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        for n in 0..SERVICES {
            edit.set(resource(ResourceType::Cluster, n, 0)).set(resource(ResourceType::Endpoint, n, 0));
        }
    });
    let snapshots = watch::Sender::new(Some(builder.latest().clone()));
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let mut revision = 0;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Connected { node, reply, .. }) => {
                        let is_sidecar = node.metadata.get("role").and_then(Value::as_str) == Some("sidecar");
                        let refusal = Refusal { message: "metadata has no `role`".to_owned() };
                        let answer = if is_sidecar { Ok(snapshots.subscribe()) } else { Err(refusal) };
                        reply.send(answer).ok();
                    }
                    Some(_) => {}
                    None => return,
                },
                _ = ticks.tick() => {
                    revision += 1;
                    builder.update(|edit| _ = edit.set(resource(ResourceType::Endpoint, 0, revision)));
                    snapshots.send_replace(Some(builder.latest().clone()));
                }
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_served_and_told_of() {
    let server = serve().await.to_string();
    let common = ["bench", "xds", "--server", &server, "--clients", "20", "--duration", "1s", "-o", "json"];
    let common = [&common[..], &["--node-metadata", "role=sidecar"]].concat();
    for extra in [&["--reconnect", "--stalled", "2"][..], &["--protocol", "sotw"], &["--refuse", "endpoint/s1"]] {
        let (code, stdout, stderr) = run(&[&common[..], extra].concat()).await;
        assert_eq!((code, stderr.as_str()), (0, ""), "{extra:?}: {stdout}");
        let report: Value = serde_json::from_str(&stdout).expect("a document");
        assert_eq!((report["served"].as_u64(), report["failed"].as_u64()), (Some(20), Some(0)), "{stdout}");
        assert!(report["connectMs"]["count"].as_u64() >= Some(20), "{stdout}");
        assert!(report["pushes"]["versions"].as_u64() >= Some(2), "{stdout}");
        assert!(report["pushes"]["spreadMs"]["last"].as_f64() > Some(0.0), "{stdout}");
        let clusters = report["types"].as_array().expect("rows").iter().find(|row| row["type"] == "cluster");
        let clusters = clusters.and_then(|row| row["resources"].as_u64());
        assert_eq!(clusters, Some(20 * SERVICES as u64), "nothing is sent twice: {stdout}");
        if extra.contains(&"--refuse") {
            assert_eq!(report["start"]["nacks"].as_u64(), Some(20), "{stdout}");
        }
        if extra.contains(&"--reconnect") {
            assert!(report["reconnect"]["seconds"].as_f64() > Some(0.0), "{stdout}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_served_makes_it_fail_with_the_reason() {
    let server = serve().await.to_string();
    let (code, stdout, _) = run(&["bench", "xds", "--server", &server, "--clients", "3", "--duration", "1s"]).await;
    assert_eq!(code, 1);
    assert!(stdout.contains("0 of 3 clients served, 3 failed"), "{stdout}");
    assert!(stdout.contains("3 clients: ") && stdout.contains("metadata has no `role`"), "{stdout}");
    // Somebody listens and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = silent.local_addr().expect("an address").to_string();
    let (code, stdout, _) = run(&["bench", "xds", "--server", &silent, "--clients", "2", "--within", "300ms"]).await;
    assert!(code == 1 && stdout.contains("0 of 2 clients served"), "{stdout}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    for (args, says) in [
        (&["--server", "nowhere"][..], "HOST:PORT"),
        (&["--node-metadata", "role"], "KEY=VALUE"),
        (&["--refuse", "secret/x"], "endpoint/NAME"),
        (&["--refuse", "cluster"], "endpoint/NAME"),
        (&["--protocol", "sotw", "--reconnect"], "--reconnect"),
        (&["--clients", "0"], "--clients"),
    ] {
        let (code, _, stderr) = run(&[&["bench", "xds"], args].concat()).await;
        assert!(code == 2 && stderr.contains(says), "{args:?}: {stderr}");
    }
}
