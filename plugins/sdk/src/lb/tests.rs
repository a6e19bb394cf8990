use std::collections::BTreeSet;

use super::*;
use crate::testing::{backend, check_lb, question, show};
use Readiness::{Draining, NotReady};

#[test]
fn the_view_shows_what_the_columns_say() {
    let asked = question([
        backend(7).at("eu", "a").weight(3).load(5),
        backend(8).at("us", "b").of("west").network("far").state(Draining),
    ]);
    let all: Vec<_> = asked.endpoints().collect();
    assert_eq!((all[0].index(), all[0].key(), all[0].weight(), all[0].load()), (0, 7, 3, Some(5)));
    assert_eq!((all[1].cluster().name.as_str(), all[1].cluster().network.as_str()), ("west", "far"));
    assert_eq!((all[1].locality().zone.as_str(), all[1].readiness(), all[1].load()), ("b", Draining, Some(0)));
    assert_eq!(asked.pick(&[1]).map(Endpoint::key).collect::<Vec<_>>(), [8]);
    assert_eq!(question([backend(1)]).endpoint(0).load(), None);
}

#[test]
fn a_client_can_use_what_is_ready_and_in_its_network() {
    let usable = |backends: Vec<crate::testing::Backend>| question(backends).usable();
    let far = |key| backend(key).of("west").network("far");
    let is = |ready: &[u32], draining: &[u32]| Usable { ready: ready.to_vec(), draining: draining.to_vec() };
    assert_eq!(usable(vec![backend(1), backend(2).state(NotReady), backend(3).state(Draining)]), is(&[0], &[2]));
    assert_eq!(usable(vec![far(1), backend(2)]), is(&[1], &[]));
    assert_eq!(usable(vec![far(1), backend(2).state(NotReady)]), is(&[0], &[]));
    // One that is near and draining is still the better choice than one that cannot be reached.
    assert_eq!(usable(vec![far(1), backend(2).state(Draining)]), is(&[1], &[]));
    assert_eq!(usable(vec![backend(2).state(Draining), backend(1).state(Draining)]), is(&[0, 1], &[]));
    assert_eq!(usable(vec![]), is(&[], &[]));
}

#[test]
fn the_first_of_one_address_stays() {
    let mut asked = question([backend(0), backend(9).of("west").network("far"), backend(9), backend(0), backend(9)]);
    assert_eq!(asked.usable().ready, [0, 2]);
    asked.client.network = None;
    assert_eq!(asked.usable().ready, [0, 1]);
    // Keys that collide in the table, and a full one.
    let keys = (0..1000u64).map(|i| ((i % 500) << 56) | (i % 500));
    let many = question(keys.clone().map(backend));
    assert_eq!(many.usable().ready.len(), keys.collect::<BTreeSet<_>>().len());
}

#[test]
fn groups_have_an_order_of_their_own() {
    let asked = question([
        backend(1).at("us", "b"),
        backend(2).at("eu", "b"),
        backend(3).at("eu", "a").weight(5),
        backend(4).at("eu", "b"),
        backend(5).at("eu", "b"),
    ]);
    let mut groups = Groups::new(&asked);
    groups.drain(asked.endpoint(4));
    groups.add(9, asked.endpoint(0));
    groups.add(4, asked.endpoint(3));
    groups.add(4, asked.endpoint(2));
    groups.add(4, asked.endpoint(1));
    let decision = groups.decide();
    assert_eq!(show(&asked, &decision), ["0 eu/a 5: 3*5", "0 eu/b 2: 4*1 2*1", "1 us/b 1: 1*1", "2 eu/b 1: -5*1"]);
    assert!(decision.weights.is_empty());
    check_lb(&asked, &decision).expect("it holds to the rules");
}

#[test]
fn weights_of_ones_own_stand_beside_those_given() {
    let asked = question([backend(1).weight(2), backend(2).weight(3)]);
    let mut groups = Groups::new(&asked);
    groups.add(u32::MAX, asked.endpoint(0));
    groups.add_weighted(u32::MAX, asked.endpoint(1), 1000);
    let decision = groups.decide();
    assert_eq!(show(&asked, &decision), ["0 / 1002: 1*2 2*1000"]);
    assert_eq!(Groups::new(&asked).decide(), Decision::default());
}

#[test]
fn many_can_be_added_at_once() {
    let some: Vec<u32> = (0..50).filter(|i| i % 4 != 1).collect();
    type Place = fn(u64) -> u64;
    let beside: Place = |key| key / 17;
    let mixed: Place = |key| key * 7 % 3;
    for (place, own_weight) in [(beside, 1), (beside, 9), (mixed, 1), (mixed, 9)] {
        let places = ["a", "b", "c"];
        let backend = |key| backend(key).at("eu", places[place(key) as usize]).weight(1 + key as u32 % 5);
        let asked = question((0..50u64).map(backend));
        let [mut each, mut at_once] = [(); 2].map(|()| Groups::new(&asked));
        for groups in [&mut each, &mut at_once] {
            groups.add_weighted(1, asked.endpoint(1), own_weight);
        }
        let priorities = [4, 1, 4];
        for endpoint in asked.pick(&some) {
            each.add(priorities[endpoint.locality_index() as usize], endpoint);
        }
        at_once.add_by_locality(&some, &priorities);
        assert_eq!(each.decide(), at_once.decide());
    }
}
