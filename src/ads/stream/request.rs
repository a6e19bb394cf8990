//! Requests as the machine reads them.

use prost013::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost013::{DecodeError, Message};
use xds_api::pb::envoy::config::core::v3::Node;
use xds_api::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use xds_api::pb::google::rpc::Status;

use crate::ads::Protocol;

/// A request of either protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// State of the world.
    Sotw(DiscoveryRequest),
    /// Incremental.
    Delta(DeltaRequest),
}

impl Request {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is none of the protocol's.
    pub fn decode(protocol: Protocol, message: &[u8]) -> Result<Self, DecodeError> {
        match protocol {
            Protocol::Sotw => DiscoveryRequest::decode(message).map(Request::Sotw),
            Protocol::Delta => DeltaRequest::decode(message).map(Request::Delta),
        }
    }

    /// The node, which the first request must carry.
    pub fn node(&self) -> Option<&Node> {
        match self {
            Request::Sotw(request) => request.node.as_ref(),
            Request::Delta(request) => request.node.as_ref(),
        }
    }

    pub(super) fn type_url(&self) -> &str {
        match self {
            Request::Sotw(request) => &request.type_url,
            Request::Delta(request) => &request.type_url,
        }
    }
}

impl From<DiscoveryRequest> for Request {
    fn from(request: DiscoveryRequest) -> Self {
        Request::Sotw(request)
    }
}

impl From<DeltaDiscoveryRequest> for Request {
    fn from(request: DeltaDiscoveryRequest) -> Self {
        Request::Delta(request.into())
    }
}

/// A `DeltaDiscoveryRequest`. The first ones of a client that comes back hold thousands of names and versions, so these
/// lie one behind the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeltaRequest {
    /// The node.
    pub node: Option<Node>,
    /// The type's URL.
    pub type_url: String,
    /// Names that are wanted.
    pub subscribe: Texts,
    /// Names that are wanted no longer.
    pub unsubscribe: Texts,
    /// What the client has, in a first request.
    pub initial: Versions,
    /// The response that is answered.
    pub response_nonce: String,
    /// Why it is refused.
    pub error_detail: Option<Status>,
}

/// Field numbers of `envoy/service/discovery/v3/discovery.proto`.
const SUBSCRIBE: u32 = 3;
const UNSUBSCRIBE: u32 = 4;
const INITIAL: u32 = 5;

impl DeltaRequest {
    /// Reads a message: the texts here, the rest as prost does.
    ///
    /// # Errors
    /// Where prost's are.
    pub fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let (mut subscribe, mut unsubscribe) = (Texts::default(), Texts::default());
        let (mut initial, mut others) = (Versions::default(), Vec::new());
        let mut left = message;
        while !left.is_empty() {
            let field = left;
            let (number, wire_type) = decode_key(&mut left)?;
            match (number, wire_type) {
                (SUBSCRIBE, WireType::LengthDelimited) => subscribe.push(text(&mut left)?),
                (UNSUBSCRIBE, WireType::LengthDelimited) => unsubscribe.push(text(&mut left)?),
                // As prost, which does not look at the wire type of a map.
                (INITIAL, _) => {
                    let (name, version) = entry(delimited(&mut left)?)?;
                    initial.push(name, version);
                }
                _ => {
                    skip_field(wire_type, number, &mut left, DecodeContext::default())?;
                    others.extend_from_slice(&field[..field.len() - left.len()]);
                }
            }
        }
        initial.sort();
        let rest = DeltaDiscoveryRequest::decode(&*others)?;
        Ok(Self { subscribe, unsubscribe, initial, ..Self::from(rest) })
    }
}

fn delimited<'a>(left: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let length = usize::try_from(decode_varint(left)?).unwrap_or(usize::MAX);
    let (field, rest) = left.split_at_checked(length).ok_or_else(|| DecodeError::new("buffer underflow"))?;
    *left = rest;
    Ok(field)
}

fn text<'a>(left: &mut &'a [u8]) -> Result<&'a str, DecodeError> {
    str::from_utf8(delimited(left)?).map_err(|_| DecodeError::new("invalid string value: data is not UTF-8 encoded"))
}

/// A map's entry: key 1, value 2, each empty where it is left out.
fn entry(mut left: &[u8]) -> Result<(&str, &str), DecodeError> {
    let (mut name, mut version) = ("", "");
    while !left.is_empty() {
        match decode_key(&mut left)? {
            (1, WireType::LengthDelimited) => name = text(&mut left)?,
            (2, WireType::LengthDelimited) => version = text(&mut left)?,
            (1 | 2, _) => return Err(DecodeError::new("invalid wire type")),
            (number, wire_type) => skip_field(wire_type, number, &mut left, DecodeContext::default())?,
        }
    }
    Ok((name, version))
}

impl From<DeltaDiscoveryRequest> for DeltaRequest {
    fn from(request: DeltaDiscoveryRequest) -> Self {
        let mut initial = Versions::default();
        for (name, version) in &request.initial_resource_versions {
            initial.push(name, version);
        }
        initial.sort();
        Self {
            node: request.node,
            type_url: request.type_url,
            subscribe: request.resource_names_subscribe.iter().map(String::as_str).collect(),
            unsubscribe: request.resource_names_unsubscribe.iter().map(String::as_str).collect(),
            initial,
            response_nonce: request.response_nonce,
            error_detail: request.error_detail,
        }
    }
}

/// Texts one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    all: String,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.all.push_str(text);
        self.ends.push(self.all.len());
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// In the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, end)| self.all.get(start..*end))
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut out = Self::default();
        texts.into_iter().for_each(|text| out.push(text));
        out
    }
}

/// Versions of resources by their names, in the order of these.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    all: String,
    spans: Vec<Span>,
}

/// Where a name begins and ends, and its version behind it.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    middle: usize,
    end: usize,
}

impl Versions {
    fn push(&mut self, name: &str, version: &str) {
        let start = self.all.len();
        self.all.push_str(name);
        let middle = self.all.len();
        self.all.push_str(version);
        self.spans.push(Span { start, middle, end: self.all.len() });
    }

    /// Puts them in order. Of those of one name the last one counts, as in any map of a message.
    fn sort(&mut self) {
        let Self { all, spans } = self;
        let name = |span: &Span| all.get(span.start..span.middle).unwrap_or_default();
        if spans.is_sorted_by(|a, b| name(a) < name(b)) {
            return;
        }
        spans.sort_by(|a, b| name(a).cmp(name(b)));
        let mut last: Option<Span> = None;
        spans.reverse();
        spans.retain(|span| last.replace(*span).is_none_or(|last| name(&last) != name(span)));
        spans.reverse();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// All names with their versions, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.len()).map(|at| self.at(at))
    }

    fn at(&self, at: usize) -> (&str, &str) {
        let text = |start, end| self.all.get(start..end).unwrap_or_default();
        self.spans.get(at).map_or(("", ""), |span| (text(span.start, span.middle), text(span.middle, span.end)))
    }

    /// The version of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.walk().get(name)
    }

    /// Looks many names up, which is cheap where they come in their order.
    pub fn walk(&self) -> VersionWalk<'_> {
        VersionWalk { versions: self, next: 0 }
    }
}

impl PartialEq for Versions {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// See [`Versions::walk`].
pub struct VersionWalk<'a> {
    versions: &'a Versions,
    next: usize,
}

impl<'a> VersionWalk<'a> {
    /// The version of a name.
    pub fn get(&mut self, name: &str) -> Option<&'a str> {
        let versions = self.versions;
        if self.next < versions.len() {
            let (next, version) = versions.at(self.next);
            if next == name {
                self.next += 1;
                return Some(version);
            }
        }
        let found = versions.spans.binary_search_by(|span| {
            let other = versions.all.get(span.start..span.middle).unwrap_or_default();
            other.cmp(name)
        });
        self.next = found.map_or_else(|at| at, |at| at + 1);
        found.ok().map(|at| versions.at(at).1)
    }
}
