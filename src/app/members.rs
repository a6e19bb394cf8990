//! The listener at which managers of sub-clusters are let in.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::admin::metrics::{Family, Kind};
use crate::config::ServeConfig;
use crate::kube::manager::Members;
use crate::member::authority::Place;
use crate::member::service::{Counters, MemberServer};
use crate::member::{Door, incoming};

/// A member that went without a word is noticed by its silence; a connection that begins no stream, by this.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Streams that a connection may have: one, and one that takes its place.
const STREAMS: u32 = 2;

/// HTTP/2 windows: a member bounds what is under way by how fast it is answered, and a long line takes more than 64
/// KiB.
const WINDOW: u32 = 1 << 20;

/// Lets members in, where that is asked for: gives where they are handed over, and what is counted.
pub(super) async fn serve(
    config: &ServeConfig,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Option<(Members, Counters)>> {
    let Some(listener) = &config.members else { return Ok(None) };
    let place = match listener.ca.clone() {
        Some((cert, key)) => Place::Files { cert, key },
        None => Place::DataDir(config.data_dir.clone()),
    };
    let door = Door::open(place, &listener.trust_domain).context("--member-addr: the authority of members")?;
    let members = Members::default();
    let server = MemberServer::new(members.clone(), shutdown.clone());
    let counters = server.counters();
    let address = listener.addr;
    let tcp = TcpListener::bind(address).await.with_context(|| format!("binding --member-addr {address}"))?;
    tracing::info!(address = %tcp.local_addr()?, "members are let in");
    let router = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .add_service(server.into_service());
    let until = shutdown.clone().cancelled_owned();
    let connections = incoming(tcp, Arc::new(door));
    tasks.spawn(async move { router.serve_with_incoming_shutdown(connections, until).await.context("members") });
    Ok(Some((members, counters)))
}

/// The families of members.
pub(super) fn families(counters: &Counters) -> Vec<Family> {
    let all = counters.by_cluster();
    let family = |name: &str, help: &str, kind: Kind| Family::new(name, help, kind);
    let mut connected = family("causeway_member_connected", "Whether a cluster's member is connected.", Kind::Gauge);
    let mut streams = family("causeway_member_streams", "Streams of members that were let in.", Kind::Counter);
    let mut ends = family(
        "causeway_member_certificate_ends_seconds",
        "When the certificate of a cluster's member ends, in seconds since the Unix epoch.",
        Kind::Gauge,
    );
    let mut objects = family("causeway_member_objects", "Objects that members told of.", Kind::Counter);
    for (cluster, told) in &all {
        let label = ("cluster", cluster.as_str());
        connected = connected.with([label], f64::from(u8::from(told.is_connected)));
        streams = streams.with([label], told.streams as f64);
        ends = ends.with([label], told.certificate_ends_at as f64);
        objects = objects
            .with([label, ("what", "upsert")], told.upserts as f64)
            .with([label, ("what", "delete")], told.deletes as f64)
            .with([label, ("what", "rejected")], told.rejected as f64);
    }
    let refused = family("causeway_member_streams_refused", "Streams that were not let in.", Kind::Counter)
        .with::<0>([], counters.refused() as f64);
    vec![connected, streams, ends, objects, refused]
}
