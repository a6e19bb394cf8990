//! What agents and the control plane send each other, what an agent keeps, and what it reads of its Envoy.

use causeway::agent::Rules;
use causeway::agent::proto::{AgentMessage, ControlMessage, agent_message, control_message};
use causeway::agent::service::Event;
use causeway::fuzzing;
use prost::Message;

use super::messages;

/// An agent's messages, of one stream.
pub fn agent_reports(input: &[u8]) {
    let messages = messages(input);
    let (events, refused) = fuzzing::agent_session(messages.iter().copied());
    assert!(refused.is_none_or(|refused| !refused.is_empty()));
    for event in events {
        if let Event::Listeners { envoy_up, listeners, .. } = &event {
            assert!(*envoy_up || listeners.is_empty(), "listeners of an Envoy that does not answer");
            assert!(listeners.iter().all(|listener| listener.error.len() <= 2048), "{event:?}");
        }
    }
    for message in messages.iter().filter_map(|message| AgentMessage::decode(*message).ok()) {
        let Some(agent_message::Body::Listeners(report)) = message.body else { continue };
        match fuzzing::agent_listeners(report) {
            Ok(again) => assert_eq!(fuzzing::agent_listeners(again.clone()), Ok(again)),
            Err(refused) => assert!(refused.contains('`'), "names no field: {refused}"),
        }
    }
}

/// The control plane's request for an address.
pub fn agent_requests(input: &[u8]) {
    let Ok(message) = ControlMessage::decode(input) else { return };
    let Some(control_message::Body::Assign(assign)) = message.body else { return };
    match fuzzing::agent_assign(assign) {
        Ok((request, again)) => {
            let Some(control_message::Body::Assign(again)) = again.body else { panic!("another message") };
            assert_eq!(fuzzing::agent_assign(again).map(|(request, _)| request), Ok(request));
        }
        Err(refused) => assert!(refused.contains("field `"), "names no field: {refused}"),
    }
}

/// The file of an agent's addresses, and the rules that it is given for them.
pub fn agent_state(input: &[u8]) {
    match fuzzing::agent_leases(input) {
        Ok(written) => assert_eq!(fuzzing::agent_leases(&written), Ok(written)),
        Err(refused) => assert!(refused.contains("addresses.json"), "{refused}"),
    }
    if let Ok(rules) = serde_json::from_slice::<Rules>(input) {
        let again = serde_json::to_string(&rules).map(|text| serde_json::from_str::<Rules>(&text).ok());
        assert_eq!(again.ok().flatten(), Some(rules));
    }
}

/// Pages of an Envoy's admin interface, five of them.
pub fn envoy_admin(input: &[u8]) {
    let pages = messages(input);
    let page = |number: usize| pages.get(number).copied().unwrap_or_default();
    let pages = [page(0), page(1), page(2), page(3), page(4)];
    let seen = fuzzing::envoy_admin(pages);
    assert!(seen.as_ref().is_ok_and(|seen| !seen.is_empty()) || seen.is_err_and(|refused| refused.contains('/')));
}
