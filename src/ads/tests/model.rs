//! Whatever happens, in the end the client has exactly what it subscribed to, in its current form,
//! without what it refused; and nothing that it refused was sent twice (held by the client itself).

use std::sync::Arc;

use proptest::prelude::*;

use super::client::*;
use crate::ads::Protocol;
use crate::snapshot::{Resource, ResourceType, SnapshotBuilder};

#[derive(Clone, Debug)]
enum Step {
    Set(usize, u8, u8),
    Remove(usize, u8),
    /// Hands the stream the latest snapshot; several edits may coalesce.
    Publish,
    Subscribe(usize, Vec<u8>),
    Unsubscribe(usize, u8),
    Wildcard(usize, bool),
    /// Reads all responses and answers them, or leaves them for later.
    Flush,
    Answer,
    Pass(u16),
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..4, 0u8..5, 0u8..5).prop_map(|(ty, name, body)| Step::Set(ty, name, body)),
        2 => (0usize..4, 0u8..5).prop_map(|(ty, name)| Step::Remove(ty, name)),
        5 => Just(Step::Publish),
        3 => (0usize..4, proptest::collection::vec(0u8..5, 1..3)).prop_map(|(ty, names)| Step::Subscribe(ty, names)),
        2 => (0usize..4, 0u8..5).prop_map(|(ty, name)| Step::Unsubscribe(ty, name)),
        2 => (0usize..4, any::<bool>()).prop_map(|(ty, on)| Step::Wildcard(ty, on)),
        5 => Just(Step::Flush),
        5 => Just(Step::Answer),
        1 => (0u16..20_000).prop_map(Step::Pass),
        1 => Just(Step::Reconnect),
    ]
}

fn body(number: u8) -> String {
    if number < 2 { format!("bad{number}") } else { format!("good{number}") }
}

struct World {
    client: Client,
    builder: SnapshotBuilder,
    waiting: Vec<crate::ads::stream::Response>,
}

impl World {
    fn new(protocol: Protocol, wording: Wording) -> Self {
        let mut client = Client::new(protocol);
        client.wording = wording;
        Self { client, builder: SnapshotBuilder::new(), waiting: Vec::new() }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Set(ty, name, number) => {
                let resource = res(ResourceType::ALL[*ty], &format!("r{name}"), &body(*number));
                self.builder.update(|edit| _ = edit.set(resource));
            }
            Step::Remove(ty, name) => {
                self.builder.update(|edit| _ = edit.remove(ResourceType::ALL[*ty], &format!("r{name}")));
            }
            Step::Publish => self.client.publish(self.builder.latest()),
            Step::Subscribe(ty, wanted) => {
                let wanted: Vec<String> = wanted.iter().map(|name| format!("r{name}")).collect();
                let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
                self.client.subscribe(ResourceType::ALL[*ty], &wanted);
            }
            Step::Unsubscribe(ty, name) => self.unsubscribe(ResourceType::ALL[*ty], &format!("r{name}")),
            Step::Wildcard(ty, true) => self.client.subscribe(ResourceType::ALL[*ty], &["*"]),
            Step::Wildcard(ty, false) => self.unsubscribe(ResourceType::ALL[*ty], "*"),
            Step::Flush => self.waiting.extend(self.client.flush()),
            Step::Answer => self.answer(),
            Step::Pass(ms) => self.client.now += i64::from(*ms),
            Step::Reconnect => {
                self.waiting.clear();
                self.client.reconnect(self.builder.latest());
            }
        }
    }

    fn unsubscribe(&mut self, ty: ResourceType, name: &str) {
        // A client that never named anything and names nothing now would mean everything (rule 7).
        if self.client.subscribed(ty).contains(name) {
            self.client.unsubscribe(ty, &[name]);
        }
    }

    fn answer(&mut self) {
        for response in std::mem::take(&mut self.waiting) {
            self.client.answer(&response);
        }
    }

    /// Publishes, answers everything, and lets all deadlines pass.
    fn rest(&mut self) {
        self.client.publish(self.builder.latest());
        self.answer();
        self.client.settle();
        self.client.now += 60_000;
        self.client.settle();
        self.client.now += 60_000;
        assert!(self.client.flush().is_empty(), "at rest nothing more is said");
    }

    fn check(&self) {
        for ty in ResourceType::ALL {
            let subscribed = self.client.subscribed(ty);
            let wanted = |name: &str| subscribed.contains("*") || subscribed.contains(name);
            let has = self.client.has(ty);
            for current in self.builder.latest().resources(ty).filter(|r| wanted(r.name())) {
                let version = has.get(current.name()).map(|r| r.version());
                let expected = (!is_bad(current)).then(|| current.version());
                // Of what it refused the client may have an earlier version.
                assert!(
                    is_bad(current) || version == expected,
                    "{ty} {}: {version:?}, not {expected:?}",
                    current.name()
                );
            }
            for (name, resource) in &has {
                assert!(wanted(name), "{ty} {name} is not wanted");
                assert!(!is_bad(resource), "{ty} {name} is bad");
                let gone = self.builder.latest().get(ty, name).is_none();
                let stays = self.client.protocol == Protocol::Sotw && !ty.is_complete_list();
                assert!(!gone || stays, "{ty} {name} is gone but the client has it");
            }
        }
    }
}

fn run(protocol: Protocol, wording: Wording, steps: &[Step]) {
    let mut world = World::new(protocol, wording);
    for step in steps {
        world.take(step);
    }
    world.rest();
    world.check();
    // A second rest with one change sends that change and nothing else.
    world.client.take_log();
    let name: Arc<str> = Arc::from("r0");
    let resource: Resource = res(Endpoint, &name, "fresh");
    world.builder.update(|edit| _ = edit.set(resource));
    let subscribed = world.client.subscribed(Endpoint).clone();
    world.rest();
    let wanted = subscribed.contains("*") || subscribed.contains("r0");
    let expected: &[&str] = if wanted { &["endpoint: r0"] } else { &[] };
    assert_eq!(world.client.take_log(), expected);
}

/// Sequences that broke an earlier machine.
#[test]
fn what_went_wrong_once_goes_well() {
    use Step::*;
    // Two refused without a name, while what one of them was before is carried in the list.
    let carried =
        [Subscribe(0, vec![1]), Set(0, 2, 3), Subscribe(0, vec![2]), Publish, Set(0, 2, 0), Set(0, 1, 0), Flush];
    run(Protocol::Sotw, Wording::Nameless, &carried);
    // A sibling that may have been applied is refused in its next version, and then goes.
    let sibling = [
        [Set(0, 0, 3), Set(0, 1, 0), Wildcard(0, true), Publish, Flush].as_slice(),
        &[Set(0, 0, 0), Answer, Set(0, 2, 3), Flush, Publish, Answer, Set(0, 2, 0), Flush, Publish],
        &[Remove(0, 2), Answer, Flush],
    ];
    run(Protocol::Sotw, Wording::Envoy, &sibling.concat());
    // Unsubscribed and subscribed again while a response is on its way, and then it goes or changes.
    let forgotten = [
        Set(2, 4, 3),
        Set(2, 0, 0),
        Wildcard(2, true),
        Publish,
        Flush,
        Wildcard(2, false),
        Wildcard(2, true),
        Remove(2, 4),
    ];
    run(Protocol::Delta, Wording::Envoy, &forgotten);
    let gone = [
        Subscribe(1, vec![3]),
        Set(1, 3, 3),
        Reconnect,
        Remove(1, 3),
        Flush,
        Unsubscribe(1, 3),
        Publish,
        Wildcard(1, true),
    ];
    run(Protocol::Delta, Wording::Envoy, &gone);
    let crossed = [
        Wildcard(3, true),
        Set(3, 2, 3),
        Publish,
        Flush,
        Answer,
        Subscribe(3, vec![0]),
        Flush,
        Wildcard(3, false),
        Wildcard(3, true),
    ];
    run(Protocol::Sotw, Wording::Envoy, &crossed);
    // What was refused and goes is not carried on for the order's sake.
    let held = [
        Set(0, 2, 0),
        Subscribe(0, vec![2]),
        Subscribe(0, vec![3]),
        Set(0, 3, 0),
        Reconnect,
        Subscribe(2, vec![0]),
        Remove(0, 3),
        Flush,
    ];
    run(Protocol::Sotw, Wording::Nameless, &held);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sotw_client_ends_up_with_what_it_wants(steps in proptest::collection::vec(step(), 0..100)) {
        run(Protocol::Sotw, Wording::Envoy, &steps);
    }

    #[test]
    fn a_delta_client_ends_up_with_what_it_wants(steps in proptest::collection::vec(step(), 0..100)) {
        run(Protocol::Delta, Wording::Envoy, &steps);
    }

    #[test]
    fn clients_that_name_nobody_end_up_with_it_too(
        steps in proptest::collection::vec(step(), 0..100),
        sotw in any::<bool>(),
    ) {
        run(if sotw { Protocol::Sotw } else { Protocol::Delta }, Wording::Nameless, &steps);
    }
}
