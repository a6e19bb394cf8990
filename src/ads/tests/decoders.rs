//! Whatever bytes a client sends: no panic, and no more memory than the limits allow. Valid messages are made by
//! chance and then damaged, since bytes that are nothing but chance seldom get past the first tag.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use prost013::Message;
use xds_api::pb::envoy::config::core::v3::{Locality, Node};
use xds_api::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use xds_api::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use xds_api::pb::google::rpc::Status;

use super::client::*;
use super::sim::Random;
use crate::ads::nack::{MAX_DETAIL_BYTES, blamed, cut, is_head, stands_alone};
use crate::ads::stream::{Request, Stream};
use crate::ads::{Limits, NodeInfo, Protocol, StreamId};
use crate::snapshot::{ResourceType, XdsSnapshot};

const CASES: u64 = if cfg!(feature = "long-checks") { 200_000 } else { 1_500 };

/// Requests on one stream, so that what accumulates shows.
const REQUESTS: usize = 40;

const NAMES: [&str; 12] = [
    "a",
    "b",
    "c",
    "*",
    "",
    "a: b",
    "xdstp://x/y/*",
    "vip/[fd00::1]:80",
    "ä",
    "a, b",
    "\n",
    "a-very-long-name-that-is-too-long",
];

fn text(random: &mut Random) -> String {
    let pieces = (0..random.below(6)).map(|_| match random.below(8) {
        0 => "Error adding/updating listener(s) ",
        1 => ": ",
        2 => ", ",
        3 => "\n",
        4 => "'\u{1f980}",
        _ => NAMES[random.below(NAMES.len())],
    });
    pieces.collect()
}

fn names(random: &mut Random) -> Vec<String> {
    let (some, plain) = (random.below(5), random.below(4));
    (0..some).map(|_| text(random)).chain((0..plain).map(|_| NAMES[1].to_owned())).collect()
}

/// Metadata down to a level that is deeper than what is kept, and than what the decoder takes.
fn metadata(random: &mut Random, depth: usize) -> Struct {
    let mut value = Value { kind: Some(Kind::NumberValue(f64::NAN)) };
    for level in 0..depth {
        let kind = match level % 2 {
            0 => Kind::ListValue(ListValue { values: vec![value] }),
            _ => Kind::StructValue(Struct { fields: HashMap::from([(text(random), value)]) }),
        };
        value = Value { kind: Some(kind) };
    }
    Struct { fields: HashMap::from([("m".to_owned(), value)]) }
}

fn request(random: &mut Random, protocol: Protocol, nonce: &str) -> Vec<u8> {
    let types = ResourceType::ALL.map(ResourceType::type_url);
    let type_url = types.into_iter().chain(["type/unknown", ""]).nth(random.below(6)).unwrap_or_default().to_owned();
    let depth = random.below(60);
    let node = random.chance(20).then(|| Node {
        id: "n".to_owned(),
        metadata: Some(metadata(random, depth)),
        locality: Some(Locality { region: text(random), ..Locality::default() }),
        ..Node::default()
    });
    let error_detail =
        random.chance(30).then(|| Status { code: random.below(20) as i32, message: text(random), ..Status::default() });
    let response_nonce = if random.chance(60) { nonce.to_owned() } else { text(random) };
    match protocol {
        Protocol::Sotw => {
            let resource_names = names(random);
            let request = DiscoveryRequest {
                node,
                type_url,
                resource_names,
                response_nonce,
                error_detail,
                ..DiscoveryRequest::default()
            };
            request.encode_to_vec()
        }
        Protocol::Delta => {
            let initial_resource_versions = names(random).into_iter().map(|name| (name, text(random))).collect();
            let (resource_names_subscribe, resource_names_unsubscribe) = (names(random), names(random));
            let request = DeltaDiscoveryRequest {
                node,
                type_url,
                resource_names_subscribe,
                resource_names_unsubscribe,
                initial_resource_versions,
                response_nonce,
                error_detail,
                ..DeltaDiscoveryRequest::default()
            };
            request.encode_to_vec()
        }
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.below(256) as u8),
            // A length that is longer than all there is.
            2 => _ = bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f]),
            3 => bytes.extend_from_within(at..),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        }
    }
}

/// What is read is what prost reads, in as much as there is.
fn decode(bytes: &[u8], protocol: Protocol) -> Option<Request> {
    let read = Request::decode(protocol, bytes).ok();
    let expected = match protocol {
        Protocol::Sotw => DiscoveryRequest::decode(bytes).ok().map(Request::from),
        Protocol::Delta => DeltaDiscoveryRequest::decode(bytes).ok().map(Request::from),
    };
    // Not compared where a node holds what equals nothing, not even itself.
    if read.as_ref().is_none_or(|read| *read == read.clone()) {
        assert_eq!(read, expected, "{protocol:?} {bytes:?}");
    }
    assert_eq!(read.is_some(), expected.is_some(), "{protocol:?} {bytes:?}");
    read
}

/// Levels of a JSON value.
fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// One stream; how many of its requests could be read and were taken.
fn stream(seed: u64, protocol: Protocol, snapshot: &Arc<XdsSnapshot>) -> (usize, usize) {
    let mut random = Random::new(seed);
    let limits = Limits { max_names: 8, max_name_bytes: 24, ..Limits::default() };
    let node = NodeInfo::read(Some(&node("n"))).expect("a node");
    let mut stream = Stream::new(StreamId(1), protocol, node, Arc::new(limits));
    stream.snapshot_changed(random.chance(80).then_some(snapshot));
    let (mut read, mut taken, mut nonce) = (0, 0, String::new());
    for _ in 0..REQUESTS {
        let mut bytes = request(&mut random, protocol, &nonce);
        if random.chance(50) {
            damage(&mut bytes, &mut random);
        }
        let Some(request) = decode(&bytes, protocol) else { continue };
        read += 1;
        if let Ok(info) = NodeInfo::read(request.node()) {
            assert!(depth(&serde_json::Value::Object(info.metadata)) <= 17, "metadata is cut");
        }
        // A violation ends a stream; here it is only held that it costs nothing to go on.
        taken += usize::from(stream.request(&request, 0).is_ok());
        for _ in 0..random.below(4) {
            nonce = stream.next(0).map_or(nonce, |response| response.nonce);
        }
    }
    let debug = stream.debug();
    assert!(debug.unserved.len() <= 32, "types that are not served are bounded");
    for (ty, known) in debug.types {
        // One request may be taken in part before its violation ends the stream; here some streams go on.
        assert!(known.not_understood.len() <= 16, "{ty}: {:?}", known.not_understood);
        assert!(known.names.iter().all(|name| name.len() <= 24), "{ty}: {:?}", known.names);
        assert!(known.last_nack.is_none_or(|text| text.len() <= MAX_DETAIL_BYTES), "{ty}");
    }
    (read, taken)
}

#[test]
fn requests_of_any_bytes_are_taken_or_refused() {
    let snapshot = snapshot(&[(Cluster, "a", "1"), (Cluster, "b", "1"), (Endpoint, "a", "1"), (Listener, "c", "1")]);
    for protocol in BOTH {
        let (mut read, mut taken) = (0, 0);
        for seed in 0..CASES / 10 {
            let one = stream(seed, protocol, &snapshot);
            (read, taken) = (read + one.0, taken + one.1);
        }
        let all = CASES as usize / 10 * REQUESTS;
        assert!(read > all / 3 && taken > all / 10, "{protocol:?}: {read} of {all} could be read, {taken} were taken");
    }
}

#[test]
fn bytes_of_nothing_but_chance_are_read_or_refused() {
    let mut random = Random::new(1);
    for _ in 0..CASES {
        let bytes: Vec<u8> = (0..random.below(200)).map(|_| random.below(256) as u8).collect();
        for protocol in BOTH {
            if let Some(request) = decode(&bytes, protocol) {
                NodeInfo::read(request.node()).ok();
            }
        }
    }
}

#[test]
fn the_text_of_a_nack_blames_only_those_that_were_sent() {
    let mut random = Random::new(2);
    for _ in 0..CASES {
        let sent: Vec<Arc<str>> = names(&mut random).into_iter().map(Arc::from).collect();
        let said: String = (0..random.below(8)).map(|_| text(&mut random)).collect();
        for (name, reason) in blamed(&said, &sent) {
            assert!(sent.contains(&name) && said.contains(&*name), "{name:?} by {said:?}");
            assert!(said.contains(&reason), "{reason:?} is not of {said:?}");
        }
    }
    // Cut at a character's border, wherever it falls.
    for shift in 0..4 {
        let long = format!("{}{}", "x".repeat(shift), "\u{1f980}".repeat(MAX_DETAIL_BYTES));
        let kept = cut(&long);
        assert!(kept.len() <= MAX_DETAIL_BYTES && long.starts_with(kept) && kept.len() + 4 > MAX_DETAIL_BYTES);
    }
}

/// The same by looking for each name at each place.
#[test]
fn names_are_found_where_looking_for_each_finds_them() {
    let mut random = Random::new(7);
    let word = |random: &mut Random, most: usize, parts: &[&str]| -> String {
        (0..random.below(most)).map(|_| parts[random.below(parts.len())]).collect()
    };
    for _ in 0..10 * CASES {
        let names: Vec<Arc<str>> =
            (0..random.below(8)).map(|_| word(&mut random, 4, &["a", "b", "/", "ä"]).into()).collect();
        let said = word(&mut random, 14, &["a", "b", "/", "ä", ": ", ", ", ") ", "\n", " "]);
        let found = |is: fn(&str, usize, usize) -> bool| -> BTreeSet<Arc<str>> {
            let is_at = |name: &str, at: usize| said[at..].starts_with(name) && is(&said, at, name.len());
            let is_found = |name: &&Arc<str>| !name.is_empty() && said.char_indices().any(|(at, _)| is_at(name, at));
            names.iter().filter(is_found).cloned().collect()
        };
        let (heads, mentioned) = (found(is_head), found(stands_alone));
        let expected = if heads.is_empty() { mentioned } else { heads };
        assert_eq!(blamed(&said, &names).into_keys().collect::<BTreeSet<_>>(), expected, "{said:?}, {names:?}");
    }
}
