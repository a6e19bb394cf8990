//! A new kubeconfig at its rehearsal: what it shows is collected beside what is served.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::cluster::Way;
use crate::kube::connect::Refused;
use crate::kube::field::Invalid;
use crate::kube::watch::{Item, Session, Told};
use crate::model::object::{Object, ObjectKey, ObjectKind};

pub(super) struct Rehearsal {
    pub way: Way,
    pub session: Session,
    pub objects: HashMap<ObjectKey, Box<Object>>,
    pub invalid: BTreeMap<ObjectKey, Vec<Invalid>>,
    pub done: HashSet<ObjectKind>,
    /// Why it shows less than everything.
    pub trouble: Option<Refused>,
}

impl Rehearsal {
    pub fn new(way: Way, session: Session) -> Self {
        Self { way, session, objects: HashMap::new(), invalid: BTreeMap::new(), done: HashSet::new(), trouble: None }
    }

    pub fn take(&mut self, told: Told) {
        match told {
            Told::Begin(kind) => {
                self.objects.retain(|key, _| key.kind != kind);
                self.invalid.retain(|key, _| key.kind != kind);
            }
            Told::Items(_, items) => items.into_iter().for_each(|item| self.item(item)),
            Told::Done(kind) => drop(self.done.insert(kind)),
            Told::Failing(_, why) => self.trouble = Some(why),
        }
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Object(object) => drop(self.objects.insert(object.key(), object)),
            Item::Warned(object, faults) => {
                self.invalid.insert(object.key(), faults);
                self.objects.insert(object.key(), object);
            }
            Item::Gone(key) => {
                self.invalid.remove(&key);
                self.objects.remove(&key);
            }
            Item::Invalid(key, faults) => drop(self.invalid.insert(key, faults)),
            // Only the primary tells of clusters, and it has no rehearsals.
            Item::Expect(_) => {}
        }
    }
}
