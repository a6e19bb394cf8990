//! Policies as guests: whatever they do, the host stays whole, somebody decides, and the same question has the same
//! answer everywhere.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use causeway::model::decision::{ClientView, Endpoint, LbDecision, NodeRole, Readiness, Sender};
use causeway::model::id::NamespacedName;
use causeway::model::object::{Locality, Protocol, ServicePort};
use causeway::policy::{
    ALL_PERCENT, Component, Endpoints, Engine, LbQuestion, Limits, LoadError, OnFailure, Policies, Policy, Subject,
    World,
};
use serde_json::json;
use sha2::{Digest, Sha256};

const HOSTILE: &[u8] = include_bytes!("../../plugins/components/testing/hostile.wasm");
const WEIGHTED: &[u8] = include_bytes!("../../plugins/components/lb-weighted-clusters.wasm");
const SUBSET: &[u8] = include_bytes!("../../plugins/components/lb-subset.wasm");
const VIP_TENANT: &[u8] = include_bytes!("../../plugins/components/vip-tenant.wasm");

/// What the guest is told to do, and in which word its failure is told.
pub const MISBEHAVIOURS: &[(&str, &str)] = &[
    ("Loop", "OutOfFuel"),
    ("Memory", "OutOfFuel"),
    ("MemoryAtOnce", "Trapped"),
    ("Recursion", "Trapped"),
    ("Output", "Trapped"),
    ("LongError", "Trapped"),
    ("Error", "PolicyError"),
    ("UnknownEndpoint", "DecisionRefused"),
    ("UnknownLocality", "DecisionRefused"),
    ("DuplicateEndpoint", "DecisionRefused"),
    ("DuplicateGroup", "DecisionRefused"),
    ("ZeroWeight", "DecisionRefused"),
    ("ZeroGroupWeight", "DecisionRefused"),
    ("HugeWeights", "DecisionRefused"),
    ("FewWeights", "DecisionRefused"),
    ("LargeCount", "DecisionRefused"),
    ("SmallCount", "DecisionRefused"),
    ("Gap", "DecisionRefused"),
    ("Nothing", "DecisionRefused"),
    ("AllDraining", "DecisionRefused"),
    ("WrongSettings", "DecisionRefused"),
    ("Panic", "Trapped"),
    ("PanicLater", "Trapped"),
    ("Trap", "Trapped"),
    ("LongLine", "OutOfFuel"),
];

fn engine() -> Engine {
    Engine::new(None).expect("this machine runs policies")
}

fn put(policies: &mut Policies, name: &str, bytes: &[u8], on_failure: OnFailure) {
    put_limited(policies, name, bytes, on_failure, ALL_PERCENT);
}

fn put_limited(policies: &mut Policies, name: &str, bytes: &[u8], on_failure: OnFailure, max_removed_percent: u32) {
    let component = Arc::new(Component::load(policies.engine(), World::Lb, bytes).expect("a component"));
    let (name, limits, config) = (name.into(), Limits::default(), serde_json::Value::Null);
    policies.put(Policy { name, component, limits, max_removed_percent, config, on_failure });
}

pub fn endpoint(number: u32) -> Endpoint {
    let [_, a, b, c] = number.to_be_bytes();
    let region = if number.is_multiple_of(3) { "eu" } else { "us" };
    Endpoint {
        address: SocketAddr::from(([10, a, b, c], 8080)),
        cluster: ["east", "west", "north"][number as usize % 3].into(),
        network: "flat".into(),
        locality: Locality { region: region.into(), zone: "a".into() },
        node: None,
        pod: None,
        readiness: Readiness::Ready,
        stale: false,
        weight: 1,
    }
}

fn sender(region: &str) -> Sender {
    let locality = Locality { region: region.into(), zone: "a".into() };
    let client = ClientView { role: NodeRole::Gateway, cluster: None, network: Some("flat".into()), locality };
    Sender { client, buckets: 1, bucket: 0 }
}

/// The parts of a question, to borrow one from.
pub struct Asked {
    service: NamespacedName,
    port: ServicePort,
    sender: Sender,
    endpoints: Endpoints,
}

impl Asked {
    pub fn about(endpoints: Vec<Endpoint>) -> Self {
        Self {
            service: NamespacedName::new("shop", "checkout"),
            port: ServicePort { name: "http".into(), port: 80, protocol: Protocol::Http },
            sender: sender("eu"),
            endpoints: Endpoints::new(endpoints),
        }
    }

    pub fn question<'a>(&'a self, config: &'a str) -> LbQuestion<'a> {
        let Self { service, port, sender, endpoints } = self;
        LbQuestion { service, port, sender, endpoints, config }
    }

    pub fn subject(&self, backend: &str) -> Subject {
        Subject { backend: backend.into(), sender: self.sender.clone() }
    }
}

pub fn addresses(decision: &LbDecision) -> BTreeSet<SocketAddr> {
    let endpoints = decision.groups.iter().flat_map(|group| group.endpoints.iter());
    endpoints.map(|endpoint| endpoint.address).collect()
}

/// This thread's time on a core, in ms. `/proc` tells it by the kernel's ticks of 4 ms only.
fn cpu_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says so");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn hostile_policies_are_stopped_named_and_replaced() {
    let mut policies = Policies::new(engine()).expect("the built-in policies");
    put(&mut policies, "hostile", HOSTILE, OnFailure::Default);
    let asked = Asked::about((0..20).map(endpoint).collect());
    let default = policies.choose(World::Lb, None, &serde_json::Value::Null).expect("the default");
    let wanted = policies.decide(&asked.subject("default"), &default, &asked.question("null"), 0);
    assert_eq!(wanted.failure, None);
    for (misbehaviour, reason) in MISBEHAVIOURS {
        let config = json!({ "misbehave": misbehaviour });
        let choice = policies.choose(World::Lb, Some(&"hostile".into()), &config).expect("it can be configured");
        let before = cpu_ms();
        let decided = policies.decide(&asked.subject(misbehaviour), &choice, &asked.question(&choice.config), 0);
        let spent = cpu_ms() - before;
        let failure = decided.failure.unwrap_or_else(|| panic!("{misbehaviour} had its way"));
        println!("{misbehaviour}: {:.1} ms, {}", spent, failure.message);
        assert_eq!(failure.reason, *reason, "{misbehaviour}: {}", failure.message);
        assert!(failure.message.len() < 2_000, "{misbehaviour}: {} bytes", failure.message.len());
        assert_eq!(decided.decision, wanted.decision, "{misbehaviour}: the default decides in its place");
    }
    let counts = policies.counts("hostile");
    assert_eq!(counts.fallbacks, counts.failures);
    assert_eq!(counts.fallbacks.values().sum::<u64>(), MISBEHAVIOURS.len() as u64);
    let lines = policies.lines("hostile");
    assert!(
        lines.iter().any(|(_, line)| line.text == "and this is the last that is"),
        "what it said before it panicked"
    );
    assert!(lines.iter().any(|(_, line)| line.text.contains("asked to panic")), "and why");
    // It is asked no more about what it failed at three times in a row, for a while.
    let choice = policies.choose(World::Lb, Some(&"hostile".into()), &json!({"misbehave": "Error"})).expect("well");
    let ask = |now| {
        policies.decide(&asked.subject("again"), &choice, &asked.question(&choice.config), now);
        policies.counts("hostile").calls
    };
    let calls: Vec<u64> = [0, 1, 2, 3, 4, 40_000, 40_001].map(ask).into();
    let first = calls[0];
    let since: Vec<u64> = calls.into_iter().map(|count| count - first).collect();
    assert_eq!(since, [0, 1, 2, 2, 2, 3, 3]);
}

#[test]
fn what_a_policy_takes_it_gives_back() {
    let mut policies = Policies::new(engine()).expect("the built-in policies");
    put(&mut policies, "hostile", HOSTILE, OnFailure::Default);
    let asked = Asked::about((0..20).map(endpoint).collect());
    let round = |round: i64| {
        for (misbehaviour, _) in MISBEHAVIOURS {
            let config = json!({ "misbehave": misbehaviour });
            let choice = policies.choose(World::Lb, Some(&"hostile".into()), &config).expect("well");
            // Late enough that it is asked each time.
            let now = round * 60_000;
            policies.decide(&asked.subject(misbehaviour), &choice, &asked.question(&choice.config), now);
        }
    };
    (0..3).for_each(round);
    let before = resident_kib();
    (3..20).for_each(round);
    let after = resident_kib();
    println!("resident: {before} KiB, {after} KiB after {} more failures", 17 * MISBEHAVIOURS.len());
    assert!(after < before + 8 * 1024, "{before} KiB became {after} KiB");
}

#[test]
fn a_log_is_cut_and_has_no_effect_and_an_instance_remembers_nothing() {
    let mut policies = Policies::new(engine()).expect("the built-in policies");
    put(&mut policies, "hostile", HOSTILE, OnFailure::Default);
    let asked = Asked::about((0..20).map(endpoint).collect());
    let component = policies.in_force().find(|policy| &*policy.name == "hostile").expect("it").component.clone();
    let many = Limits { fuel: 10_000_000_000, ..Limits::default() };
    let quiet = component.decide(many, &asked.question("{}")).outcome.expect("an answer");
    let flood = component.decide(many, &asked.question(r#"{"misbehave": "LogFlood"}"#));
    assert_eq!((flood.lines.len(), flood.lines_left_out), (64, 100_000 - 64));
    assert_eq!(flood.outcome.as_ref(), Ok(&quiet));
    let counted: Vec<LbDecision> = (0..3)
        .map(|_| component.decide(many, &asked.question(r#"{"misbehave": "Counter"}"#)).outcome.expect("an answer"))
        .collect();
    assert!(counted.iter().all(|decision| *decision == quiet));
}

#[test]
fn a_configuration_nested_as_deeply_as_json_may_be_is_refused_in_words() {
    let engine = engine();
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(127), close.repeat(127));
    let configs = [deep("[", "]"), deep(r#"{"a": "#, "}"), format!(r#"{{"clusters": {}}}"#, deep(r#"{"a": ["#, "]}"))];
    for (world, bytes) in [(World::Lb, WEIGHTED), (World::Lb, SUBSET), (World::Vip, VIP_TENANT)] {
        let component = Component::load(&engine, world, bytes).expect("a component");
        for config in &configs {
            let refused = component.inspect(Limits::default(), config).outcome.expect_err("no setting is like that");
            assert_eq!(refused.reason(), "PolicyError", "{refused}: {config}");
        }
    }
}

#[test]
fn the_last_good_decision_holds_for_what_is_still_there() {
    let mut policies = Policies::new(engine()).expect("the built-in policies");
    put(&mut policies, "hostile", HOSTILE, OnFailure::KeepLast);
    let mut asked = Asked::about((0..20).map(endpoint).collect());
    let name: Arc<str> = "hostile".into();
    let well = policies.choose(World::Lb, Some(&name), &json!({})).expect("well");
    let good = policies.decide(&asked.subject("one"), &well, &asked.question(&well.config), 0);
    assert_eq!(good.failure, None);
    let bad = policies.choose(World::Lb, Some(&name), &json!({"misbehave": "Trap"})).expect("well");
    asked.endpoints = Endpoints::new((5..25).map(endpoint).collect());
    let kept = policies.decide(&asked.subject("one"), &bad, &asked.question(&bad.config), 0);
    assert!(kept.failure.expect("it failed").message.ends_with("; its last decision holds"));
    let wanted = (5..20).map(|number| endpoint(number).address).collect();
    assert_eq!(addresses(&kept.decision), wanted);
    // None of it is left: the default decides.
    asked.endpoints = Endpoints::new((40..50).map(endpoint).collect());
    let other = policies.decide(&asked.subject("one"), &bad, &asked.question(&bad.config), 0);
    assert!(other.failure.expect("it failed").message.ends_with("`lb-locality` decides in its place"));
    assert_eq!(addresses(&other.decision).len(), 10);
}

#[test]
fn a_decision_that_takes_too_much_away_is_refused_and_the_last_one_holds() {
    let mut policies = Policies::new(engine()).expect("the built-in policies");
    // Though the default would decide where it fails in another way.
    put_limited(&mut policies, "weighted", WEIGHTED, OnFailure::Default, 50);
    // Seven in east, seven in west, six in north.
    let mut asked = Asked::about((0..20).map(endpoint).collect());
    let decide = |asked: &Asked, clusters: &[&str], now: i64| {
        let shares: serde_json::Map<_, _> = clusters.iter().map(|name| ((*name).to_owned(), json!(1))).collect();
        let config = json!({ "clusters": shares });
        let choice = policies.choose(World::Lb, Some(&"weighted".into()), &config).expect("well");
        let decided = policies.decide(&asked.subject("one"), &choice, &asked.question(&choice.config), now);
        (decided.decision, decided.failure.map(|failure| (failure.reason, failure.message)))
    };
    let (all, failure) = decide(&asked, &["east", "west", "north"], 0);
    assert_eq!((addresses(&all).len(), failure), (20, None), "the first is compared with nothing");
    // Asked twice, since the memo has the second answer and must not let it through.
    for now in 1..3 {
        let (kept, failure) = decide(&asked, &["east"], now);
        let (reason, message) = failure.expect("it is refused");
        assert_eq!((&kept, reason), (&all, "TooManyRemoved"));
        assert!(message.contains("it takes 13 of 20 endpoints out of service (65 %), and at most 50 % may go at once"));
        assert!(message.ends_with("or raise the policy's maxRemovedPercent; its last decision holds"), "{message}");
    }
    let counts = policies.counts("weighted");
    assert_eq!((counts.failures.get("TooManyRemoved"), counts.fallbacks.get("TooManyRemoved")), (Some(&2), Some(&2)));
    assert_eq!((counts.memo_hits, counts.circuits_open), (1, 0));
    // In steps, it arrives.
    for (clusters, count, now) in [(&["east", "west"][..], 14, 3), (&["east"][..], 7, 4)] {
        let (taken, failure) = decide(&asked, clusters, now);
        assert_eq!((addresses(&taken).len(), failure), (count, None));
    }
    // What is gone was not taken away by the policy.
    asked.endpoints = Endpoints::new((100..120).map(endpoint).collect());
    let (others, failure) = decide(&asked, &["west"], 5);
    assert_eq!((addresses(&others).len(), failure), (7, None));
    // Three refusals in a row, and it is not asked for a while; what holds stays what it is.
    let (all, _) = decide(&asked, &["east", "west", "north"], 6);
    for now in 7..11 {
        let (kept, failure) = decide(&asked, &["east"], now);
        assert_eq!((&kept, failure.expect("it is refused").0), (&all, "TooManyRemoved"));
    }
    assert_eq!(policies.counts("weighted").circuits_open, 1);
}

#[test]
fn what_is_no_policy_is_refused_with_what_to_do() {
    let engine = engine();
    let load = |world, bytes: &[u8]| Component::load(&engine, world, bytes).err().map(|error| error.to_string());
    let refused = |world, bytes: &[u8]| load(world, bytes).expect("it is refused");
    assert_eq!(load(World::Lb, HOSTILE), None);
    let module = b"\0asm\x01\0\0\0";
    assert!(refused(World::Lb, module).contains("not a component: link it with `wasm-component-ld`"));
    for bytes in [&b""[..], b"policy", &HOSTILE[..HOSTILE.len() / 2], &HOSTILE[..HOSTILE.len() - 1]] {
        assert!(refused(World::Lb, bytes).starts_with("it is no WebAssembly component that can be read"));
    }
    let mut spoiled = HOSTILE.to_vec();
    for at in (100..spoiled.len()).step_by(997) {
        spoiled[at] ^= 0xff;
    }
    assert!(load(World::Lb, &spoiled).is_some());
    let other = refused(World::Vip, HOSTILE);
    assert!(other.contains("the world vip-policy (causeway:policy@0.1.0) has `inspect` and `assign`"), "{other}");
    let other = refused(World::Lb, VIP_TENANT);
    assert!(other.contains("has `inspect` and `decide`"), "{other}");
    let large = vec![0; 100 << 20];
    assert!(matches!(Component::load(&engine, World::Lb, &large), Err(LoadError::TooLarge { .. })));
    // Every byte that is changed is refused or leaves a policy; none ends the process.
    for at in (8..HOSTILE.len()).step_by(HOSTILE.len() / 60) {
        let mut bytes = HOSTILE.to_vec();
        bytes[at] = bytes[at].wrapping_add(1);
        drop(load(World::Lb, &bytes));
    }
}

/// A small generator (SplitMix64), so that both processes ask the same.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }
}

const QUESTIONS: u64 = if cfg!(feature = "long-checks") { 100_000 } else { 10_000 };
/// How many threads the other process asks with.
const THREADS: &str = "CAUSEWAY_THREADS";

/// What a random question is answered, as text.
fn answered(components: &[(Component, &str)], number: u64) -> String {
    let mut random = Random(number);
    let count = random.below(40);
    let mut any = || {
        let mut endpoint = endpoint(random.below(200) as u32);
        endpoint.readiness = [Readiness::Ready, Readiness::Draining, Readiness::NotReady][random.below(3) as usize];
        endpoint.weight = 1 + random.below(1_000) as u32;
        endpoint.locality.zone = ["a", "b", ""][random.below(3) as usize].into();
        endpoint.stale = random.below(5) == 0;
        endpoint
    };
    let mut asked = Asked::about((0..count).map(|_| any()).collect());
    asked.sender = sender(["eu", "us", ""][random.below(3) as usize]);
    let (component, config) = &components[random.below(components.len() as u64) as usize];
    if config.contains("buckets") {
        (asked.sender.buckets, asked.sender.bucket) = (8, random.below(8) as u32);
    }
    let answer = component.decide(Limits::default(), &asked.question(config));
    format!("{:?} {}", answer.outcome, answer.fuel_used)
}

#[test]
#[ignore = "one of the processes whose decisions are compared"]
fn decide_many() {
    let threads: u64 = std::env::var(THREADS).expect("the comparison says so").parse().expect("a number");
    let engine = engine();
    let component = |bytes| Component::load(&engine, World::Lb, bytes).expect("a component");
    let locality = include_bytes!("../../plugins/components/lb-locality.wasm");
    let components = [
        (component(locality), r#"{"localityPriority": "Zone", "algorithm": "Maglev"}"#),
        (component(WEIGHTED), r#"{"clusters": {"east": 90, "west": 9, "north": 1}}"#),
        (component(SUBSET), r#"{"buckets": 8, "size": 5}"#),
    ];
    let mut texts: Vec<(u64, String)> = std::thread::scope(|scope| {
        let share = |thread: u64| {
            let components = &components;
            let mine = (0..QUESTIONS).filter(move |number| number % threads == thread);
            scope.spawn(move || mine.map(|number| (number, answered(components, number))).collect::<Vec<_>>())
        };
        let all: Vec<_> = (0..threads).map(share).collect();
        all.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect()
    });
    texts.sort();
    let answers = texts.iter().filter(|(_, text)| text.starts_with("Ok")).count();
    let mut hasher = Sha256::new();
    texts.iter().for_each(|(_, text)| hasher.update(text));
    let hash: Vec<String> = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("DECIDED {answers} {}", hash.concat());
}

#[test]
fn decisions_are_the_same_in_every_process_with_any_number_of_threads() {
    let run = |threads: &str| {
        let output = Command::new(std::env::current_exe().expect("this test's binary"))
            .args(["--exact", "guests::decide_many", "--ignored", "--nocapture"])
            .env(THREADS, threads)
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|line| line.split_once("DECIDED ")).unwrap_or_else(|| panic!("{text}")).1;
        line.to_owned()
    };
    let one = run("1");
    println!("{QUESTIONS} questions, answers and their hash: {one}");
    assert_eq!(run("4"), one);
    assert_eq!(run("1"), one, "and after a restart");
    let answers: u64 = one.split(' ').next().and_then(|count| count.parse().ok()).expect("a number");
    assert!(answers > QUESTIONS * 9 / 10, "{answers} of {QUESTIONS} were answered");
}
