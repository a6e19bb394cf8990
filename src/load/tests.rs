//! The clients against the server of this house, on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::transport::Server;

use super::board::Remember;
use super::names::NameSet;
use super::scanner::{Malformed, Scanner, Sink, Summary};
use super::{Awaited, Board, Fleet, Memory, Profile, Reading, Target};
use crate::ads::service::AdsServer;
use crate::ads::stream::Response;
use crate::ads::{Event, Limits, Protocol, Refusal, net};
use crate::snapshot::ResourceType::{Cluster, Endpoint};
use crate::snapshot::{Reference, Resource, ResourceType, SnapshotBuilder, XdsSnapshot};

const BOTH: [Protocol; 2] = [Protocol::Delta, Protocol::Sotw];

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A resource whose body is nothing but its name and a text.
fn res(ty: ResourceType, name: &str, text: &str) -> Resource {
    let mut body = vec![1 << 3 | 2, name.len() as u8];
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&[15 << 3 | 2, text.len() as u8]);
    body.extend_from_slice(text.as_bytes());
    let resource = Resource::from_encoded(ty, name, Bytes::from(body));
    match ty {
        Cluster => resource.with_refs([Reference::new(Endpoint, name)]),
        _ => resource,
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    resources: Vec<(Option<ResourceType>, String, String)>,
    responses: Vec<(String, String, Vec<String>, usize)>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

impl Sink for Found {
    fn resource(&mut self, ty: Option<ResourceType>, name: &[u8], version: &[u8]) {
        self.resources.push((ty, text(name), text(version)));
    }

    fn response(&mut self, response: &Summary) {
        let removed = response.removed.iter().map(|name| text(name)).collect();
        self.responses.push((text(&response.type_url), text(&response.nonce), removed, response.resources));
    }
}

/// Two responses as they lie on the wire.
fn wire(protocol: Protocol) -> Bytes {
    let mut out = BytesMut::new();
    for (nonce, names) in [("1", vec!["a", "b"]), ("2", vec![])] {
        let response = Response {
            protocol,
            ty: Some(Cluster),
            type_url: Arc::from(Cluster.type_url()),
            version: "v".to_owned(),
            nonce: nonce.to_owned(),
            resources: names.into_iter().map(|name| Arc::new(res(Cluster, name, &"x".repeat(100)))).collect(),
            removed: if protocol == Protocol::Delta { vec![Arc::from("gone")] } else { Vec::new() },
        };
        out.extend_from_slice(&[0]);
        out.extend_from_slice(&(response.encoded_len() as u32).to_be_bytes());
        response.encode(&mut out);
    }
    out.freeze()
}

#[test]
fn responses_are_read_however_they_are_cut() {
    for protocol in BOTH {
        let wire = wire(protocol);
        let read = |size: usize| {
            let (mut scanner, mut found) = (Scanner::new(protocol), Found::default());
            wire.chunks(size).for_each(|chunk| scanner.feed(chunk, &mut found).expect("readable"));
            found
        };
        let whole = read(wire.len());
        let names: Vec<&str> = whole.resources.iter().map(|(_, name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(
            whole
                .resources
                .iter()
                .all(|(ty, _, version)| { *ty == Some(Cluster) && version.is_empty() == (protocol == Protocol::Sotw) })
        );
        let nonces: Vec<&str> = whole.responses.iter().map(|(_, nonce, ..)| nonce.as_str()).collect();
        assert_eq!(nonces, ["1", "2"]);
        assert_eq!(whole.responses[0].2.len(), usize::from(protocol == Protocol::Delta));
        for size in 1..wire.len() {
            assert_eq!(read(size), whole, "in pieces of {size}");
        }
    }
}

#[test]
fn what_is_no_response_is_an_error() {
    let feed = |bytes: &[u8]| Scanner::new(Protocol::Delta).feed(bytes, &mut Found::default());
    assert_eq!(feed(&[1, 0, 0, 0, 0]), Err(Malformed::Compressed));
    assert_eq!(feed(&[0, 0, 0, 0, 4, 1 << 3 | 3, 0, 0, 0]), Err(Malformed::WireType(3)));
    assert_eq!(feed(&[0, 0, 0, 0, 2, 1 << 3 | 2, 9]), Err(Malformed::TooLong));
    assert_eq!(feed(&[&[0, 0, 0, 0, 99][..], &[0xff; 12]].concat()), Err(Malformed::Varint));
}

#[test]
fn a_set_of_names_is_a_set() {
    let mut set = NameSet::default();
    assert!(set.insert(70) && set.insert(3) && !set.insert(70));
    assert_eq!(set.iter().collect::<Vec<_>>(), [3, 70]);
    assert!(set.remove(3) && !set.remove(3) && !set.remove(1000));
    assert_eq!((set.len(), set.contains(70), set.contains(3)), (1, true, false));
}

/// A server whose nodes all have one view, or are all refused.
struct Served {
    address: SocketAddr,
    builder: SnapshotBuilder,
    snapshots: watch::Sender<Option<Arc<XdsSnapshot>>>,
}

async fn serve(limits: Limits, answer: Option<&'static str>) -> Served {
    let (events, mut inbox) = mpsc::channel(64);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let server = Server::builder().add_service(AdsServer::new(events, limits));
    tokio::spawn(server.serve_with_incoming(net::incoming(listener)));
    let snapshots = watch::Sender::new(None);
    let given = snapshots.clone();
    tokio::spawn(async move {
        while let Some(event) = inbox.recv().await {
            if let Event::Connected { reply, .. } = event {
                let refusal = answer.map(|message| Refusal { message: message.to_owned() });
                reply.send(refusal.map_or_else(|| Ok(given.subscribe()), Err)).ok();
            }
        }
    });
    Served { address, builder: SnapshotBuilder::new(), snapshots }
}

impl Served {
    fn set(&mut self, resources: &[(ResourceType, &str, &str)]) {
        self.builder.update(|edit| {
            for (ty, name, text) in resources {
                edit.set(res(*ty, name, text));
            }
        });
        self.snapshots.send_replace(Some(self.builder.latest().clone()));
    }

    fn remove(&mut self, name: &str) {
        self.builder.update(|edit| {
            edit.remove(Cluster, name).remove(Endpoint, name);
        });
        self.snapshots.send_replace(Some(self.builder.latest().clone()));
    }
}

fn fleet(server: &Served, clients: usize, profile: Profile) -> Fleet {
    let fleet = Fleet::new(Board::new(clients, Remember::Pushes));
    fleet.start(&Target::from(server.address), profile, 0, clients);
    fleet
}

const WORLD: [(ResourceType, &str, &str); 4] =
    [(Cluster, "a", "1"), (Cluster, "b", "1"), (Endpoint, "a", "1"), (Endpoint, "b", "1")];

async fn served(fleet: &Fleet, clients: usize) {
    let board = fleet.board();
    let done = board.until(PATIENCE, |board| board.served() >= clients || !board.errors().is_empty()).await;
    assert!(done && board.errors().is_empty(), "{} are served: {:?}", board.served(), board.errors());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_served_told_of_a_change_and_of_what_goes() {
    for protocol in BOTH {
        let mut server = serve(Limits::default(), None).await;
        server.set(&WORLD);
        let mut profile = Profile::new(protocol);
        profile.served_at = Some(WORLD.len());
        let fleet = fleet(&server, 20, profile);
        served(&fleet, 20).await;
        let board = fleet.board();
        assert_eq!((board.open(), board.serve_times().len(), board.connect_times().len()), (20, 20, 20));
        assert_eq!(board.totals(Cluster).resources, 40);

        let name = board.names.id(b"b");
        let round = board.begin(Awaited { ty: Endpoint, name: Some(name), count: 1 }, 20);
        server.set(&[(Endpoint, "b", "2")]);
        let times = round.finish(PATIENCE).await;
        assert_eq!(times.len(), 20);
        assert!(times.first() <= times.quantile(0.5) && times.quantile(0.5) <= times.last());
        let (spreads, versions) = board.spreads();
        assert!(spreads.len() >= 3 && versions >= 3, "{versions}");

        let before = board.total().removed;
        server.remove("a");
        let gone = async {
            while board.totals(Cluster).removed < before + 20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("all hear of it");
        fleet.stop().await;
        assert_eq!(board.open(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_versions_is_sent_the_difference_alone() {
    let mut server = serve(Limits::default(), None).await;
    server.set(&WORLD);
    let mut profile = Profile::new(Protocol::Delta);
    (profile.memory, profile.served_at) = (Memory::Versions, Some(WORLD.len()));
    let fleet = fleet(&server, 10, profile);
    served(&fleet, 10).await;
    let board = fleet.board();
    let before = board.total();
    let round = board.begin(Awaited { ty: Endpoint, name: None, count: 1 }, 10);
    fleet.reconnect();
    assert!(board.until(PATIENCE, |board| board.opened() >= 20).await);
    server.set(&[(Endpoint, "a", "2")]);
    assert_eq!(round.finish(PATIENCE).await.len(), 10);
    assert_eq!(board.total().since(before).resources, 10);
    assert!(board.errors().is_empty(), "{:?}", board.errors());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusing_client_refuses_one_and_takes_the_others() {
    for protocol in BOTH {
        let mut server = serve(Limits::default(), None).await;
        server.set(&WORLD);
        let mut profile = Profile::new(protocol);
        profile.refuses = Some((Endpoint, Arc::from("a")));
        profile.served_at = Some(WORLD.len() - 1);
        let fleet = fleet(&server, 5, profile);
        served(&fleet, 5).await;
        let board = fleet.board();
        let round = board.begin(Awaited { ty: Endpoint, name: Some(board.names.id(b"b")), count: 1 }, 5);
        server.set(&[(Endpoint, "b", "2")]);
        assert_eq!(round.finish(PATIENCE).await.len(), 5);
        assert_eq!(board.totals(Endpoint).nacks, 5, "once for each client");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_is_told_of_with_its_words() {
    let mut server = serve(Limits::default(), Some("no such role")).await;
    server.set(&WORLD);
    let fleet = fleet(&server, 3, Profile::new(Protocol::Delta));
    let board = fleet.board();
    assert!(board.until(PATIENCE, |board| board.errors().values().sum::<usize>() == 3).await);
    let (error, _) = board.errors().pop_first().expect("one");
    assert!(error.contains("status 7") && error.contains("no such role"), "{error}");
    assert_eq!((board.served(), board.open()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_is_closed_and_the_others_are_served() {
    let limits = Limits { ack_timeout: Duration::from_millis(500), ..Limits::default() };
    let mut server = serve(limits, None).await;
    server.set(&WORLD);
    let fleet = fleet(&server, 2, Profile::new(Protocol::Delta));
    served(&fleet, 2).await;
    let silent = Profile { reading: Reading::Nothing, ..Profile::new(Protocol::Delta) };
    fleet.start(&Target::from(server.address), silent, 2, 1);
    let board = fleet.board();
    assert!(board.until(PATIENCE, |board| board.open() == 3).await);
    // The server closes the connection of whoever does not answer: that is the end of its watch.
    let closed = async {
        while server.snapshots.receiver_count() > 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let begun = async {
        while server.snapshots.receiver_count() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.expect("it is served");
    tokio::time::timeout(PATIENCE, closed).await.expect("it is closed");
    let round = board.begin(Awaited { ty: Endpoint, name: None, count: 1 }, 2);
    server.set(&[(Endpoint, "a", "2")]);
    assert_eq!(round.finish(PATIENCE).await.len(), 2);
}

#[tokio::test]
async fn nobody_there_is_an_error_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let fleet = Fleet::new(Board::new(1, Remember::Counts));
    fleet.start(&Target::from(address), Profile::new(Protocol::Sotw), 0, 1);
    assert!(fleet.board().until(PATIENCE, |board| !board.errors().is_empty()).await);
    let (error, _) = fleet.board().errors().pop_first().expect("one");
    assert!(error.starts_with(&format!("cannot connect to {address}: ")), "{error}");
}
