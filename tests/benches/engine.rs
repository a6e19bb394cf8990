//! What the rooms `snapshot` and `ads` cost by themselves, without a network:
//! `cargo bench --no-default-features --bench engine`.

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use causeway::ads::stream::{Request, Response, Stream};
use causeway::ads::{Limits, NodeInfo, Protocol, StreamId};
use causeway::snapshot::{Reference, Resource, ResourceType, SnapshotBuilder, XdsSnapshot};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use xds_api::pb::envoy::config::core::v3::Node;
use xds_api::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;

/// Worlds, in services.
const SERVICES: [usize; 2] = [1_000, 10_000];

/// Bytes of an assignment of 20 endpoints.
const BODY: usize = 1_200;

fn name(service: usize) -> String {
    format!("service-{service:05}.shop.svc:8080")
}

/// A body of the right length that no two revisions share.
fn resource(ty: ResourceType, service: usize, revision: u64) -> Resource {
    let mut body = vec![0; BODY];
    body[..8].copy_from_slice(&revision.to_be_bytes());
    let resource = Resource::from_encoded(ty, name(service), Bytes::from(body));
    match ty {
        ResourceType::Cluster => resource.with_refs([Reference::new(ResourceType::Endpoint, name(service))]),
        _ => resource,
    }
}

fn world(services: usize) -> SnapshotBuilder {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        for n in 0..services {
            edit.set(resource(ResourceType::Cluster, n, 0)).set(resource(ResourceType::Endpoint, n, 0));
        }
    });
    builder
}

/// A delta client that takes all it is sent.
struct Client {
    stream: Stream,
    is_subscribed: bool,
}

impl Client {
    fn new(snapshot: &Arc<XdsSnapshot>) -> Self {
        let node = NodeInfo::read(Some(&node())).expect("it has an id");
        let mut stream = Stream::new(StreamId(1), Protocol::Delta, node, Arc::new(Limits::default()));
        stream.snapshot_changed(Some(snapshot));
        Self { stream, is_subscribed: false }
    }

    fn ask(&mut self, request: DeltaDiscoveryRequest) {
        black_box(self.stream.request(&Request::from(request), 0).expect("no violation"));
    }

    fn ack(&mut self, response: &Response) {
        self.ask(DeltaDiscoveryRequest {
            type_url: response.type_url.to_string(),
            response_nonce: response.nonce.clone(),
            ..Default::default()
        });
    }

    /// All that is due is sent and acknowledged; how many resources that were.
    fn settle(&mut self) -> usize {
        let mut resources = 0;
        while let Some(response) = self.stream.next(0) {
            resources += response.resources.len();
            let clusters = response.ty == Some(ResourceType::Cluster);
            if clusters && !std::mem::replace(&mut self.is_subscribed, true) {
                // A world that fits into one response: the names of its clusters are those of its assignments.
                let names = self.stream.snapshot().map(|snapshot| names(snapshot)).unwrap_or_default();
                self.ask(subscription(ResourceType::Endpoint, names));
            }
            self.ack(&response);
        }
        resources
    }
}

fn node() -> Node {
    Node { id: "bench".to_owned(), ..Node::default() }
}

fn names(snapshot: &XdsSnapshot) -> Vec<String> {
    snapshot.resources(ResourceType::Cluster).map(|cluster| cluster.name().to_string()).collect()
}

fn subscription(ty: ResourceType, names: Vec<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node()),
        type_url: ty.type_url().to_owned(),
        resource_names_subscribe: names,
        ..Default::default()
    }
}

/// A client that has everything.
fn settled(snapshot: &Arc<XdsSnapshot>) -> Client {
    let mut client = Client::new(snapshot);
    client.ask(subscription(ResourceType::Cluster, Vec::new()));
    let resources = client.settle();
    assert!(resources >= snapshot.len(ResourceType::Cluster) + snapshot.len(ResourceType::Endpoint));
    client
}

/// One resource of a world is set anew.
fn edits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("edit one of");
    for services in SERVICES {
        let (mut builder, mut revision) = (world(services), 0);
        group.bench_function(BenchmarkId::from_parameter(services), |bench| {
            bench.iter(|| {
                revision += 1;
                builder.update(|edit| _ = edit.set(resource(ResourceType::Endpoint, services / 2, revision)))
            });
        });
    }
    group.finish();
}

/// What one stream does about one change: it looks, sends, writes and takes the answer.
fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send one change of");
    for services in SERVICES {
        let (mut builder, mut revision) = (world(services), 0);
        let mut client = settled(builder.latest());
        group.bench_function(BenchmarkId::from_parameter(services), |bench| {
            bench.iter_batched(
                || {
                    revision += 1;
                    builder.update(|edit| _ = edit.set(resource(ResourceType::Endpoint, services / 2, revision)))
                },
                |snapshot| {
                    black_box(client.stream.snapshot_changed(snapshot.as_ref()));
                    let response = client.stream.next(0).expect("the change is due");
                    let mut out = BytesMut::with_capacity(response.encoded_len());
                    response.encode(&mut out);
                    client.ack(&response);
                    out
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// All that a new client is sent, up to its last acknowledgement.
fn first_responses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send all of");
    group.sample_size(10);
    for services in SERVICES {
        let builder = world(services);
        group.bench_function(BenchmarkId::from_parameter(services), |bench| {
            bench.iter_with_large_drop(|| settled(builder.latest()));
        });
    }
    group.finish();
}

/// A client comes back with the versions of all that it holds, and nothing has changed.
fn reconnects(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reconnect with versions of");
    group.sample_size(10);
    for services in SERVICES {
        let builder = world(services);
        let snapshot = builder.latest();
        let versions = |ty| {
            let mut request = subscription(ty, Vec::new());
            if ty == ResourceType::Endpoint {
                request.resource_names_subscribe = names(snapshot);
            }
            let held = snapshot.resources(ty).map(|held| (held.name().to_string(), held.version().to_string()));
            request.initial_resource_versions = held.collect();
            request
        };
        let requests = [versions(ResourceType::Cluster), versions(ResourceType::Endpoint)];
        group.bench_function(BenchmarkId::from_parameter(services), |bench| {
            bench.iter_batched(
                || requests.clone(),
                |requests| {
                    let mut client = Client::new(snapshot);
                    client.is_subscribed = true;
                    requests.into_iter().for_each(|request| client.ask(request));
                    assert_eq!(client.settle(), 0, "nothing is sent that it has");
                    client
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, edits, fan_out, first_responses, reconnects);
criterion_main!(benches);
