//! Subscriptions: what tells them apart, and how names are looked up in their order.

use std::sync::Arc;

use proptest::prelude::*;

use crate::ads::Limits;
use crate::ads::subscription::{Asked, NameSets, Subscription};
use crate::snapshot::ResourceType;

fn strings(names: &[u8]) -> Vec<String> {
    names.iter().map(|name| format!("s{name:03}")).collect()
}

/// A subscription that was changed in these steps.
fn subscribed(steps: &[(Vec<u8>, Vec<u8>)]) -> Subscription {
    let sets = NameSets::default();
    let asked = Asked { ty: ResourceType::Endpoint, known: &|_| None, sets: &sets };
    let mut sub = Subscription::default();
    for (subscribe, unsubscribe) in steps {
        let (subscribe, unsubscribe) = (strings(subscribe), strings(unsubscribe));
        let [subscribe, unsubscribe] =
            [&subscribe, &unsubscribe].map(|all| all.iter().map(String::as_str).collect::<Vec<_>>());
        sub.change(asked, &subscribe, &unsubscribe, &Limits::default()).expect("few names");
    }
    sub
}

proptest! {
    #[test]
    fn equal_subscriptions_have_equal_marks_and_others_do_not(
        steps in proptest::collection::vec((proptest::collection::vec(0..9u8, 0..6), proptest::collection::vec(0..9u8, 0..6)), 1..6),
        other in proptest::collection::vec(0..9u8, 0..9),
    ) {
        let sub = subscribed(&steps);
        let mut names = other.clone();
        names.sort_unstable();
        let at_once = subscribed(&[(other, Vec::new())]);
        prop_assert_eq!(sub.mark() == at_once.mark(), sub.names() == at_once.names());
    }

    #[test]
    fn names_are_looked_up_in_whatever_order(
        names in proptest::collection::vec(0..200u8, 0..100),
        mut asked in proptest::collection::vec(0..200u8, 0..100),
        is_sorted: bool,
    ) {
        if is_sorted {
            asked.sort_unstable();
        }
        let sub = subscribed(&[(names, Vec::new())]);
        let mut walk = sub.walk();
        for name in asked {
            let name: Arc<str> = strings(&[name]).remove(0).into();
            prop_assert_eq!(walk.covers(&name), sub.covers(&name), "{}", name);
        }
    }
}
