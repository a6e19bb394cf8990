//! The names of the Multi-Cluster Services API's schema, by its specification's sections.

use hickory_server::proto::op::{LowerQuery, Query, ResponseCode};
use hickory_server::proto::rr::{Name, RData, RecordType};

use super::answer::answer;
use super::*;

const HEADLESS: &str = "db.shop.svc.clusterset.local";

fn record(name: &str, address: &str, ports: &[(&str, u16)]) -> Record {
    let ports = ports.iter().map(|(name, port)| ((*name).into(), *port)).collect();
    Record { name: name.into(), address: address.parse().unwrap(), ttl: 5, ports }
}

fn host(port_name: &str, port: u16, host: &str) -> Host {
    let host = format!("{host}.{HEADLESS}").into();
    Host { name: HEADLESS.into(), port_name: port_name.into(), port, host, ttl: 5 }
}

/// A service with a VIP, and a headless one of two pods of the same name in two clusters.
fn table() -> Table {
    let mut records =
        vec![record("web.shop.svc.clusterset.local", "240.11.0.7", &[("http", 80), ("dns", 53), ("", 9)])];
    let mut hosts = Vec::new();
    for (cluster, address) in [("east", "10.0.0.1"), ("west", "10.1.0.1")] {
        records.push(record(HEADLESS, address, &[]));
        records.push(record(&format!("db-0.{cluster}.{HEADLESS}"), address, &[("sql", 5432)]));
        hosts.push(host("sql", 5432, &format!("db-0.{cluster}")));
        hosts.push(host("", 9999, &format!("db-0.{cluster}")));
    }
    Table::build_from(TableInput { records, hosts, ..TableInput::default() })
}

fn ask(table: &Table, name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let query = LowerQuery::query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    let reply = answer(table, &query, 0);
    let show = |data: &RData| match data {
        RData::SRV(srv) => format!("{} {}", srv.port, srv.target),
        other => other.to_string(),
    };
    (reply.code, reply.answers.iter().map(|record| show(&record.data)).collect())
}

fn there(of: &[&str]) -> (ResponseCode, Vec<String>) {
    (ResponseCode::NoError, of.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn the_schemas_version_is_told() {
    assert_eq!(ask(&table(), "dns-version.clusterset.local", RecordType::TXT), there(&["1.0.0"]));
    assert_eq!(ask(&table(), "dns-version.clusterset.local", RecordType::A), there(&[]));
}

#[test]
fn a_service_with_an_address_has_a_and_srv_records() {
    let (table, name) = (table(), "web.shop.svc.clusterset.local");
    assert_eq!(ask(&table, name, RecordType::A), there(&["240.11.0.7"]));
    let target = "web.shop.svc.clusterset.local.";
    assert_eq!(ask(&table, &format!("_http._tcp.{name}"), RecordType::SRV), there(&[&format!("80 {target}")]));
    // By the name alone, all named ports.
    let all = [format!("53 {target}"), format!("80 {target}")];
    assert_eq!(ask(&table, name, RecordType::SRV), (ResponseCode::NoError, all.into()));
}

#[test]
fn a_headless_service_is_answered_with_its_pods() {
    let table = table();
    assert_eq!(ask(&table, HEADLESS, RecordType::A), there(&["10.0.0.1", "10.1.0.1"]));
    let both = [format!("5432 db-0.east.{HEADLESS}."), format!("5432 db-0.west.{HEADLESS}.")];
    assert_eq!(
        ask(&table, &format!("_sql._tcp.{HEADLESS}"), RecordType::SRV),
        (ResponseCode::NoError, both.clone().into())
    );
    assert_eq!(ask(&table, HEADLESS, RecordType::SRV), (ResponseCode::NoError, both.into()));
}

#[test]
fn a_pod_has_a_name_by_its_host_name_and_its_cluster() {
    let table = table();
    let west = format!("db-0.west.{HEADLESS}");
    assert_eq!(ask(&table, &west, RecordType::A), there(&["10.1.0.1"]));
    assert_eq!(ask(&table, &west, RecordType::AAAA), there(&[]));
    assert_eq!(ask(&table, &format!("_sql._tcp.{west}"), RecordType::SRV), there(&[&format!("5432 {west}.")]));
    assert_eq!(ask(&table, &format!("db-1.west.{HEADLESS}"), RecordType::A), (ResponseCode::NXDomain, Vec::new()));
}

#[test]
fn a_headless_service_without_ready_pods_has_no_name() {
    let table = Table::build_from(TableInput::default());
    assert_eq!(ask(&table, HEADLESS, RecordType::A), (ResponseCode::NXDomain, Vec::new()));
}

#[test]
fn a_host_of_a_bad_name_rejects_itself_alone() {
    let long = "x".repeat(64);
    let hosts = vec![host("sql", 1, &long), host("sql", 2, "db-0.east")];
    let table = Table::build_from(TableInput { hosts, ..TableInput::default() });
    assert_eq!(table.rejected().len(), 1, "{:?}", table.rejected());
    assert_eq!(ask(&table, HEADLESS, RecordType::SRV), there(&[&format!("2 db-0.east.{HEADLESS}.")]));
}
