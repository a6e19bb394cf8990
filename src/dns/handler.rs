//! Requests as hickory hands them over: checks of the message, and cutting of the answer to size.

use std::sync::Arc;

use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::ProtoError;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::sync::watch;

use super::MAX_UDP_PAYLOAD;
use super::answer::{Reply, answer};
use super::table::Table;

/// Without EDNS, RFC 1035, section 4.2.1, allows no more; and no EDNS may allow less (RFC 6891).
const LEAST_UDP_PAYLOAD: u16 = 512;
/// The only version of EDNS that there is.
const EDNS_VERSION: u8 = 0;

/// Answers requests from the table that is in the channel when they come.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) table: watch::Receiver<Arc<Table>>,
}

/// An answer, cut to the size that the client takes.
struct Ready {
    metadata: Metadata,
    reply: Reply,
    edns: Option<Edns>,
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let Ready { metadata, reply, edns } = self.ready(request);
        let builder = builder(request, edns.as_ref());
        let response = builder.build(metadata, &reply.answers, &reply.authorities, [], &reply.additionals);
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                // The client went away, or its connection broke; there is nobody to tell.
                tracing::debug!(%error, src = %request.src(), "a DNS answer could not be sent");
                failed(request)
            }
        }
    }
}

impl Handler {
    /// The answer as bytes, for a stream.
    pub(crate) fn encoded(&self, request: &Request) -> Result<Vec<u8>, ProtoError> {
        let Ready { metadata, reply, edns } = self.ready(request);
        let builder = builder(request, edns.as_ref());
        let response = builder.build(metadata, &reply.answers, &reply.authorities, [], &reply.additionals);
        let mut bytes = Vec::with_capacity(usize::from(LEAST_UDP_PAYLOAD));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::MAX);
        response.destructive_emit(&mut encoder)?;
        Ok(bytes)
    }

    fn ready(&self, request: &Request) -> Ready {
        let edns = request.edns.as_ref().map(answered_edns);
        let mut reply = self.reply(request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.truncation = request.protocol() == Protocol::Udp && cut(&mut reply, request, edns.as_ref());
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        // Nothing here is signed or recursive, so neither bit can be true.
        metadata.recursion_available = false;
        metadata.authentic_data = false;
        Ready { metadata, reply, edns }
    }

    fn reply(&self, request: &Request) -> Reply {
        if request.edns.as_ref().is_some_and(|edns| edns.version() > EDNS_VERSION) {
            return Reply::error(ResponseCode::BADVERS);
        }
        // Neither updates nor transfers nor notices are for us.
        if request.metadata.op_code != OpCode::Query {
            return Reply::error(ResponseCode::NotImp);
        }
        // RFC 9619: a query has exactly one question.
        let [query] = request.queries.queries() else {
            return Reply::error(ResponseCode::FormErr);
        };
        // Taken out of the channel at once, so that nothing waits for the sender or holds it up.
        let table = self.table.borrow().clone();
        // Message ids are random, which is all that turning the order needs.
        answer(&table, query, request.metadata.id)
    }
}

fn builder<'q>(request: &'q Request, edns: Option<&'q Edns>) -> MessageResponseBuilder<'q> {
    let mut builder = MessageResponseBuilder::from_message_request(request);
    if let Some(edns) = edns {
        builder.edns(edns);
    }
    builder
}

/// The EDNS part of the answer. hickory takes the limit for a UDP answer from its payload size.
fn answered_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_version(EDNS_VERSION);
    edns.set_max_payload(asked.max_payload().clamp(LEAST_UDP_PAYLOAD, MAX_UDP_PAYLOAD));
    edns.set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}

/// Makes the answer fit into a datagram and says whether it had to be truncated. What is merely
/// helpful goes first, without being missed (RFC 2181, section 9); when the answer itself does not
/// fit, none of it is sent: half a record set is of no use, and the OPT record has to have its place.
fn cut(reply: &mut Reply, request: &Request, edns: Option<&Edns>) -> bool {
    let limit = usize::from(edns.map_or(LEAST_UDP_PAYLOAD, Edns::max_payload));
    if size(reply, request, edns).is_some_and(|size| size <= limit) {
        return false;
    }
    reply.additionals.clear();
    if size(reply, request, edns).is_some_and(|size| size <= limit) {
        return false;
    }
    reply.answers.clear();
    reply.authorities.clear();
    true
}

/// The encoded size in bytes; `None` where it cannot be encoded, as it is above 64 KiB.
fn size(reply: &Reply, request: &Request, edns: Option<&Edns>) -> Option<usize> {
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.add_queries(request.queries.queries().iter().map(|query| query.original().clone()));
    message.answers.clone_from(&reply.answers);
    message.authorities.clone_from(&reply.authorities);
    message.additionals.clone_from(&reply.additionals);
    message.edns = edns.cloned();
    message.to_vec().ok().map(|bytes| bytes.len())
}

/// What is logged of a request whose answer was not sent.
fn failed(request: &Request) -> ResponseInfo {
    let mut metadata = Metadata::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    metadata.response_code = ResponseCode::ServFail;
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}
