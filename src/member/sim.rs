//! Both machines over a link that delays and cuts, in time that is made up, with either side ended at any moment, while
//! the cluster changes: whatever happened, once it is quiet both have the same, and nothing travelled that the primary
//! had.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::digest::{Held, hash_of_form, hash_of_key};
use super::inbound::{Inbound, Step, Taken};
use super::outbound::{About, Outbound};
use super::proto::{member_message, primary_message};
use super::wire;
use crate::model::id::NamespacedName;
use crate::model::object::{Object, ObjectKey, Pod};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn is_one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

fn pod(name: u64, version: u64) -> Object {
    Object::Pod(Pod {
        id: NamespacedName::new("shop", format!("checkout-7d9f8b6c5-{name:05}")),
        uid: format!("0b8d1c1e-4d4c-4f0e-9a55-{name:012x}").into(),
        resource_version: version.to_string().into(),
        node: Some(format!("node-{}", name % 50).into()),
        addresses: [std::net::IpAddr::from([10, 1, (name >> 8) as u8, name as u8])].into(),
        phase: "Running".into(),
        ready: true,
        labels: Arc::new([("app".into(), "checkout".into()), ("pod-template-hash".into(), "7d9f8b6c5".into())].into()),
        weight: 1,
        created_at: 1_700_000_000,
    })
}

fn key_of(name: u64) -> ObjectKey {
    pod(name, 0).key()
}

/// Messages of one direction, each with the moment at which it arrives.
struct Line<T>(VecDeque<(Instant, T)>);

impl<T> Line<T> {
    fn arrived(&mut self, now: Instant) -> Option<T> {
        self.0.pop_front_if(|(at, _)| *at <= now).map(|(_, message)| message)
    }
}

struct Link {
    up: Line<member_message::Body>,
    down: Line<primary_message::Body>,
    inbound: Inbound,
    is_welcome: bool,
}

struct Scene {
    random: Random,
    now: Instant,
    /// What the cluster has.
    cluster: BTreeMap<ObjectKey, Object>,
    version: u64,
    names: u64,
    member: Outbound,
    /// When the member has read its cluster; before that it hears of nothing.
    reads_at: Instant,
    has_read: bool,
    /// What the primary has taken, and what it knows of that by hashes.
    taken: BTreeMap<ObjectKey, Object>,
    held: Held<ObjectKey>,
    link: Option<Link>,
    connects_at: Instant,
    upserts: u64,
    deletes: u64,
    redundant: u64,
    synced: u64,
    compared_bytes: usize,
}

fn about() -> About {
    About { cluster: "east".to_owned(), uid: "u".to_owned(), server_version: "v1.35".to_owned() }
}

impl Scene {
    fn new(seed: u64, names: u64) -> Self {
        let now = Instant::now();
        let mut scene = Self {
            random: Random(seed),
            now,
            cluster: BTreeMap::new(),
            version: 0,
            names,
            member: Outbound::default(),
            reads_at: now,
            has_read: false,
            taken: BTreeMap::new(),
            held: Held::default(),
            link: None,
            connects_at: now,
            upserts: 0,
            deletes: 0,
            redundant: 0,
            synced: 0,
            compared_bytes: 0,
        };
        for name in 0..names {
            scene.put(name);
        }
        scene
    }

    fn put(&mut self, name: u64) {
        self.version += 1;
        let object = pod(name, self.version);
        if self.has_read {
            self.member.apply(&object);
        }
        self.cluster.insert(object.key(), object);
    }

    fn remove(&mut self, name: u64) {
        let key = key_of(name);
        if self.cluster.remove(&key).is_some() && self.has_read {
            self.member.delete(&key);
        }
    }

    fn change(&mut self) {
        // Beyond those that are there at first, so that some come and go.
        let name = self.random.below(self.names + self.names / 4 + 1);
        if self.random.is_one_in(4) { self.remove(name) } else { self.put(name) }
    }

    fn cut(&mut self) {
        if let Some(link) = self.link.take() {
            // Before Hello came, the stream was given nothing.
            if link.is_welcome {
                self.held = link.inbound.into_held();
            }
            self.member.closed();
        }
        self.connects_at = self.now + Duration::from_millis(self.random.below(2_000));
    }

    fn kill_member(&mut self) {
        self.cut();
        self.member = Outbound::default();
        self.has_read = false;
        self.reads_at = self.now + Duration::from_millis(self.random.below(3_000));
    }

    /// The primary begins anew with what its store kept, which is not the newest of everything.
    fn kill_primary(&mut self, lost: u64) {
        self.cut();
        let keys: Vec<ObjectKey> = self.taken.keys().cloned().collect();
        for _ in 0..lost.min(keys.len() as u64) {
            let key = &keys[self.random.below(keys.len() as u64) as usize];
            self.taken.remove(key);
        }
        self.held = Held::default();
        for (key, object) in &self.taken {
            self.held.put(hash_of_key(key), hash_of_form(&wire::encode(object).unwrap()), key.clone());
        }
    }

    fn step(&mut self, delay: Duration) {
        self.now += Duration::from_millis(20);
        if !self.has_read && self.now >= self.reads_at {
            self.has_read = true;
            let objects: Vec<Object> = self.cluster.values().cloned().collect();
            objects.iter().for_each(|object| self.member.apply(object));
            self.member.complete();
        }
        if self.link.is_none() && self.now >= self.connects_at {
            self.member.opened(self.now);
            let (up, down) = (Line(VecDeque::new()), Line(VecDeque::new()));
            self.link = Some(Link { up, down, inbound: Inbound::new(self.now), is_welcome: false });
        }
        let now = self.now;
        let Some(link) = &mut self.link else { return };
        while let Some(said) = link.down.arrived(now) {
            assert_eq!(self.member.received(Some(said), now), Ok(None));
        }
        assert!(!self.member.is_silent(now) && now < link.inbound.silent_at(), "nothing is silent on this link");
        while let Some(told) = self.member.next(&about(), now) {
            link.up.0.push_back((now + delay, told));
        }
        while let Some(told) = self.link.as_mut().and_then(|link| link.up.arrived(now)) {
            self.arrive(told);
        }
        let Some(link) = &mut self.link else { return };
        while let Some(said) = link.inbound.next(now) {
            if let primary_message::Body::Compare(compare) = &said {
                self.compared_bytes += prost::Message::encoded_len(compare);
            }
            link.down.0.push_back((now + delay, said));
        }
    }

    fn arrive(&mut self, told: member_message::Body) {
        let Some(link) = &mut self.link else { return };
        match link.inbound.received(Some(told), self.now).expect("the member keeps the rules") {
            Step::Hello(_) => {
                link.inbound.welcome(std::mem::take(&mut self.held));
                link.is_welcome = true;
            }
            Step::Take { seq, items } => {
                for item in items {
                    match item {
                        Taken::Object(object) => {
                            self.upserts += 1;
                            let before = self.taken.insert(object.key(), (*object).clone());
                            self.redundant += u64::from(before.as_ref() == Some(&*object));
                        }
                        Taken::Gone(key) => {
                            self.deletes += 1;
                            assert!(self.taken.remove(&key).is_some(), "{key} was not there");
                        }
                        other => panic!("{other:?}"),
                    }
                }
                link.inbound.taken(seq);
            }
            Step::Synced => self.synced += 1,
            Step::State(None) | Step::Nothing => {}
            other => panic!("{other:?}"),
        }
    }

    /// Goes on without trouble until all is told.
    fn settle(&mut self, delay: Duration) {
        let synced = self.synced;
        let is_linked = self.link.is_some();
        for _ in 0..200_000 {
            self.step(delay);
            let is_told = is_linked || self.synced > synced;
            if is_told && self.member.is_live() && self.taken == self.cluster {
                return;
            }
        }
        panic!("not settled: {} taken, {} there", self.taken.len(), self.cluster.len());
    }

    fn differing(&self) -> u64 {
        let changed = self.cluster.iter().filter(|(key, object)| self.taken.get(*key) != Some(*object)).count();
        let gone = self.taken.keys().filter(|key| !self.cluster.contains_key(*key)).count();
        (changed + gone) as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(feature = "long-checks") { 512 } else { 24 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_both_have_the_same_and_nothing_travels_twice(
        seed: u64, names in 0_u64..400, delay_ms in 0_u64..900, trouble in 20_u64..400,
    ) {
        let delay = Duration::from_millis(delay_ms);
        let mut scene = Scene::new(seed, names);
        for _ in 0..1_500 {
            for _ in 0..scene.random.below(4) {
                scene.change();
            }
            if scene.random.is_one_in(trouble) {
                match scene.random.below(4) {
                    0 => scene.kill_member(),
                    1 => {
                        let lost = scene.random.below(10);
                        scene.kill_primary(lost);
                    }
                    _ => scene.cut(),
                }
            }
            scene.step(delay);
        }
        scene.settle(delay);
        prop_assert_eq!(scene.redundant, 0);
    }
}

#[test]
fn after_a_restart_of_either_side_exactly_what_differs_travels() {
    let delay = Duration::from_millis(50);
    for names in [0, 1, 20, 33, 500, 5_000] {
        let mut scene = Scene::new(7, names);
        scene.settle(delay);
        assert_eq!((scene.upserts, scene.deletes), (names, 0));
        for round in 0..3 {
            let before = scene.upserts + scene.deletes;
            match round {
                0 => scene.kill_member(),
                1 => scene.kill_primary(5),
                _ => scene.cut(),
            }
            for _ in 0..40 {
                scene.change();
            }
            let wanted = scene.differing();
            scene.settle(delay);
            assert_eq!(scene.upserts + scene.deletes - before, wanted, "of {names}, round {round}");
        }
        // Nothing differs: nothing is even asked.
        let (before, asked) = (scene.upserts + scene.deletes, scene.compared_bytes);
        scene.cut();
        scene.settle(delay);
        assert_eq!((scene.upserts + scene.deletes, scene.compared_bytes), (before, asked));
    }
}

#[test]
fn what_is_asked_is_little() {
    let mut scene = Scene::new(3, 20_000);
    scene.settle(Duration::from_millis(1));
    let object = wire::encode(&pod(19_999, 20_000)).unwrap().len();
    let before = scene.compared_bytes;
    scene.kill_member();
    for name in 0..10 {
        scene.put(name * 7);
    }
    scene.settle(Duration::from_millis(1));
    let asked = scene.compared_bytes - before;
    println!("a pod takes {object} bytes; 10 of 20,000 that differ are found with {asked} bytes");
    assert!(asked < 20_000, "{asked}");
}

#[test]
fn nothing_is_gone_before_the_cluster_was_read() {
    let delay = Duration::from_millis(10);
    let mut scene = Scene::new(1, 100);
    scene.settle(delay);
    scene.kill_member();
    scene.reads_at = scene.now + Duration::from_secs(60);
    for _ in 0..2_000 {
        scene.step(delay);
    }
    assert!(scene.link.is_some() && scene.taken == scene.cluster && scene.deletes == 0);
}

#[test]
fn memory_is_bounded_by_the_world_while_nobody_takes_anything() {
    let mut scene = Scene::new(1, 50);
    scene.settle(Duration::from_millis(10));
    let mut sent = 0;
    for _ in 0..100_000 {
        scene.change();
        // The primary acknowledges nothing.
        while let Some(body) = scene.member.next(&about(), scene.now) {
            sent += usize::from(matches!(body, member_message::Body::Batch(_)));
        }
    }
    assert!(sent <= 256, "{sent} batches are under way");
    assert!(scene.member.waiting() <= 63, "{}", scene.member.waiting());
}
