//! Tests of the primary's end against members that break the rules.

use super::*;
use crate::member::digest::hash_of_key;
use crate::member::wire;
use crate::model::id::NamespacedName;
use crate::model::object::{KubeNode, Locality, Object, ObjectKind, Service};

fn now() -> Instant {
    Instant::now()
}

fn hello() -> Told {
    Told::Hello(proto::Hello {
        protocol_version: PROTOCOL_VERSION,
        cluster: "east".to_owned(),
        cluster_uid: "u".to_owned(),
        ..proto::Hello::default()
    })
}

fn begin(count: u64, digest: u64) -> Told {
    Told::Begin(proto::Begin { count, digest })
}

fn batch(seq: u64, upserts: Vec<Vec<u8>>, deletes: Vec<u64>) -> Told {
    Told::Batch(proto::Batch { seq, upserts, deletes })
}

fn node(name: &str) -> Object {
    Object::Node(KubeNode { name: name.into(), locality: Locality::default() })
}

fn encoded(object: &Object) -> Vec<u8> {
    wire::encode(object).unwrap()
}

/// A stream on which nothing is left to ask.
fn live() -> Inbound {
    let mut inbound = Inbound::new(now());
    inbound.received(Some(hello()), now()).unwrap();
    inbound.welcome(Held::default());
    inbound.received(Some(begin(0, 0)), now()).unwrap();
    inbound
}

fn said(inbound: &mut Inbound) -> Vec<Body> {
    std::iter::from_fn(|| inbound.next(now())).collect()
}

#[test]
fn messages_out_of_their_order_end_the_stream() {
    let cases: Vec<Vec<Told>> = vec![
        vec![begin(0, 0)],
        vec![hello(), hello()],
        vec![hello(), batch(1, Vec::new(), Vec::new())],
        vec![hello(), Told::Synced(proto::Synced {})],
        vec![hello(), begin(0, 0), begin(0, 0)],
        vec![hello(), begin(0, 0), batch(2, Vec::new(), Vec::new())],
        vec![hello(), begin(0, 0), Told::Differ(proto::Differ::default())],
        // Something differs, so that it has to be asked about first.
        vec![hello(), begin(1, 1), batch(1, Vec::new(), Vec::new())],
        vec![hello(), begin(1, 1), Told::Differ(proto::Differ::default())],
    ];
    for case in cases {
        let (mut inbound, count) = (Inbound::new(now()), case.len());
        for (i, told) in case.into_iter().enumerate() {
            let outcome = inbound.received(Some(told.clone()), now());
            assert_eq!(outcome.is_err(), i + 1 == count, "{told:?}: {outcome:?}");
        }
    }
    let other = proto::Hello { protocol_version: 9, ..proto::Hello::default() };
    let outcome = Inbound::new(now()).received(Some(Told::Hello(other)), now());
    assert_eq!(outcome.unwrap_err(), Violation::Version(9));
}

#[test]
fn nobody_can_ask_for_comparisons_without_end() {
    let mut held = Held::default();
    for name in 0..1_000 {
        let object = node(&format!("n{name}"));
        held.put(hash_of_key(&object.key()), 7, object.key());
    }
    let mut inbound = Inbound::new(now());
    inbound.received(Some(hello()), now()).unwrap();
    inbound.welcome(held);
    inbound.received(Some(begin(0, 0)), now()).unwrap();
    said(&mut inbound);
    let part = range_to(Range::WHOLE.part(3));
    let differ = |ranges: Vec<proto::Range>| Some(Told::Differ(proto::Differ { ranges }));
    inbound.received(differ(vec![part]), now()).unwrap();
    said(&mut inbound);
    for again in [part, range_to(Range::WHOLE), range_to(Range::WHOLE.part(4).part(1))] {
        assert!(inbound.received(differ(vec![again]), now()).is_err(), "{again:?}");
        inbound.unanswered = 1;
    }
}

#[test]
fn what_makes_no_sense_hides_nothing_else_and_goes_with_its_object() {
    let mut inbound = live();
    said(&mut inbound);
    let bad = Object::Service(Service {
        id: NamespacedName::new("shop", "UPPER"),
        labels: Default::default(),
        headless: false,
        ports: Vec::new(),
        created_at: 0,
        traits: Default::default(),
    });
    let upserts = vec![encoded(&node("a")), b"\xff".to_vec(), encoded(&bad), encoded(&node("b"))];
    let Step::Take { seq: 1, items } = inbound.received(Some(batch(1, upserts, Vec::new())), now()).unwrap() else {
        panic!("not taken")
    };
    let names: Vec<String> = items
        .iter()
        .map(|item| match item {
            Taken::Object(object) => object.key().to_string(),
            Taken::Invalid(key, faults) => format!("{key}: {}", faults[0].field),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["Node a", "Service shop/UPPER: name", "Node b"]);
    inbound.taken(1);
    let rejected = said(&mut inbound).into_iter().filter(|body| matches!(body, Body::Rejected(_))).count();
    assert_eq!(rejected, 2);
    let gone = batch(2, Vec::new(), vec![hash_of_key(&bad.key()), hash_of_key(&node("a").key()), 99]);
    let Step::Take { items, .. } = inbound.received(Some(gone), now()).unwrap() else { panic!("not taken") };
    let kinds: Vec<ObjectKind> = items
        .iter()
        .map(|item| match item {
            Taken::Gone(key) => key.kind,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, [ObjectKind::Service, ObjectKind::Node]);
    assert_eq!(inbound.held.len(), 1);
}

#[test]
fn silence_is_broken_and_acknowledgements_are_gathered() {
    let start = now();
    let mut inbound = live();
    said(&mut inbound);
    assert_eq!(inbound.next(start + HEARTBEAT / 2), None);
    assert_eq!(inbound.next(start + HEARTBEAT * 2), Some(Body::Heartbeat(proto::Heartbeat {})));
    for seq in 1..=3 {
        inbound.received(Some(batch(seq, Vec::new(), Vec::new())), now()).unwrap();
        inbound.taken(seq);
    }
    assert_eq!(said(&mut inbound), [Body::Ack(proto::Ack { seq: 3 })]);
}
