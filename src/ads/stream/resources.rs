//! The resources of a response, shared by all streams that are sent the same.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::ads::Protocol;
use crate::ads::wire;
use crate::snapshot::Resource;

/// Up to so many bytes a list is kept encoded for the streams that share it. What is larger is written from the
/// resources each time, so that what many slow clients are sent is not in memory beside them.
const MAX_ENCODED: usize = 256 * 1024;

/// A list of resources that does not change. Cloning shares it, with what was computed of it.
#[derive(Clone, Default)]
pub struct Resources {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    list: Box<[Arc<Resource>]>,
    encoded: [Encoded; 2],
}

/// The list as one protocol says it.
#[derive(Default)]
struct Encoded {
    len: OnceLock<usize>,
    bytes: OnceLock<Bytes>,
    /// One stream has written it.
    was_written: AtomicBool,
}

impl Resources {
    /// The length in bytes of the fields that a response has for them.
    pub(in crate::ads) fn encoded_len(&self, protocol: Protocol) -> usize {
        let len = || self.iter().map(|resource| wire::nested_resource_len(protocol, resource)).sum();
        *self.of(protocol).len.get_or_init(len)
    }

    /// These fields, where it pays to keep them: for more than one stream.
    pub(in crate::ads) fn encoded(&self, protocol: Protocol) -> Option<&Bytes> {
        let encoded = self.of(protocol);
        let len = self.encoded_len(protocol);
        let is_first = !encoded.was_written.swap(true, Ordering::Relaxed);
        if is_first || len > MAX_ENCODED {
            return None;
        }
        Some(encoded.bytes.get_or_init(|| {
            let mut out = Vec::with_capacity(len);
            self.iter().for_each(|resource| wire::put_nested_resource(protocol, resource, &mut out));
            Bytes::from(out)
        }))
    }

    fn of(&self, protocol: Protocol) -> &Encoded {
        &self.shared.encoded[usize::from(protocol == Protocol::Delta)]
    }
}

impl From<Vec<Arc<Resource>>> for Resources {
    fn from(list: Vec<Arc<Resource>>) -> Self {
        Self { shared: Arc::new(Shared { list: list.into(), ..Shared::default() }) }
    }
}

impl FromIterator<Arc<Resource>> for Resources {
    fn from_iter<I: IntoIterator<Item = Arc<Resource>>>(list: I) -> Self {
        Self::from(list.into_iter().collect::<Vec<_>>())
    }
}

impl Deref for Resources {
    type Target = [Arc<Resource>];

    fn deref(&self) -> &Self::Target {
        &self.shared.list
    }
}

impl<'a> IntoIterator for &'a Resources {
    type Item = &'a Arc<Resource>;
    type IntoIter = std::slice::Iter<'a, Arc<Resource>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
