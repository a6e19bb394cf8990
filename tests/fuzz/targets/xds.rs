//! What Envoys send, and what clients of xDS servers read.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway::ads::loads::Loads;
use causeway::ads::loads::server::LoadsServer;
use causeway::ads::service::AdsServer;
use causeway::ads::status::StatusServer;
use causeway::ads::stream::{Report, Request, Response, Stream};
use causeway::ads::{Limits, NodeInfo, Protocol, StreamId};
use causeway::fuzzing;
use causeway::load::scanner::{Scanner, Sink, Summary, resource_type};
use causeway::snapshot::{Reference, Resource, ResourceType, SnapshotBuilder, XdsSnapshot};
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use prost013::Message;
use tonic::codegen::{Body, Service, http};
use xds_api::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use xds_api::pb::envoy::service::load_stats::v3::LoadStatsRequest;

use super::messages;

const MAX_NAMES: usize = 8;
const MAX_NAME_BYTES: usize = 40;

/// A stream's requests: the first byte says the protocol. A nonce of `$` stands for that of the last response.
pub fn xds_requests(input: &[u8]) {
    let Some((protocol, rest)) = protocol_of(input) else { return };
    let limits = Limits { max_names: MAX_NAMES, max_name_bytes: MAX_NAME_BYTES, ..Limits::default() };
    let mut opened: Option<Stream> = None;
    let (mut nonce, mut now) = (String::new(), 0);
    for (turn, message) in messages(rest).into_iter().enumerate() {
        let Some(mut request) = request(protocol, message) else { continue };
        let stream = match &mut opened {
            Some(stream) => stream,
            None => {
                let Ok(node) = NodeInfo::read(request.node()) else { return };
                let depth = depth(&serde_json::Value::Object(node.metadata.clone()));
                assert!(depth <= 17, "{depth} levels of metadata are kept");
                let stream = Stream::new(StreamId(1), protocol, node, Arc::new(limits.clone()));
                opened.insert(stream)
            }
        };
        let said = match &mut request {
            Request::Sotw(request) => &mut request.response_nonce,
            Request::Delta(request) => &mut request.response_nonce,
        };
        if said == "$" {
            said.clone_from(&nonce);
        }
        let Ok(reports) = stream.request(&request, now) else { break };
        reports.iter().for_each(blames_whom_it_names);
        stream.snapshot_changed(CONTENTS.get(turn % 7));
        for _ in 0..3 {
            let Some(response) = stream.next(now) else { break };
            reads_as_sent(&response);
            nonce = response.nonce;
        }
        now += 700;
    }
    let Some(stream) = opened else { return };
    let debug = stream.debug();
    assert!(debug.unserved.len() <= 32, "{} types that are not served", debug.unserved.len());
    for (ty, known) in debug.types {
        assert!(known.names.len() <= MAX_NAMES, "{ty}: {:?}", known.names);
        assert!(known.names.iter().all(|name| name.len() <= MAX_NAME_BYTES), "{ty}: {:?}", known.names);
        assert!(known.last_nack.is_none_or(|text| text.len() <= 8 * 1024), "{ty}");
    }
}

fn protocol_of(input: &[u8]) -> Option<(Protocol, &[u8])> {
    let (first, rest) = input.split_first()?;
    Some((if first & 1 == 0 { Protocol::Sotw } else { Protocol::Delta }, rest))
}

/// What is read is what prost reads, in as much as there is.
fn request(protocol: Protocol, message: &[u8]) -> Option<Request> {
    let read = Request::decode(protocol, message).ok();
    let expected = match protocol {
        Protocol::Sotw => DiscoveryRequest::decode(message).ok().map(Request::from),
        Protocol::Delta => DeltaDiscoveryRequest::decode(message).ok().map(Request::from),
    };
    assert_eq!(read.is_some(), expected.is_some(), "{protocol:?}");
    // Not compared where a node holds what equals nothing, not even itself.
    if read.as_ref().is_none_or(|read| *read == read.clone()) {
        assert_eq!(read, expected, "{protocol:?}");
    }
    read
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// What is served, one after the other.
static CONTENTS: LazyLock<Vec<Arc<XdsSnapshot>>> = LazyLock::new(|| {
    let mut builder = SnapshotBuilder::new();
    let mut version = |version: u8| {
        builder.update(|edit| {
            for name in ["a", "b", "shop/web:80"] {
                let body = |ty: &str| Bytes::from(format!("\n{}{name}{ty}{version}", char::from(name.len() as u8)));
                let cluster = Resource::from_encoded(ResourceType::Cluster, name, body("c"));
                edit.set(cluster.with_refs([Reference::new(ResourceType::Endpoint, name)]));
                edit.set(Resource::from_encoded(ResourceType::Endpoint, name, body("e")));
                edit.set(Resource::from_encoded(ResourceType::Listener, name, body("l")));
            }
        });
        builder.latest().clone()
    };
    (0..3).map(&mut version).collect()
});

/// The text of a NACK blames only resources that were sent, by words of its own.
fn blames_whom_it_names(report: &Report) {
    let Report::Rejected { refused, detail, details, .. } = report else { return };
    for (name, reason) in details {
        assert!(refused.iter().any(|(refused, _)| refused == name), "{name} is blamed and not refused");
        assert!(detail.contains(&**name) && detail.contains(reason), "{name}: {reason:?} is not of {detail:?}");
    }
}

/// The length that is promised is that of what is written, and prost reads it.
fn reads_as_sent(response: &Response) {
    let mut bytes = Vec::new();
    response.encode(&mut bytes);
    assert_eq!(bytes.len(), response.encoded_len());
    let (nonce, count) = match response.protocol {
        Protocol::Sotw => DiscoveryResponse::decode(&*bytes).map(|read| (read.nonce, read.resources.len())),
        Protocol::Delta => DeltaDiscoveryResponse::decode(&*bytes).map(|read| (read.nonce, read.resources.len())),
    }
    .unwrap_or_else(|error| panic!("a response cannot be read: {error}"));
    assert_eq!((nonce, count), (response.nonce.clone(), response.resources.len()));
}

/// What is found in responses.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    resources: Vec<(Option<ResourceType>, Vec<u8>, Vec<u8>)>,
    responses: Vec<FoundResponse>,
}

/// Its type, version, nonce, removed names, and how many resources it has.
type FoundResponse = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<Vec<u8>>, usize);

impl Sink for Found {
    fn resource(&mut self, ty: Option<ResourceType>, name: &[u8], version: &[u8]) {
        self.resources.push((ty, name.to_owned(), version.to_owned()));
    }

    fn response(&mut self, response: &Summary) {
        let Summary { type_url, version, nonce, removed, resources, .. } = response;
        self.responses.push((type_url.clone(), version.clone(), nonce.clone(), removed.clone(), *resources));
    }
}

/// A server's responses as they arrive: the first byte says the protocol, the second how long the pieces are.
pub fn xds_responses(input: &[u8]) {
    let Some((protocol, rest)) = protocol_of(input) else { return };
    let Some((piece, stream)) = rest.split_first() else { return };
    let read = |pieces: &[&[u8]]| {
        let (mut scanner, mut found) = (Scanner::new(protocol), Found::default());
        let read = pieces.iter().try_for_each(|piece| scanner.feed(piece, &mut found));
        (read.is_ok(), found)
    };
    let (is_read, whole) = read(&[stream]);
    let pieces = usize::from(*piece).max(1);
    let (is_read_in_pieces, found) = read(&stream.chunks(pieces).collect::<Vec<_>>());
    assert_eq!(is_read, is_read_in_pieces, "in pieces of {pieces}");
    if is_read {
        assert_eq!(whole, found, "in pieces of {pieces}");
    }
    // One whole message, as prost reads it.
    let Some((prefix, message)) = stream.split_first_chunk::<5>() else { return };
    if !is_read || prefix[0] != 0 || prefix[1..] != (message.len() as u32).to_be_bytes() {
        return;
    }
    let ([(type_url, version, nonce, removed, count)], Protocol::Delta) = (&whole.responses[..], protocol) else {
        return;
    };
    let Ok(expected) = DeltaDiscoveryResponse::decode(message) else { return };
    assert_eq!(*type_url, expected.type_url.as_bytes());
    assert_eq!(*version, expected.system_version_info.as_bytes());
    assert_eq!(*nonce, expected.nonce.as_bytes());
    assert_eq!(*count, expected.resources.len());
    assert!(removed.iter().map(Vec::as_slice).eq(expected.removed_resources.iter().map(String::as_bytes)));
    for ((ty, name, version), expected) in whole.resources.iter().zip(&expected.resources) {
        assert_eq!((&**name, &**version), (expected.name.as_bytes(), expected.version.as_bytes()));
        let url = expected.resource.as_ref().map(|any| any.type_url.as_bytes()).unwrap_or_default();
        assert_eq!(*ty, resource_type(url));
    }
}

/// A client's load reports, whole messages of one stream.
pub fn load_reports(input: &[u8]) {
    let loads = Loads::new(Duration::from_secs(10));
    let messages = messages(input);
    let first = messages.first().and_then(|first| LoadStatsRequest::decode(*first).ok());
    let node = first.and_then(|first| first.node).unwrap_or_default().id;
    let kept = loads.clone();
    let status = call(LoadsServer::new(loads), "StreamLoadStats", &messages, move || {
        for report in kept.of_node(&node, Instant::now()) {
            for cluster in report.clusters.iter() {
                let rates = [cluster.rates.requests_per_second, cluster.rates.errors_per_second];
                let sane =
                    rates.iter().chain([&cluster.dropped_per_second]).all(|rate| rate.is_finite() && *rate >= 0.0);
                assert!(sane, "{cluster:?}");
            }
        }
        assert!(kept.of_cluster("a", Instant::now()).values().all(|rates| rates.requests_per_second.is_finite()));
    });
    assert!(!status.is_empty(), "no status");
}

/// What somebody asks about the status of clients.
pub fn client_status(input: &[u8]) {
    let (events, _) = tokio::sync::mpsc::channel(1);
    let server = StatusServer::new(AdsServer::new(events, Limits::default()).registry());
    let status = call(server, "FetchClientStatus", &[input], || ());
    let helps = ["a request cannot be read", "node_matchers["].iter().any(|start| status.starts_with(start));
    assert!(status == "0" || helps, "{status}");
}

/// Calls a service as a connection does: these messages, then `last`. Gives the error's words, or `0`.
fn call<S>(mut server: S, method: &str, messages: &[&[u8]], last: impl FnOnce() + Send + 'static) -> String
where
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<tonic::body::Body>>,
    S::Error: std::fmt::Debug,
{
    let mut bytes = Vec::new();
    for message in messages {
        bytes.push(0);
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        bytes.extend_from_slice(message);
    }
    let data = stream::once(async { Ok::<_, tonic::Status>(http_body::Frame::data(Bytes::from(bytes))) });
    let end = stream::once(async { last() }).filter_map(|()| async { None });
    let body = tonic::body::Body::new(StreamBody::new(data.chain(end)));
    let request = http::Request::post(format!("/a.Service/{method}")).body(body).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { panic!("no runtime") };
    runtime.block_on(async {
        let response = server.call(request).await.unwrap_or_else(|error| panic!("{error:?}"));
        let (parts, body) = response.into_parts();
        assert!(body.size_hint().exact().is_none_or(|size| size <= 64 << 20));
        let told = |headers: &http::HeaderMap| tonic::Status::from_header_map(headers);
        let collected = body.collect().await.ok();
        let trailers = collected.as_ref().and_then(|body| body.trailers());
        match told(&parts.headers).or_else(|| told(trailers?)) {
            Some(status) if status.code() != tonic::Code::Ok => status.message().to_owned(),
            _ => "0".to_owned(),
        }
    })
}

/// A question about which services are served, and with which messages.
pub fn reflection(input: &[u8]) {
    if let Err(refused) = fuzzing::reflected(input) {
        assert!(!refused.is_empty());
    }
}
