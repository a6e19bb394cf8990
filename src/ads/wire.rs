//! Messages on the wire. Requests are read in `stream/request.rs`; responses are written by hand, since their
//! resources are encoded already: each body is copied once, into the piece that the transport sends.
//!
//! Field numbers are those of `envoy/service/discovery/v3/discovery.proto`.

use bytes::BufMut;

use super::Protocol;
use super::stream::Response;
use crate::snapshot::Resource;

/// Tags of fields with the wire type "length-delimited" (2).
const fn tag(field: u8) -> u8 {
    field << 3 | 2
}

/// Bytes of a length or a tag in base 128.
const fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn put_varint(out: &mut impl BufMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Length of a field with tag and length prefix; proto3 leaves out empty ones.
const fn field_len(len: usize) -> usize {
    if len == 0 { 0 } else { nested_len(len) }
}

/// The same of a field that is there even when empty: messages and repeated fields.
const fn nested_len(len: usize) -> usize {
    1 + varint_len(len) + len
}

fn put_field(out: &mut impl BufMut, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_nested(out, field, bytes.len());
        out.put_slice(bytes);
    }
}

fn put_nested(out: &mut impl BufMut, field: u8, len: usize) {
    out.put_u8(tag(field));
    put_varint(out, len);
}

/// `google.protobuf.Any`: type_url 1, value 2.
fn any_len(resource: &Resource) -> usize {
    field_len(resource.ty().type_url().len()) + field_len(resource.body().len())
}

fn put_any(out: &mut impl BufMut, resource: &Resource) {
    put_field(out, 1, resource.ty().type_url().as_bytes());
    put_field(out, 2, resource.body());
}

/// `envoy.service.discovery.v3.Resource`: version 1, resource 2, name 3. TTLs (rule 15), aliases and
/// resource names with parameters (rule 16) are never sent.
fn resource_len(resource: &Resource) -> usize {
    field_len(resource.version().len()) + nested_len(any_len(resource)) + field_len(resource.name().len())
}

fn put_resource(out: &mut impl BufMut, resource: &Resource) {
    put_field(out, 1, resource.version().as_bytes());
    put_nested(out, 2, any_len(resource));
    put_any(out, resource);
    put_field(out, 3, resource.name().as_bytes());
}

/// Length of the field that a response of the protocol has for a resource.
pub(super) fn nested_resource_len(protocol: Protocol, resource: &Resource) -> usize {
    match protocol {
        Protocol::Sotw => nested_len(any_len(resource)),
        Protocol::Delta => nested_len(resource_len(resource)),
    }
}

/// Writes that field.
pub(super) fn put_nested_resource(protocol: Protocol, resource: &Resource, out: &mut impl BufMut) {
    match protocol {
        Protocol::Sotw => {
            put_nested(out, 2, any_len(resource));
            put_any(out, resource);
        }
        Protocol::Delta => {
            put_nested(out, 2, resource_len(resource));
            put_resource(out, resource);
        }
    }
}

impl Response {
    /// Length of the encoded message in bytes.
    pub fn encoded_len(&self) -> usize {
        let strings = field_len(self.version.len()) + field_len(self.type_url.len()) + field_len(self.nonce.len());
        let removed: usize = self.removed.iter().map(|name| nested_len(name.len())).sum();
        strings + self.resources.encoded_len(self.protocol) + removed
    }

    /// Writes a `DiscoveryResponse` (version_info 1, resources 2, type_url 4, nonce 5) or a
    /// `DeltaDiscoveryResponse` (system_version_info 1, resources 2, type_url 4, nonce 5,
    /// removed_resources 6).
    pub fn encode(&self, out: &mut impl BufMut) {
        self.encode_head(out);
        for resource in &self.resources {
            put_nested_resource(self.protocol, resource, out);
        }
        self.encode_rest(out);
    }

    /// What comes before the resources.
    pub(super) fn encode_head(&self, out: &mut impl BufMut) {
        put_field(out, 1, self.version.as_bytes());
    }

    /// What comes after the resources.
    pub(super) fn encode_rest(&self, out: &mut impl BufMut) {
        put_field(out, 4, self.type_url.as_bytes());
        put_field(out, 5, self.nonce.as_bytes());
        for name in &self.removed {
            put_nested(out, 6, name.len());
            out.put_slice(name.as_bytes());
        }
    }
}
