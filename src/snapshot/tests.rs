use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn resource(ty: ResourceType, name: &str, body: &str) -> Resource {
    Resource::from_encoded(ty, name, Bytes::copy_from_slice(body.as_bytes()))
}

fn names(names: &[&str]) -> Changes {
    Changes::Exact(names.iter().map(|name| Arc::from(*name)).collect())
}

#[test]
fn rule_19_versions_are_hashes_of_contents_in_whatever_order_they_came() {
    let mut one = SnapshotBuilder::new();
    one.update(|edit| {
        edit.set(resource(ResourceType::Cluster, "a", "1")).set(resource(ResourceType::Cluster, "b", "2"));
    });
    let mut two = SnapshotBuilder::new();
    two.update(|edit| _ = edit.set(resource(ResourceType::Cluster, "b", "2")));
    two.update(|edit| _ = edit.set(resource(ResourceType::Cluster, "a", "old")));
    assert_ne!(one.latest().version(ResourceType::Cluster), two.latest().version(ResourceType::Cluster));
    two.update(|edit| _ = edit.set(resource(ResourceType::Cluster, "a", "1")));
    assert_eq!(one.latest().version(ResourceType::Cluster), two.latest().version(ResourceType::Cluster));
    assert_eq!(&**resource(ResourceType::Cluster, "a", "").version(), "e3b0c44298fc1c14", "SHA-256 of nothing");
}

#[test]
fn swapping_two_bodies_changes_the_version() {
    let mut builder = SnapshotBuilder::new();
    let before = builder.update(|edit| {
        edit.set(resource(ResourceType::Route, "a", "1")).set(resource(ResourceType::Route, "b", "2"));
    });
    let after = builder.update(|edit| {
        edit.set(resource(ResourceType::Route, "a", "2")).set(resource(ResourceType::Route, "b", "1"));
    });
    let version = |snapshot: Option<Arc<XdsSnapshot>>| snapshot.map(|s| s.version(ResourceType::Route));
    assert_ne!(version(before), version(after));
}

#[test]
fn an_edit_that_changes_nothing_makes_no_snapshot() {
    let mut builder = SnapshotBuilder::new();
    assert!(builder.update(|edit| _ = edit.remove(ResourceType::Cluster, "a")).is_none());
    assert!(builder.update(|edit| _ = edit.set(resource(ResourceType::Cluster, "a", "1"))).is_some());
    assert!(builder.update(|edit| _ = edit.set(resource(ResourceType::Cluster, "a", "1"))).is_none());
    let back_and_forth = builder.update(|edit| {
        edit.set(resource(ResourceType::Cluster, "a", "2")).set(resource(ResourceType::Cluster, "a", "1"));
    });
    assert!(back_and_forth.is_none());
    assert_eq!(builder.latest().generation(), 1);
}

#[test]
fn the_log_tells_what_changed_since_a_generation() {
    let mut builder = SnapshotBuilder::new();
    let empty = builder.latest().clone();
    builder.update(|edit| _ = edit.set(resource(ResourceType::Cluster, "a", "1")));
    let first = builder.latest().clone();
    builder.update(|edit| {
        edit.set(resource(ResourceType::Endpoint, "b", "1")).set(resource(ResourceType::Cluster, "c", "1"));
    });
    builder.update(|edit| _ = edit.remove(ResourceType::Cluster, "a"));
    let last = builder.latest();
    assert_eq!(last.changed_from(&empty, ResourceType::Cluster), names(&["a", "c"]));
    assert_eq!(last.changed_from(&first, ResourceType::Cluster), names(&["a", "c"]));
    assert_eq!(last.changed_from(&first, ResourceType::Endpoint), names(&["b"]));
    assert_eq!(last.changed_from(last, ResourceType::Cluster), Changes::none());
    assert_eq!(last.changed_since(99, ResourceType::Cluster), Changes::Everything, "never seen");
    let other = SnapshotBuilder::new();
    assert_eq!(last.changed_from(other.latest(), ResourceType::Cluster), Changes::Everything, "another lineage");
}

#[test]
fn the_log_is_bounded_and_says_when_it_has_forgotten() {
    let mut builder = SnapshotBuilder::new();
    let empty = builder.latest().clone();
    for n in 0..1500 {
        builder.update(|edit| _ = edit.set(resource(ResourceType::Endpoint, "a", &n.to_string())));
    }
    let last = builder.latest().clone();
    assert_eq!(last.changed_from(&empty, ResourceType::Endpoint), Changes::Everything);
    assert_eq!(last.changed_since(1499, ResourceType::Endpoint), names(&["a"]));
    // One generation with more names than the log holds is not kept at all.
    builder.update(|edit| {
        for n in 0..10_000 {
            edit.set(resource(ResourceType::Cluster, &n.to_string(), ""));
        }
    });
    assert_eq!(builder.latest().changed_from(&last, ResourceType::Cluster), Changes::Everything);
    let many = builder.latest().clone();
    builder.update(|edit| _ = edit.remove(ResourceType::Cluster, "7"));
    assert_eq!(builder.latest().changed_from(&many, ResourceType::Cluster), names(&["7"]));
}

#[test]
fn the_lint_finds_clusters_without_assignment_and_listeners_without_route() {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        let assignment = Reference::new(ResourceType::Endpoint, "a");
        edit.set(resource(ResourceType::Cluster, "a", "1").with_refs([assignment]));
        let route = Reference::new(ResourceType::Route, "r");
        edit.set(resource(ResourceType::Listener, "l", "1").with_refs([route]));
        assert_eq!(edit.check().len(), 2);
        edit.set(resource(ResourceType::Endpoint, "a", "1"));
    });
    let lints = builder.latest().check();
    let texts: Vec<String> = lints.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["listener `l` needs route `r`, which is not in the snapshot"]);
}

proptest! {
    /// After any edits the incremental versions, sizes and logs are those of a snapshot built anew.
    #[test]
    fn what_is_kept_incrementally_equals_what_is_computed_anew(
        edits in proptest::collection::vec((0usize..4, 0u8..6, proptest::option::of(0u8..3)), 0..60),
    ) {
        let mut builder = SnapshotBuilder::new();
        let mut history = vec![builder.latest().clone()];
        for (ty, name, body) in edits {
            let (ty, name) = (ResourceType::ALL[ty], name.to_string());
            let made = builder.update(|edit| match body {
                Some(body) => _ = edit.set(resource(ty, &name, &body.to_string())),
                None => _ = edit.remove(ty, &name),
            });
            history.extend(made);
        }
        let last = builder.latest();
        for ty in ResourceType::ALL {
            let anew = last.resources(ty).fold(SetVersion::default(), |version, r| version.with(r));
            prop_assert_eq!(last.version(ty), anew);
            prop_assert_eq!(last.bytes(ty), last.resources(ty).map(|r| r.body().len()).sum::<usize>());
            for earlier in &history {
                let differs = |name: &Arc<str>| {
                    let version = |s: &XdsSnapshot| s.get(ty, name).map(|r| r.version().clone());
                    version(earlier) != version(last)
                };
                let all: BTreeSet<Arc<str>> =
                    earlier.resources(ty).chain(last.resources(ty)).map(|r| r.name().clone()).collect();
                let Changes::Exact(changed) = last.changed_from(earlier, ty) else {
                    return Err(TestCaseError::fail("the log forgot"));
                };
                prop_assert!(all.iter().filter(|n| differs(n)).all(|name| changed.contains(name)));
            }
        }
    }
}

proptest! {
    #[test]
    fn the_difference_is_what_differs(edits in proptest::collection::vec((0..40u8, 0..4u8), 1..120), from in 0..120usize) {
        let ty = ResourceType::Endpoint;
        let mut builder = SnapshotBuilder::new();
        let mut all = vec![builder.latest().clone()];
        for (name, body) in edits {
            let name = format!("s{name}");
            all.extend(builder.update(|edit| match body {
                0 => _ = edit.remove(ty, &name),
                _ => _ = edit.set(resource(ty, &name, &body.to_string())),
            }));
        }
        let (from, to) = (&all[from % all.len()], builder.latest());
        let told: Vec<_> = to.difference(from, ty).map(|(name, now)| (name.clone(), now.cloned())).collect();
        let version = |snapshot: &XdsSnapshot, name: &str| snapshot.get(ty, name).map(|r| r.version().clone());
        let names: BTreeSet<Arc<str>> = from.resources(ty).chain(to.resources(ty)).map(|r| r.name().clone()).collect();
        let differs = names.into_iter().filter(|name| version(from, name) != version(to, name));
        let expected: Vec<_> = differs.map(|name| (name.clone(), to.get(ty, &name).cloned())).collect();
        prop_assert_eq!(told, expected);
    }
}

proptest! {
    #[test]
    fn many_names_are_looked_up_in_whatever_order(
        names in proptest::collection::vec(0..200u8, 0..150),
        mut asked in proptest::collection::vec(0..200u8, 0..150),
        is_sorted: bool,
    ) {
        let ty = ResourceType::Endpoint;
        let mut builder = SnapshotBuilder::new();
        builder.update(|edit| names.iter().for_each(|name| _ = edit.set(resource(ty, &format!("s{name:03}"), ""))));
        if is_sorted {
            asked.sort_unstable();
        }
        let mut walk = builder.latest().walk(ty);
        for name in asked {
            let name = format!("s{name:03}");
            prop_assert_eq!(walk.get(&name), builder.latest().get(ty, &name));
        }
    }
}
