use std::collections::BTreeSet;

use super::build::*;
use crate::model::object::{Access, Family, Labels, Object, PortChoice, Protocol, Selector, ServiceChoice, VipPer};
use crate::reconcile::claims::{claims_of, hostname_owners, no_service};

#[test]
fn a_service_is_claimed_once_for_each_family_under_all_its_names() {
    let world = world([("east", service("web", Protocol::Http))]);
    let mut access = access("web");
    access.families = vec![Family::V4, Family::V6];
    access.addresses = vec![ip("fd00::7")];
    let (claims, shortfalls) = claims_of(&world, &access, &id("web"), &names(&["web.example.com"]));
    assert_eq!(shortfalls, []);
    assert_eq!(
        claims.iter().map(|c| (c.family, c.requested)).collect::<Vec<_>>(),
        [(Family::V4, None), (Family::V6, Some(ip("fd00::7")))]
    );
    for claim in &claims {
        assert_eq!(claim.hostnames, names(&["web.shop.svc.clusterset.local", "web.example.com"]));
        assert_eq!((claim.ports.as_slice(), &claim.pod), (&[port(Protocol::Http)][..], &None));
    }
}

#[test]
fn host_names_do_not_follow_a_selector() {
    let world = world([("east", service("web", Protocol::Http))]);
    let mut access = access("all");
    access.service = ServiceChoice::Selector(Selector {
        match_labels: Labels::from([("app".into(), "web".into())]),
        ..Selector::default()
    });
    let (claims, _) = claims_of(&world, &access, &id("web"), &names(&["web.example.com"]));
    assert_eq!(claims[0].hostnames, names(&["web.shop.svc.clusterset.local"]));
    assert!(no_service(&access).message.contains("matches spec.service.selector"));
}

#[test]
fn a_port_that_is_not_there_is_told_and_the_others_are_claimed() {
    let world = world([("east", service("web", Protocol::Http))]);
    let mut access = access("web");
    access.ports = vec![PortChoice::Number(80), PortChoice::Name("main".into()), PortChoice::Name("admin".into())];
    let (claims, shortfalls) = claims_of(&world, &access, &id("web"), &[]);
    assert_eq!(claims[0].ports, [port(Protocol::Http)], "two choices of one port are one");
    assert_eq!(shortfalls.len(), 1);
    assert_eq!(shortfalls[0].reason, "PortNotFound");
    assert!(shortfalls[0].message.contains("`admin`") && shortfalls[0].remedy.contains("main (80)"));
    access.ports = vec![PortChoice::Number(81)];
    assert_eq!(claims_of(&world, &access, &id("web"), &[]).0, []);
}

#[test]
fn each_pod_of_each_cluster_is_claimed_whether_ready_or_not() {
    let world = world([
        ("east", service("web", Protocol::Http)),
        ("east", slice("web", &[("web-0", "10.0.0.1", true), ("web-1", "10.0.0.2", false)])),
        ("west", service("web", Protocol::Http)),
        ("west", slice("web", &[("web-0", "10.1.0.1", true)])),
    ]);
    let mut access = access("web");
    access.per = VipPer::Pod;
    let pods = |access: &Access| {
        let (claims, _) = claims_of(&world, access, &id("web"), &[]);
        claims.iter().map(|c| c.pod.as_ref().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(pods(&access), ["web-0.east", "web-0.west", "web-1.east"]);
    let (claims, _) = claims_of(&world, &access, &id("web"), &[]);
    assert_eq!(&*claims[0].hostnames[0], "web-0.east.web.shop.svc.clusterset.local");
    access.clusters = BTreeSet::from(["west".into()]);
    assert_eq!(pods(&access), ["web-0.west"]);
}

#[test]
fn nothing_is_claimed_of_a_service_in_no_chosen_cluster() {
    let world = world([("east", service("web", Protocol::Http))]);
    let mut access = access("web");
    access.clusters = BTreeSet::from(["west".into()]);
    assert_eq!(claims_of(&world, &access, &id("web"), &[]), (vec![], vec![]));
    assert!(no_service(&access).message.contains("no cluster has the Service shop/web"));
}

#[test]
fn a_host_name_stays_with_who_has_it_and_else_goes_by_name() {
    let (mut first, mut second) = (access("a"), access("b"));
    first.hostnames = names(&["x.example.com", "a.example.com"]);
    second.hostnames = names(&["x.example.com"]);
    let (x, b, gone) = (names(&["x.example.com"]).remove(0), id("b"), id("gone"));
    let owner = |holders| hostname_owners([&second, &first].into_iter(), &holders).remove(&*x).unwrap();
    assert_eq!(owner(BTreeSet::new()), id("a"));
    assert_eq!(owner(BTreeSet::from([(&x, &b)])), id("b"));
    assert_eq!(owner(BTreeSet::from([(&x, &gone)])), id("a"), "who does not ask any more does not keep it");
}

#[test]
fn objects_are_what_they_say() {
    // The short ways of these tests must not be two objects with one key.
    let keys: BTreeSet<_> =
        [service("a", Protocol::Tcp), slice("a", &[]), Object::Access(access("a")), pool()].map(|o| o.key()).into();
    assert_eq!(keys.len(), 4);
}
