//! Components of anybody, who signed them, and what they answer.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use causeway::fuzzing::{self, answers};
use causeway::model::decision::{ClientView, Endpoint, NodeRole, Readiness, Sender};
use causeway::model::id::{ClusterName, NamespacedName};
use causeway::model::object::{Locality, Protocol, ServicePort};
use causeway::policy::{Component, Endpoints, Engine, LbQuestion, Limits, World};
use causeway::trust::signature::{KeyId, Keys};

/// A component that somebody uploads. The first byte says for which world.
pub fn policy_components(input: &[u8]) {
    static ENGINE: LazyLock<Engine> =
        LazyLock::new(|| Engine::new(None).unwrap_or_else(|error| panic!("no engine: {error}")));
    let Some((first, bytes)) = input.split_first() else { return };
    let world = if first & 1 == 0 { World::Lb } else { World::Vip };
    match Component::load(&ENGINE, world, bytes) {
        Ok(component) => {
            assert_eq!(component.world(), world);
            let answer = component.inspect(Limits { fuel: 100_000, ..Limits::default() }, "{}");
            assert!(answer.outcome.is_ok_and(|needs| (1..=64).contains(&needs.buckets)) || answer.fuel_used <= 100_000);
        }
        Err(refused) => assert!(!refused.reason().is_empty() && !refused.to_string().is_empty()),
    }
}

/// Eight endpoints in three localities of two clusters, one draining and one not ready.
static ENDPOINTS: LazyLock<Endpoints> = LazyLock::new(|| {
    let endpoint = |number: u8| Endpoint {
        address: SocketAddr::from(([10, 1, 0, number], 8080)),
        cluster: ClusterName::from(if number < 5 { "east" } else { "west" }),
        network: Arc::from("flat"),
        locality: Locality { region: Arc::from("eu"), zone: Arc::from(["a", "b", "c"][usize::from(number % 3)]) },
        node: None,
        pod: None,
        readiness: match number {
            6 => Readiness::Draining,
            7 => Readiness::NotReady,
            _ => Readiness::Ready,
        },
        stale: number == 5,
        weight: u32::from(number) + 1,
    };
    Endpoints::new((0..8).map(endpoint).collect())
});

/// Numbers of an answer, one after the other; 0 when there are no more. Most are small, since most large ones say the same.
struct Numbers<'a>(std::slice::Iter<'a, u8>);

impl Numbers<'_> {
    fn next(&mut self) -> u32 {
        let mut byte = || self.0.next().copied().unwrap_or(0);
        match byte() {
            0xff => u32::from_le_bytes([byte(), byte(), byte(), byte()]),
            0xfe => 60 + 100 * u32::from(byte()),
            small => small.into(),
        }
    }

    fn list<T>(&mut self, one: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = self.next().min(16);
        (0..count).map(|_| one(self)).collect()
    }

    fn some<T>(&mut self, one: impl Fn(&mut Self) -> T) -> Option<T> {
        (self.next() % 2 == 1).then(|| one(self))
    }

    fn algorithm(&mut self) -> answers::Algorithm {
        match self.next() % 5 {
            0 => answers::Algorithm::RoundRobin,
            1 => answers::Algorithm::LeastRequest(self.next()),
            2 => answers::Algorithm::RingHash(answers::Ring { minimum: self.next(), maximum: self.next() }),
            3 => answers::Algorithm::Maglev(self.next()),
            _ => answers::Algorithm::Random,
        }
    }

    fn decision(&mut self) -> answers::Decision {
        answers::Decision {
            groups: self.list(|numbers| answers::Group {
                priority: numbers.next(),
                locality: numbers.next(),
                weight: numbers.next(),
                count: numbers.next(),
                draining: numbers.next() % 2 == 1,
            }),
            endpoints: self.list(Self::next),
            weights: self.list(Self::next),
            algorithm: self.algorithm(),
            overprovisioning_percent: self.next(),
            panic_threshold_percent: self.next(),
            drop_per_million: self.next(),
            outlier_detection: self.some(|numbers| answers::OutlierDetection {
                consecutive_5xx: numbers.next(),
                interval_ms: numbers.next(),
                base_ejection_ms: numbers.next(),
                max_ejection_percent: numbers.next(),
            }),
            health_check: self.some(|numbers| answers::HealthCheck {
                path: numbers.some(|numbers| {
                    let path = numbers.list(|numbers| char::from_u32(numbers.next()).unwrap_or('/'));
                    path.into_iter().collect()
                }),
                interval_ms: numbers.next(),
                timeout_ms: numbers.next(),
                unhealthy_threshold: numbers.next(),
                healthy_threshold: numbers.next(),
            }),
        }
    }
}

/// What an lb-policy answers, as numbers.
pub fn policy_answers(input: &[u8]) {
    let answer = || Numbers(input.iter()).decision();
    let client = ClientView { role: NodeRole::Gateway, cluster: None, network: None, locality: Locality::default() };
    let question = LbQuestion {
        service: &NamespacedName::new("shop", "web"),
        port: &ServicePort { name: Arc::from("http"), port: 80, protocol: Protocol::Http },
        sender: &Sender { client, buckets: 1, bucket: 0 },
        endpoints: &ENDPOINTS,
        config: "{}",
    };
    let decided = fuzzing::decided(&question, answer());
    assert_eq!(decided, fuzzing::decided(&question, answer()), "the same answer twice");
    let decision = match decided {
        Ok(decision) => decision,
        Err(refused) => return assert!(!refused.is_empty()),
    };
    let mut seen = std::collections::BTreeSet::new();
    for group in &decision.groups {
        assert!(!group.endpoints.is_empty() && group.weight > 0, "{group:?}");
        for endpoint in group.endpoints.iter() {
            let given = ENDPOINTS.list().iter().find(|given| given.address == endpoint.address);
            let given = given.unwrap_or_else(|| panic!("{endpoint:?} was not given"));
            assert!(seen.insert(endpoint.address), "{endpoint:?} comes twice");
            assert!(endpoint.weight > 0, "{endpoint:?}");
            let cluster = decision.clusters.get(endpoint.cluster as usize);
            assert_eq!(cluster, Some(&given.cluster), "{endpoint:?}");
        }
    }
    let serves = decision.groups.iter().flat_map(|group| group.endpoints.iter()).any(|endpoint| !endpoint.draining);
    assert!(serves, "nothing would get requests: {decision:?}");
}

const KEYS: &str = concat!(
    include_str!("../../fixtures/cosign/cosign.pub"),
    include_str!("../../fixtures/cosign/ed25519.pub"),
    include_str!("../../fixtures/cosign/rsa.pub")
);

/// The first byte says what the rest is: public keys, a signature, or a statement about an image.
pub fn signatures(input: &[u8]) {
    static TRUSTED: LazyLock<Keys> =
        LazyLock::new(|| Keys::from_pem("keys.pub", KEYS).unwrap_or_else(|error| panic!("{error}")));
    let Some((first, rest)) = input.split_first() else { return };
    match first % 3 {
        0 => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            match Keys::from_pem("keys.pub", text) {
                Ok(keys) => {
                    let ids: Vec<KeyId> = keys.ids().collect();
                    assert!(!ids.is_empty() && (1..ids.len()).all(|at| !ids[..at].contains(&ids[at])), "{ids:?}");
                }
                Err(refused) => assert!(refused.to_string().contains("keys.pub"), "{refused}"),
            }
        }
        // What anybody signs is not this.
        1 => {
            let refused = TRUSTED.verify_blob(b"not signed by anybody", rest);
            assert!(refused.is_err_and(|refused| !refused.to_string().is_empty()), "nobody signed this");
        }
        _ => {
            let digest = format!("sha256:{}", "ab".repeat(32));
            let is_about_it = fuzzing::image_statement(&digest, rest).is_ok();
            // What is not read may be no text.
            let text = String::from_utf8_lossy(rest);
            let said: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let names = &said["critical"]["image"]["docker-manifest-digest"];
            assert!(!is_about_it || *names == digest, "a statement about another image");
        }
    }
}
