//! `envoy.service.status.v3.ClientStatusDiscoveryService` (CSDS): what each node was sent, has accepted and has refused,
//! for people who debug. Whoever may call it sees the configuration of all nodes, so it is a service apart, to be mounted
//! where such people get in and Envoys do not.

mod configs;
mod matcher;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use prost013::Message;
use tonic::codegen::{BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use xds_api::pb::envoy::service::status::v3::{ClientStatusRequest, ClientStatusResponse};

use self::matcher::Matchers;
use super::codec::XdsCodec;
use super::{Registry, StreamId};

/// Bytes of an answer. A fleet's contents can be any number of gigabytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a request, which holds little more than matchers.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// What is said of the contents of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    Shown,
    LeftOut,
}

/// The service, both methods. Cloning shares everything.
#[derive(Clone)]
pub struct StatusServer {
    registry: Registry,
}

impl StatusServer {
    /// Tells of the registry's streams.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    /// Describing thousands of resources takes milliseconds, for which the streams' threads do not wait.
    async fn answer(self, request: ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
        let told = tokio::task::spawn_blocking(move || answer(&self.registry, &request));
        told.await.map_err(|_| Status::internal("the answer failed"))?
    }
}

fn answer(registry: &Registry, request: &ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
    let matchers =
        Matchers::read(&request.node_matchers).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let contents = if request.exclude_resource_contents { Contents::LeftOut } else { Contents::Shown };
    let mut nodes: BTreeMap<Arc<str>, Vec<StreamId>> = BTreeMap::new();
    for row in registry.list().into_iter().filter(|row| matchers.is_meant(&row.node)) {
        nodes.entry(row.node).or_default().push(row.stream);
    }
    let mut config = Vec::new();
    let mut bytes = 0;
    for streams in nodes.into_values() {
        let streams = streams.into_iter().filter_map(|id| registry.look(id));
        let Some(client) = configs::of_client(streams, contents) else { continue };
        bytes += client.encoded_len();
        if bytes > MAX_ANSWER_BYTES {
            return Err(Status::resource_exhausted(format!(
                "the answer is larger than {MAX_ANSWER_BYTES} bytes: choose nodes by node_matchers, or leave out what \
                 resources hold by exclude_resource_contents"
            )));
        }
        config.push(client);
    }
    Ok(ClientStatusResponse { config })
}

impl UnaryService<ClientStatusRequest> for StatusServer {
    type Response = ClientStatusResponse;
    type Future = BoxFuture<Response<ClientStatusResponse>, Status>;

    fn call(&mut self, request: Request<ClientStatusRequest>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { server.answer(request.into_inner()).await.map(Response::new) })
    }
}

/// One answer a request.
impl StreamingService<ClientStatusRequest> for StatusServer {
    type Response = ClientStatusResponse;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, requests: Request<Streaming<ClientStatusRequest>>) -> Self::Future {
        let server = self.clone();
        let answers = requests.into_inner().then(move |request| {
            let server = server.clone();
            async move { server.answer(request?).await }
        });
        Box::pin(async { Ok(Response::new(Box::pin(answers) as Self::ResponseStream)) })
    }
}

impl NamedService for StatusServer {
    const NAME: &'static str = "envoy.service.status.v3.ClientStatusDiscoveryService";
}

impl<B> Service<http::Request<B>> for StatusServer
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
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        Box::pin(async move {
            let codec = XdsCodec::<ClientStatusResponse, ClientStatusRequest>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(MAX_REQUEST_BYTES);
            Ok(match method.as_str() {
                "FetchClientStatus" => grpc.unary(server, request).await,
                "StreamClientStatus" => grpc.streaming(server, request).await,
                _ => Status::unimplemented(format!("{} has no method `{method}`", Self::NAME)).into_http(),
            })
        })
    }
}
