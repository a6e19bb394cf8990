use causeway_policy::testing::{assign, inspect_vip, pool, vip_question};
use causeway_policy::vip::Choice;
use proptest::prelude::*;

use super::*;

fn held(name: &str, candidates: &[&str], held_by_namespace: u32) -> Pool {
    Pool { held_by_namespace, ..pool(name, candidates) }
}

fn pools() -> [Pool; 3] {
    [held("a", &["10.0.0.1"], 2), held("b", &["10.1.0.1", "10.1.0.7"], 3), held("c", &[], 0)]
}

fn asked(config: &str) -> Question {
    Question { config: config.into(), ..vip_question(pools()) }
}

fn assigned(question: &Question) -> Decision {
    assign::<VipTenant>(question).expect("the configuration is well")
}

fn take(pool: &str, address: &str) -> Decision {
    Decision::Take(Choice { pool: pool.into(), address: Some(address.into()) })
}

fn refuse(reason: &str) -> Decision {
    Decision::Refuse(reason.to_owned())
}

#[test]
fn a_tenant_has_its_own_pools_in_its_own_order() {
    assert_eq!(assigned(&asked(r#"{"tenants": {"shop": {}}}"#)), take("a", "10.0.0.1"));
    assert_eq!(assigned(&asked(r#"{"tenants": {"shop": {"pools": ["c", "b", "a"]}}}"#)), take("b", "10.1.0.1"));
    let exhausted = "no IPv4 address is free in c";
    assert_eq!(assigned(&asked(r#"{"tenants": {"shop": {"pools": ["c"]}}}"#)), refuse(exhausted));
    let none = "there is no pool with IPv4 addresses that namespace shop may use";
    assert_eq!(assigned(&asked(r#"{"tenants": {"shop": {"pools": ["other"]}}}"#)), refuse(none));
}

#[test]
fn a_quota_counts_what_the_tenant_has_in_its_pools() {
    let with_quota = |quota: u32, pools: &str| {
        assigned(&asked(&format!("{{\"tenants\": {{\"shop\": {{\"quota\": {quota}, \"pools\": {pools}}}}}}}")))
    };
    assert_eq!(with_quota(6, r#"["a", "b"]"#), take("a", "10.0.0.1"));
    assert_eq!(with_quota(5, r#"["a", "b"]"#), refuse("namespace shop has 5 addresses, and its quota is 5"));
    assert_eq!(with_quota(5, r#"["b"]"#), take("b", "10.1.0.1"));
    assert_eq!(with_quota(0, r#"["c"]"#), refuse("namespace shop has 0 addresses, and its quota is 0"));
}

#[test]
fn others_get_what_the_default_says() {
    let refused = refuse("namespace shop is no tenant of `vip-tenant`'s configuration");
    assert_eq!(assigned(&asked("null")), refused);
    assert_eq!(assigned(&asked(r#"{"tenants": {"lab": {}}, "default": "Refuse"}"#)), refused);
    assert_eq!(assigned(&asked(r#"{"default": "Any"}"#)), take("a", "10.0.0.1"));
}

#[test]
fn an_address_that_is_asked_for_is_the_tenants_own() {
    let asking = |address: &str, pools: &str| {
        let config = format!("{{\"tenants\": {{\"shop\": {{\"pools\": {pools}}}}}}}");
        assigned(&Question { requested: Some(address.into()), ..asked(&config) })
    };
    assert_eq!(asking("10.1.0.7", r#"["a", "b"]"#), take("b", "10.1.0.7"));
    assert_eq!(asking("10.1.0.1", r#"["a"]"#), take("a", "10.1.0.1"));
    assert_eq!(asking("10.1.0.1", r#"["other"]"#), refuse("no pool that namespace shop may use has 10.1.0.1"));
}

#[test]
fn a_configuration_is_read_strictly() {
    let tenants = "use a mapping of namespaces to what they may have, such as `{shop: {pools: [edge], quota: 10}}`";
    for (config, said) in [
        (r#"{"default": "All"}"#, "default: \"All\" is not what it can be; use `Refuse` or `Any`".to_owned()),
        (
            r#"{"tenants": {"shop": {"quota": -1}}}"#,
            format!("tenants: {{\"shop\": {{\"quota\": -1}}}} is not what it can be; {tenants}"),
        ),
        (
            r#"{"tenants": {"shop": {"pool": []}}}"#,
            format!("tenants: {{\"shop\": {{\"pool\": []}}}} is not what it can be; {tenants}"),
        ),
        (
            r#"{"tenants": {"shop": {"pools": []}}}"#,
            "tenants.shop.pools: an empty list chooses no pool; list pools, or leave the field out for all".to_owned(),
        ),
        (
            r#"{"tenants": {"shop": {"pools": ["a", "a"]}}}"#,
            "tenants.shop.pools[1]: `a` is there twice; remove one of the two".to_owned(),
        ),
        (r#"{"tenant": {}}"#, "`vip-tenant` has no setting `tenant`; did you mean `tenants`?".to_owned()),
    ] {
        assert_eq!(inspect_vip::<VipTenant>(config), Err(said), "{config}");
    }
    assert_eq!(inspect_vip::<VipTenant>("null"), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_gets_an_address_of_others_or_beyond_the_quota(
        own in prop::collection::btree_set("[a-e]", 1..4),
        counts in prop::collection::vec((0usize..2, 0u32..4), 5),
        quota in 0u32..12,
    ) {
        let names = ["a", "b", "c", "d", "e"];
        let pools: Vec<Pool> =
            names.iter().zip(&counts).map(|(name, (some, n))| held(name, &["10.0.0.1"][..*some], *n)).collect();
        let list: Vec<&String> = own.iter().collect();
        let config = format!("{{\"tenants\": {{\"shop\": {{\"pools\": {list:?}, \"quota\": {quota}}}}}}}");
        let question = Question { config, ..vip_question(pools) };
        let has: u32 = question.pools.iter().filter(|pool| own.contains(&pool.name)).map(|pool| pool.held_by_namespace).sum();
        match assign::<VipTenant>(&question).expect("the configuration is well") {
            Decision::Take(choice) => prop_assert!(own.contains(&choice.pool) && has < quota),
            Decision::Refuse(_) => {
                let free = |pool: &Pool| own.contains(&pool.name) && !pool.candidates.is_empty();
                prop_assert!(has >= quota || !question.pools.iter().any(free));
            }
        }
    }
}
