//! Questions to the DNS server, and answers of others.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use causeway::dns::{Host, MAX_UDP_PAYLOAD, Record, Table, TableInput};
use causeway::fuzzing;
use hickory_server::proto::op::{Message, MessageType};

static TABLE: LazyLock<Arc<Table>> = LazyLock::new(|| {
    let record = |name: &str, address: IpAddr| Record {
        name: Arc::from(name),
        address,
        ttl: 5,
        ports: vec![(Arc::from("http"), 80)],
    };
    // More than a datagram holds.
    let many = (0..100).map(|last| record("many.shop.svc.clusterset.local", IpAddr::from([240, 11, 1, last])));
    let few = [
        record("web.shop.svc.clusterset.local", IpAddr::from([240, 11, 0, 1])),
        record("shop.example.com", IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])),
    ];
    let host = |name: &str| Arc::from(format!("{name}.web.shop.svc.clusterset.local"));
    Arc::new(Table::build_from(TableInput {
        records: few.into_iter().chain(many).collect(),
        hosts: vec![Host { name: host("pods"), port_name: Arc::from("http"), port: 80, host: host("pod-0"), ttl: 5 }],
        hostnames: vec![Arc::from("later.example.com")],
        nameservers: vec![IpAddr::from([10, 0, 0, 1])],
        serial: 7,
    }))
});

/// A question, over TCP and as a datagram.
pub fn dns_questions(input: &[u8]) {
    let (over_tcp, over_udp) = fuzzing::dns_answers(&TABLE, input);
    for (answer, most) in [(&over_tcp, u16::MAX), (&over_udp, MAX_UDP_PAYLOAD)] {
        let Some(answer) = answer else { continue };
        assert!(answer.len() <= usize::from(most), "{} bytes", answer.len());
        assert_eq!(answer.get(..2), input.get(..2), "the id of another question");
        let read = Message::from_vec(answer).unwrap_or_else(|error| panic!("an answer cannot be read: {error}"));
        assert_eq!(read.metadata.message_type, MessageType::Response);
    }
    if input.get(2).is_some_and(|flags| flags & 0x80 != 0) {
        assert_eq!(over_tcp, None, "an answer is answered");
    }
}

/// What a server says to `causeway probe`.
pub fn dns_replies(input: &[u8]) {
    let Some(lookup) = fuzzing::dns_reply(input) else { return };
    assert!(lookup.addresses().len() <= lookup.records.len());
    assert!(lookup.records.iter().all(|record| !record.name.is_empty()));
}
