//! Reads responses as they arrive, and keeps nothing of them but names, versions and the nonce.
//!
//! Field numbers are those of `envoy/service/discovery/v3/discovery.proto` and `google/protobuf/any.proto`. The name is
//! field 1 of each of the four types that are served, so that the state-of-the-world protocol, which has no names
//! beside the bodies, needs no decoding either.

use crate::ads::Protocol;
use crate::snapshot::ResourceType;

/// The longest text that is read: names and error texts are far below, bodies are skipped.
const MAX_TEXT: usize = 64 * 1024;

/// Bytes before a message in gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A response breaks its own format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No compression was asked for.
    #[error("it is compressed")]
    Compressed,
    /// Groups, or what no version of protobuf has.
    #[error("wire type {0} is not known")]
    WireType(u8),
    /// A number of more than ten bytes.
    #[error("a number does not end")]
    Varint,
    /// A field is longer than what it is in.
    #[error("a field is longer than the message that it is in")]
    TooLong,
    /// A text is longer than is read.
    #[error("a text has {0} bytes")]
    Text(usize),
}

/// Takes what is found, in the order of the bytes.
pub trait Sink {
    /// A resource of the response that is being read. The version is empty in the state-of-the-world protocol.
    fn resource(&mut self, ty: Option<ResourceType>, name: &[u8], version: &[u8]);
    /// The response ends here.
    fn response(&mut self, response: &Summary);
}

/// What is known of a response beside its resources.
#[derive(Debug, Default)]
pub struct Summary {
    /// The type URL.
    pub type_url: Vec<u8>,
    /// The version of the whole.
    pub version: Vec<u8>,
    /// The nonce.
    pub nonce: Vec<u8>,
    /// Names that the delta protocol removes.
    pub removed: Vec<Vec<u8>>,
    /// How many resources it holds.
    pub resources: usize,
    /// Bytes of the message.
    pub bytes: usize,
}

impl Summary {
    fn clear(&mut self) {
        self.type_url.clear();
        self.version.clear();
        self.nonce.clear();
        self.removed.clear();
        self.resources = 0;
        self.bytes = 0;
    }
}

/// What is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Response,
    Resource,
    Any,
    Body,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    kind: Kind,
    end: u64,
}

/// Reads the responses of one stream.
#[derive(Debug)]
pub struct Scanner {
    protocol: Protocol,
    /// Bytes of the stream that were read.
    at: u64,
    /// Where reading goes on; what lies before is skipped.
    resume: u64,
    levels: Vec<Level>,
    /// What could not be read yet, since its end is missing.
    partial: Vec<u8>,
    summary: Summary,
    ty: Option<ResourceType>,
    name: Vec<u8>,
    version: Vec<u8>,
}

impl Scanner {
    /// A reader at the beginning of a stream.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            at: 0,
            resume: 0,
            levels: Vec::with_capacity(4),
            partial: Vec::new(),
            summary: Summary::default(),
            ty: None,
            name: Vec::new(),
            version: Vec::new(),
        }
    }

    /// Reads the next bytes.
    pub fn feed(&mut self, chunk: &[u8], sink: &mut impl Sink) -> Result<(), Malformed> {
        if self.partial.is_empty() {
            let read = self.read(chunk, sink)?;
            self.partial.extend_from_slice(&chunk[read..]);
            return Ok(());
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(chunk);
        let read = self.read(&whole, sink)?;
        whole.drain(..read);
        self.partial = whole;
        Ok(())
    }

    /// How many of these bytes were used up.
    fn read(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<usize, Malformed> {
        let start = self.at;
        loop {
            let rest = &bytes[(self.at - start) as usize..];
            if self.resume > self.at {
                let skipped = (self.resume - self.at).min(rest.len() as u64);
                self.at += skipped;
                if self.resume > self.at {
                    return Ok(bytes.len());
                }
                continue;
            }
            if self.close(sink) {
                continue;
            }
            let used = match self.levels.last().copied() {
                None => self.prefix(rest)?,
                Some(level) => self.field(level, rest)?,
            };
            match used {
                Some(used) => self.at += used as u64,
                None => return Ok((self.at - start) as usize),
            }
        }
    }

    /// Ends the innermost level if its end is reached.
    fn close(&mut self, sink: &mut impl Sink) -> bool {
        let Some(level) = self.levels.pop_if(|level| level.end <= self.at) else { return false };
        let is_resource = match self.protocol {
            Protocol::Delta => level.kind == Kind::Resource,
            Protocol::Sotw => level.kind == Kind::Any,
        };
        if is_resource {
            self.summary.resources += 1;
            sink.resource(self.ty, &self.name, &self.version);
        }
        if level.kind == Kind::Response {
            sink.response(&self.summary);
            self.summary.clear();
        }
        true
    }

    fn prefix(&mut self, rest: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some((prefix, _)) = rest.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            return Err(Malformed::Compressed);
        }
        let length = u32::from_be_bytes(length);
        self.summary.bytes = length as usize;
        self.levels.push(Level { kind: Kind::Response, end: self.at + PREFIX as u64 + u64::from(length) });
        Ok(Some(PREFIX))
    }

    /// Reads the head of a field, and the whole of it when it is a text.
    fn field(&mut self, level: Level, rest: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some((key, tag_len)) = varint(rest)? else { return Ok(None) };
        let (number, wire_type) = (key >> 3, (key & 7) as u8);
        let (length, head) = match wire_type {
            0 => match varint(&rest[tag_len..])? {
                Some((_, len)) => (0, tag_len + len),
                None => return Ok(None),
            },
            1 => (8, tag_len),
            5 => (4, tag_len),
            2 => match varint(&rest[tag_len..])? {
                Some((length, len)) => (length, tag_len + len),
                None => return Ok(None),
            },
            other => return Err(Malformed::WireType(other)),
        };
        let begin = self.at + head as u64;
        let end = begin.checked_add(length).filter(|end| *end <= level.end).ok_or(Malformed::TooLong)?;
        if wire_type != 2 {
            self.resume = end;
            return Ok(Some(head));
        }
        if let Some(kind) = self.nested(level.kind, number) {
            self.levels.push(Level { kind, end });
            return Ok(Some(head));
        }
        if !self.is_text(level.kind, number) {
            self.resume = end;
            return Ok(Some(head));
        }
        let length = length as usize;
        if length > MAX_TEXT {
            return Err(Malformed::Text(length));
        }
        let Some(text) = rest.get(head..head + length) else { return Ok(None) };
        self.text(level.kind, number, text);
        if level.kind == Kind::Body {
            // The name was all that is wanted of it.
            self.resume = level.end;
        }
        Ok(Some(head + length))
    }

    fn nested(&mut self, kind: Kind, number: u64) -> Option<Kind> {
        let nested = match (kind, number, self.protocol) {
            (Kind::Response, 2, Protocol::Delta) => Kind::Resource,
            (Kind::Response, 2, Protocol::Sotw) | (Kind::Resource, 2, _) => Kind::Any,
            (Kind::Any, 2, Protocol::Sotw) => Kind::Body,
            _ => return None,
        };
        if kind == Kind::Response {
            self.ty = None;
            self.name.clear();
            self.version.clear();
        }
        Some(nested)
    }

    fn is_text(&self, kind: Kind, number: u64) -> bool {
        match kind {
            Kind::Response => matches!(number, 1 | 4 | 5) || (number == 6 && self.protocol == Protocol::Delta),
            Kind::Resource => matches!(number, 1 | 3),
            Kind::Any | Kind::Body => number == 1,
        }
    }

    fn text(&mut self, kind: Kind, number: u64, text: &[u8]) {
        let place = match (kind, number) {
            (Kind::Response, 1) => &mut self.summary.version,
            (Kind::Response, 4) => &mut self.summary.type_url,
            (Kind::Response, 5) => &mut self.summary.nonce,
            (Kind::Response, _) => return self.summary.removed.push(text.to_vec()),
            (Kind::Resource, 1) => &mut self.version,
            (Kind::Any, _) => {
                self.ty = resource_type(text);
                return;
            }
            (Kind::Resource | Kind::Body, _) => &mut self.name,
        };
        place.clear();
        place.extend_from_slice(text);
    }
}

/// The type of a type URL as bytes.
pub fn resource_type(url: &[u8]) -> Option<ResourceType> {
    ResourceType::ALL.into_iter().find(|ty| ty.type_url().as_bytes() == url)
}

/// A number and its length, or nothing when its end is missing.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Malformed> {
    let mut value = 0;
    for (n, byte) in bytes.iter().enumerate() {
        if n == 10 {
            return Err(Malformed::Varint);
        }
        value |= u64::from(byte & 0x7f) << (7 * n as u32).min(63);
        if byte & 0x80 == 0 {
            return Ok(Some((value, n + 1)));
        }
    }
    Ok(None)
}
