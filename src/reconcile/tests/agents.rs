use std::collections::BTreeSet;

use tokio::sync::mpsc;

use super::build::*;
use crate::feedback::Report;
use crate::model::object::Family;
use crate::reconcile::Order;
use crate::reconcile::agents::Agents;
use crate::vip::{AssignRequest, Plan, Slot};

fn slot(service: &str) -> Slot {
    Slot { access: id(service), service: id(service), pod: None, family: Family::V4, node: Some("gw".into()) }
}

fn request(service: &str) -> AssignRequest {
    AssignRequest {
        slot: slot(service),
        pool: "edge".into(),
        current: None,
        requested: None,
        avoid: BTreeSet::new(),
        ports: Vec::new(),
        hostnames: Vec::new(),
    }
}

fn asking(requests: &[AssignRequest]) -> Plan {
    Plan { assign_requests: requests.iter().map(|r| ("gw".into(), r.clone())).collect(), ..Plan::default() }
}

#[test]
fn an_agent_is_asked_once_until_what_is_asked_differs_or_it_comes_anew() {
    let mut agents = Agents::default();
    let (orders, mut given) = mpsc::channel(8);
    agents.connect(1, "gw".into(), orders.clone());
    let mut tell = |agents: &mut Agents, request: AssignRequest| {
        assert_eq!(agents.tell(&asking(&[request])), (vec![], true));
        given.try_recv().ok()
    };
    assert_eq!(tell(&mut agents, request("a")), Some(Order::Assign(Box::new(request("a")))));
    assert_eq!(tell(&mut agents, request("a")), None);
    let held = AssignRequest { current: Some(ip("240.0.0.1")), ..request("a") };
    assert_eq!(tell(&mut agents, held.clone()), Some(Order::Assign(Box::new(held.clone()))));
    assert_eq!(agents.gone(1), Some("gw".into()));
    assert_eq!(tell(&mut agents, held.clone()), None);
    agents.connect(2, "gw".into(), orders.clone());
    assert!(tell(&mut agents, held).is_some());
}

#[test]
fn what_finds_no_room_is_told_later() {
    let mut agents = Agents::default();
    let (orders, mut given) = mpsc::channel(1);
    agents.connect(1, "gw".into(), orders);
    let plan = asking(&[request("a"), request("b")]);
    assert!(!agents.tell(&plan).1);
    assert_eq!(given.try_recv().unwrap(), Order::Assign(Box::new(request("a"))));
    assert!(agents.tell(&plan).1);
    assert_eq!(given.try_recv().unwrap(), Order::Assign(Box::new(request("b"))));
    // Nobody reads any more: waiting for room would be in vain.
    drop(given);
    assert!(agents.tell(&asking(&[request("c")])).1);
}

#[test]
fn only_the_newest_connection_of_an_agent_counts() {
    let mut agents = Agents::default();
    let ((old, mut of_old), (new, mut of_new)) = (mpsc::channel(8), mpsc::channel(8));
    agents.connect(1, "gw".into(), old);
    agents.connect(2, "gw".into(), new);
    assert_eq!((agents.node(1), agents.node(2)), (None, Some(&"gw".into())));
    agents.tell(&asking(&[request("a")]));
    assert!(of_old.try_recv().is_err() && of_new.try_recv().is_ok());
    assert_eq!(agents.gone(1), Some("gw".into()));
    assert_eq!(agents.node(2), Some(&"gw".into()));
}

#[test]
fn a_release_that_was_told_counts_as_done() {
    let mut agents = Agents::default();
    let (orders, mut given) = mpsc::channel(8);
    agents.connect(1, "gw".into(), orders);
    let address = ip("240.0.0.1");
    let releases = vec![("gw".into(), slot("a"), address), ("other".into(), slot("a"), address)];
    let (reports, is_all) = agents.tell(&Plan { releases, ..Plan::default() });
    assert_eq!(reports, [Report::Released { node: "gw".into(), slot: slot("a"), address }]);
    assert!(is_all);
    assert_eq!(given.try_recv().unwrap(), Order::Release { slot: slot("a"), address });
}
