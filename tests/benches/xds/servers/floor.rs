//! What cannot be done for less: a push is encoded once, and each stream writes those bytes. Nothing is computed, no
//! answer is looked at, and each stream lives in the task that the transport has for it anyway.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use causeway::ads::Protocol;
use causeway::ads::service::AdsServer;
use causeway::ads::stream::Response;
use causeway::snapshot::{Resource, ResourceType};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{TcpListenerStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::Server;
use tonic::{Status, Streaming};

use super::{Command, tell};
use crate::options::ServerOptions;
use crate::world::{self, Changes};

/// Resources of one response. Tonic keeps a buffer of a stream's largest message, which is not what is measured here.
const BATCH: usize = 20;

pub async fn serve(options: ServerOptions, mut commands: mpsc::Receiver<Command>) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let clusters: Vec<Resource> = (0..options.services).map(world::cluster).collect();
    let assignments = (0..options.services).map(|n| world::assignment(n, options.endpoints, 0)).collect::<Vec<_>>();
    let frames = |ty, all: Vec<Resource>| all.chunks(BATCH).map(|some| frame(ty, some.to_vec())).collect();
    let push = watch::Sender::new(Bytes::new());
    let floor = Floor {
        clusters: Arc::new(frames(ResourceType::Cluster, clusters)),
        assignments: Arc::new(frames(ResourceType::Endpoint, assignments)),
        push: push.subscribe(),
    };
    tokio::spawn(async move {
        let mut changes = Changes::new(options.services);
        while let Some(command) = commands.recv().await {
            let changed = changes.of(command).map(|(n, revision)| world::assignment(n, options.endpoints, revision));
            push.send_replace(frame(ResourceType::Endpoint, changed.collect()));
        }
        std::process::exit(0)
    });
    tell(&format!("ready {}", address.port()));
    let incoming = TcpListenerStream::new(listener).map(|tcp| tcp.inspect(|tcp| _ = tcp.set_nodelay(true)));
    Server::builder().add_service(floor).serve_with_incoming(incoming).await.map_err(|error| error.to_string())
}

fn frame(ty: ResourceType, resources: Vec<Resource>) -> Bytes {
    let response = Response {
        protocol: Protocol::Delta,
        ty: Some(ty),
        type_url: Arc::from(ty.type_url()),
        version: "1".to_owned(),
        nonce: "1".to_owned(),
        resources: resources.into_iter().map(Arc::new).collect(),
        removed: Vec::new(),
    };
    let mut out = BytesMut::with_capacity(response.encoded_len());
    response.encode(&mut out);
    out.freeze()
}

#[derive(Clone)]
struct Floor {
    clusters: Arc<Vec<Bytes>>,
    assignments: Arc<Vec<Bytes>>,
    push: watch::Receiver<Bytes>,
}

impl NamedService for Floor {
    const NAME: &'static str = AdsServer::NAME;
}

impl<B> Service<http::Request<B>> for Floor
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let floor = self.clone();
        Box::pin(async move { Ok(Grpc::new(Raw::default()).streaming(floor, request).await) })
    }
}

impl StreamingService<Asked> for Floor {
    type Response = Bytes;
    type ResponseStream = Frames;
    type Future = std::future::Ready<Result<tonic::Response<Frames>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Asked>>) -> Self::Future {
        let frames = Frames {
            requests: request.into_inner(),
            push: WatchStream::from_changes(self.push.clone()),
            queue: self.clusters.to_vec(),
            assignments: self.assignments.clone(),
            gets_assignments: true,
        };
        std::future::ready(Ok(tonic::Response::new(frames)))
    }
}

struct Frames {
    requests: Streaming<Asked>,
    push: WatchStream<Bytes>,
    queue: Vec<Bytes>,
    assignments: Arc<Vec<Bytes>>,
    gets_assignments: bool,
}

impl Stream for Frames {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while let Poll::Ready(request) = Pin::new(&mut self.requests).poll_next(cx) {
            match request {
                Some(Ok(Asked::Endpoints)) if self.gets_assignments => {
                    self.gets_assignments = false;
                    let assignments = self.assignments.clone();
                    self.queue.extend(assignments.iter().cloned());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
        if let Some(frame) = self.queue.pop() {
            return Poll::Ready(Some(Ok(frame)));
        }
        Poll::Ready(ready!(Pin::new(&mut self.push).poll_next(cx)).map(Ok))
    }
}

/// What little a request is looked at.
enum Asked {
    Endpoints,
    Other,
}

#[derive(Clone, Copy, Default)]
struct Raw {
    _private: (),
}

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Asked;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, frame: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(frame);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Asked;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Asked>, Status> {
        let head = &from.chunk()[..from.remaining().min(100)];
        let endpoints = head.windows(21).any(|part| part == b"ClusterLoadAssignment");
        from.advance(from.remaining());
        Ok(Some(if endpoints { Asked::Endpoints } else { Asked::Other }))
    }
}
