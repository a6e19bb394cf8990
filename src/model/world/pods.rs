//! A cluster's pods, and which services use them. There are far more of them than of anything else, so each name is kept
//! once, within its namespace.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::cluster::Count;
use crate::model::id::NamespacedName;
use crate::model::object::Pod;

/// Pods that are there, and those that are only named by slices.
#[derive(Default)]
pub(super) struct Pods {
    namespaces: HashMap<Arc<str>, HashMap<Arc<str>, Place>>,
}

#[derive(Default)]
struct Place {
    pod: Option<Arc<Pod>>,
    users: Users,
}

/// The services of the namespace that use a pod, and in how many endpoints. As a rule it is one.
#[derive(Default)]
enum Users {
    #[default]
    Nobody,
    One(Arc<str>, u32),
    Many(Box<[(Arc<str>, u32)]>),
}

impl Users {
    fn count(&mut self, service: &Arc<str>, count: Count) {
        let mut all = match std::mem::take(self) {
            Users::Nobody => Vec::new(),
            Users::One(known, uses) => vec![(known, uses)],
            Users::Many(all) => all.into_vec(),
        };
        let place = all.iter().position(|(known, _)| known == service).unwrap_or_else(|| {
            all.push((service.clone(), 0));
            all.len() - 1
        });
        count.apply(&mut all[place].1, 1);
        if all[place].1 == 0 {
            all.remove(place);
        }
        *self = match all.as_slice() {
            [] => Users::Nobody,
            [(service, uses)] => Users::One(service.clone(), *uses),
            _ => Users::Many(all.into()),
        };
    }
}

impl Pods {
    /// A pod that is there.
    pub fn get(&self, id: &NamespacedName) -> Option<&Arc<Pod>> {
        self.place(id)?.pod.as_ref()
    }

    /// All that are there, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.namespaces.values().flat_map(HashMap::values).filter_map(|place| place.pod.as_ref())
    }

    /// Puts a pod in place or takes it away. Returns what was there before.
    pub fn put(&mut self, id: &NamespacedName, pod: Option<Arc<Pod>>) -> Option<Arc<Pod>> {
        self.change(&id.namespace, &id.name, |place| std::mem::replace(&mut place.pod, pod))
    }

    /// A slice of the service has an endpoint more, or less, that is the pod.
    pub fn count_user(&mut self, namespace: &Arc<str>, pod: &Arc<str>, service: &Arc<str>, count: Count) {
        self.change(namespace, pod, |place| place.users.count(service, count));
    }

    /// The services with endpoints that are the pod.
    pub fn users(&self, id: &NamespacedName) -> BTreeSet<NamespacedName> {
        let of = |service: &Arc<str>| NamespacedName::new(id.namespace.clone(), service.clone());
        match self.place(id).map(|place| &place.users) {
            None | Some(Users::Nobody) => BTreeSet::new(),
            Some(Users::One(service, _)) => [of(service)].into(),
            Some(Users::Many(all)) => all.iter().map(|(service, _)| of(service)).collect(),
        }
    }

    fn place(&self, id: &NamespacedName) -> Option<&Place> {
        self.namespaces.get(&id.namespace)?.get(&id.name)
    }

    /// Changes a place, which goes when nothing is left in it.
    fn change<T>(&mut self, namespace: &Arc<str>, name: &Arc<str>, change: impl FnOnce(&mut Place) -> T) -> T {
        let places = self.namespaces.entry(namespace.clone()).or_default();
        let place = places.entry(name.clone()).or_default();
        let outcome = change(place);
        if place.pod.is_none() && matches!(place.users, Users::Nobody) {
            places.remove(name);
            if places.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_there_while_somebody_needs_it() {
        let mut pods = Pods::default();
        let [shop, pod, web, db]: [Arc<str>; 4] = ["shop".into(), "p".into(), "web".into(), "db".into()];
        let id = NamespacedName::new(shop.clone(), pod.clone());
        let users = |pods: &Pods| -> Vec<String> { pods.users(&id).iter().map(ToString::to_string).collect() };
        let count = |pods: &mut Pods, service, count| pods.count_user(&shop, &pod, service, count);
        count(&mut pods, &web, Count::More);
        count(&mut pods, &web, Count::More);
        count(&mut pods, &db, Count::More);
        assert_eq!(users(&pods), ["shop/db", "shop/web"]);
        count(&mut pods, &web, Count::Less);
        count(&mut pods, &db, Count::Less);
        assert_eq!(users(&pods), ["shop/web"]);
        count(&mut pods, &web, Count::Less);
        assert!(users(&pods).is_empty() && pods.namespaces.is_empty());
        assert!(pods.get(&id).is_none() && pods.put(&id, None).is_none() && pods.namespaces.is_empty());
    }
}
