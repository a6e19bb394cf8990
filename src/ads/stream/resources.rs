//! The resources of a response, shared by all streams that are sent the same.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::ads::Protocol;
use crate::ads::wire;
use crate::snapshot::Resource;

/// A list is kept encoded where it is on its way to many: for so many bytes at least one of them. Otherwise it is written
/// from the resources each time, so that what slow clients are sent is not in memory beside them.
const BYTES_FOR_ONE: usize = 16 * 1024;

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
}

impl Resources {
    /// The length in bytes of the fields that a response has for them.
    pub(in crate::ads) fn encoded_len(&self, protocol: Protocol) -> usize {
        let len = || self.iter().map(|resource| wire::nested_resource_len(protocol, resource)).sum();
        *self.of(protocol).len.get_or_init(len)
    }

    /// These fields, where it pays to keep them.
    pub(in crate::ads) fn encoded(&self, protocol: Protocol) -> Option<&Bytes> {
        let (encoded, len) = (self.of(protocol), self.encoded_len(protocol));
        // The one that writes it holds it twice or more.
        let others = Arc::strong_count(&self.shared).saturating_sub(3);
        if encoded.bytes.get().is_none() && others * BYTES_FOR_ONE < len.max(1) {
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
