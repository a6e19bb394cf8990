//! Over real sockets, with a client that sees each byte.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;

/// For what must come.
const LONG: Duration = Duration::from_secs(10);
/// For what must not come.
const SHORT: Duration = Duration::from_millis(150);

struct Running {
    udp: SocketAddr,
    tcp: SocketAddr,
    table: watch::Sender<Arc<Table>>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), DnsError>>,
}

impl Running {
    async fn start(table: Table) -> Self {
        let (udp, tcp) = one_port_for_both().await;
        let (sender, receiver) = watch::channel(Arc::new(table));
        let shutdown = CancellationToken::new();
        let (udp_address, tcp_address) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let task = tokio::spawn(serve(udp, tcp, receiver, shutdown.clone()));
        Self { udp: udp_address, tcp: tcp_address, table: sender, shutdown, task }
    }

    async fn raw_udp(&self, packet: &[u8], patience: Duration) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(packet, self.udp).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let (length, from) = timeout(patience, socket.recv_from(&mut buffer)).await.ok()?.unwrap();
        assert_eq!(from, self.udp);
        buffer.truncate(length);
        Some(buffer)
    }

    async fn udp(&self, asked: &Message) -> Message {
        let bytes = self.raw_udp(&asked.to_vec().unwrap(), LONG).await.expect("no answer over UDP");
        let limit = asked.edns.as_ref().map_or(512, |edns| edns.max_payload().max(512));
        assert!(bytes.len() <= usize::from(limit.min(MAX_UDP_PAYLOAD)), "{} bytes", bytes.len());
        checked(&bytes, asked)
    }

    async fn tcp(&self, asked: &Message) -> Message {
        let mut stream = TcpStream::connect(self.tcp).await.unwrap();
        send_framed(&mut stream, &asked.to_vec().unwrap()).await;
        checked(&read_framed(&mut stream).await, asked)
    }

    /// Asks over both, which must say the same, and returns it.
    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let asked = question(name, kind);
        let (udp, tcp) = (self.udp(&asked).await, self.tcp(&asked).await);
        assert_eq!(udp, tcp, "{name} {kind}");
        udp
    }
}

/// The same port over UDP and TCP, as a name server has it. A port that is free for one may be in
/// use for the other, by a connection of another test.
async fn one_port_for_both() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both");
}

async fn send_framed(stream: &mut TcpStream, body: &[u8]) {
    let mut framed = u16::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    framed.extend_from_slice(body);
    stream.write_all(&framed).await.unwrap();
}

async fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let length = timeout(LONG, stream.read_u16()).await.expect("no answer over TCP").unwrap();
    let mut body = vec![0; usize::from(length)];
    stream.read_exact(&mut body).await.unwrap();
    body
}

fn checked(bytes: &[u8], asked: &Message) -> Message {
    let reply = Message::from_vec(bytes).unwrap();
    assert_eq!(reply.metadata.id, asked.metadata.id);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert_eq!(reply.metadata.recursion_desired, asked.metadata.recursion_desired);
    assert!(!reply.metadata.recursion_available);
    reply
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn question(text: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

fn record(text: &str, address: &str, ttl: u32, ports: &[(&str, u16)]) -> Record {
    Record {
        name: text.into(),
        address: address.parse().unwrap(),
        ttl,
        ports: ports.iter().map(|(name, port)| ((*name).into(), *port)).collect(),
    }
}

const CHECKOUT: &str = "checkout.shop.svc.clusterset.local.";

fn shop() -> Table {
    Table::build_from(TableInput {
        records: vec![
            record("checkout.shop.svc.clusterset.local", "240.11.0.7", 5, &[("http", 80), ("grpc", 9000), ("", 1)]),
            record("checkout.shop.svc.clusterset.local", "fd00:11::7", 7, &[("http", 80)]),
            record("cart.shop.svc.clusterset.local", "240.11.0.8", 5, &[]),
            record("Checkout.Example.COM.", "240.11.0.7", 30, &[("http", 80)]),
            record("a.eu.checkout.example.com", "240.11.0.9", 5, &[]),
        ],
        hostnames: ["checkout.example.com", "waiting.example.org", "a.eu.checkout.example.com"].map(Into::into).into(),
        nameservers: vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()],
        serial: 42,
        hosts: Vec::new(),
    })
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().filter_map(|r| r.data.ip_addr()).map(|a| a.to_string()).collect()
}

/// A denial has the SOA of its zone, whose TTL bounds how long it is believed.
fn assert_denied(message: &Message, code: ResponseCode, zone: &str) {
    assert_eq!(message.metadata.response_code, code, "{message:?}");
    assert!(message.metadata.authoritative);
    assert!(message.answers.is_empty() && message.additionals.is_empty());
    let [soa] = message.authorities.as_slice() else { panic!("no SOA: {message:?}") };
    let RData::SOA(data) = &soa.data else { panic!("{soa:?}") };
    assert_eq!((soa.name.to_string().as_str(), soa.ttl), (zone, NEGATIVE_TTL_SECONDS));
    assert_eq!((data.minimum, data.serial), (NEGATIVE_TTL_SECONDS, 42));
}

#[tokio::test]
async fn addresses_ports_and_the_zones_own_records() {
    let server = Running::start(shop()).await;
    let a = server.ask(CHECKOUT, RecordType::A).await;
    assert_eq!(a.metadata.response_code, ResponseCode::NoError);
    assert!(a.metadata.authoritative && !a.metadata.truncation);
    assert_eq!(addresses(&a), ["240.11.0.7"]);
    // One TTL for a name, the least.
    assert_eq!(a.answers[0].ttl, 5);
    let aaaa = server.ask(CHECKOUT, RecordType::AAAA).await;
    assert_eq!((addresses(&aaaa), aaaa.answers[0].ttl), (vec!["fd00:11::7".to_owned()], 5));

    // Both records say the port, it is told once; its target's addresses come along.
    let srv = server.ask(&format!("_http._tcp.{CHECKOUT}"), RecordType::SRV).await;
    let [one] = srv.answers.as_slice() else { panic!("{srv:?}") };
    let RData::SRV(data) = &one.data else { panic!("{one:?}") };
    assert_eq!((data.port, data.target.to_string().as_str()), (80, CHECKOUT));
    let along: Vec<IpAddr> = srv.additionals.iter().filter_map(|r| r.data.ip_addr()).collect();
    assert_eq!(along, ["240.11.0.7", "fd00:11::7"].map(|a| a.parse::<IpAddr>().unwrap()));
    let grpc = server.ask(&format!("_grpc._tcp.{CHECKOUT}"), RecordType::SRV).await;
    assert_eq!(grpc.answers.len(), 1);

    for zone in ["clusterset.local.", "checkout.example.com.", "waiting.example.org."] {
        let soa = server.ask(zone, RecordType::SOA).await;
        assert!(matches!(&soa.answers[0].data, RData::SOA(soa) if soa.serial == 42), "{soa:?}");
        assert_eq!(soa.answers[0].name, name(zone));
        let ns = server.ask(zone, RecordType::NS).await;
        assert!(matches!(&ns.answers[0].data, RData::NS(ns) if ns.0 == name("ns.dns.clusterset.local.")));
        assert_eq!(ns.additionals.len(), 2);
    }
    assert_eq!(addresses(&server.ask("ns.dns.clusterset.local.", RecordType::A).await), ["192.0.2.53"]);

    // RFC 8482: one record set answers ANY.
    assert_eq!(addresses(&server.ask(CHECKOUT, RecordType::ANY).await), ["240.11.0.7"]);
    let any = server.ask("clusterset.local.", RecordType::ANY).await;
    assert_eq!(any.answers[0].record_type(), RecordType::SOA);
}

#[tokio::test]
async fn what_is_not_there_is_denied_by_its_zone() {
    let server = Running::start(shop()).await;
    let local = "clusterset.local.";
    let host = "checkout.example.com.";
    for (asked, kind, zone) in [
        ("cart.shop.svc.clusterset.local.", RecordType::AAAA, local),
        (CHECKOUT, RecordType::MX, local),
        ("cart.shop.svc.clusterset.local.", RecordType::SRV, local),
        ("checkout.example.com.", RecordType::SRV, host),
        (CHECKOUT, RecordType::SOA, local),
        (CHECKOUT, RecordType::NS, local),
        // Names that exist as there are names below them.
        ("shop.svc.clusterset.local.", RecordType::A, local),
        ("svc.clusterset.local.", RecordType::A, local),
        ("clusterset.local.", RecordType::A, local),
        ("_tcp.checkout.shop.svc.clusterset.local.", RecordType::SRV, local),
        ("_tcp.checkout.example.com.", RecordType::A, host),
        // It lies in the outer zone, although it exists only for the inner one.
        ("eu.checkout.example.com.", RecordType::A, host),
        // Known, but not published.
        ("waiting.example.org.", RecordType::A, "waiting.example.org."),
        ("a.eu.checkout.example.com.", RecordType::AAAA, "a.eu.checkout.example.com."),
    ] {
        assert_denied(&server.ask(asked, kind).await, ResponseCode::NoError, zone);
    }
    for (asked, zone) in [
        ("nothing.shop.svc.clusterset.local.", local),
        ("below.checkout.shop.svc.clusterset.local.", local),
        ("_https._tcp.checkout.shop.svc.clusterset.local.", local),
        // An unnamed port has no name to ask for.
        ("_._tcp.checkout.shop.svc.clusterset.local.", local),
        ("other.svc.clusterset.local.", local),
        ("www.checkout.example.com.", host),
        ("www.waiting.example.org.", "waiting.example.org."),
        ("b.a.eu.checkout.example.com.", "a.eu.checkout.example.com."),
    ] {
        for kind in [RecordType::A, RecordType::SRV, RecordType::ANY] {
            assert_denied(&server.ask(asked, kind).await, ResponseCode::NXDomain, zone);
        }
    }
}

#[tokio::test]
async fn what_is_not_ours_is_refused() {
    let server = Running::start(shop()).await;
    for outside in ["example.com.", "local.", "org.", ".", "xcheckout.example.com.", "xclusterset.local."] {
        let reply = server.ask(outside, RecordType::A).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "{outside}");
        assert!(!reply.metadata.authoritative && reply.authorities.is_empty());
    }
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        let reply = server.ask("clusterset.local.", kind).await;
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::Refused, 0));
    }
    let mut chaos = question(CHECKOUT, RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(server.udp(&chaos).await.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn the_case_of_a_question_comes_back_and_means_nothing() {
    let server = Running::start(shop()).await;
    let asked = question("cHeCkOuT.Shop.SVC.clusterSET.local.", RecordType::A);
    for reply in [server.udp(&asked).await, server.tcp(&asked).await] {
        assert_eq!(addresses(&reply), ["240.11.0.7"]);
        let text = "cHeCkOuT.Shop.SVC.clusterSET.local.";
        assert_eq!(reply.queries[0].name().to_string(), text);
        assert_eq!(reply.answers[0].name.to_string(), text);
    }
    assert_eq!(addresses(&server.ask("CHECKOUT.example.com.", RecordType::A).await), ["240.11.0.7"]);
}

#[tokio::test]
async fn edns_is_answered_where_it_is_asked() {
    let server = Running::start(shop()).await;
    assert!(server.udp(&question(CHECKOUT, RecordType::A)).await.edns.is_none());
    for (offered, granted) in [(4096, 1232), (1232, 1232), (700, 700), (0, 512)] {
        let mut asked = with_edns(question(CHECKOUT, RecordType::A), offered);
        asked.edns.as_mut().unwrap().set_dnssec_ok(true);
        let reply = server.udp(&asked).await;
        let edns = reply.edns.as_ref().expect("an OPT record is due");
        assert_eq!((edns.max_payload(), edns.version(), edns.flags().dnssec_ok), (granted, 0, true));
        assert_eq!(addresses(&reply), ["240.11.0.7"]);
    }
    let mut newer = with_edns(question(CHECKOUT, RecordType::A), 1232);
    newer.edns.as_mut().unwrap().set_version(1);
    let reply = server.udp(&newer).await;
    assert_eq!(u16::from(reply.metadata.response_code), u16::from(ResponseCode::BADVERS));
    assert_eq!((reply.answers.len(), reply.edns.unwrap().version()), (0, 0));
}

fn crowd(count: u32) -> Table {
    let address = |n: u32| std::net::Ipv4Addr::from(0xF00B_0000 + n).to_string();
    Table::build((0..count).map(|n| record(CHECKOUT, &address(n), 5, &[("http", 80)])).collect())
}

#[tokio::test]
async fn too_much_for_a_datagram_goes_over_tcp() {
    let server = Running::start(crowd(100)).await;
    let plain = question(CHECKOUT, RecordType::A);
    for asked in [plain.clone(), with_edns(plain.clone(), 4096)] {
        let reply = server.udp(&asked).await;
        assert!(reply.metadata.truncation && reply.metadata.authoritative);
        assert_eq!((reply.answers.len(), reply.edns.is_some()), (0, asked.edns.is_some()));
        let whole = server.tcp(&asked).await;
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (100, false));
    }
    // The answer fits, what would come along with it does not: nobody has to ask again.
    let srv = server.udp(&question(&format!("_http._tcp.{CHECKOUT}"), RecordType::SRV)).await;
    assert_eq!((srv.answers.len(), srv.additionals.len(), srv.metadata.truncation), (1, 0, false));

    let found = lookup(server.udp, CHECKOUT, QueryType::A).await.unwrap();
    assert_eq!((found.addresses().len(), found.over_tcp, found.authoritative), (100, true, true));

    server.table.send_replace(Arc::new(crowd(60)));
    assert!(server.udp(&plain).await.metadata.truncation);
    assert_eq!(server.udp(&with_edns(plain, 1232)).await.answers.len(), 60);

    // More than any DNS message holds: still an answer, marked as cut.
    server.table.send_replace(Arc::new(crowd(5_000)));
    let cut = server.tcp(&question(CHECKOUT, RecordType::A)).await;
    assert!(cut.metadata.truncation && cut.answers.len() > 1_000);
}

#[tokio::test]
async fn the_order_of_addresses_turns_with_the_message_id() {
    let server = Running::start(crowd(3)).await;
    let mut firsts = std::collections::BTreeSet::new();
    for id in 0..3 {
        let mut asked = question(CHECKOUT, RecordType::A);
        asked.metadata.id = id;
        let mut all = addresses(&server.udp(&asked).await);
        firsts.insert(all[0].clone());
        all.sort();
        assert_eq!(all, ["240.11.0.0", "240.11.0.1", "240.11.0.2"]);
    }
    assert_eq!(firsts.len(), 3);
}

#[tokio::test]
async fn a_new_table_answers_the_next_question() {
    let server = Running::start(Table::pending()).await;
    // Nothing is denied before it is known what there is.
    for asked in [CHECKOUT, "clusterset.local.", "checkout.example.com."] {
        let reply = server.ask(asked, RecordType::A).await;
        assert_eq!((reply.metadata.response_code, reply.metadata.authoritative), (ResponseCode::ServFail, false));
    }
    let mut kept = TcpStream::connect(server.tcp).await.unwrap();
    let asked = question(CHECKOUT, RecordType::A);
    for round in 0..200_u8 {
        let address = format!("240.11.0.{round}");
        server.table.send_replace(Arc::new(Table::build(vec![record(CHECKOUT, &address, 5, &[])])));
        assert_eq!(addresses(&server.udp(&asked).await), [address.as_str()]);
        send_framed(&mut kept, &asked.to_vec().unwrap()).await;
        assert_eq!(addresses(&checked(&read_framed(&mut kept).await, &asked)), [address.as_str()]);
        server.table.send_replace(Arc::new(Table::build(Vec::new())));
        assert_eq!(server.udp(&asked).await.metadata.response_code, ResponseCode::NXDomain);
    }
    // The last table stays when its owner ends before the server does.
    let Running { udp, table, .. } = server;
    drop(table);
    assert_eq!(lookup(udp, CHECKOUT, QueryType::A).await.unwrap().outcome, Outcome::NoSuchName);
}

/// A header with this id, these two bytes of flags and these counts, and what follows.
fn packet(flags: [u8; 2], counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, flags[0], flags[1]];
    bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    bytes.extend_from_slice(rest);
    bytes
}

#[tokio::test]
async fn malformed_and_foreign_messages_get_an_error_or_silence() {
    let server = Running::start(shop()).await;
    let whole = question(CHECKOUT, RecordType::A).to_vec().unwrap();
    let one = &whole[12..];
    let two: Vec<u8> = [one, one].concat();
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let two_opts: Vec<u8> = [one, &opt, &opt].concat();
    let long_label: Vec<u8> = [&[64][..], &[b'a'; 64], &[0, 0, 1, 0, 1]].concat();
    let long_name: Vec<u8> = [[63_u8].as_slice(), &[b'a'; 63]].concat().repeat(5);
    let table: Vec<(&str, Vec<u8>, Option<ResponseCode>)> = vec![
        ("nothing", vec![], None),
        ("half a header", vec![0x12, 0x34, 0, 0, 0, 1], None),
        ("an answer", packet([0x80, 0], [1, 0, 0, 0], one), None),
        ("no question", packet([0, 0], [0; 4], &[]), Some(ResponseCode::FormErr)),
        ("two questions", packet([0, 0], [2, 0, 0, 0], &two), Some(ResponseCode::FormErr)),
        ("a question that is missing", packet([0, 0], [1, 0, 0, 0], &[]), Some(ResponseCode::FormErr)),
        ("a question cut short", packet([0, 0], [1, 0, 0, 0], &one[..20]), Some(ResponseCode::FormErr)),
        ("65,535 questions", packet([0, 0], [u16::MAX; 4], one), Some(ResponseCode::FormErr)),
        ("a pointer to itself", packet([0, 0], [1, 0, 0, 0], &[0xc0, 12, 0, 1, 0, 1]), Some(ResponseCode::FormErr)),
        ("a pointer ahead", packet([0, 0], [1, 0, 0, 0], &[0xc0, 99, 0, 1, 0, 1]), Some(ResponseCode::FormErr)),
        ("a label of 64", packet([0, 0], [1, 0, 0, 0], &long_label), Some(ResponseCode::FormErr)),
        ("a name of 320", packet([0, 0], [1, 0, 0, 0], &long_name), Some(ResponseCode::FormErr)),
        ("two OPT records", packet([0, 0], [1, 0, 0, 2], &two_opts), Some(ResponseCode::FormErr)),
        ("an inverse query", packet([0x08, 0], [1, 0, 0, 0], one), Some(ResponseCode::NotImp)),
        ("a status request", packet([0x10, 0], [0; 4], &[]), Some(ResponseCode::NotImp)),
        ("a notice", packet([0x20, 0], [1, 0, 0, 0], one), Some(ResponseCode::NotImp)),
        ("an update", packet([0x28, 0], [1, 0, 0, 0], one), Some(ResponseCode::NotImp)),
        ("an opcode that nobody knows", packet([0x78, 0], [1, 0, 0, 0], one), Some(ResponseCode::NotImp)),
    ];
    for (what, bytes, expected) in table {
        let patience = if expected.is_some() { LONG } else { SHORT };
        let reply = server.raw_udp(&bytes, patience).await;
        match expected {
            None => assert!(reply.is_none(), "{what}: {reply:?}"),
            Some(code) => {
                let reply = reply.unwrap_or_else(|| panic!("{what}: no answer"));
                assert!(reply.len() <= 512, "{what}");
                assert_eq!(reply[..2], [0x12, 0x34], "{what}");
                assert!(reply[2] & 0x80 != 0, "{what}: not marked as an answer");
                assert_eq!(u16::from(reply[3] & 0x0f), u16::from(code), "{what}");
            }
        }
    }
    assert_eq!(addresses(&server.ask(CHECKOUT, RecordType::A).await), ["240.11.0.7"]);
}

#[tokio::test]
async fn noise_harms_nobody_else() {
    let server = Running::start(shop()).await;
    let good = with_edns(question(CHECKOUT, RecordType::SRV), 1232).to_vec().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // A small generator of our own: the same noise each time.
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..3_000 {
        let mut bytes = good.clone();
        for _ in 0..=random() % 6 {
            let place = (random() % bytes.len() as u64) as usize;
            bytes[place] = random() as u8;
        }
        bytes.truncate((random() % (bytes.len() as u64 + 1)) as usize);
        socket.send_to(&bytes, server.udp).await.unwrap();
    }
    // Connections that send nonsense, too little, or nothing.
    let mut idle = Vec::new();
    for body in [&[][..], &[0], &[0, 0], &[0xff, 0xff, 1, 2, 3], &[0, 3, 1, 2, 3], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(server.tcp).await.unwrap();
        stream.write_all(body).await.unwrap();
        idle.push(stream);
    }
    assert_eq!(addresses(&server.ask(CHECKOUT, RecordType::A).await), ["240.11.0.7"]);
    assert!(!server.task.is_finished());
    // What is no question ends its connection; a bad question does not.
    let mut foreign = TcpStream::connect(server.tcp).await.unwrap();
    send_framed(&mut foreign, &packet([0, 0], [1, 0, 0, 0], &[0xc0, 12, 0, 1, 0, 1])).await;
    assert_eq!(read_framed(&mut foreign).await[3] & 0x0f, 1);
    send_framed(&mut foreign, &packet([0x28, 0], [0; 4], &[])).await;
    assert_eq!(read_framed(&mut foreign).await[3] & 0x0f, 4);
    send_framed(&mut foreign, &packet([0x80, 0], [0; 4], &[])).await;
    assert_eq!(timeout(LONG, foreign.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn one_connection_takes_many_questions_in_any_pieces() {
    let server = Running::start(shop()).await;
    let mut stream = TcpStream::connect(server.tcp).await.unwrap();
    let asked: Vec<Message> =
        [RecordType::A, RecordType::AAAA, RecordType::MX].map(|kind| question(CHECKOUT, kind)).into();
    let mut bytes = Vec::new();
    for message in &asked {
        let body = message.to_vec().unwrap();
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
    }
    for piece in bytes.chunks(7) {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    for (message, count) in asked.iter().zip([1, 1, 0]) {
        assert_eq!(checked(&read_framed(&mut stream).await, message).answers.len(), count);
    }
}

#[tokio::test]
async fn idle_connections_do_not_lock_others_out() {
    let server = Running::start(shop()).await;
    let mut idle = Vec::new();
    for _ in 0..stream::CONNECTIONS + 8 {
        idle.push(TcpStream::connect(server.tcp).await.unwrap());
    }
    // Over UDP at once; over TCP when the first of the idle ones are closed.
    assert_eq!(addresses(&server.udp(&question(CHECKOUT, RecordType::A)).await), ["240.11.0.7"]);
    assert_eq!(addresses(&server.tcp(&question(CHECKOUT, RecordType::A)).await), ["240.11.0.7"]);
    let mut first = idle.swap_remove(0);
    assert_eq!(timeout(LONG, first.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn shutdown_is_prompt_and_frees_the_sockets() {
    let server = Running::start(shop()).await;
    let mut open = TcpStream::connect(server.tcp).await.unwrap();
    let asked = question(CHECKOUT, RecordType::A);
    send_framed(&mut open, &asked.to_vec().unwrap()).await;
    read_framed(&mut open).await;
    server.shutdown.cancel();
    timeout(LONG, server.task).await.expect("it does not end").unwrap().unwrap();
    // The connection is closed, too, and both addresses can be taken again.
    assert_eq!(timeout(LONG, open.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
    // (Another test's connection may have the port for a moment.)
    let rebound = async {
        while UdpSocket::bind(server.udp).await.is_err() || TcpListener::bind(server.tcp).await.is_err() {
            tokio::time::sleep(SHORT).await;
        }
    };
    timeout(LONG, rebound).await.expect("the addresses stay taken");
}

#[tokio::test]
async fn the_stub_tells_answers_from_denials_from_failures() {
    let server = Running::start(shop()).await;
    let found = lookup(server.udp, "Checkout.shop.svc.clusterset.local", QueryType::Aaaa).await.unwrap();
    assert_eq!((found.outcome, found.authoritative, found.over_tcp), (Outcome::Answered, true, false));
    assert_eq!(found.records[0].data, LookupData::Address("fd00:11::7".parse().unwrap()));
    let srv = lookup(server.udp, "_http._tcp.checkout.example.com.", QueryType::Srv).await.unwrap();
    let target = "checkout.example.com.".to_owned();
    assert_eq!(srv.records[0].data, LookupData::Service { port: 80, target });
    let outcome = async |name: &str, kind| lookup(server.udp, name, kind).await.unwrap().outcome;
    assert_eq!(outcome("cart.shop.svc.clusterset.local", QueryType::Aaaa).await, Outcome::NoData);
    assert_eq!(outcome("no.shop.svc.clusterset.local", QueryType::A).await, Outcome::NoSuchName);
    assert_eq!(outcome("example.net", QueryType::Ns).await, Outcome::Refused);
    assert_eq!(outcome("clusterset.local", QueryType::Soa).await, Outcome::Answered);
    server.table.send_replace(Arc::new(Table::pending()));
    assert!(matches!(outcome(CHECKOUT, QueryType::A).await, Outcome::Failed(_)));

    let bad = lookup(server.udp, "a..b", QueryType::A).await.unwrap_err();
    assert_eq!(bad.to_string(), "`a..b` is not a domain name: it has an empty label");
    let nobody = UdpSocket::bind("127.0.0.99:0").await.unwrap().local_addr().unwrap();
    assert!(matches!(lookup(nobody, CHECKOUT, QueryType::A).await, Err(DnsError::Io { .. })));
}

#[tokio::test]
async fn the_stub_waits_for_the_answer_to_its_own_question() {
    let liar = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = liar.local_addr().unwrap();
    let asking = tokio::spawn(lookup(server, "clusterset.local", QueryType::A));
    let mut buffer = [0; 512];
    let (length, client) = liar.recv_from(&mut buffer).await.unwrap();
    let asked = Message::from_vec(&buffer[..length]).unwrap();
    let mut answer = Message::response(asked.metadata.id, OpCode::Query);
    answer.add_query(asked.queries[0].clone());
    let mut other_id = answer.clone();
    other_id.metadata.id = asked.metadata.id.wrapping_add(1);
    let mut other_name = answer.clone();
    other_name.queries[0].set_name(name("elsewhere.local."));
    for lie in [other_id.to_vec().unwrap(), other_name.to_vec().unwrap(), asked.to_vec().unwrap(), vec![1, 2, 3]] {
        liar.send_to(&lie, client).await.unwrap();
    }
    answer.metadata.response_code = ResponseCode::NXDomain;
    liar.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap().outcome, Outcome::NoSuchName);
}

#[test]
fn a_bad_name_rejects_only_itself() {
    let long = format!("{}.example.com", "a".repeat(64));
    let very_long = format!("{}example.com", "abcdefghi.".repeat(25));
    let table = Table::build_from(TableInput {
        records: vec![
            record("*.example.com", "240.0.0.1", 5, &[]),
            record("a b.example.com", "240.0.0.1", 5, &[]),
            record("-a.example.com", "240.0.0.1", 5, &[]),
            record("", "240.0.0.1", 5, &[]),
            record(".", "240.0.0.1", 5, &[]),
            record("b\u{fc}cher.example.com", "240.0.0.1", 5, &[]),
            record(&long, "240.0.0.1", 5, &[]),
            record(&very_long, "240.0.0.1", 5, &[]),
            record("good.example.com", "240.0.0.2", u32::MAX, &[("not.a.port ", 1), ("http", 80)]),
        ],
        hostnames: vec!["also bad".into(), "also bad".into()],
        ..TableInput::default()
    });
    let bad: Vec<&str> = table.rejected().iter().map(|rejected| &*rejected.name).collect();
    let expected = [
        "also bad",
        "*.example.com",
        "a b.example.com",
        "-a.example.com",
        "",
        ".",
        "b\u{fc}cher.example.com",
        &long,
        &very_long,
        "good.example.com",
    ];
    assert_eq!(bad, expected);
    assert!(table.rejected()[9].reason.contains("port `not.a.port `"), "{:?}", table.rejected()[9]);
    let node = |text: &str| table.nodes.get(&name(text).into());
    assert_eq!(node("good.example.com.").unwrap().ttl, Some(i32::MAX as u32));
    assert_eq!(node("_http._tcp.good.example.com.").unwrap().srv.len(), 1);
    assert!(node("example.com.").is_none(), "nothing above a zone's apex is ours");
}

#[test]
fn zones_do_not_depend_on_the_order_of_records() {
    let mut records = vec![
        record("b.x.example.com", "240.0.0.1", 5, &[]),
        record("example.com", "240.0.0.2", 5, &[]),
        record("x.y.clusterset.local", "240.0.0.3", 5, &[]),
    ];
    let zone = |table: &Table, text: &str| table.zone_of(&name(text).into()).map(|zone| zone.to_string());
    for _ in 0..3 {
        records.rotate_left(1);
        let table = Table::build(records.clone());
        assert_eq!(zone(&table, "b.x.example.com.").as_deref(), Some("b.x.example.com."));
        assert_eq!(zone(&table, "x.example.com.").as_deref(), Some("example.com."));
        assert_eq!(zone(&table, "x.y.clusterset.local.").as_deref(), Some("clusterset.local."));
        assert_eq!(zone(&table, "com."), None);
        // Between the two zones there is a name, with nothing at it.
        assert!(table.nodes.contains_key(&name("x.example.com.").into()));
        assert!(table.nodes.contains_key(&name("y.clusterset.local.").into()));
    }
}

/// A table's names against the definition: a name exists where it, or a name below it, owns a record.
mod by_definition {
    use hickory_server::proto::op::LowerQuery;
    use proptest::prelude::*;

    use super::super::answer::answer;
    use super::*;

    fn names() -> impl Strategy<Value = String> {
        let label = prop::sample::select(vec!["a", "b", "C", "_tcp", "_http"]);
        let zone = prop::sample::select(vec!["clusterset.local", "ClusterSet.Local", "example.com", "x.example.com"]);
        (prop::collection::vec(label, 0..4), zone)
            .prop_map(|(labels, zone)| labels.iter().map(|label| format!("{label}.")).collect::<String>() + zone + ".")
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_name_is_denied_exactly_where_nothing_is_at_or_below_it(
            published in prop::collection::vec((names(), any::<bool>()), 0..8),
            asked in prop::collection::vec(names(), 1..8),
        ) {
            let records: Vec<Record> = published
                .iter()
                .map(|(name, v4)| record(name, if *v4 { "240.0.0.1" } else { "fd00::1" }, 5, &[("http", 80)]))
                .collect();
            let table = Table::build_from(TableInput {
                records,
                hostnames: vec!["example.com".into()],
                ..TableInput::default()
            });
            prop_assert!(table.rejected().is_empty());
            let mut owners: Vec<String> = ["clusterset.local.", "ns.dns.clusterset.local.", "example.com."].map(Into::into).into();
            for (owner, _) in &published {
                let owner = owner.to_lowercase();
                owners.push(format!("_http._tcp.{owner}"));
                owners.push(owner);
            }
            for text in asked {
                let lower = text.to_lowercase();
                let below = format!(".{lower}");
                let exists = owners.iter().any(|owner| *owner == lower || owner.ends_with(&below));
                let published_here = |v4| published.iter().any(|(owner, is_v4)| owner.to_lowercase() == lower && *is_v4 == v4);
                for (kind, there) in [(RecordType::A, published_here(true)), (RecordType::AAAA, published_here(false))] {
                    let reply = answer(&table, &LowerQuery::query(Query::query(name(&text), kind)), 0);
                    let expected = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
                    prop_assert_eq!(reply.code, expected, "{} {}", text, kind);
                    prop_assert_eq!(!reply.answers.is_empty(), there);
                    prop_assert_eq!(reply.authorities.is_empty(), there);
                }
            }
        }
    }
}
