//! What a policy is asked, in the form in which it is handed over: numbers in columns, every name once.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::bindings::lb::causeway::policy::lb as wit;
use crate::model::decision::{Endpoint, LbEndpoint, NodeRole, Readiness, Sender};
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::object::{Locality, Protocol, ServicePort};

/// A SHA-256 of what something says.
pub type Hash = [u8; 32];

/// A service's endpoints, made ready for any number of questions about them.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    list: Vec<Endpoint>,
    /// Each as a decision has it that changes nothing about it.
    plain: Arc<[LbEndpoint]>,
    /// How many are not NotReady.
    usable: usize,
    clusters: Vec<KnownCluster>,
    cluster_names: Arc<[ClusterName]>,
    localities: Vec<Locality>,
    keys: Vec<u64>,
    cluster_of: Vec<u32>,
    locality_of: Vec<u32>,
    states: Vec<u8>,
    weights: Vec<u32>,
    has_twins: bool,
    hash: Hash,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct KnownCluster {
    name: ClusterName,
    network: Arc<str>,
    is_stale: bool,
}

/// Names that were seen, with their numbers. Neighbours are alike, so the last one is looked at first.
struct Interned<T> {
    seen: Vec<T>,
    by_value: HashMap<T, u32>,
    last: u32,
}

impl<T: Clone + Eq + std::hash::Hash> Interned<T> {
    fn new() -> Self {
        Self { seen: Vec::new(), by_value: HashMap::new(), last: 0 }
    }

    fn number(&mut self, is_it: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> u32 {
        if self.seen.get(self.last as usize).is_some_and(is_it) {
            return self.last;
        }
        let value = make();
        self.last = match self.by_value.get(&value) {
            Some(number) => *number,
            None => {
                // There are as many at most as endpoints, which are far fewer than this can count.
                let number = u32::try_from(self.seen.len()).unwrap_or(u32::MAX);
                self.seen.push(value.clone());
                self.by_value.insert(value, number);
                number
            }
        };
        self.last
    }
}

impl Endpoints {
    /// Makes them ready. Their order is that of the columns, so it has to be the same whenever they are the same.
    pub fn new(list: Vec<Endpoint>) -> Self {
        let (mut clusters, mut localities) = (Interned::new(), Interned::new());
        let (mut keys, mut states, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let usable = list.iter().filter(|endpoint| endpoint.readiness != Readiness::NotReady).count();
        let (mut cluster_of, mut locality_of) = (Vec::new(), Vec::new());
        for endpoint in &list {
            keys.push(key(endpoint.address));
            cluster_of.push(clusters.number(
                |known: &KnownCluster| {
                    known.name == endpoint.cluster
                        && known.network == endpoint.network
                        && known.is_stale == endpoint.stale
                },
                || KnownCluster {
                    name: endpoint.cluster.clone(),
                    network: endpoint.network.clone(),
                    is_stale: endpoint.stale,
                },
            ));
            locality_of.push(localities.number(|known| *known == endpoint.locality, || endpoint.locality.clone()));
            states.push(match endpoint.readiness {
                Readiness::Ready => 0,
                Readiness::Draining => 1,
                Readiness::NotReady => 2,
            });
            weights.push(endpoint.weight.clamp(1, 1000));
        }
        let mut endpoints = Self {
            list,
            plain: Arc::default(),
            usable,
            cluster_names: clusters.seen.iter().map(|known| known.name.clone()).collect(),
            clusters: clusters.seen,
            localities: localities.seen,
            keys,
            cluster_of,
            locality_of,
            states,
            weights,
            has_twins: false,
            hash: Hash::default(),
        };
        let plain = |(number, endpoint): (usize, &Endpoint)| LbEndpoint {
            address: endpoint.address,
            cluster: endpoints.cluster_of[number],
            weight: endpoints.weights[number],
            draining: false,
        };
        endpoints.plain = endpoints.list.iter().enumerate().map(plain).collect();
        let mut sorted = endpoints.keys.clone();
        sorted.sort_unstable();
        endpoints.has_twins = sorted.windows(2).any(|pair| pair[0] == pair[1]);
        endpoints.hash = endpoints.hashed();
        endpoints
    }

    /// The endpoints themselves, by their numbers.
    pub fn list(&self) -> &[Endpoint] {
        &self.list
    }

    /// The localities, by their numbers.
    pub fn localities(&self) -> &[Locality] {
        &self.localities
    }

    /// Each as a decision has it that changes nothing about it, by number.
    pub(super) fn plain(&self) -> &Arc<[LbEndpoint]> {
        &self.plain
    }

    /// The names of their clusters. One may come twice, where a part of it is stale or of another network.
    pub(super) fn cluster_names(&self) -> &Arc<[ClusterName]> {
        &self.cluster_names
    }

    /// How many of them can be used.
    pub(super) fn usable(&self) -> usize {
        self.usable
    }

    /// Whether two may have one address and port, as pods of different networks can.
    pub(super) fn has_twins(&self) -> bool {
        self.has_twins
    }

    /// Of everything that a policy can see of them, and of their addresses.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    fn hashed(&self) -> Hash {
        let mut hasher = Sha256::new();
        let text = |hasher: &mut Sha256, text: &str| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        hasher.update((self.clusters.len() as u64).to_le_bytes());
        for cluster in &self.clusters {
            text(&mut hasher, cluster.name.as_str());
            text(&mut hasher, &cluster.network);
            hasher.update([u8::from(cluster.is_stale)]);
        }
        hasher.update((self.localities.len() as u64).to_le_bytes());
        for locality in &self.localities {
            text(&mut hasher, &locality.region);
            text(&mut hasher, &locality.zone);
        }
        // In one piece, since many small ones take longer to hash than to make.
        let mut columns = Vec::with_capacity(self.list.len() * 32);
        for (index, endpoint) in self.list.iter().enumerate() {
            match endpoint.address.ip() {
                IpAddr::V4(v4) => columns.extend(v4.to_ipv6_mapped().octets()),
                IpAddr::V6(v6) => columns.extend(v6.octets()),
            }
            columns.extend(endpoint.address.port().to_le_bytes());
            columns.extend(self.cluster_of[index].to_le_bytes());
            columns.extend(self.locality_of[index].to_le_bytes());
            columns.extend(self.weights[index].to_le_bytes());
            columns.push(self.states[index]);
        }
        hasher.update(columns);
        hasher.finalize().into()
    }
}

/// A number for an address and port that is the same everywhere and always: FNV-1a (RFC 9923), whose bits are then mixed
/// with the finalizer of MurmurHash3, so that all of them depend on all of the address.
fn key(address: SocketAddr) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    hash = match address.ip() {
        IpAddr::V4(v4) => v4.octets().into_iter().fold(hash, step),
        IpAddr::V6(v6) => v6.octets().into_iter().fold(hash, step),
    };
    hash = address.port().to_be_bytes().into_iter().fold(hash, step);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A question to a load-balancing policy.
#[derive(Clone, Copy, Debug)]
pub struct LbQuestion<'a> {
    /// The service.
    pub service: &'a NamespacedName,
    /// Its port.
    pub port: &'a ServicePort,
    /// Who will send the traffic.
    pub sender: &'a Sender,
    /// The endpoints.
    pub endpoints: &'a Endpoints,
    /// The configuration, as JSON.
    pub config: &'a str,
}

impl LbQuestion<'_> {
    /// Of everything that is asked.
    pub fn hash(&self) -> Hash {
        let mut hasher = Sha256::new();
        let client = &self.sender.client;
        let role = match client.role {
            NodeRole::Gateway => "gateway",
            NodeRole::Sidecar => "sidecar",
        };
        let texts = [
            Some(&*self.service.namespace),
            Some(&*self.service.name),
            Some(&*self.port.name),
            Some(role),
            client.cluster.as_ref().map(|cluster| cluster.as_str()),
            client.network.as_deref(),
            Some(&*client.locality.region),
            Some(&*client.locality.zone),
            Some(self.config),
        ];
        for text in texts {
            // No text is as long as this, so what is missing differs from what is empty.
            hasher.update(text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
            hasher.update(text.unwrap_or_default());
        }
        hasher.update(self.port.port.to_le_bytes());
        hasher.update([self.port.protocol as u8]);
        hasher.update(self.sender.bucket.to_le_bytes());
        hasher.update(self.sender.buckets.to_le_bytes());
        hasher.update(self.endpoints.hash);
        hasher.finalize().into()
    }

    /// Hands the question to `ask` in the form in which it crosses over.
    pub(super) fn handed_over<T>(&self, ask: impl FnOnce(wit::Question<'_>) -> T) -> T {
        let endpoints = self.endpoints;
        let clusters: Vec<wit::Cluster<'_>> = endpoints
            .clusters
            .iter()
            .map(|known| wit::Cluster { name: known.name.as_str(), network: &known.network, stale: known.is_stale })
            .collect();
        let localities: Vec<wit::Locality<'_>> = endpoints.localities.iter().map(locality).collect();
        ask(wit::Question {
            service: wit::Name { namespace: &self.service.namespace, name: &self.service.name },
            port: wit::Port {
                name: &self.port.name,
                number: self.port.port,
                protocol: match self.port.protocol {
                    Protocol::Tcp => wit::Protocol::Tcp,
                    Protocol::Http => wit::Protocol::Http,
                    Protocol::H2c => wit::Protocol::Http2,
                    Protocol::Grpc => wit::Protocol::Grpc,
                },
            },
            client: wit::Client {
                role: match self.sender.client.role {
                    NodeRole::Gateway => wit::Role::Gateway,
                    NodeRole::Sidecar => wit::Role::Sidecar,
                },
                cluster: self.sender.client.cluster.as_ref().map(|cluster| cluster.as_str()),
                network: self.sender.client.network.as_deref(),
                locality: locality(&self.sender.client.locality),
                bucket: self.sender.bucket,
                buckets: self.sender.buckets,
            },
            clusters: &clusters,
            localities: &localities,
            endpoints: wit::Endpoints {
                keys: &endpoints.keys,
                clusters: &endpoints.cluster_of,
                localities: &endpoints.locality_of,
                states: &endpoints.states,
                weights: &endpoints.weights,
                loads: &[],
            },
            config: self.config,
        })
    }
}

fn locality(locality: &Locality) -> wit::Locality<'_> {
    wit::Locality { region: &locality.region, zone: &locality.zone }
}
