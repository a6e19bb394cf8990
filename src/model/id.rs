//! Names by which the model's things are known.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: Into<Arc<str>>> From<T> for $name {
            fn from(text: T) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// The name of a Kubernetes cluster, as its `ClusterInfo` or folder gives it.
    ClusterName
}
name_type! {
    /// The name of a `VipPool`.
    PoolName
}
name_type! {
    /// The id by which an Envoy presents itself over xDS (`node.id`).
    NodeId
}

impl NodeId {
    /// The node's part, 0 to `buckets` - 1, when nodes are divided into so many. It goes by a hash of the id, so that it
    /// is the same on every replica and after a restart, and that each part has about as many nodes.
    pub fn bucket(&self, buckets: u32) -> u32 {
        let hash = Sha256::digest(self.as_str());
        let start = hash.first_chunk().copied().map_or(0, u64::from_be_bytes);
        // What is left of a division by 32 bits has no more of them.
        (start % u64::from(buckets.max(1))) as u32
    }
}

/// A namespaced object's name. Two clusters' objects of the same kind and namespaced name are the
/// same thing (the "namespace sameness" of the Multi-Cluster Services API, KEP-1645).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespacedName {
    /// The Kubernetes namespace.
    pub namespace: Arc<str>,
    /// The name within the namespace.
    pub name: Arc<str>,
}

impl NamespacedName {
    /// Joins a namespace and a name.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not of the form `namespace/name`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not of the form namespace/name")]
pub struct NotNamespaced(String);

impl FromStr for NamespacedName {
    type Err = NotNamespaced;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self::new(namespace, name))
            }
            _ => Err(NotNamespaced(text.to_owned())),
        }
    }
}

impl Serialize for NamespacedName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NamespacedName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_bucket_is_fixed_and_buckets_are_about_equal() {
        // Other values would move every node of a running fleet.
        let of = |id: &str, buckets| NodeId::from(id).bucket(buckets);
        assert_eq!([1, 2, 3, 64].map(|buckets| of("gw-1", buckets)), [0, 1, 0, 41]);
        assert_eq!(of("gw-1", 0), 0);
        for buckets in [2, 3, 7, 64] {
            let mut counts = vec![0u32; buckets as usize];
            for number in 0..6400 {
                counts[of(&format!("gateway-{number}"), buckets) as usize] += 1;
            }
            let mean = 6400 / buckets;
            let is_near = |count: &u32| count.abs_diff(mean) <= mean / 2;
            assert!(counts.iter().all(is_near), "{buckets}: {counts:?}");
        }
    }
}
