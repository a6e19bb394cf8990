//! Load reports over a real connection, from a client that breaks the rules, too.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use causeway::ads::loads::Loads;
use causeway::ads::loads::server::LoadsServer;
use causeway::ads::net;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use xds_api::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};

use crate::ads::ClientCodec;

struct Client {
    requests: mpsc::Sender<LoadStatsRequest>,
    answers: Streaming<LoadStatsResponse>,
}

async fn serve(loads: &Loads) -> Channel {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = tonic::transport::Server::builder().add_service(LoadsServer::new(loads.clone()));
    tokio::spawn(router.serve_with_incoming(net::incoming(listener)));
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("it is served")
}

async fn connect(channel: &Channel, first: LoadStatsRequest) -> Result<Client, Status> {
    let (requests, sent) = mpsc::channel(4);
    requests.send(first).await.expect("room");
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.expect("it is ready");
    let path = PathAndQuery::from_static("/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats");
    let answers = grpc.streaming(tonic::Request::new(ReceiverStream::new(sent)), path, ClientCodec::default()).await?;
    Ok(Client { requests, answers: answers.into_inner() })
}

fn request(node: &str, in_flight: u64) -> LoadStatsRequest {
    serde_json::from_value(json!({
        "node": {"id": node},
        "clusterStats": [{"clusterName": "checkout", "upstreamLocalityStats": [{"upstreamEndpointStats": [{
            "address": {"socketAddress": {"address": "10.0.0.1", "portValue": 80}},
            "totalRequestsInProgress": in_flight.to_string(),
        }]}]}],
    }))
    .expect("a report")
}

async fn until(what: &str, met: impl Fn() -> bool) {
    let started = Instant::now();
    while !met() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn in_flight(loads: &Loads) -> u64 {
    loads.of_cluster("checkout", Instant::now()).values().map(|rates| rates.in_flight).sum()
}

#[tokio::test]
async fn reports_are_kept_as_long_as_the_stream() {
    let loads = Loads::new(Duration::from_millis(7_500));
    let channel = serve(&loads).await;
    let mut client = connect(&channel, request("gw-1", 3)).await.expect("it is served");
    let wanted = client.answers.message().await.expect("an answer").expect("what is wanted");
    assert!(wanted.send_all_clusters && wanted.report_endpoint_granularity);
    let interval = wanted.load_reporting_interval.expect("how often");
    assert_eq!((interval.seconds, interval.nanos), (7, 500_000_000));
    until("the first report", || in_flight(&loads) == 3).await;
    // Later ones say nothing of the node.
    client.requests.send(LoadStatsRequest { node: None, ..request("", 5) }).await.expect("it is read");
    until("the second report", || in_flight(&loads) == 5).await;
    let other = connect(&channel, request("gw-2", 2)).await.expect("it is served");
    until("both", || in_flight(&loads) == 7).await;
    drop(client);
    until("the first to go", || in_flight(&loads) == 2).await;
    drop(other);
    until("both to go", || in_flight(&loads) == 0).await;
    assert_eq!(loads.metrics().streams_closed.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn who_says_not_who_it_is_or_changes_that_is_refused() {
    let loads = Loads::new(Duration::from_secs(10));
    let channel = serve(&loads).await;
    let refused = connect(&channel, LoadStatsRequest::default()).await.err().expect("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("`node`"), "{}", refused.message());
    let mut client = connect(&channel, request("gw-1", 3)).await.expect("it is served");
    client.answers.message().await.expect("an answer").expect("what is wanted");
    client.requests.send(request("gw-2", 9)).await.expect("it is read");
    let refused = client.answers.message().await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    until("its report to go with it", || in_flight(&loads) == 0).await;
}
