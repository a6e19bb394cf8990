use super::build::*;
use crate::model::object::{Family, Protocol, Selector};
use crate::reconcile::from_row;
use crate::reconcile::ledger::to_stored;
use crate::store::{LedgerChange as Stored, LedgerRow};
use crate::vip::{LedgerChange, Phase, Slot, Vip, VipPort};

fn vip(address: &str, pod: Option<&str>, node: Option<&str>, phase: Phase) -> Vip {
    let address = ip(address);
    let slot = Slot {
        access: id("a|b"),
        service: id("web"),
        pod: pod.map(Into::into),
        family: Family::of(address),
        node: node.map(Into::into),
    };
    Vip {
        address,
        pool: "edge".into(),
        phase,
        ports: vec![VipPort { port: port(Protocol::Grpc), established: true }],
        ttl_seconds: 7,
        hostnames: names(&["web.example.com"]),
        gateways: Selector { match_labels: [("tier".into(), "edge".into())].into(), ..Selector::default() },
        assigned_by: slot.node.clone(),
        slot,
        allocated_at: 10,
        changed_at: 20,
    }
}

fn row(vip: &Vip) -> LedgerRow {
    match to_stored(&[LedgerChange::Insert(vip.clone())]).unwrap().remove(0) {
        Stored::Put(row) => row,
        Stored::Delete(_) => panic!("an insertion is no deletion"),
    }
}

#[test]
fn every_row_leads_back_to_its_vip() {
    let since = 15;
    let phases = [Phase::Held, Phase::Unpublishing { since }, Phase::Draining { since }, Phase::Removing { since }];
    for address in ["240.0.0.1", "fd00::1"] {
        for pod in [None, Some("web-0.east")] {
            for node in [None, Some("gw|1/2")] {
                for phase in phases {
                    let vip = vip(address, pod, node, phase);
                    assert_eq!(from_row(&row(&vip)).unwrap(), vip);
                }
            }
        }
    }
}

#[test]
fn changes_are_stored_in_their_order() {
    let vip = vip("240.0.0.1", None, None, Phase::Held);
    let changes = [LedgerChange::Delete(ip("240.0.0.2")), LedgerChange::Update(vip.clone())];
    assert_eq!(to_stored(&changes).unwrap(), [Stored::Delete(ip("240.0.0.2")), Stored::Put(row(&vip))]);
}

#[test]
fn a_row_that_makes_no_sense_is_refused_with_its_address_and_reason() {
    let good = row(&vip("240.0.0.1", None, None, Phase::Held));
    let refused = |row: LedgerRow, reason: &str| {
        let error = from_row(&row).unwrap_err().to_string();
        assert!(error.contains(&row.address.to_string()) && error.contains(reason), "{error}");
    };
    refused(LedgerRow { phase: "Lost".to_owned(), ..good.clone() }, "`Lost`");
    refused(LedgerRow { slot: "what".to_owned(), ..good.clone() }, "slot");
    refused(LedgerRow { ports: serde_json::json!([]), ..good.clone() }, "ports");
    refused(LedgerRow { address: ip("fd00::1"), ..good }, "another family");
}
