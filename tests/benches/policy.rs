//! What a decision costs: `cargo bench --bench policy`.
//!
//! `noop` is a guest that takes every endpoint as it comes, so what is measured is the way to it and back.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use causeway::model::decision::{ClientView, Endpoint, NodeRole, Readiness, Sender};
use causeway::model::id::NamespacedName;
use causeway::model::object::{Locality, Protocol, ServicePort};
use causeway::policy::{Component, Endpoints, Engine, LbQuestion, Limits, Policies, Policy, Subject, World};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const NOOP: &[u8] = include_bytes!("../../plugins/components/testing/noop.wasm");
/// Enough for the largest question.
const LIMITS: Limits = Limits { fuel: 1_000_000_000, memory_mib: 64 };

/// Endpoints of a service in three clusters and six zones.
fn endpoints(count: usize) -> Vec<Endpoint> {
    let zones: Vec<Locality> =
        (0..6).map(|n| Locality { region: format!("r{}", n / 2).into(), zone: format!("z{n}").into() }).collect();
    let one = |n: usize| {
        let [_, a, b, c] = (n as u32).to_be_bytes();
        Endpoint {
            address: SocketAddr::from(([10, a, b, c], 8080)),
            cluster: ["east", "west", "north"][n * 3 / count.max(1)].into(),
            network: "flat".into(),
            locality: zones[n * 6 / count.max(1)].clone(),
            node: None,
            pod: None,
            readiness: if n % 17 == 3 { Readiness::NotReady } else { Readiness::Ready },
            stale: false,
            weight: 1,
        }
    };
    (0..count).map(one).collect()
}

fn sender(view: usize) -> Sender {
    let locality = Locality { region: format!("r{}", view % 3).into(), zone: format!("z{}", view % 6).into() };
    let cluster = Some(format!("cluster-{view}").as_str().into());
    let client = ClientView { role: NodeRole::Sidecar, cluster, network: Some("flat".into()), locality };
    Sender { client, buckets: 1, bucket: 0 }
}

fn port() -> ServicePort {
    ServicePort { name: "http".into(), port: 80, protocol: Protocol::Http }
}

fn decisions(criterion: &mut Criterion) {
    let engine = Engine::new(None).expect("an engine");
    let noop = Component::load(&engine, World::Lb, NOOP).expect("the guest");
    let policies = Policies::new(engine).expect("the built-in policies");
    let default = policies.in_force().find(|policy| policy.component.world() == World::Lb).expect("one").clone();
    let (service, port, sender) = (NamespacedName::new("shop", "checkout"), port(), sender(0));
    let mut group = criterion.benchmark_group("decide");
    for count in [10, 100, 1_000, 10_000] {
        let list = endpoints(count);
        let ready = Endpoints::new(list.clone());
        let question =
            LbQuestion { service: &service, port: &port, sender: &sender, endpoints: &ready, config: "null" };
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("noop, warm", count), |bencher| {
            bencher.iter(|| noop.decide(LIMITS, black_box(&question)).outcome.expect("an answer"));
        });
        group.bench_function(BenchmarkId::new("lb-locality, warm", count), |bencher| {
            bencher.iter(|| default.component.decide(LIMITS, black_box(&question)).outcome.expect("an answer"));
        });
        group.bench_function(BenchmarkId::new("make endpoints ready", count), |bencher| {
            bencher.iter_batched(|| list.clone(), |list| black_box(Endpoints::new(list)), BatchSize::SmallInput);
        });
        let choice = policies.choose(World::Lb, None, &serde_json::Value::Null).expect("the default");
        let subject = Subject { backend: "shop/checkout/checkout:80".into(), sender: sender.clone() };
        group.bench_function(BenchmarkId::new("memo hit", count), |bencher| {
            bencher.iter(|| black_box(policies.decide(&subject, &choice, black_box(&question), 0)).failure.is_none());
        });
    }
    group.finish();
}

fn cold(criterion: &mut Criterion) {
    let engine = Engine::new(None).expect("an engine");
    criterion.bench_function("compile noop", |bencher| {
        bencher.iter(|| Component::load(&engine, World::Lb, black_box(NOOP)).expect("the guest"));
    });
}

/// 1,000 services with 20 endpoints each, for 10 views: 10,000 decisions.
fn everything(criterion: &mut Criterion) {
    let service = |n: usize| NamespacedName::new("shop", format!("svc-{n}"));
    let services: Vec<(NamespacedName, Endpoints)> =
        (0..1_000).map(|n| (service(n), Endpoints::new(endpoints(20)))).collect();
    let (port, senders): (_, Vec<Sender>) = (port(), (0..10).map(sender).collect());
    let engine = Engine::new(None).expect("an engine");
    let noop = Component::load(&engine, World::Lb, NOOP).expect("the guest");
    let policies = Policies::new(engine.clone()).expect("the built-in policies");
    let default: Policy =
        policies.in_force().find(|policy| policy.component.world() == World::Lb).expect("one").clone();
    let noop = Arc::new(noop);
    let mut group = criterion.benchmark_group("1,000 services x 20 endpoints x 10 views");
    group.sample_size(10);
    for (name, component) in [("noop", &noop), ("lb-locality", &default.component)] {
        // As the owner of the truth does it: nothing of it is in the memo, and the halves are decided side by side.
        let fresh = || {
            let mut policies = Policies::new(engine.clone()).expect("the built-in policies");
            policies.put(Policy {
                name: "measured".into(),
                component: component.clone(),
                limits: LIMITS,
                ..default.clone()
            });
            policies
        };
        let decide = |policies: &Policies, services: &[(NamespacedName, Endpoints)]| {
            let name = "measured".into();
            let choice = policies.choose(World::Lb, Some(&name), &serde_json::Value::Null).expect("the policy");
            for (service, endpoints) in services {
                for sender in &senders {
                    let question = LbQuestion { service, port: &port, sender, endpoints, config: &choice.config };
                    let subject = Subject { backend: service.name.clone(), sender: sender.clone() };
                    assert_eq!(policies.decide(&subject, &choice, &question, 0).failure, None);
                }
            }
        };
        group.bench_function(BenchmarkId::new("with memo, one core", name), |bencher| {
            bencher.iter_batched(fresh, |policies| decide(&policies, &services), BatchSize::PerIteration);
        });
        group.bench_function(BenchmarkId::new("with memo, two cores", name), |bencher| {
            let both = |policies: Policies| {
                let (one, other) = services.split_at(services.len() / 2);
                std::thread::scope(|scope| {
                    scope.spawn(|| decide(&policies, one));
                    decide(&policies, other);
                });
            };
            bencher.iter_batched(fresh, both, BatchSize::PerIteration);
        });
        group.bench_function(BenchmarkId::new("calls alone, one core", name), |bencher| {
            bencher.iter(|| {
                for (service, endpoints) in &services {
                    for sender in &senders {
                        let question = LbQuestion { service, port: &port, sender, endpoints, config: "null" };
                        black_box(component.decide(LIMITS, &question).outcome.expect("an answer"));
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decisions, cold, everything);
criterion_main!(benches);
