//! gRPC's frames on a stream: five bytes before each message, of which the first says whether it is compressed and the
//! others how long it is (gRPC over HTTP/2, "Length-Prefixed-Message").
//!
//! Written here because streams are many and mostly idle: a codec's buffers keep the size of the largest message that they
//! ever held, and the largest are the first subscription and its answer. Here a message's memory goes when the message is
//! done with.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http_body::{Body as _, Frame};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::CONTENT_TYPE;
use tonic::codegen::http::{self, HeaderMap, HeaderValue};

use crate::ads::Protocol;
use crate::ads::stream::{Request, Response};
use crate::ads::wire::put_nested_resource;

/// Bytes before a message.
const PREFIX: usize = 5;

/// Bytes of a response that are written at once, at least: a whole change of an endpoint, and a few of HTTP/2's frames.
const PIECE: usize = 32 * 1024;

/// Pieces of a request that are smaller may be put together: HTTP/2's frames are this large by default.
const MERGED: usize = 16 * 1024;

/// A client's requests, as they come.
pub(super) struct Requests {
    body: Body,
    protocol: Protocol,
    /// The most bytes of a request.
    most: usize,
    came: Chunks,
}

/// What came and was not read, as it came: nothing is put together before a message is there as a whole.
#[derive(Default)]
struct Chunks {
    list: VecDeque<Bytes>,
    bytes: usize,
}

impl Chunks {
    fn push(&mut self, mut chunk: Bytes) {
        self.bytes += chunk.len();
        // Whoever sends byte by byte costs no more than others: small pieces become larger ones, each copied a few times.
        while let Some(last) = self.list.pop_back_if(|last| last.len() < MERGED && last.len() <= 2 * chunk.len()) {
            chunk = Bytes::from([last, chunk].concat());
        }
        self.list.extend(Some(chunk).filter(|chunk| !chunk.is_empty()));
    }

    /// So many bytes in one piece.
    fn take_whole(&mut self, length: usize) -> Bytes {
        if let Some(first) = self.list.front_mut().filter(|first| first.len() > length) {
            self.bytes -= length;
            return first.split_to(length);
        }
        self.copy_to_bytes(length)
    }

    /// The first bytes, where so many are there.
    fn first<const N: usize>(&self) -> Option<[u8; N]> {
        let mut first = self.list.iter().flatten().copied();
        let mut out = [0; N];
        for byte in &mut out {
            *byte = first.next()?;
        }
        Some(out)
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.list.front().map_or(&[], |chunk| chunk)
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(chunk) = self.list.front_mut().filter(|_| count > 0) {
            let here = count.min(chunk.len());
            chunk.advance(here);
            count -= here;
            if chunk.is_empty() {
                self.list.pop_front();
            }
        }
    }
}

impl Requests {
    pub(super) fn new(body: Body, protocol: Protocol, most: usize) -> Self {
        Self { body, protocol, most, came: Chunks::default() }
    }

    /// The next request, or `None` when the client is done. It can be dropped while it waits without losing anything.
    ///
    /// # Errors
    /// With what the client is to be told.
    pub(super) async fn next(&mut self) -> Result<Option<Request>, Status> {
        loop {
            if let Some(request) = self.take()? {
                return Ok(Some(request));
            }
            let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await.transpose()?;
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => self.came.push(data),
                // Trailers say nothing.
                Some(Err(_)) => {}
                None if self.came.bytes == 0 => return Ok(None),
                None => return Err(Status::internal("the stream ended within a message")),
            }
        }
    }

    /// A whole message of what came.
    fn take(&mut self) -> Result<Option<Request>, Status> {
        let Some(length) = self.length()?.filter(|length| self.came.bytes >= PREFIX + length) else { return Ok(None) };
        self.came.advance(PREFIX);
        let message = self.came.take_whole(length);
        let request = Request::decode(self.protocol, &message);
        if self.came.bytes == 0 {
            self.came = Chunks::default();
        }
        request.map(Some).map_err(|error| Status::invalid_argument(format!("a request cannot be read: {error}")))
    }

    /// The length that the prefix says, where it is there.
    fn length(&self) -> Result<Option<usize>, Status> {
        let Some([flag, length @ ..]) = self.came.first::<PREFIX>() else { return Ok(None) };
        match flag {
            0 => {}
            1 => return Err(Status::unimplemented("requests are not understood compressed; send them as they are")),
            _ => return Err(Status::internal(format!("a message begins with {flag}, which says nothing"))),
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > self.most {
            return Err(Status::out_of_range(format!("a request of {length} bytes is larger than {}", self.most)));
        }
        Ok(Some(length))
    }
}

/// A response on its way: written piece by piece as the transport asks, so that what a slow client is sent is never in
/// memory as a whole beside the resources that all share.
struct Writing {
    response: Box<Response>,
    /// Bytes of prefix and message.
    length: usize,
    next: Next,
}

/// What comes next.
enum Next {
    Head,
    /// The resources as all streams write them that are sent the same.
    Shared(Bytes),
    /// The resources from this one on.
    Each(usize),
    Nothing,
}

impl Writing {
    /// One of 4 GiB or more cannot be said.
    fn new(response: Box<Response>) -> Result<Self, Status> {
        let length = response.encoded_len();
        if u32::try_from(length).is_err() {
            return Err(Status::resource_exhausted(format!("a response of {length} bytes is too large for gRPC")));
        }
        Ok(Self { response, length: PREFIX + length, next: Next::Head })
    }

    /// The next piece; `None` after the last.
    fn piece(&mut self) -> Option<Bytes> {
        match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Head => {
                let mut out = Vec::with_capacity(self.length.min(PIECE));
                out.put_u8(0);
                out.put_u32((self.length - PREFIX) as u32);
                self.response.encode_head(&mut out);
                match self.response.resources.encoded(self.response.protocol) {
                    Some(all) if all.len() <= PIECE => {
                        out.put_slice(all);
                        self.response.encode_rest(&mut out);
                    }
                    Some(all) => self.next = Next::Shared(all.clone()),
                    None => self.each(0, &mut out),
                }
                Some(Bytes::from(out))
            }
            Next::Shared(all) => {
                self.next = Next::Each(self.response.resources.len());
                Some(all)
            }
            Next::Each(from) => {
                let mut out = Vec::with_capacity(PIECE);
                self.each(from, &mut out);
                Some(Bytes::from(out))
            }
            Next::Nothing => None,
        }
    }

    /// As many resources as a piece holds, and what comes after the last.
    fn each(&mut self, mut from: usize, out: &mut Vec<u8>) {
        while let Some(resource) = self.response.resources.get(from).filter(|_| out.len() < PIECE) {
            put_nested_resource(self.response.protocol, resource, out);
            from += 1;
        }
        if from == self.response.resources.len() {
            self.response.encode_rest(out);
        } else {
            self.next = Next::Each(from);
        }
    }
}

/// The transport's end of a stream. The transport asks for more when what it took is written out as far
/// as its bounded buffers go; that is how the stream's task learns that a client does not read. HTTP/2
/// takes a frame or two beyond its window; a client that is stuck on those is noticed by its missing ACK.
pub(super) struct Frames {
    frames: Option<mpsc::Receiver<Result<Box<Response>, Status>>>,
    writing: Option<Writing>,
    taken: u64,
    written: Arc<AtomicU64>,
}

impl Frames {
    pub(super) fn new(frames: mpsc::Receiver<Result<Box<Response>, Status>>, written: Arc<AtomicU64>) -> Self {
        Self { frames: Some(frames), writing: None, taken: 0, written }
    }

    /// The answer whose body this is.
    pub(super) fn into_http(self) -> http::Response<Body> {
        let mut response = http::Response::new(Body::new(self));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(piece) = self.writing.as_mut().and_then(Writing::piece) {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        self.writing = None;
        self.written.store(self.taken, Ordering::Relaxed);
        let Some(frames) = &mut self.frames else { return Poll::Ready(None) };
        let status = match frames.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(response))) => {
                self.taken += 1;
                match Writing::new(response) {
                    Ok(mut writing) => {
                        let first = writing.piece().unwrap_or_default();
                        self.writing = Some(writing);
                        return Poll::Ready(Some(Ok(Frame::data(first))));
                    }
                    Err(status) => status,
                }
            }
            Poll::Ready(Some(Err(status))) => status,
            Poll::Ready(None) => Status::ok(""),
        };
        self.frames = None;
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

#[cfg(test)]
mod tests {
    use prost013::Message;
    use xds_api::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;

    use super::*;
    use crate::snapshot::{Resource, ResourceType};

    /// A body that comes in these pieces.
    struct Pieces(VecDeque<Vec<u8>>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(Bytes::from(piece)))))
        }
    }

    fn requests(pieces: Vec<Vec<u8>>, most: usize) -> Requests {
        Requests::new(Body::new(Pieces(pieces.into())), Protocol::Delta, most)
    }

    fn framed(name: &str) -> Vec<u8> {
        let request = DeltaDiscoveryRequest { type_url: name.to_owned(), ..DeltaDiscoveryRequest::default() };
        let body = request.encode_to_vec();
        [&[0][..], &(body.len() as u32).to_be_bytes(), &body].concat()
    }

    async fn all(mut requests: Requests) -> Result<Vec<String>, Status> {
        let mut types = Vec::new();
        while let Some(Request::Delta(request)) = requests.next().await? {
            types.push(request.type_url);
        }
        Ok(types)
    }

    #[tokio::test]
    async fn requests_come_in_whatever_pieces() {
        let long = "x".repeat(70_000);
        let whole = [framed("a"), framed(&long), framed(""), framed("b")].concat();
        for size in [1, 2, 4, 5, 6, 7, 100, 16_384, whole.len()] {
            let pieces: Vec<Vec<u8>> = whole.chunks(size).map(<[u8]>::to_vec).collect();
            let mut came = Chunks::default();
            pieces.iter().for_each(|piece| came.push(Bytes::copy_from_slice(piece)));
            assert!(came.list.len() <= whole.len() / MERGED + 16, "{} of {size}", came.list.len());
            assert_eq!(all(requests(pieces, 100_000)).await.expect("requests"), ["a", &long, "", "b"], "{size}");
        }
        assert!(all(requests(vec![Vec::new(), Vec::new()], 10)).await.expect("none").is_empty());
    }

    #[tokio::test]
    async fn what_is_no_request_ends_the_stream_with_a_reason() {
        let cases: [(Vec<u8>, tonic::Code); 5] = [
            ([&[0][..], &1_000u32.to_be_bytes()].concat(), tonic::Code::OutOfRange),
            (vec![1, 0, 0, 0, 1, 7], tonic::Code::Unimplemented),
            (vec![9, 0, 0, 0, 1, 7], tonic::Code::Internal),
            (vec![0, 0, 0, 0, 1, 0xff], tonic::Code::InvalidArgument),
            (framed("abc")[..7].to_vec(), tonic::Code::Internal),
        ];
        for (bytes, code) in cases {
            let status = all(requests(vec![bytes], 100)).await.expect_err("refused");
            assert_eq!(status.code(), code, "{status:?}");
        }
    }

    #[test]
    fn a_response_is_written_piece_by_piece() {
        let ty = ResourceType::Cluster;
        let resource = |size: usize| Arc::new(Resource::from_encoded(ty, "c", Bytes::from(vec![b'x'; size])));
        let many = [vec![], vec![3], vec![PIECE], vec![PIECE - 1, 1, 1], vec![1_000; 500], vec![5 * PIECE, 2]];
        for (protocol, sizes) in
            [Protocol::Sotw, Protocol::Delta].into_iter().flat_map(|p| many.iter().map(move |s| (p, s)))
        {
            let response = Response {
                protocol,
                ty: Some(ty),
                type_url: Arc::from(ty.type_url()),
                version: String::new(),
                nonce: "1".to_owned(),
                resources: sizes.iter().map(|size| resource(*size)).collect(),
                removed: vec![Arc::from("gone")],
            };
            let mut whole = Vec::new();
            response.encode(&mut whole);
            let largest = sizes.iter().max().copied().unwrap_or_default();
            for is_shared in [false, true] {
                let mut writing = Writing::new(Box::new(response.clone())).expect("it can be said");
                let pieces: Vec<Bytes> = std::iter::from_fn(|| writing.piece()).collect();
                let is_small = |piece: &Bytes| piece.len() < PIECE + largest + 200;
                assert!(is_shared || pieces.iter().all(is_small), "{sizes:?}");
                let written = pieces.concat();
                assert_eq!(written[..PREFIX], [&[0][..], &(whole.len() as u32).to_be_bytes()].concat());
                assert!(written[PREFIX..] == whole, "{sizes:?}");
            }
        }
    }
}
