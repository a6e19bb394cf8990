//! The tonic shell over real connections: identity, limits, slow readers, the end of streams. What the
//! protocol asks for is tested on the machines, beside them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use causeway::ads::service::AdsServer;
use causeway::ads::{Event, Limits, NodeInfo, Protocol, Refusal, StreamId, net};
use causeway::snapshot::{Resource, ResourceType, SnapshotBuilder, XdsSnapshot};
use prost013::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status, Streaming};
use xds_api::pb::envoy::config::core::v3::Node;
use xds_api::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

/// Long enough for a slow machine; nothing waits for it when all is well.
const SOON: Duration = Duration::from_secs(20);

/// A client's codec, whatever the messages: those of xds-api are of another prost than tonic's.
pub struct ClientCodec<A, B>(std::marker::PhantomData<(A, B)>);
pub struct Half<T>(std::marker::PhantomData<T>);

impl<A, B> Default for ClientCodec<A, B> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<A: Message + 'static, B: Message + Default + 'static> Codec for ClientCodec<A, B> {
    type Encode = A;
    type Decode = B;
    type Encoder = Half<A>;
    type Decoder = Half<B>;

    fn encoder(&mut self) -> Half<A> {
        Half(std::marker::PhantomData)
    }

    fn decoder(&mut self) -> Half<B> {
        Half(std::marker::PhantomData)
    }
}

impl<T: Message> Encoder for Half<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<T: Message + Default> Decoder for Half<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        T::decode(from).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// A served view, and its owner's ends.
struct Served {
    address: SocketAddr,
    server: AdsServer,
    events: mpsc::Receiver<Event>,
    snapshots: watch::Sender<Option<Arc<XdsSnapshot>>>,
}

impl Served {
    async fn start(limits: Limits, snapshot: Option<Arc<XdsSnapshot>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tx, events) = mpsc::channel(64);
        let server = AdsServer::new(tx, limits);
        let router = tonic::transport::Server::builder().add_service(server.clone());
        tokio::spawn(router.serve_with_incoming(net::incoming(listener)));
        Self { address, server, events, snapshots: watch::channel(snapshot).0 }
    }

    async fn event(&mut self) -> Event {
        timeout(SOON, self.events.recv()).await.expect("an event comes").expect("the service lives")
    }

    /// Takes the next connection in.
    async fn accept(&mut self) -> (StreamId, NodeInfo) {
        match self.event().await {
            Event::Connected { stream, node, reply, .. } => {
                reply.send(Ok(self.snapshots.subscribe())).expect("the stream waits");
                (stream, node)
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) type Answers<B> = Result<Streaming<B>, Status>;

pub(crate) async fn open<A, B>(address: SocketAddr, method: &'static str) -> (mpsc::Sender<A>, Answers<B>)
where
    A: Message + 'static,
    B: Message + Default + 'static,
{
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).expect("a URI");
    let channel = endpoint.initial_stream_window_size(65_535).connect().await.expect("it listens");
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("ready");
    let (tx, rx) = mpsc::channel(16);
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(method);
    let codec = ClientCodec::<A, B>::default();
    let answers = grpc.streaming(tonic::Request::new(ReceiverStream::new(rx)), path, codec).await;
    (tx, answers.map(tonic::Response::into_inner))
}

pub(crate) const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const SOTW: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

type Delta = (mpsc::Sender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>);

async fn delta(address: SocketAddr) -> Delta {
    let (tx, answers) = open(address, DELTA).await;
    (tx, answers.expect("a stream"))
}

fn node(id: &str) -> Option<Node> {
    Some(Node { id: id.to_owned(), ..Node::default() })
}

fn ask(id: &str, ty: ResourceType) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { node: node(id), type_url: ty.type_url().to_owned(), ..DeltaDiscoveryRequest::default() }
}

fn clusters(count: usize, bytes: usize) -> Arc<XdsSnapshot> {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        for n in 0..count {
            let body = Bytes::from(vec![b'x'; bytes]);
            edit.set(Resource::from_encoded(ResourceType::Cluster, format!("c{n}"), body));
        }
    });
    builder.latest().clone()
}

async fn next<B>(answers: &mut Streaming<B>) -> Result<Option<B>, Status> {
    timeout(SOON, answers.message()).await.expect("an answer comes")
}

async fn status<B: std::fmt::Debug>(answers: &mut Streaming<B>) -> Status {
    next(answers).await.expect_err("the stream ends with an error")
}

#[tokio::test]
async fn both_protocols_are_served_and_acknowledged() {
    let mut served = Served::start(Limits::default(), Some(clusters(2, 10))).await;
    let (tx, answers) = open::<DiscoveryRequest, DiscoveryResponse>(served.address, SOTW).await;
    let mut answers = answers.expect("a stream");
    let type_url = ResourceType::Cluster.type_url().to_owned();
    let first = DiscoveryRequest { node: node("one"), type_url: type_url.clone(), ..DiscoveryRequest::default() };
    tx.send(first).await.expect("open");
    let (stream, info) = served.accept().await;
    assert_eq!(info.id, "one");
    let list = next(&mut answers).await.expect("no error").expect("a response");
    assert_eq!(list.resources.len(), 2);
    assert!(list.resources.iter().all(|any| any.type_url == type_url && any.value.len() == 10));
    let ack = DiscoveryRequest { type_url, response_nonce: list.nonce, ..DiscoveryRequest::default() };
    tx.send(ack).await.expect("open");
    assert!(matches!(served.event().await, Event::Acked { resources, .. } if resources.len() == 2));

    let (delta_tx, mut delta_answers) = delta(served.address).await;
    delta_tx.send(ask("two", ResourceType::Cluster)).await.expect("open");
    served.accept().await;
    let batch = next(&mut delta_answers).await.expect("no error").expect("a response");
    assert_eq!(batch.resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["c0", "c1"]);
    assert_eq!(served.server.registry().len(), 2);
    let rows = served.server.registry().node("one");
    assert_eq!(rows[0].types[&ResourceType::Cluster].counts.acks, 1);
    serde_json::to_string(&rows).expect("it can be shown");

    drop((tx, answers));
    loop {
        if let Event::Disconnected { stream: gone } = served.event().await {
            assert_eq!(gone, stream);
            break;
        }
    }
    assert_eq!(served.server.registry().len(), 1);
}

#[tokio::test]
async fn rule_10_nothing_is_sent_before_there_is_a_snapshot() {
    let mut served = Served::start(Limits::default(), None).await;
    let (tx, mut answers) = delta(served.address).await;
    tx.send(ask("n", ResourceType::Cluster)).await.expect("open");
    served.accept().await;
    timeout(Duration::from_millis(200), answers.message()).await.expect_err("unknown is not empty");
    served.snapshots.send_replace(Some(clusters(1, 1)));
    let batch = next(&mut answers).await.expect("no error").expect("a response");
    assert_eq!(batch.resources.len(), 1);
}

#[tokio::test]
async fn rule_13_a_stream_without_a_node_is_refused_and_a_node_does_not_change() {
    let mut served = Served::start(Limits::default(), Some(clusters(1, 1))).await;
    let (tx, mut answers) = delta(served.address).await;
    tx.send(DeltaDiscoveryRequest { node: None, ..ask("", ResourceType::Cluster) }).await.expect("open");
    assert_eq!(status(&mut answers).await.code(), Code::InvalidArgument);

    let (tx, mut answers) = delta(served.address).await;
    tx.send(ask("n", ResourceType::Cluster)).await.expect("open");
    let (stream, _) = served.accept().await;
    next(&mut answers).await.expect("no error");
    tx.send(ask("another", ResourceType::Listener)).await.expect("open");
    let ended = status(&mut answers).await;
    assert_eq!(ended.code(), Code::InvalidArgument);
    assert!(ended.message().contains("another"), "{ended:?}");
    assert!(matches!(served.event().await, Event::Disconnected { stream: gone } if gone == stream));
}

#[tokio::test]
async fn a_refusal_of_the_owner_is_told_to_the_client() {
    let mut served = Served::start(Limits::default(), None).await;
    let (tx, mut answers) = delta(served.address).await;
    tx.send(ask("n", ResourceType::Cluster)).await.expect("open");
    let Event::Connected { reply, protocol: Protocol::Delta, .. } = served.event().await else { panic!("connected") };
    reply.send(Err(Refusal { message: "say your role".to_owned() })).expect("the stream waits");
    let ended = status(&mut answers).await;
    assert_eq!((ended.code(), ended.message()), (Code::PermissionDenied, "say your role"));
    assert!(matches!(served.event().await, Event::Disconnected { .. }), "after each Connected");
}

#[tokio::test]
async fn when_the_owner_gives_a_view_up_its_clients_come_back() {
    let mut served = Served::start(Limits::default(), None).await;
    let (tx, mut answers) = delta(served.address).await;
    tx.send(ask("n", ResourceType::Cluster)).await.expect("open");
    served.accept().await;
    served.snapshots = watch::channel(None).0;
    assert_eq!(status(&mut answers).await.code(), Code::Unavailable);
}

#[tokio::test]
async fn rule_14_unknown_types_do_not_end_the_stream_and_a_missing_type_does() {
    let mut served = Served::start(Limits::default(), Some(clusters(1, 1))).await;
    let (tx, mut answers) = delta(served.address).await;
    let secrets = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret".to_owned();
    let unknown = DeltaDiscoveryRequest {
        type_url: secrets.clone(),
        resource_names_subscribe: vec!["s".to_owned()],
        ..ask("n", ResourceType::Cluster)
    };
    tx.send(unknown).await.expect("open");
    served.accept().await;
    let empty = next(&mut answers).await.expect("no error").expect("a response");
    assert_eq!((empty.type_url, empty.removed_resources), (secrets, vec!["s".to_owned()]));
    tx.send(ask("n", ResourceType::Cluster)).await.expect("open");
    assert_eq!(next(&mut answers).await.expect("no error").expect("a response").resources.len(), 1);
    tx.send(DeltaDiscoveryRequest::default()).await.expect("open");
    assert_eq!(status(&mut answers).await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn rule_18_messages_names_and_streams_are_limited() {
    let limits = Limits { max_request_bytes: 1000, max_names: 10, max_streams_per_peer: 2, ..Limits::default() };
    let mut served = Served::start(limits, Some(clusters(1, 1))).await;
    let large: Vec<String> = (0..9).map(|n| format!("{n}{}", "x".repeat(200))).collect();
    let many: Vec<String> = (0..11).map(|n| n.to_string()).collect();
    for (names, code) in [(large, Code::OutOfRange), (many, Code::ResourceExhausted)] {
        let (tx, mut answers) = delta(served.address).await;
        let first = ask("n", ResourceType::Endpoint);
        tx.send(first.clone()).await.expect("open");
        served.accept().await;
        tx.send(DeltaDiscoveryRequest { resource_names_subscribe: names, ..first }).await.expect("open");
        assert_eq!(status(&mut answers).await.code(), code);
        assert!(matches!(served.event().await, Event::Disconnected { .. }));
    }
    let one = delta(served.address).await;
    let two = delta(served.address).await;
    let (_tx, refused) = open::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>(served.address, DELTA).await;
    assert_eq!(refused.expect_err("a third stream").code(), Code::ResourceExhausted);
    drop((one, two));
    let again = async {
        loop {
            let (_tx, answers) = open::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>(served.address, DELTA).await;
            if answers.is_ok() {
                break;
            }
        }
    };
    timeout(SOON, again).await.expect("places are given back");
}

#[tokio::test]
async fn rule_18_a_client_that_does_not_read_is_closed_and_delays_nobody() {
    // HTTP/2 takes a frame or two more than its window has room for, so the listeners, which wait their
    // turn, are the response that gets stuck.
    let short = Duration::from_millis(300);
    let limits = Limits { write_timeout: short, order_timeout: short, ..Limits::default() };
    // Many times what the window holds.
    let mut served = Served::start(limits, Some(clusters(8, 512 * 1024))).await;
    let (tx, answers) = open::<DiscoveryRequest, DiscoveryResponse>(served.address, SOTW).await;
    let mut stuck = answers.expect("a stream");
    for ty in [ResourceType::Cluster, ResourceType::Listener, ResourceType::Endpoint] {
        let type_url = ty.type_url().to_owned();
        let request = DiscoveryRequest { node: node("stuck"), type_url, ..DiscoveryRequest::default() };
        tx.send(request).await.expect("open");
    }
    let (stream, _) = served.accept().await;

    let (quick_tx, mut quick) = delta(served.address).await;
    quick_tx.send(ask("quick", ResourceType::Listener)).await.expect("open");
    served.accept().await;
    assert!(next(&mut quick).await.expect("no error").is_some(), "another client is served meanwhile");
    assert!(matches!(served.event().await, Event::Disconnected { stream: gone } if gone == stream));
    // Not only the stream's task has ended: the connection is closed.
    let closed = async {
        while !tx.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, closed).await.expect("the transport gave the request stream up");
    while let Ok(Some(_)) = stuck.message().await {}
    assert_eq!(served.server.metrics().slow_clients.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_stream_that_says_nothing_is_closed() {
    let limits = Limits { first_request_timeout: Duration::from_millis(100), ..Limits::default() };
    let served = Served::start(limits, None).await;
    let (_tx, mut answers) = delta(served.address).await;
    assert_eq!(status(&mut answers).await.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn rule_22_other_doors_are_not_there() {
    let served = Served::start(Limits::default(), None).await;
    for path in [
        "/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters",
        "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/Anything",
    ] {
        let (_tx, answers) = open::<DiscoveryRequest, DiscoveryResponse>(served.address, path).await;
        assert_eq!(answers.expect_err("not served").code(), Code::Unimplemented, "{path}");
    }
}
