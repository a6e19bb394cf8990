//! Decoders of rooms that are closed to others, for the fuzz targets (`tests/fuzz`): bytes of anybody in, plain facts
//! out. No part of the library's interface.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::Message as DnsMessage;
use hickory_server::server::Request as DnsRequest;
use prost::Message;
use serde_json::Value;
use tokio::sync::watch;
use tonic_reflection::pb::v1::ServerReflectionRequest;

use crate::agent::service::{AgentId, AssignRequest, Event};
use crate::agent::{self, proto as feedback};
use crate::app::reflection;
use crate::config::{self, ConfigError};
use crate::dns::{self, Lookup, Table};
use crate::kube::field::Invalid;
use crate::manifests::{self, tree::SyntaxError};
use crate::member::inbound::{Inbound, Step};
use crate::member::outbound::{About, Outbound};
use crate::member::wire::{Content, Unfit};
use crate::member::{self, proto as sync};
use crate::model::object::Object;
use crate::policy::Digest;
use crate::registry::{self, Reference, RegistryError};
use crate::trust::signature::{SignatureError, statement};

pub use crate::policy::answer::decided;
pub use crate::policy::bindings::lb::causeway::policy::lb as answers;

/// An object of a member, and its encoding as a member of this version would send it.
pub fn member_object(encoded: &[u8]) -> Result<Vec<u8>, Vec<Invalid>> {
    let object = member::wire::decode(encoded).map_err(faults)?;
    Ok(member::wire::encode(&object).unwrap_or_default())
}

/// An object for a member, likewise.
pub fn member_part(encoded: &[u8]) -> Result<Vec<u8>, Vec<Invalid>> {
    let (id, part) = member::parts::Parts::decode(encoded).map_err(faults)?;
    Ok(member::parts::encode(&id, &part))
}

/// An object as the primary takes it from a member that has it; `None` for kinds that no member has.
pub fn member_told(object: &Object) -> Option<Result<Object, Vec<Invalid>>> {
    let encoded = member::wire::encode(object)?;
    Some(member::wire::decode(&encoded).map_err(faults))
}

fn faults<K>(unfit: Unfit<K>) -> Vec<Invalid> {
    match unfit {
        Unfit::Invalid(_, faults) => faults,
        Unfit::Unreadable(message) => {
            vec![Invalid { field: "object".to_owned(), message, remedy: "run a member of this version".to_owned() }]
        }
    }
}

/// The primary's end of a stream: what it says to these messages of a member, of which nothing was known.
pub fn member_inbound<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, String> {
    let mut now = Instant::now();
    let (mut machine, mut said) = (Inbound::new(now), Vec::new());
    for message in messages {
        let message = sync::MemberMessage::decode(message).map_err(|error| error.to_string())?;
        now += Duration::from_millis(300);
        match machine.received(message.body, now).map_err(|violation| violation.to_string())? {
            Step::Hello(_) => machine.welcome(member::digest::Held::default()),
            Step::Take { seq, .. } => machine.taken(seq),
            Step::Synced | Step::State(_) | Step::Problems(_) | Step::Nothing => {}
        }
        while let Some(body) = machine.next(now) {
            said.push(sync::PrimaryMessage { body: Some(body) }.encode_to_vec());
        }
    }
    Ok(said)
}

/// The member's end of a stream: what it says of these objects to these messages of a primary.
pub fn member_outbound<'a>(
    objects: impl IntoIterator<Item = &'a [u8]>,
    messages: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Vec<u8>>, String> {
    let mut now = Instant::now();
    let (mut machine, mut said) = (Outbound::default(), Vec::new());
    for object in objects {
        if let Ok(object) = member::wire::decode(object) {
            machine.apply(&object);
        }
    }
    machine.complete();
    machine.opened(now);
    let mut say = |machine: &mut Outbound, now| {
        while let Some(body) = machine.next(&About::default(), now) {
            said.push(sync::MemberMessage { body: Some(body) }.encode_to_vec());
        }
    };
    say(&mut machine, now);
    for message in messages {
        let message = sync::PrimaryMessage::decode(message).map_err(|error| error.to_string())?;
        now += Duration::from_millis(300);
        machine.received(message.body, now).map_err(|violation| violation.to_string())?;
        say(&mut machine, now);
    }
    Ok(said)
}

/// The subject of an authority's certificate, by its encoding.
pub fn authority_subject(der: &[u8]) -> Option<String> {
    member::name::read(der).map(|name| format!("{name:?}"))
}

/// What an agent's messages say. The session ends with the first that breaks a rule.
pub fn agent_session<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Option<String>) {
    let now = Instant::now();
    let (mut session, mut events) = (agent::session::Session::new(AgentId(1), now), Vec::new());
    for message in messages {
        let message = match feedback::AgentMessage::decode(message) {
            Ok(message) => message,
            Err(error) => return (events, Some(error.to_string())),
        };
        match session.received(message, now) {
            Ok(agent::session::Step::Event(event)) => events.push(event),
            Ok(agent::session::Step::Hello(_) | agent::session::Step::Nothing) => {}
            Err(refused) => return (events, Some(refused.to_string())),
        }
    }
    (events, None)
}

/// The listeners of an agent's report, and the report that says the same.
pub fn agent_listeners(report: feedback::Listeners) -> Result<feedback::Listeners, String> {
    let envoy_up = report.envoy_up;
    let listeners = agent::wire::listeners_from(report.listeners).map_err(|malformed| malformed.to_string())?;
    Ok(feedback::Listeners { envoy_up, listeners: listeners.iter().map(agent::wire::listener_to).collect() })
}

/// A request for an address, as an agent reads it, and the message that asks the same.
pub fn agent_assign(assign: feedback::Assign) -> Result<(AssignRequest, feedback::ControlMessage), String> {
    let request = agent::wire::assign_from(assign).map_err(|malformed| malformed.to_string())?;
    let again = agent::wire::control_to(agent::service::Control::Assign(request.clone()));
    Ok((request, again))
}

/// What an agent keeps of its addresses, and the file that it would write of it.
pub fn agent_leases(file: &[u8]) -> Result<Vec<u8>, String> {
    let path = Path::new("addresses.json");
    let leases = agent::state::decode(path, file).map_err(|error| error.to_string())?;
    agent::state::encode(&leases).map_err(|error| error.to_string())
}

/// What the pages of an Envoy's admin interface say: `/server_info`, `/ready`, `/stats`, `/listeners` and the dump.
pub fn envoy_admin([server_info, ready, stats, listeners, dump]: [&[u8]; 5]) -> Result<String, String> {
    use agent::envoy;
    let read = || {
        let active = envoy::active_addresses(listeners)?;
        Ok(envoy::Observation {
            server: envoy::server_info(server_info)?,
            phase: envoy::phase(ready),
            counters: envoy::counters(stats)?,
            listeners: envoy::dynamic_listeners(dump, &active)?,
        })
    };
    read().map(|seen| format!("{seen:?}")).map_err(|error: envoy::ParseError| error.to_string())
}

/// Answers of a table, over TCP and as a datagram. Nothing where the bytes are no question.
pub fn dns_answers(table: &Arc<Table>, question: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let handler = dns::handler::Handler { table: watch::channel(table.clone()).1 };
    let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let datagram = DnsRequest::from_bytes(question.to_vec(), client, Protocol::Udp).ok();
    let over_udp = datagram.and_then(|request| handler.encoded(&request).ok());
    (dns::stream::answer(question.to_vec(), client, &handler), over_udp)
}

/// What a server's answer says.
pub fn dns_reply(answer: &[u8]) -> Option<Lookup> {
    DnsMessage::from_vec(answer).ok().map(|message| dns::client::read(message, true))
}

/// The documents of a JSON file; else the line, what is wrong, and what to do.
pub fn json_documents(text: &str) -> Result<Vec<Value>, (u32, String, String)> {
    let told = |error: SyntaxError| (error.line, error.message, error.remedy);
    let documents = manifests::json::parse(text).map_err(told)?;
    let value = |node| manifests::de::from_node::<Value>(node);
    documents.iter().map(value).collect::<Result<_, _>>().map_err(|error| (error.line, error.message, error.remedy))
}

/// The settings of a configuration file.
pub fn config_file(text: &str) -> Result<config::Settings, ConfigError> {
    config::file::parse(Path::new("causeway.yaml"), text)
}

/// The component of an image's manifest with its size, and how many signatures a manifest has.
pub fn image(reference: &Reference, manifest: &[u8]) -> Result<(Digest, u64, usize), RegistryError> {
    let manifest = registry::manifest::Manifest::parse(reference, manifest)?;
    let component = manifest.component(reference)?;
    Ok((component.digest, component.size, manifest.signatures(1 << 16, 16).len()))
}

/// How many signatures an image's manifest has, of those that are looked at.
pub fn image_signatures(reference: &Reference, manifest: &[u8]) -> Result<usize, RegistryError> {
    Ok(registry::manifest::Manifest::parse(reference, manifest)?.signatures(1 << 16, 16).len())
}

/// The ways of being let in that a registry offers, in words.
pub fn challenges(header: &str) -> Vec<String> {
    registry::challenge::parse(header).iter().map(|challenge| format!("{challenge:?}")).collect()
}

/// As whom a registry is asked by docker's `config.json`, without its secret.
pub fn credentials(file: &str, reference: &Reference) -> Result<Option<String>, String> {
    let found = registry::credentials::of_text(file, reference)?;
    Ok(found.map(|credentials| format!("{credentials:?}")))
}

/// Whether a payload is a statement about the image.
pub fn image_statement(manifest_digest: &str, payload: &[u8]) -> Result<(), SignatureError> {
    statement::check(manifest_digest, payload)
}

/// The answer to a reflection request.
pub fn reflected(request: &[u8]) -> Result<Vec<u8>, String> {
    let request = ServerReflectionRequest::decode(request).map_err(|error| error.to_string())?;
    let answer =
        reflection::answer(&["causeway.v1.Feedback"], request).map_err(|status| status.message().to_owned())?;
    Ok(answer.encode_to_vec())
}
