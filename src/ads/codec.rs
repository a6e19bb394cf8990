//! A codec for messages of xds-api, which is on an older prost than tonic. Streams of Envoys have frames of their own
//! (`service/frames.rs`); this is for the calls beside them, which are few.

use std::marker::PhantomData;

use prost013::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// What a stream's buffers begin with, in bytes. Each Envoy has a stream of load reports, most of which are small; they grow
/// where a message is larger.
const BUFFER: usize = 1024;

/// How much is gathered before it is sent, in bytes: tonic's own default.
const GATHERED: usize = 32 * 1024;

/// Writes `T` and reads `U`.
pub(super) struct XdsCodec<T, U>(PhantomData<fn() -> (T, U)>);

impl<T, U> Default for XdsCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// Writes.
pub(super) struct Writer<T>(PhantomData<fn() -> T>);

/// Reads.
pub(super) struct Reader<U>(PhantomData<fn() -> U>);

impl<T: Message + 'static, U: Message + Default + 'static> Codec for XdsCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Writer<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Writer<T> {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Reader<U> {
        Reader(PhantomData)
    }
}

impl<T: Message> Encoder for Writer<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out).map_err(|error| Status::internal(format!("an answer cannot be written: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, GATHERED)
    }
}

impl<U: Message + Default> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let message = U::decode(from);
        message.map(Some).map_err(|error| Status::invalid_argument(format!("a request cannot be read: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, GATHERED)
    }
}
