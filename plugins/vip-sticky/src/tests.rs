use causeway_policy::testing::{assign, inspect_vip, pool, vip_question};
use causeway_policy::vip::{Choice, Family};
use proptest::prelude::*;

use super::*;

fn take(pool: &str, address: &str) -> Result<Decision, String> {
    Ok(Decision::Take(Choice { pool: pool.into(), address: Some(address.into()) }))
}

fn refuse(reason: &str) -> Result<Decision, String> {
    Ok(Decision::Refuse(reason.to_owned()))
}

#[test]
fn an_address_is_the_one_asked_for_or_the_first_free_one() {
    let pools = || [pool("a", &[]), pool("b", &["10.0.0.1", "10.0.0.7"]), pool("c", &["10.1.0.1"])];
    let asking = |address: &str| Question { requested: Some(address.into()), ..vip_question(pools()) };
    assert_eq!(assign::<VipSticky>(&vip_question(pools())), take("b", "10.0.0.1"));
    assert_eq!(assign::<VipSticky>(&asking("10.1.0.1")), take("c", "10.1.0.1"));
    assert_eq!(assign::<VipSticky>(&asking("10.0.0.7")), take("b", "10.0.0.7"));
    assert_eq!(assign::<VipSticky>(&asking("10.0.0.9")), take("a", "10.0.0.9"));
}

#[test]
fn a_refusal_says_where_it_was_looked() {
    let none = vip_question([pool("a", &[]), pool("b", &[])]);
    assert_eq!(assign::<VipSticky>(&none), refuse("no IPv4 address is free in a, b"));
    let mut nowhere = Question { family: Family::Ipv6, ..vip_question([]) };
    let expected = "there is no pool with IPv6 addresses that namespace shop may use";
    assert_eq!(assign::<VipSticky>(&nowhere), refuse(expected));
    nowhere.requested = Some("fd00::9".into());
    assert_eq!(assign::<VipSticky>(&nowhere), refuse("no pool that may be used has fd00::9"));
}

#[test]
fn pools_can_be_filled_evenly() {
    let with_free = |name: &str, candidates: &[&str], free| Pool { free, ..pool(name, candidates) };
    let pools = || {
        [
            with_free("a", &["10.0.0.1"], 5),
            with_free("b", &["10.1.0.1"], 9),
            with_free("c", &["10.2.0.1"], 9),
            with_free("d", &[], 99),
        ]
    };
    let asked = |config: &str| assign::<VipSticky>(&Question { config: config.into(), ..vip_question(pools()) });
    assert_eq!(asked(r#"{"spread": "ByFree"}"#), take("b", "10.1.0.1"));
    assert_eq!(asked(r#"{"spread": "ByName"}"#), take("a", "10.0.0.1"));
}

#[test]
fn a_configuration_is_read_strictly() {
    for well in ["null", "{}", r#"{"spread": "ByFree"}"#] {
        assert_eq!(inspect_vip::<VipSticky>(well), Ok(()), "{well}");
    }
    for (config, said) in [
        (r#"{"pool": "a"}"#, "`vip-sticky` has no setting `pool`; use `spread`"),
        (r#"{"spread": "Evenly"}"#, "spread: \"Evenly\" is not what it can be; use `ByName` or `ByFree`"),
    ] {
        assert_eq!(inspect_vip::<VipSticky>(config), Err(said.to_owned()), "{config}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_taken_is_a_candidate_of_its_pool(
        pools in prop::collection::btree_map("[a-d]", (0usize..3, 0u64..5), 0..4),
        config in prop::sample::select(vec!["null", r#"{"spread": "ByFree"}"#]),
    ) {
        let candidates = ["10.0.0.1", "10.0.0.2"];
        let pools: Vec<Pool> =
            pools.iter().map(|(name, (some, free))| Pool { free: *free, ..pool(name, &candidates[..*some]) }).collect();
        let asked = Question { config: config.into(), ..vip_question(pools) };
        match assign::<VipSticky>(&asked).expect("the configuration is well") {
            Decision::Take(choice) => {
                let pool = asked.pools.iter().find(|pool| pool.name == choice.pool).expect("one of the question's");
                prop_assert_eq!(choice.address.as_ref(), pool.candidates.first());
            }
            Decision::Refuse(_) => prop_assert!(asked.pools.iter().all(|pool| pool.candidates.is_empty())),
        }
    }
}
