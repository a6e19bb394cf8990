//! What is wrong in a cluster's objects at present. Pure.

use std::collections::BTreeMap;

use crate::kube::field::Invalid;
use crate::model::object::{ObjectKey, ObjectKind};

/// Whether an object serves in the form in which it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    /// It does, with defaults in place of what is wrong.
    InPart,
    /// It does not; an earlier form may.
    Not,
}

#[derive(Debug, PartialEq)]
struct Faulty {
    faults: Vec<Invalid>,
    serves: Serves,
    /// The listing in which it was told last.
    listing: u64,
}

/// The faults, by object.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Faults(BTreeMap<ObjectKey, Faulty>);

impl Faults {
    /// Of what another session has shown, before its listings are counted.
    pub fn of_session(faults: BTreeMap<ObjectKey, Vec<Invalid>>) -> Self {
        let faulty = |faults| Faulty { faults, serves: Serves::Not, listing: 0 };
        Self(faults.into_iter().map(|(key, faults)| (key, faulty(faults))).collect())
    }

    /// Listings are counted anew.
    pub fn restart_listings(&mut self) {
        self.0.values_mut().for_each(|faulty| faulty.listing = 0);
    }

    /// An object is told with these faults; says whether that is new.
    pub fn put(&mut self, key: ObjectKey, faults: Vec<Invalid>, serves: Serves, listing: u64) -> bool {
        let faulty = Faulty { faults, serves, listing };
        match self.0.get_mut(&key) {
            Some(known) => {
                let is_new = (&known.faults, known.serves) != (&faulty.faults, faulty.serves);
                *known = faulty;
                is_new
            }
            None => self.0.insert(key, faulty).is_none(),
        }
    }

    /// The object is well, or gone; says whether that is new.
    pub fn remove(&mut self, key: &ObjectKey) -> bool {
        self.0.remove(key).is_some()
    }

    /// After a complete listing: what was not in it is gone. Says whether anything was.
    pub fn sweep(&mut self, kind: ObjectKind, listing: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|key, faulty| key.kind != kind || faulty.listing == listing);
        before != self.0.len()
    }

    /// All faults.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Invalid)> {
        self.0.iter().flat_map(|(key, faulty)| faulty.faults.iter().map(move |fault| (key, fault)))
    }

    /// Objects that do not serve in the form in which they are, and why.
    pub fn refused(&self) -> BTreeMap<ObjectKey, String> {
        let text = |faulty: &Faulty| faulty.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let refused = self.0.iter().filter(|(_, faulty)| faulty.serves == Serves::Not);
        refused.map(|(key, faulty)| (key.clone(), text(faulty))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_when_they_change_and_go_with_their_objects() {
        let key = |name: &str| ObjectKey { kind: ObjectKind::VipPool, namespace: "".into(), name: name.into() };
        let fault = |message: &str| {
            vec![Invalid { field: "spec".to_owned(), message: message.to_owned(), remedy: "mend it".to_owned() }]
        };
        let mut faults = Faults::default();
        assert!(faults.put(key("a"), fault("bad"), Serves::Not, 1));
        assert!(!faults.put(key("a"), fault("bad"), Serves::Not, 2));
        assert!(faults.put(key("a"), fault("worse"), Serves::Not, 2));
        assert!(faults.put(key("b"), fault("odd"), Serves::InPart, 1));
        assert_eq!(faults.refused(), BTreeMap::from([(key("a"), "spec: worse; mend it".to_owned())]));
        assert!(faults.sweep(ObjectKind::VipPool, 2));
        assert!(!faults.sweep(ObjectKind::Pod, 9) && !faults.remove(&key("b")) && faults.remove(&key("a")));
    }
}
