//! The tonic service: one stream a client, which is told once how often to report.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, stream};
use tokio::time::timeout;
use tonic::codegen::{BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use xds_api::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use xds_api::pb::google::protobuf;

use super::{Loads, Place};
use crate::ads::codec::XdsCodec;
use crate::ads::{NodeInfo, Violation};

/// Bytes of a report.
const MAX_REPORT_BYTES: usize = 4 * 1024 * 1024;

/// How long the first request may take.
const FIRST_REQUEST: Duration = Duration::from_secs(20);

/// The service. Cloning shares everything.
#[derive(Clone)]
pub struct LoadsServer {
    loads: Loads,
}

impl LoadsServer {
    /// Keeps what is reported there.
    pub fn new(loads: Loads) -> Self {
        Self { loads }
    }

    /// All clusters, to each endpoint. Envoy honours `send_all_clusters` only if it said that it can; all do.
    fn wanted(&self) -> LoadStatsResponse {
        let interval = self.loads.interval;
        LoadStatsResponse {
            send_all_clusters: true,
            load_reporting_interval: Some(protobuf::Duration {
                seconds: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(interval.subsec_nanos()).unwrap_or(0),
            }),
            report_endpoint_granularity: true,
            ..LoadStatsResponse::default()
        }
    }

    async fn begin(self, mut requests: Streaming<LoadStatsRequest>) -> Result<(LoadStatsResponse, Reports), Status> {
        let first = timeout(FIRST_REQUEST, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no request came"))??;
        let first = first.ok_or_else(|| Status::cancelled("the client is done"))?;
        let node = NodeInfo::read(first.node.as_ref()).map_err(refused)?;
        let place = self.loads.begin(&node.id, Instant::now());
        let place = place.ok_or_else(|| Status::resource_exhausted("too many clients report their loads"))?;
        if !first.cluster_stats.is_empty() {
            place.report(&first.cluster_stats, Instant::now());
        }
        Ok((self.wanted(), Reports { requests, node, place }))
    }
}

fn refused(violation: Violation) -> Status {
    Status::invalid_argument(violation.to_string())
}

/// A client's reports. What it reported goes when this is dropped, with the connection at the latest.
struct Reports {
    requests: Streaming<LoadStatsRequest>,
    node: NodeInfo,
    place: Place,
}

impl Reports {
    /// Takes reports until the client is done.
    async fn follow(mut self) -> Result<(), Status> {
        while let Some(request) = self.requests.message().await? {
            self.node.hold(request.node.as_ref()).map_err(refused)?;
            self.place.report(&request.cluster_stats, Instant::now());
        }
        Ok(())
    }
}

/// What is left to do for a client.
enum Next {
    Tell(LoadStatsResponse, Box<Reports>),
    Follow(Box<Reports>),
    End,
}

async fn step(next: Next) -> Option<(Result<LoadStatsResponse, Status>, Next)> {
    match next {
        Next::Tell(wanted, reports) => Some((Ok(wanted), Next::Follow(reports))),
        Next::Follow(reports) => Some((Err(reports.follow().await.err()?), Next::End)),
        Next::End => None,
    }
}

impl StreamingService<LoadStatsRequest> for LoadsServer {
    type Response = LoadStatsResponse;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<LoadStatsResponse, Status>> + Send>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, requests: Request<Streaming<LoadStatsRequest>>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (wanted, reports) = server.begin(requests.into_inner()).await?;
            // Reads when the transport asks for more to send, which it does as long as the stream is open.
            let answers = stream::unfold(Next::Tell(wanted, Box::new(reports)), step);
            Ok(Response::new(Box::pin(answers) as Self::ResponseStream))
        })
    }
}

impl NamedService for LoadsServer {
    const NAME: &'static str = "envoy.service.load_stats.v3.LoadReportingService";
}

impl<B> Service<http::Request<B>> for LoadsServer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let codec = XdsCodec::<LoadStatsResponse, LoadStatsRequest>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(MAX_REPORT_BYTES);
            Ok(match request.uri().path().rsplit('/').next() {
                Some("StreamLoadStats") => grpc.streaming(server, request).await,
                _ => Status::unimplemented(format!("{} has StreamLoadStats only", Self::NAME)).into_http(),
            })
        })
    }
}
