//! gRPC's server reflection (`grpc.reflection.v1` and its forerunner `v1alpha`): which services are served at an address,
//! and the definitions of their messages, so that `grpcurl` can list and call them. Nothing of it is secret.
//!
//! The definitions are decoded when the first request comes, not before.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use prost_reflect::{DescriptorPool, FileDescriptor};
use tonic::codegen::{BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Interceptor, Routes};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Asked;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Answer;
use tonic_reflection::pb::v1::{
    self, ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest,
    ServerReflectionResponse, ServiceResponse,
};
use tonic_reflection::pb::v1alpha;

use crate::agent::proto;
use crate::xds;

/// Bytes of a request: a name.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

static FILES: LazyLock<Result<DescriptorPool, String>> = LazyLock::new(|| {
    let mut pool = xds::descriptors().map_err(|error| error.to_string())?.clone();
    for set in [proto::DESCRIPTORS, v1::FILE_DESCRIPTOR_SET, v1alpha::FILE_DESCRIPTOR_SET] {
        pool.decode_file_descriptor_set(set).map_err(|error| error.to_string())?;
    }
    Ok(pool)
});

/// The service, under one of its names. The two have the same messages.
#[derive(Clone)]
struct Reflection<const V1: bool> {
    services: Arc<[&'static str]>,
}

/// Adds both versions of the service behind a check, telling of these services and of itself.
pub fn add(
    routes: Routes,
    services: &[&'static str],
    check: impl Interceptor + Clone + Send + Sync + 'static,
) -> Routes {
    let own = [Reflection::<true>::NAME, Reflection::<false>::NAME];
    let services: Arc<[&'static str]> = services.iter().copied().chain(own).collect();
    let alpha = Reflection::<false> { services: services.clone() };
    routes
        .add_service(InterceptedService::new(Reflection::<true> { services }, check.clone()))
        .add_service(InterceptedService::new(alpha, check))
}

/// Answers a request, where these services are served.
pub(crate) fn answer(
    services: &[&'static str],
    request: ServerReflectionRequest,
) -> Result<ServerReflectionResponse, Status> {
    let asked = request.message_request.clone().ok_or_else(|| Status::invalid_argument("nothing is asked for"))?;
    let files = FILES.as_ref().map_err(|error| Status::internal(format!("the definitions cannot be read: {error}")))?;
    let answer = match &asked {
        Asked::ListServices(_) => {
            let service = services.iter().map(|name| ServiceResponse { name: (*name).to_owned() }).collect();
            Answer::ListServicesResponse(ListServiceResponse { service })
        }
        Asked::FileByFilename(name) => file(files.get_file_by_name(name), name),
        Asked::FileContainingSymbol(name) => file(declaring(files, name), name),
        Asked::FileContainingExtension(asked) => {
            let number = u32::try_from(asked.extension_number).unwrap_or(0);
            let message = files.get_message_by_name(&asked.containing_type);
            let extension = message.and_then(|message| message.get_extension(number));
            file(extension.map(|it| it.parent_file()), &asked.containing_type)
        }
        Asked::AllExtensionNumbersOfType(name) => match files.get_message_by_name(name) {
            None => absent(name),
            Some(message) => Answer::AllExtensionNumbersResponse(ExtensionNumberResponse {
                base_type_name: name.clone(),
                extension_number: message.extensions().filter_map(|it| i32::try_from(it.number()).ok()).collect(),
            }),
        },
    };
    Ok(ServerReflectionResponse {
        valid_host: request.host.clone(),
        original_request: Some(request),
        message_response: Some(answer),
    })
}

/// The file that declares a message, enumeration, service or extension, or a field, value or method of one.
fn declaring(files: &DescriptorPool, name: &str) -> Option<FileDescriptor> {
    let whole = |name: &str| {
        let message = || files.get_message_by_name(name).map(|it| it.parent_file());
        let kind = || files.get_enum_by_name(name).map(|it| it.parent_file());
        let service = || files.get_service_by_name(name).map(|it| it.parent_file());
        let extension = || files.get_extension_by_name(name).map(|it| it.parent_file());
        message().or_else(kind).or_else(service).or_else(extension)
    };
    let part = || {
        let (parent, child) = name.rsplit_once('.')?;
        let field =
            || files.get_message_by_name(parent)?.get_field_by_name(child).map(|it| it.parent_message().parent_file());
        let method = || {
            let service = files.get_service_by_name(parent)?;
            service.methods().any(|method| method.name() == child).then(|| service.parent_file())
        };
        field().or_else(method)
    };
    whole(name).or_else(part)
}

fn file(found: Option<FileDescriptor>, name: &str) -> Answer {
    let Some(file) = found else { return absent(name) };
    Answer::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto: vec![file.encode_to_vec()] })
}

fn absent(name: &str) -> Answer {
    let error_message = format!("`{name}` is not known here");
    Answer::ErrorResponse(ErrorResponse { error_code: Code::NotFound.into(), error_message })
}

/// One answer a request.
impl<const V1: bool> StreamingService<ServerReflectionRequest> for Reflection<V1> {
    type Response = ServerReflectionResponse;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, requests: Request<Streaming<ServerReflectionRequest>>) -> Self::Future {
        let services = self.services.clone();
        let answers = requests.into_inner().map(move |request| answer(&services, request?));
        Box::pin(async { Ok(Response::new(Box::pin(answers) as Self::ResponseStream)) })
    }
}

impl<const V1: bool> NamedService for Reflection<V1> {
    const NAME: &'static str =
        if V1 { "grpc.reflection.v1.ServerReflection" } else { "grpc.reflection.v1alpha.ServerReflection" };
}

impl<B, const V1: bool> Service<http::Request<B>> for Reflection<V1>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_REQUEST_BYTES);
            Ok(match request.uri().path().rsplit('/').next() {
                Some("ServerReflectionInfo") => grpc.streaming(server, request).await,
                _ => Status::unimplemented(format!("{} has ServerReflectionInfo only", Self::NAME)).into_http(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_reflect::prost_types::FileDescriptorProto;

    use super::*;

    fn ask(asked: Asked) -> Answer {
        let request = ServerReflectionRequest { host: "here".to_owned(), message_request: Some(asked) };
        let answer = answer(&["one.Service"], request.clone()).expect("an answer");
        assert_eq!(answer.original_request, Some(request));
        answer.message_response.expect("it says something")
    }

    fn file_of(answer: Answer) -> FileDescriptorProto {
        let Answer::FileDescriptorResponse(files) = answer else { panic!("no file: {answer:?}") };
        FileDescriptorProto::decode(&*files.file_descriptor_proto[0]).expect("a file")
    }

    #[test]
    fn what_a_symbol_is_declared_by_is_found_with_all_that_it_imports() {
        let symbols = [
            ("envoy.service.discovery.v3.AggregatedDiscoveryService", "envoy/service/discovery/v3/ads.proto"),
            ("envoy.service.cluster.v3.ClusterDiscoveryService.StreamClusters", "envoy/service/cluster/v3/cds.proto"),
            ("envoy.service.status.v3.ClientStatusDiscoveryService", "envoy/service/status/v3/csds.proto"),
            ("envoy.admin.v3.ClientResourceStatus", "envoy/admin/v3/config_dump_shared.proto"),
            ("envoy.config.core.v3.Node.id", "envoy/config/core/v3/base.proto"),
            ("causeway.v1.Feedback", "causeway/v1/feedback.proto"),
            ("grpc.reflection.v1.ServerReflection", "reflection_v1.proto"),
            ("grpc.reflection.v1alpha.ServerReflection", "reflection_v1alpha.proto"),
        ];
        for (symbol, name) in symbols {
            let file = file_of(ask(Asked::FileContainingSymbol(symbol.to_owned())));
            assert_eq!(file.name(), name, "{symbol}");
            let mut seen = BTreeSet::new();
            let mut imports = file.dependency;
            while let Some(import) = imports.pop() {
                if seen.insert(import.clone()) {
                    imports.extend(file_of(ask(Asked::FileByFilename(import))).dependency);
                }
            }
        }
    }

    #[test]
    fn services_are_those_that_are_served_and_what_is_unknown_is_said() {
        let Answer::ListServicesResponse(list) = ask(Asked::ListServices(String::new())) else { panic!("no list") };
        assert_eq!(list.service.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["one.Service"]);
        for asked in [
            Asked::FileByFilename("nowhere.proto".to_owned()),
            Asked::FileContainingSymbol("no.Such".to_owned()),
            Asked::FileContainingSymbol("envoy.config.core.v3.Node.no_such".to_owned()),
            Asked::AllExtensionNumbersOfType("no.Such".to_owned()),
            Asked::FileContainingExtension(v1::ExtensionRequest::default()),
        ] {
            let Answer::ErrorResponse(error) = ask(asked.clone()) else { panic!("{asked:?} is found") };
            assert_eq!(error.error_code, i32::from(Code::NotFound), "{asked:?}");
        }
    }
}
