//! What the control plane serves: listeners lead to routes, routes to clusters, clusters to
//! assignments, and in each edit everything that is referred to exists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::random::Random;
use crate::ads::tests::client::{Cluster, Endpoint, Listener, Route};
use crate::snapshot::{Edit, Reference, Resource, ResourceType, SnapshotBuilder, XdsSnapshot};

type Name = Arc<str>;

/// Few names and few bodies, so that what went comes back, and what was refused is offered again.
const CLUSTERS: usize = 7;
const LISTENERS: usize = 4;
const ROUTES: usize = 5;
const BODIES: usize = 3;

/// One change of one resource.
struct Change {
    ty: ResourceType,
    name: Name,
    to: Option<Arc<Resource>>,
}

#[derive(Clone)]
struct Service {
    body: String,
    assignment: Name,
}

/// The content, and the log of how it came about; each replica follows the log at its own pace.
pub(super) struct Content {
    clusters: BTreeMap<Name, Service>,
    endpoints: BTreeMap<Name, String>,
    listeners: BTreeMap<Name, (String, Name)>,
    routes: BTreeMap<Name, (String, BTreeSet<Name>)>,
    current: BTreeMap<(ResourceType, Name), Arc<Resource>>,
    log: Vec<Change>,
    bad_percent: usize,
}

impl Content {
    pub(super) fn new(bad_percent: usize) -> Self {
        Self {
            clusters: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            listeners: BTreeMap::new(),
            routes: BTreeMap::new(),
            current: BTreeMap::new(),
            log: Vec::new(),
            bad_percent,
        }
    }

    pub(super) fn listener_name(random: &mut Random) -> Name {
        Arc::from(format!("l{}", random.below(LISTENERS)))
    }

    pub(super) fn cluster_name(random: &mut Random) -> Name {
        Arc::from(format!("c{}", random.below(CLUSTERS)))
    }

    fn body(&self, random: &mut Random) -> String {
        let kind = if random.chance(self.bad_percent) { "bad" } else { "good" };
        format!("{kind}{}", random.below(BODIES))
    }

    /// Changes something; says what.
    pub(super) fn edit(&mut self, random: &mut Random) -> String {
        let said = match random.below(14) {
            0..3 => self.change_endpoints(random),
            3 | 4 => self.change_cluster(random),
            5 => self.add_service(random),
            6 | 7 => self.swap_cluster(random),
            8 => self.remove_cluster(random),
            9 => self.add_listener(random),
            10 => self.remove_listener(random),
            11 => self.change_listener(random),
            12 => self.move_listener(random),
            _ => self.change_route(random),
        };
        self.render();
        said
    }

    /// An endpoint changes: what is left of the day.
    pub(super) fn change_endpoints(&mut self, random: &mut Random) -> String {
        let Some(name) = random.pick(self.endpoints.keys().cloned()) else { return self.add_service(random) };
        let body = self.body(random);
        let said = format!("endpoints {name} {body}");
        self.endpoints.insert(name, body);
        said
    }

    fn change_cluster(&mut self, random: &mut Random) -> String {
        let Some(name) = random.pick(self.clusters.keys().cloned()) else { return self.add_service(random) };
        let body = self.body(random);
        // Now and then its assignment gets another name, in the same edit.
        let assignment =
            if random.chance(25) { self.assignment(&name, random) } else { self.clusters[&name].assignment.clone() };
        let said = format!("cluster {name} {body} -> {assignment}");
        self.clusters.insert(name, Service { body, assignment });
        said
    }

    fn assignment(&mut self, cluster: &Name, random: &mut Random) -> Name {
        let name: Name = match random.below(6) {
            0 => Arc::from(format!("{cluster}/blue")),
            1 => Arc::from("shared"),
            _ => cluster.clone(),
        };
        if !self.endpoints.contains_key(&name) {
            let body = self.body(random);
            self.endpoints.insert(name.clone(), body);
        }
        name
    }

    fn new_cluster(&mut self, random: &mut Random) -> Option<Name> {
        let free = (0..CLUSTERS).map(|n| Name::from(format!("c{n}"))).filter(|name| !self.clusters.contains_key(name));
        let name = random.pick(free)?;
        let (assignment, body) = (self.assignment(&name, random), self.body(random));
        self.clusters.insert(name.clone(), Service { body, assignment });
        Some(name)
    }

    fn add_service(&mut self, random: &mut Random) -> String {
        let Some(name) = self.new_cluster(random) else { return self.remove_cluster(random) };
        let route = random.pick(self.routes.keys().cloned());
        if let Some((_, clusters)) = route.as_ref().and_then(|route| self.routes.get_mut(route)) {
            clusters.insert(name.clone());
        }
        format!("new cluster {name} under {route:?}")
    }

    /// Make before break: the old one goes in the edit in which the new one comes.
    fn swap_cluster(&mut self, random: &mut Random) -> String {
        let used: BTreeSet<Name> = self.routes.values().flat_map(|(_, clusters)| clusters.iter().cloned()).collect();
        let Some(old) = random.pick(used) else { return self.add_service(random) };
        let Some(new) = self.new_cluster(random) else { return self.remove_cluster(random) };
        for (_, clusters) in self.routes.values_mut() {
            if clusters.remove(&old) {
                clusters.insert(new.clone());
            }
        }
        self.clusters.remove(&old);
        format!("cluster {new} in place of {old}")
    }

    fn remove_cluster(&mut self, random: &mut Random) -> String {
        let Some(name) = random.pick(self.clusters.keys().cloned()) else { return "nothing".to_owned() };
        self.routes.values_mut().for_each(|(_, clusters)| _ = clusters.remove(&name));
        self.clusters.remove(&name);
        format!("no cluster {name}")
    }

    fn some_route(&mut self, random: &mut Random) -> Name {
        let name: Name = Arc::from(format!("r{}", random.below(ROUTES)));
        if !self.routes.contains_key(&name) {
            let mut clusters: BTreeSet<Name> =
                (0..2).filter_map(|_| random.pick(self.clusters.keys().cloned())).collect();
            if random.chance(50) {
                clusters.extend(self.new_cluster(random));
            }
            let body = self.body(random);
            self.routes.insert(name.clone(), (body, clusters));
        }
        name
    }

    fn add_listener(&mut self, random: &mut Random) -> String {
        let (name, route, body) = (Self::listener_name(random), self.some_route(random), self.body(random));
        let said = format!("listener {name} {body} -> {route}");
        self.listeners.insert(name, (body, route));
        said
    }

    fn remove_listener(&mut self, random: &mut Random) -> String {
        let Some(name) = random.pick(self.listeners.keys().cloned()) else { return self.add_listener(random) };
        self.listeners.remove(&name);
        format!("no listener {name}")
    }

    fn change_listener(&mut self, random: &mut Random) -> String {
        let body = self.body(random);
        let Some(name) = random.pick(self.listeners.keys().cloned()) else { return self.add_listener(random) };
        let said = format!("listener {name} {body}");
        self.listeners.entry(name).and_modify(|listener| listener.0 = body);
        said
    }

    fn move_listener(&mut self, random: &mut Random) -> String {
        let Some(name) = random.pick(self.listeners.keys().cloned()) else { return self.add_listener(random) };
        let route = self.some_route(random);
        let said = format!("listener {name} -> {route}");
        self.listeners.entry(name).and_modify(|listener| listener.1 = route);
        said
    }

    fn change_route(&mut self, random: &mut Random) -> String {
        let body = self.body(random);
        let added =
            if random.chance(30) { self.new_cluster(random) } else { random.pick(self.clusters.keys().cloned()) };
        let Some(name) = random.pick(self.routes.keys().cloned()) else { return self.add_listener(random) };
        let said = format!("route {name} {body} + {added:?}");
        self.routes.entry(name).and_modify(|route| {
            route.0 = body;
            route.1.extend(added);
        });
        said
    }

    /// Brings the resources into line, and the log with them.
    fn render(&mut self) {
        let led_to: BTreeSet<Name> = self.listeners.values().map(|(_, route)| route.clone()).collect();
        self.routes.retain(|name, _| led_to.contains(name));
        let used: BTreeSet<Name> = self.clusters.values().map(|service| service.assignment.clone()).collect();
        self.endpoints.retain(|name, _| used.contains(name));

        let mut next: BTreeMap<(ResourceType, Name), (String, Vec<Reference>)> = BTreeMap::new();
        for (name, service) in &self.clusters {
            let refs = vec![Reference::new(Endpoint, service.assignment.clone())];
            next.insert((Cluster, name.clone()), (service.body.clone(), refs));
        }
        for (name, body) in &self.endpoints {
            next.insert((Endpoint, name.clone()), (body.clone(), Vec::new()));
        }
        for (name, (body, route)) in &self.listeners {
            next.insert((Listener, name.clone()), (body.clone(), vec![Reference::new(Route, route.clone())]));
        }
        for (name, (body, clusters)) in &self.routes {
            let refs = clusters.iter().map(|cluster| Reference::new(Cluster, cluster.clone())).collect();
            next.insert((Route, name.clone()), (body.clone(), refs));
        }
        let gone: Vec<_> = self.current.keys().filter(|key| !next.contains_key(key)).cloned().collect();
        for key in gone {
            self.current.remove(&key);
            self.log.push(Change { ty: key.0, name: key.1, to: None });
        }
        for ((ty, name), (body, refs)) in next {
            let to: Vec<&str> = refs.iter().map(|r| &*r.name).collect();
            let text = format!("{body} {}", to.join(" "));
            let key = (ty, name.clone());
            if self.current.get(&key).is_some_and(|old| *old.body() == text.as_bytes()) {
                continue;
            }
            let resource = Arc::new(Resource::from_encoded(ty, name.clone(), Bytes::from(text)).with_refs(refs));
            self.current.insert(key, resource.clone());
            self.log.push(Change { ty, name, to: Some(resource) });
        }
    }

    pub(super) fn get(&self, ty: ResourceType, name: &Name) -> Option<&Arc<Resource>> {
        self.current.get(&(ty, name.clone()))
    }

    pub(super) fn of(&self, ty: ResourceType) -> impl Iterator<Item = &Arc<Resource>> {
        self.current.values().filter(move |resource| resource.ty() == ty)
    }
}

/// One process of the control plane: the same content as the others, in a lineage of its own.
pub(super) struct Replica {
    builder: SnapshotBuilder,
    followed: usize,
    /// `None` until its sources are synced.
    pub(super) published: Option<Arc<XdsSnapshot>>,
}

impl Replica {
    pub(super) fn new() -> Self {
        Self { builder: SnapshotBuilder::new(), followed: 0, published: None }
    }

    /// Follows the content up to its latest edit, in one generation or in two.
    pub(super) fn publish(&mut self, content: &Content, random: &mut Random) {
        if random.chance(20) {
            // A generation that nobody was told of.
            let part = self.followed + random.below(content.log.len() - self.followed + 1);
            self.follow(content, part);
        }
        self.follow(content, content.log.len());
        self.published = Some(self.builder.latest().clone());
    }

    fn follow(&mut self, content: &Content, until: usize) {
        let changes = &content.log[self.followed..until];
        self.followed = until;
        self.builder.update(|edit: &mut Edit| {
            for change in changes {
                match &change.to {
                    Some(resource) => _ = edit.set(resource.clone()),
                    None => _ = edit.remove(change.ty, &change.name),
                }
            }
        });
    }
}
