//! From a question and a table to an answer. Pure.

use hickory_server::proto::op::{LowerQuery, ResponseCode};
use hickory_server::proto::rr::rdata::{NS, SOA, SRV, TXT};
use hickory_server::proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};

use super::NEGATIVE_TTL_SECONDS;
use super::table::{Node, Table};

/// For NS, SOA and TXT records, which do not change while the process lives.
const INFRASTRUCTURE_TTL_SECONDS: u32 = 60;
/// For the SRV weight, where all targets are alike (RFC 2782 wants more than 0 then).
const SRV_WEIGHT: u16 = 100;

/// An answer, before it is cut to the size that the client takes.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    pub(super) authoritative: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Reply {
    pub(super) fn error(code: ResponseCode) -> Self {
        Self { code, authoritative: false, answers: Vec::new(), authorities: Vec::new(), additionals: Vec::new() }
    }
}

/// Answers one question. `rotation` turns the order of addresses, for clients that take the first.
pub(super) fn answer(table: &Table, query: &LowerQuery, rotation: u16) -> Reply {
    if !table.ready {
        return Reply::error(ResponseCode::ServFail);
    }
    if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
        return Reply::error(ResponseCode::Refused);
    }
    // Zones are not handed out whole: nobody but us serves them.
    if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
        return Reply::error(ResponseCode::Refused);
    }
    let Some(zone) = table.zone_of(query.name()) else {
        return Reply::error(ResponseCode::Refused);
    };
    let at_apex = zone == *query.name();
    let zone = Name::from(zone);
    let Some(node) = table.nodes.get(query.name()) else {
        return denial(table, zone, ResponseCode::NXDomain);
    };
    // The name as it was asked: clients that vary its case look for it in the answer.
    let owner = query.original().name();
    let mut answers = answers_of(table, node, owner, query.query_type(), at_apex, rotation);
    if answers.is_empty() {
        return denial(table, zone, ResponseCode::NoError);
    }
    answers.iter_mut().for_each(|r| r.dns_class = DNSClass::IN);
    let additionals = additionals_of(table, &answers);
    Reply { code: ResponseCode::NoError, authoritative: true, answers, authorities: Vec::new(), additionals }
}

fn answers_of(table: &Table, node: &Node, owner: &Name, kind: RecordType, at_apex: bool, rotation: u16) -> Vec<Record> {
    match kind {
        RecordType::A => addresses(node, owner, true, rotation),
        RecordType::AAAA => addresses(node, owner, false, rotation),
        RecordType::SRV => services(node, owner),
        RecordType::TXT => text(node, owner),
        RecordType::SOA if at_apex => vec![soa(table, owner.clone(), INFRASTRUCTURE_TTL_SECONDS)],
        RecordType::NS if at_apex => vec![ns(table, owner.clone())],
        // RFC 8482, section 4.1: one of the record sets is enough.
        RecordType::ANY => [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::TXT, RecordType::SOA]
            .into_iter()
            .map(|one| answers_of(table, node, owner, one, at_apex, rotation))
            .find(|records| !records.is_empty())
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn addresses(node: &Node, owner: &Name, v4: bool, rotation: u16) -> Vec<Record> {
    let ttl = node.ttl.unwrap_or(NEGATIVE_TTL_SECONDS);
    let mut data: Vec<RData> = if v4 {
        node.v4.iter().map(|a| RData::from(*a)).collect()
    } else {
        node.v6.iter().map(|a| RData::from(*a)).collect()
    };
    if !data.is_empty() {
        let turn = usize::from(rotation) % data.len();
        data.rotate_left(turn);
    }
    data.into_iter().map(|data| Record::from_rdata(owner.clone(), ttl, data)).collect()
}

fn services(node: &Node, owner: &Name) -> Vec<Record> {
    let ttl = node.ttl.unwrap_or(NEGATIVE_TTL_SECONDS);
    node.srv
        .iter()
        .map(|(port, target)| {
            let data = RData::SRV(SRV::new(0, SRV_WEIGHT, *port, target.clone()));
            Record::from_rdata(owner.clone(), ttl, data)
        })
        .collect()
}

fn text(node: &Node, owner: &Name) -> Vec<Record> {
    let record = |text: &str| {
        Record::from_rdata(owner.clone(), INFRASTRUCTURE_TTL_SECONDS, RData::TXT(TXT::new(vec![text.to_owned()])))
    };
    node.text.map(record).into_iter().collect()
}

/// Addresses of the servers that the answers name, where we know them.
fn additionals_of(table: &Table, answers: &[Record]) -> Vec<Record> {
    let mut targets: Vec<&Name> = answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(&srv.target),
            RData::NS(ns) => Some(&ns.0),
            _ => None,
        })
        .collect();
    targets.sort_unstable();
    targets.dedup();
    let known = targets.into_iter().filter_map(|target| Some((target, table.nodes.get(&LowerName::new(target))?)));
    known
        .flat_map(|(target, node)| {
            let mut records = addresses(node, target, true, 0);
            records.extend(addresses(node, target, false, 0));
            records
        })
        .collect()
}

fn denial(table: &Table, zone: Name, code: ResponseCode) -> Reply {
    Reply {
        code,
        authoritative: true,
        answers: Vec::new(),
        authorities: vec![soa(table, zone, NEGATIVE_TTL_SECONDS)],
        additionals: Vec::new(),
    }
}

fn soa(table: &Table, zone: Name, ttl: u32) -> Record {
    // Refresh, retry and expire are for secondaries, of which there are none: customary values.
    let data = SOA::new(
        table.nameserver.clone(),
        table.hostmaster.clone(),
        table.serial,
        7_200,
        1_800,
        86_400,
        NEGATIVE_TTL_SECONDS,
    );
    Record::from_rdata(zone, ttl, RData::SOA(data))
}

fn ns(table: &Table, zone: Name) -> Record {
    Record::from_rdata(zone, INFRASTRUCTURE_TTL_SECONDS, RData::NS(NS(table.nameserver.clone())))
}
