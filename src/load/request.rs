//! Requests, written by hand: a fleet sends one for each response, and most of them are 75 bytes.
//!
//! Field numbers are those of `envoy/service/discovery/v3/discovery.proto`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ads::Protocol;
use crate::snapshot::ResourceType;

/// The code of a refusal, as Envoy says it: `INTERNAL`.
const REFUSED: u8 = 13;

/// A request that is being written.
pub struct Writer {
    protocol: Protocol,
    out: BytesMut,
}

impl Writer {
    /// Begins a request.
    pub fn new(protocol: Protocol, ty: ResourceType) -> Self {
        let mut out = BytesMut::with_capacity(160);
        // Whether it is compressed, and the length, which is known at the end.
        out.put_bytes(0, 5);
        let mut writer = Self { protocol, out };
        writer.field(writer.number(2, 4), ty.type_url().as_bytes());
        writer
    }

    fn number(&self, delta: u8, sotw: u8) -> u8 {
        match self.protocol {
            Protocol::Delta => delta,
            Protocol::Sotw => sotw,
        }
    }

    fn field(&mut self, number: u8, bytes: &[u8]) {
        put_field(&mut self.out, number, bytes);
    }

    /// The node, encoded.
    pub fn node(&mut self, node: &[u8]) {
        self.field(self.number(1, 2), node);
    }

    /// The nonce of the response that this answers.
    pub fn nonce(&mut self, nonce: &[u8]) {
        self.field(self.number(6, 5), nonce);
    }

    /// State of the world only: the version that was accepted last.
    pub fn version(&mut self, version: &[u8]) {
        if !version.is_empty() {
            self.field(1, version);
        }
    }

    /// Delta: one name more; state of the world: one of all names.
    pub fn name(&mut self, name: &str) {
        self.field(3, name.as_bytes());
    }

    /// Delta only: one name less.
    pub fn unsubscribe(&mut self, name: &str) {
        self.field(4, name.as_bytes());
    }

    /// Delta only: a resource that the client has from an earlier stream.
    pub fn initial_version(&mut self, name: &str, version: &str) {
        let mut entry = Vec::with_capacity(name.len() + version.len() + 4);
        put_field(&mut entry, 1, name.as_bytes());
        put_field(&mut entry, 2, version.as_bytes());
        self.field(5, &entry);
    }

    /// The response is refused.
    pub fn error(&mut self, message: &str) {
        let mut status = vec![1 << 3, REFUSED];
        put_field(&mut status, 2, message.as_bytes());
        self.field(self.number(7, 6), &status);
    }

    /// The message with its length before it.
    pub fn finish(mut self) -> Bytes {
        let length = u32::try_from(self.out.len() - 5).unwrap_or(u32::MAX);
        self.out[1..5].copy_from_slice(&length.to_be_bytes());
        self.out.freeze()
    }
}

fn put_field(out: &mut impl BufMut, number: u8, bytes: &[u8]) {
    out.put_u8(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
    out.put_slice(bytes);
}
