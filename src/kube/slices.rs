//! An access's pods in one cluster, divided into objects well below what etcd takes. A pod's slice follows from its name
//! alone, so that whatever changes of one pod changes one object. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use sha2::{Digest, Sha256};

use super::kinds::{EndpointSnapshotSpec, SnapshotOwner, SnapshotPod};
use super::outbox::{SnapshotContent, SnapshotKey};

/// Labels of Causeway's own EndpointSnapshots.
pub(super) const LABELS: [&str; 4] =
    ["app.kubernetes.io/managed-by", "causeway.dev/access", "causeway.dev/cluster", "causeway.dev/service"];

/// Bytes of a slice's pods at most, as JSON. etcd takes 1.5 MiB by default and the issue is to stay far below: with names
/// of ordinary length this is some 700 pods.
const MOST_BYTES: usize = 200 << 10;
/// Pods of a slice at most; the definition takes 1000.
const MOST_PODS: usize = 900;
/// Slices of one access in one cluster at most.
const MOST_SLICES: usize = 1 << 12;

/// Into how many slices the pods go, a power of two. It grows when a slice would be too large, and shrinks only when
/// half as many would be less than half full, so that a number that goes up and down rewrites nothing.
pub(super) fn count(pods: &[SnapshotPod], before: usize) -> usize {
    let mut count = before.clamp(1, MOST_SLICES).next_power_of_two();
    while count < MOST_SLICES && !fits(pods, count, 1) {
        count *= 2;
    }
    while count > 1 && fits(pods, count / 2, 2) {
        count /= 2;
    }
    count
}

/// Whether every one of `count` slices is full by a `share`th at most.
fn fits(pods: &[SnapshotPod], count: usize, share: usize) -> bool {
    let mut full = vec![(0_usize, 0_usize); count];
    for pod in pods {
        let (bytes, pods) = &mut full[index(&pod.name, count)];
        *bytes += size(pod);
        *pods += 1;
    }
    full.iter().all(|(bytes, pods)| *bytes <= MOST_BYTES / share && *pods <= MOST_PODS / share)
}

/// The slice of a pod. Twice as many slices divide each into two.
pub(super) fn index(name: &str, count: usize) -> usize {
    // FNV-1a: it is part of what is stored, so it must be the same for ever.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // Its lowest bits alone are mixed the least.
    (hash ^ (hash >> 32)) as usize & (count - 1)
}

/// About how many bytes a pod takes as JSON.
fn size(pod: &SnapshotPod) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, |text| text.len() + 12);
    let addresses: usize = pod.addresses.iter().map(|address| address.len() + 3).sum();
    let ports: usize = pod.ports.keys().map(|name| name.len() + 9).sum();
    pod.name.len() + text(&pod.uid) + text(&pod.node) + text(&pod.region) + text(&pod.zone) + addresses + ports + 80
}

/// What a slice says, of so many.
pub(super) fn spec(key: &SnapshotKey, content: &SnapshotContent, slice: usize, count: usize) -> EndpointSnapshotSpec {
    EndpointSnapshotSpec {
        owner: Some(SnapshotOwner::System),
        access: key.access.name.to_string(),
        service: Some(key.service.name.to_string()),
        cluster: Some(key.cluster.to_string()),
        pods: content.pods.iter().filter(|pod| index(&pod.name, count) == slice).cloned().collect(),
    }
}

/// The labels of a key's slices.
pub(super) fn labels(key: &SnapshotKey) -> [(&'static str, String); 4] {
    let short = |text: &str| shortened(text, 63);
    let values =
        ["causeway".to_owned(), short(&key.access.name), short(key.cluster.as_str()), short(&key.service.name)];
    let mut values = values.into_iter();
    LABELS.map(|label| (label, values.next().unwrap_or_default()))
}

/// The hash of a slice's pods, in their order.
pub(super) fn hash<'a>(pods: impl Iterator<Item = &'a SnapshotPod>) -> u64 {
    let mut hasher = DefaultHasher::new();
    pods.for_each(|pod| pod.hash(&mut hasher));
    hasher.finish()
}

/// What the names of a key's objects begin with, before `.` and the slice's number: `<access>.<cluster>` where the
/// service has the access's name, else `<access>.<service>.<cluster>`. Clusters and services have no dots in their
/// names, so no two keys have the same. Where it would be longer than a name may be, a hash stands for the rest.
pub(super) fn base_name(key: &SnapshotKey) -> String {
    let (access, service, cluster) = (&key.access.name, &key.service.name, key.cluster.as_str());
    let whole = match access == service {
        true => format!("{access}.{cluster}"),
        false => format!("{access}.{service}.{cluster}"),
    };
    shortened(&whole, 253 - 5)
}

/// A text of at most so many characters that stands for the whole; one that is short enough stands for itself.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let digest = Sha256::digest(text.as_bytes());
    let hash: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    // Names are ASCII.
    let head = text.get(..most - hash.len() - 1).unwrap_or_default().trim_end_matches(['-', '.', '_']);
    format!("{head}-{hash}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::id::NamespacedName;

    fn pod(name: String) -> SnapshotPod {
        let ports = [("http".to_owned(), 8080)].into();
        SnapshotPod {
            name,
            addresses: vec!["10.20.30.40".to_owned()],
            ports,
            weight: Some(1),
            ..SnapshotPod::default()
        }
    }

    fn pods(count: usize) -> Vec<SnapshotPod> {
        (0..count).map(|n| pod(format!("checkout-7d9f8b6c5d-{n:05}"))).collect()
    }

    #[test]
    fn ten_thousand_pods_go_into_slices_below_the_limits() {
        let pods = pods(10_000);
        let count = count(&pods, 1);
        assert_eq!(count, 16);
        for slice in 0..count {
            let of_slice: Vec<&SnapshotPod> = pods.iter().filter(|pod| index(&pod.name, count) == slice).collect();
            let bytes = serde_json::to_vec(&of_slice).unwrap().len();
            assert!(of_slice.len() <= MOST_PODS && bytes < 256 << 10, "{} pods, {bytes} bytes", of_slice.len());
        }
    }

    #[test]
    fn a_number_that_goes_up_and_down_rewrites_nothing() {
        let small = count(&pods(500), 1);
        assert_eq!(small, 1);
        let grown = count(&pods(1000), small);
        assert_eq!(grown, 2);
        assert_eq!(count(&pods(500), grown), 2);
        assert_eq!(count(&pods(100), grown), 1);
        assert_eq!(count(&[], 64), 1);
    }

    #[test]
    fn names_are_each_keys_own_and_never_too_long() {
        let (long, label) = ("a".repeat(253), "b".repeat(63));
        let keys = [
            ("a-b", "a-b", "c"),
            ("a", "a", "b-c"),
            ("a", "b", "c"),
            ("a.b", "a", "c"),
            ("a.b", "b", "c"),
            (&long, &label, "c"),
            (&long, &label, "d"),
            (&long[1..], &label, "c"),
        ];
        let mut names = BTreeSet::new();
        for (access, service, cluster) in keys {
            let (access, service) = (NamespacedName::new("n", access), NamespacedName::new("n", service));
            let name = base_name(&SnapshotKey { access, service, cluster: cluster.into() });
            assert!(name.len() <= 248, "{name}");
            assert!(names.insert(name));
        }
    }

    proptest! {
        #[test]
        fn every_pod_is_in_one_slice_and_twice_as_many_divide_each(name in "[a-z0-9-]{1,60}", power in 0_u32..8) {
            let count = 1_usize << power;
            let here = index(&name, count);
            prop_assert!(here < count);
            let then = index(&name, count * 2);
            prop_assert!(then == here || then == here + count);
        }
    }
}
