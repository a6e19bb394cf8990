//! Messages as JSON for people and for Envoy's own configuration files: the canonical mapping of
//! protobuf, fields named as in Envoy's documentation, every `Any` expanded.

use std::sync::LazyLock;

use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, OneofDescriptorProto};
use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

/// A message cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The descriptors that are built in do not fit together.
    #[error("the built-in descriptors cannot be read: {0}")]
    Descriptors(&'static DescriptorError),
    /// No descriptor of this type is built in.
    #[error("the type {0} is not known")]
    UnknownType(String),
    /// The bytes are not a message of the type.
    #[error("not a {type_url}: {source}")]
    Decode {
        /// The type.
        type_url: String,
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// The message has something that JSON cannot hold, or an `Any` of a type that is not known.
    #[error("a {type_url} cannot be shown: {source}")]
    Encode {
        /// The type.
        type_url: String,
        /// What the encoder said.
        source: serde_json::Error,
    },
}

/// Shows an encoded message. `type_url` is as in an `Any`; what follows its last `/` counts.
///
/// # Errors
/// When the type, or that of an `Any` within, is not known, or the bytes are not such a message.
pub fn json(type_url: &str, bytes: &[u8]) -> Result<Value, JsonError> {
    let pool = POOL.as_ref().map_err(JsonError::Descriptors)?;
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    let descriptor = pool.get_message_by_name(name).ok_or_else(|| JsonError::UnknownType(type_url.to_owned()))?;
    let message = DynamicMessage::decode(descriptor, bytes)
        .map_err(|source| JsonError::Decode { type_url: type_url.to_owned(), source })?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|source| JsonError::Encode { type_url: type_url.to_owned(), source })
}

/// The definitions of all types that can be shown.
///
/// # Errors
/// Those that are built in do not fit together.
pub fn descriptors() -> Result<&'static DescriptorPool, &'static DescriptorError> {
    POOL.as_ref()
}

/// All of xds-api's types, and the few extensions that it lacks.
pub(super) static POOL: LazyLock<Result<DescriptorPool, DescriptorError>> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(xds_api::FILE_DESCRIPTOR_SET)?;
    pool.add_file_descriptor_protos([tcp_proxy(), http_protocol_options(), previous_hosts()])?;
    Ok(pool)
});

// The descriptors below have just the fields that `any` sets, with the names and numbers that
// envoy-types has for them. A golden test fails when one is missing.

fn tcp_proxy() -> FileDescriptorProto {
    let fields = vec![
        field("stat_prefix", 1, Kind::Text),
        field("cluster", 2, Kind::Text),
        field("max_connect_attempts", 7, Kind::Message(".google.protobuf.UInt32Value")),
        field("idle_timeout", 8, Kind::Message(".google.protobuf.Duration")),
        repeated(field("hash_policy", 11, Kind::Message(".envoy.type.v3.HashPolicy"))),
    ];
    file(
        "envoy.extensions.filters.network.tcp_proxy.v3",
        &["google/protobuf/wrappers.proto", "google/protobuf/duration.proto", "envoy/type/v3/hash_policy.proto"],
        message("TcpProxy", fields),
    )
}

fn http_protocol_options() -> FileDescriptorProto {
    const PACKAGE: &str = "envoy.extensions.upstreams.http.v3";
    let explicit = DescriptorProto {
        oneof_decl: vec![OneofDescriptorProto { name: Some("protocol_config".to_owned()), options: None }],
        ..message(
            "ExplicitHttpConfig",
            vec![
                one_of(field("http_protocol_options", 1, Kind::Message(".envoy.config.core.v3.Http1ProtocolOptions"))),
                one_of(field("http2_protocol_options", 2, Kind::Message(".envoy.config.core.v3.Http2ProtocolOptions"))),
            ],
        )
    };
    let options = DescriptorProto {
        nested_type: vec![explicit],
        ..message(
            "HttpProtocolOptions",
            vec![
                field("common_http_protocol_options", 1, Kind::Message(".envoy.config.core.v3.HttpProtocolOptions")),
                field(
                    "explicit_http_config",
                    3,
                    Kind::Message(".envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig"),
                ),
            ],
        )
    };
    file(PACKAGE, &["envoy/config/core/v3/protocol.proto"], options)
}

fn previous_hosts() -> FileDescriptorProto {
    file("envoy.extensions.retry.host.previous_hosts.v3", &[], message("PreviousHostsPredicate", Vec::new()))
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Message(&'static str),
}

fn field(name: &str, number: i32, kind: Kind) -> FieldDescriptorProto {
    let (kind, type_name) = match kind {
        Kind::Text => (Type::String, None),
        Kind::Message(name) => (Type::Message, Some(name.to_owned())),
    };
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name,
        ..Default::default()
    }
}

fn repeated(field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto { label: Some(Label::Repeated.into()), ..field }
}

/// A member of the message's only oneof.
fn one_of(field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto { oneof_index: Some(0), ..field }
}

fn message(name: &str, field: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto { name: Some(name.to_owned()), field, ..Default::default() }
}

fn file(package: &str, dependencies: &[&str], message: DescriptorProto) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(format!("causeway/{package}.proto")),
        package: Some(package.to_owned()),
        dependency: dependencies.iter().map(|&name| name.to_owned()).collect(),
        message_type: vec![message],
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}
