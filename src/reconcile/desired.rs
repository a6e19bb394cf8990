//! From a plan to what Envoys have to have: listeners, and the backends behind them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::claims::service_name;
use super::policies::Chosen;
use super::views::{AudienceKey, Backend, Desired, Wanted};
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::world::{AccessScope, World};
use crate::vip::{Audience, Offer, Plan};

/// The name that Envoy's cluster, endpoints and route of an offer's backend share.
pub fn backend_name(offer: &Offer) -> Arc<str> {
    let slot = &offer.slot;
    let (namespace, access, service, port) =
        (&slot.service.namespace, &slot.access.name, &slot.service.name, offer.port.port);
    match &slot.pod {
        Some(pod) => format!("{namespace}/{access}/{service}/{pod}:{port}").into(),
        None => format!("{namespace}/{access}/{service}:{port}").into(),
    }
}

/// Everything that the plan's offers need, in the present world. What was desired before speaks for accesses that are
/// gone while their VIPs drain.
pub fn desired(world: &World, plan: &Plan, chosen: &Chosen, before: &Desired) -> Desired {
    let mut desired = Desired::default();
    let mut audiences: HashMap<*const Audience, AudienceKey> = HashMap::new();
    for (name, offer) in &plan.offers {
        let audience =
            audiences.entry(Arc::as_ptr(&offer.audience)).or_insert_with(|| AudienceKey::of(&offer.audience)).clone();
        desired.audiences.entry(audience.clone()).or_insert_with(|| offer.audience.clone());
        let new = |name: &Arc<str>| new_backend(world, chosen, name, offer, before.backends.get(name));
        let backend = desired.backends.entry(backend_name(offer)).or_insert_with_key(new);
        backend.addresses.insert(offer.address);
        backend.hostnames.extend(offer.hostnames.iter().cloned());
        let address = SocketAddr::new(offer.address, offer.port.port);
        if backend.policy.buckets > 1 {
            desired.divisions.entry(audience.clone()).or_default().insert(backend.policy.buckets);
        }
        desired.listeners.insert(name.clone(), Wanted { address, backend: backend.name.clone(), audience });
    }
    for backend in desired.backends.values() {
        desired.of_service.entry(backend.service.clone()).or_default().insert(backend.name.clone());
    }
    desired
}

fn new_backend(world: &World, chosen: &Chosen, name: &Arc<str>, offer: &Offer, before: Option<&Backend>) -> Backend {
    let slot = &offer.slot;
    // While a VIP is withdrawn its access may be gone already. It drains as it served: with the default, requests
    // would go to clusters that the access left out.
    let (scope, policy) = match (world.access(&slot.access), before) {
        (Some(access), _) => (AccessScope::of(access), chosen.load_balancing(&slot.access)),
        (None, Some(before)) => (before.scope.clone(), before.policy.clone()),
        (None, None) => {
            let (access, own_service) = (slot.access.clone(), slot.service.name.clone());
            (AccessScope { access, own_service, clusters: BTreeSet::new() }, chosen.load_balancing(&slot.access))
        }
    };
    Backend {
        name: name.clone(),
        service: slot.service.clone(),
        pod: slot.pod.clone(),
        port: offer.port.clone(),
        hostnames: BTreeSet::new(),
        cluster_hostnames: if slot.pod.is_none() && offer.port.protocol.is_http() {
            cluster_hostnames(world, &slot.service, &scope.clusters)
        } else {
            BTreeMap::new()
        },
        addresses: BTreeSet::new(),
        scope,
        policy,
    }
}

/// `<cluster>.<service>.<namespace>.svc.clusterset.local` for each of the clusters that have the service.
pub fn cluster_hostnames(
    world: &World,
    service: &NamespacedName,
    only: &BTreeSet<ClusterName>,
) -> BTreeMap<Arc<str>, ClusterName> {
    let Some(merged) = world.service_in(service, only) else { return BTreeMap::new() };
    merged
        .clusters
        .into_iter()
        .map(|cluster| (Arc::from(format!("{cluster}.{}", service_name(service))), cluster))
        .collect()
}

/// Whether backends of these services would come out otherwise than they are: a cluster began or ceased to have one.
pub fn is_outdated<'a>(world: &World, desired: &Desired, services: impl Iterator<Item = &'a NamespacedName>) -> bool {
    services
        .filter_map(|service| desired.of_service.get(service))
        .flatten()
        .filter_map(|name| desired.backends.get(name))
        .filter(|backend| backend.pod.is_none() && backend.port.protocol.is_http())
        .any(|backend| cluster_hostnames(world, &backend.service, &backend.scope.clusters) != backend.cluster_hostnames)
}
