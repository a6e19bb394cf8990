use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::id::NamespacedName;

fn assigner(ranges: &[&str]) -> Assigner {
    Assigner::new(ranges.iter().map(|range| range.parse().unwrap()).collect(), Leases::default())
}

fn request(slot: &str) -> AssignRequest {
    AssignRequest {
        slot: slot.into(),
        access: NamespacedName::new("shop", "checkout"),
        service: NamespacedName::new("shop", "checkout"),
        pod: None,
        ports: Vec::new(),
        hostnames: Vec::new(),
        family: Family::V4,
        current: None,
        rules_json: String::new(),
    }
}

fn with_current(slot: &str, current: &str) -> AssignRequest {
    AssignRequest { current: Some(current.parse().unwrap()), ..request(slot) }
}

fn with_rules(slot: &str, rules: &str) -> AssignRequest {
    AssignRequest { rules_json: rules.into(), ..request(slot) }
}

fn v6(slot: &str) -> AssignRequest {
    AssignRequest { family: Family::V6, ..request(slot) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_slot_keeps_its_address() {
    let mut assigner = assigner(&["240.11.0.0/24"]);
    let address = assigner.assign(&request("a"), 0).unwrap();
    for slot in 0..200 {
        assert_ne!(assigner.assign(&request(&format!("other-{slot}")), 0).unwrap(), address);
    }
    assert_eq!(assigner.assign(&request("a"), 1).unwrap(), address);
}

#[test]
fn a_slot_gets_the_same_address_from_an_agent_without_memory() {
    let addresses = |_| assigner(&["240.11.0.0/16"]).assign(&request("shop/checkout"), 0).unwrap();
    assert_eq!((0..3).map(addresses).collect::<BTreeSet<_>>().len(), 1);
}

#[test]
fn every_usable_address_is_given_and_then_no_more() {
    let mut assigner = assigner(&["240.11.0.0/29"]);
    let given: BTreeSet<_> = (0..6).map(|n| assigner.assign(&request(&n.to_string()), 0).unwrap()).collect();
    let all: BTreeSet<_> = (1..=6).map(|n| ip(&format!("240.11.0.{n}"))).collect();
    assert_eq!(given, all, "neither the network's nor the broadcast address");
    let error = assigner.assign(&request("one more"), 0).unwrap_err().to_string();
    assert_eq!(error, "no free IPv4 address: 6 are assigned, 0 were released less than a minute ago");
    assert!(assigner.assign(&request("3"), 0).is_ok(), "who has one keeps it");
}

#[test]
fn the_second_range_follows_the_first_and_tiny_ranges_are_whole() {
    let mut assigner = assigner(&["240.11.0.8/31", "240.11.9.9/32", "fd00::/126"]);
    let given: BTreeSet<_> = (0..3).map(|n| assigner.assign(&request(&n.to_string()), 0).unwrap()).collect();
    assert_eq!(given, BTreeSet::from([ip("240.11.0.8"), ip("240.11.0.9"), ip("240.11.9.9")]));
    let given: BTreeSet<_> = (0..3).map(|n| assigner.assign(&v6(&format!("six-{n}")), 0).unwrap()).collect();
    assert_eq!(given, BTreeSet::from([ip("fd00::1"), ip("fd00::2"), ip("fd00::3")]), "not the anycast address");
    assert!(assigner.assign(&v6("six-3"), 0).is_err());
}

#[test]
fn a_family_without_a_range_is_told() {
    let error = assigner(&["240.11.0.0/24"]).assign(&v6("a"), 0).unwrap_err();
    assert_eq!(error.to_string(), "this agent has no IPv6 range");
    assert!(matches!(assigner(&["240.11.0.0/24"]).assign(&request(""), 0), Err(AssignError::NoSlot)));
}

#[test]
fn huge_ranges_cost_nothing() {
    for range in ["fd00::/64", "fd00::/8", "::/0"] {
        let mut assigner = assigner(&[range]);
        let given: BTreeSet<_> = (0..1000).map(|n| assigner.assign(&v6(&n.to_string()), 0).unwrap()).collect();
        assert_eq!(given.len(), 1000);
    }
    assert!(assigner(&["0.0.0.0/0"]).assign(&request("a"), 0).is_ok());
}

#[test]
fn a_released_address_cools_down_for_others_only() {
    let mut assigner = assigner(&["240.11.0.9/32"]);
    let address = assigner.assign(&request("a"), 1000).unwrap();
    assert!(!assigner.release("b", address, 1000), "it is not b's");
    assert!(!assigner.release("a", ip("240.11.0.1"), 1000), "a has another");
    assert!(assigner.release("a", address, 1000));
    assert!(!assigner.release("a", address, 1000), "once");

    let error = assigner.assign(&request("b"), 1000 + COOLDOWN_MS - 1).unwrap_err().to_string();
    assert_eq!(error, "no free IPv4 address: 0 are assigned, 1 were released less than a minute ago");
    assert_eq!(assigner.assign(&request("a"), 2000).unwrap(), address, "the one who had it may have it at once");
    assert!(assigner.release("a", address, 3000));
    assert_eq!(assigner.assign(&request("b"), 3000 + COOLDOWN_MS).unwrap(), address);
    assert!(assigner.leases().cooling.is_empty());
}

#[test]
fn a_clock_that_is_set_back_does_not_cool_for_ever() {
    let mut assigner = assigner(&["240.11.0.9/32"]);
    let address = assigner.assign(&request("a"), 0).unwrap();
    assigner.release("a", address, 10 * COOLDOWN_MS);
    assert!(assigner.assign(&request("b"), 0).is_err());
    assert_eq!(assigner.assign(&request("b"), COOLDOWN_MS).unwrap(), address);
}

#[test]
fn the_ledgers_address_wins_in_our_ranges() {
    let mut assigner = assigner(&["240.11.0.0/24"]);
    let own = assigner.assign(&request("a"), 0).unwrap();
    let ledgers = if own == ip("240.11.0.77") { "240.11.0.78" } else { "240.11.0.77" };
    assert_eq!(assigner.assign(&with_current("a", ledgers), 0).unwrap(), ip(ledgers));
    assert_eq!(assigner.assign(&request("a"), 0).unwrap(), ip(ledgers), "and is remembered");
    // Also from a slot that we thought had it: the ledger holds no address twice.
    assert_eq!(assigner.assign(&with_current("b", ledgers), 0).unwrap(), ip(ledgers));
    assert_ne!(assigner.assign(&request("a"), 0).unwrap(), ip(ledgers));
    // And what cools for another.
    assert!(assigner.release("b", ip(ledgers), 0));
    assert_eq!(assigner.assign(&with_current("c", ledgers), 0).unwrap(), ip(ledgers));
    assert!(assigner.leases().cooling.is_empty());
}

#[test]
fn the_ledgers_address_does_not_count_elsewhere_or_in_another_family() {
    let mut assigner = assigner(&["240.11.0.0/24", "fd00::/64"]);
    for current in ["240.12.0.1", "fd00::7"] {
        let address = assigner.assign(&with_current("a", current), 0).unwrap();
        assert!("240.11.0.0/24".parse::<IpNet>().unwrap().contains(&address));
    }
}

#[test]
fn a_lease_outside_of_changed_ranges_is_replaced() {
    let leases = Leases { slots: [("a".to_owned(), ip("10.0.0.1"))].into(), ..Leases::default() };
    let mut assigner = Assigner::new(vec!["240.11.0.8/31".parse().unwrap()], leases);
    let address = assigner.assign(&request("a"), 0).unwrap();
    assert_eq!(assigner.leases().slots["a"], address);
    assert_eq!(assigner.holders.len(), 1);
}

#[test]
fn rules_restrict_what_is_chosen_anew() {
    let mut assigner = assigner(&["240.11.0.0/29"]);
    let rules = r#"{"reserved": ["240.11.0.1", "240.11.0.2", "240.11.0.3"], "unknown": {"x": 1}}"#;
    let given: BTreeSet<_> = ["a", "b", "c"].map(|slot| assigner.assign(&with_rules(slot, rules), 0).unwrap()).into();
    assert_eq!(given, BTreeSet::from([ip("240.11.0.4"), ip("240.11.0.5"), ip("240.11.0.6")]));
    assert!(assigner.assign(&with_rules("d", rules), 0).is_err());
    let within = r#"{"within": ["10.0.0.0/8", "240.11.0.2/31"]}"#;
    let given: BTreeSet<_> = ["d", "e"].map(|slot| assigner.assign(&with_rules(slot, within), 0).unwrap()).into();
    assert_eq!(given, BTreeSet::from([ip("240.11.0.2"), ip("240.11.0.3")]));
    assert!(assigner.assign(&with_rules("f", within), 0).is_err());
    assert!(matches!(assigner.assign(&with_rules("f", "{"), 0), Err(AssignError::Rules(_))));
    assert!(matches!(assigner.assign(&with_rules("f", r#"{"reserved": 1}"#), 0), Err(AssignError::Rules(_))));
}

#[test]
fn a_few_allowed_addresses_of_a_huge_range_are_found() {
    let mut assigner = assigner(&["fd00::/64"]);
    let rules = |slot| AssignRequest { rules_json: r#"{"within": ["fd00::5:0/127"]}"#.into(), ..v6(slot) };
    let given: BTreeSet<_> = ["a", "b"].map(|slot| assigner.assign(&rules(slot), 0).unwrap()).into();
    assert_eq!(given, BTreeSet::from([ip("fd00::5:0"), ip("fd00::5:1")]));
}

#[derive(Clone, Debug)]
enum Step {
    Assign(u8, Option<u8>),
    Release(u8),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..12_u8, proptest::option::weighted(0.2, 0..16_u8)).prop_map(|(slot, current)| Step::Assign(slot, current)),
        2 => (0..12_u8).prop_map(Step::Release),
        1 => (0..2 * COOLDOWN_MS).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn no_address_is_ever_held_twice(steps in proptest::collection::vec(step(), 0..200)) {
        let mut assigner = assigner(&["240.11.0.0/29", "240.11.0.12/31"]);
        let mut now = 0;
        for step in steps {
            match step {
                Step::Assign(slot, current) => {
                    let current = current.map(|n| ip(&format!("240.11.0.{n}")));
                    let asked = AssignRequest { current, ..request(&slot.to_string()) };
                    if let Ok(address) = assigner.assign(&asked, now) {
                        prop_assert!(assigner.has(address));
                        prop_assert_eq!(assigner.leases.slots.get(&slot.to_string()), Some(&address));
                    }
                }
                Step::Release(slot) => {
                    if let Some(address) = assigner.leases.slots.get(&slot.to_string()).copied() {
                        prop_assert!(assigner.release(&slot.to_string(), address, now));
                    }
                }
                Step::Wait(ms) => now += ms,
            }
            let back: BTreeMap<_, _> = assigner.leases.slots.iter().map(|(slot, a)| (*a, slot.clone())).collect();
            prop_assert_eq!(back.len(), assigner.leases.slots.len());
            prop_assert_eq!(&back, &assigner.holders);
            prop_assert!(assigner.leases.cooling.keys().all(|address| !back.contains_key(address)));
        }
    }
}
