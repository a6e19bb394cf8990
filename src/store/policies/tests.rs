//! On real files.

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::config::StoreUrl;
use crate::store::tests::{Place, on_both};

on_both! {
    versions_come_back_as_they_were_kept,
    the_version_before_is_remembered,
    a_deleted_policy_leaves_what_others_have,
    old_versions_go_but_never_those_that_may_be_wanted,
    what_cannot_be_relied_on_is_refused,
}

fn configured(config: Value) -> PolicySettings {
    PolicySettings { config, ..PolicySettings::default() }
}

async fn add(store: &Store, policy: &str, bytes: &[u8], settings: &PolicySettings, now: Timestamp) -> Added {
    store
        .add_policy_version(
            &NewVersion { policy, world: World::Lb, bytes, settings, source: UPLOAD, signed_by: None },
            now,
        )
        .await
        .unwrap()
}

async fn components(place: &Place) -> Vec<String> {
    place.person("policies.db").await.text("SELECT digest FROM component").await
}

async fn versions_come_back_as_they_were_kept(place: &Place) {
    let store = place.open().await;
    assert_eq!((store.policies().await.unwrap(), store.policy("mine").await.unwrap()), (vec![], None));
    let chosen = PolicySettings {
        config: json!({"weights": {"east": 90, "we'st": 10}, "ü": [1, null]}),
        fuel: u64::try_from(i64::MAX).unwrap(),
        memory_mib: 7,
        max_removed_percent: 30,
        on_failure: OnFailure::Default,
    };
    let plain = PolicySettings::default();
    assert_eq!(add(&store, "mine", b"one", &chosen, 5).await, Added::New(1));
    assert_eq!(add(&store, "mine", b"two", &chosen, 6).await, Added::New(2));
    // The same again changes nothing; other settings of the same component are another version.
    assert_eq!(add(&store, "mine", b"one", &chosen, 7).await, Added::Known(1));
    assert_eq!(add(&store, "mine", b"one", &plain, 8).await, Added::New(3));
    let slower = PolicySettings { max_removed_percent: 10, ..plain.clone() };
    assert_eq!(add(&store, "another", b"one", &plain, 9).await, Added::New(1));
    assert_eq!(add(&store, "another", b"one", &slower, 9).await, Added::New(2));
    assert_eq!(components(place).await.len(), 2);
    store.close().await;

    let store = place.open().await;
    let all = store.policies().await.unwrap();
    assert_eq!(all.iter().map(|policy| &*policy.name).collect::<Vec<_>>(), ["another", "mine"]);
    let mine = store.policy("mine").await.unwrap().unwrap();
    assert_eq!(mine, all[1]);
    assert_eq!((mine.active, mine.before, mine.in_force()), (None, None, None));
    let version = |number, bytes: &[u8], settings: &PolicySettings, uploaded_at| PolicyVersion {
        number,
        digest: Digest::of(bytes),
        world: World::Lb,
        size: bytes.len(),
        settings: settings.clone(),
        source: UPLOAD.to_owned(),
        signed_by: None,
        uploaded_at,
    };
    let expected = [version(1, b"one", &chosen, 5), version(2, b"two", &chosen, 6), version(3, b"one", &plain, 8)];
    assert_eq!(mine.versions, expected);
    assert_eq!(store.component(Digest::of(b"two")).await.unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(store.component(Digest::of(b"three")).await.unwrap(), None);
}

async fn the_version_before_is_remembered(place: &Place) {
    let store = place.open().await;
    let settings = PolicySettings::default();
    for bytes in [b"one", b"two"] {
        add(&store, "mine", bytes, &settings, 1).await;
    }
    for (number, before) in [(1, None), (1, None), (2, Some(1)), (2, Some(1)), (1, Some(2))] {
        store.activate_policy("mine", number, Say::People).await.unwrap();
        let mine = store.policy("mine").await.unwrap().unwrap();
        assert_eq!((mine.active, mine.before), (Some(number), before));
        assert_eq!(mine.in_force().unwrap().number, number);
    }
    for (policy, number) in [("mine", 3), ("other", 1)] {
        let error = store.activate_policy(policy, number, Say::People).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the policy `{policy}` has no version {number}"));
    }
    assert_eq!(store.policy("mine").await.unwrap().unwrap().active, Some(1));
}

async fn a_deleted_policy_leaves_what_others_have(place: &Place) {
    let store = place.open().await;
    let settings = PolicySettings::default();
    add(&store, "mine", b"one", &settings, 1).await;
    add(&store, "mine", b"two", &settings, 1).await;
    add(&store, "another", b"two", &settings, 1).await;
    assert!(store.delete_policy("mine").await.unwrap());
    assert!(!store.delete_policy("mine").await.unwrap());
    assert_eq!(store.policy("mine").await.unwrap(), None);
    assert_eq!(store.component(Digest::of(b"one")).await.unwrap(), None);
    assert!(store.component(Digest::of(b"two")).await.unwrap().is_some());
    // Begun anew, it has a first version again.
    assert_eq!(add(&store, "mine", b"one", &settings, 2).await, Added::New(1));
}

async fn old_versions_go_but_never_those_that_may_be_wanted(place: &Place) {
    let store = place.open().await;
    add(&store, "mine", b"first", &PolicySettings::default(), 1).await;
    store.activate_policy("mine", 1, Say::People).await.unwrap();
    add(&store, "mine", b"second", &PolicySettings::default(), 1).await;
    store.activate_policy("mine", 2, Say::People).await.unwrap();
    for n in 3..60 {
        assert_eq!(add(&store, "mine", b"later", &configured(json!(n)), 1).await, Added::New(n));
    }
    let mine = store.policy("mine").await.unwrap().unwrap();
    let numbers: Vec<u32> = mine.versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, [1, 2].into_iter().chain(42..60).collect::<Vec<_>>());
    assert_eq!((numbers.len(), mine.before, mine.active), (MOST_VERSIONS, Some(1), Some(2)));
}

async fn what_cannot_be_relied_on_is_refused(place: &Place) {
    let store = place.open().await;
    let large = vec![7; 100_000];
    add(&store, "mine", &large, &PolicySettings::default(), 1).await;
    let by_hand = place.person("policies.db").await;
    let edit = match place.url {
        StoreUrl::Sqlite(_) => "UPDATE component SET bytes = zeroblob(size)",
        StoreUrl::Postgres(_) => "UPDATE component SET bytes = decode(repeat('00', size::integer), 'hex')",
    };
    by_hand.execute(edit).await.unwrap();
    let error = store.component(Digest::of(&large)).await.unwrap_err();
    assert!(error.to_string().contains("has other bytes than its digest says"), "{error}");
    // The schema itself refuses more.
    for edit in [
        "UPDATE component SET world = 'dns-policy'",
        "UPDATE component SET size = 1",
        "UPDATE policy_version SET config = '{'",
        "UPDATE policy_version SET digest = 'sha256:00'",
        "UPDATE policy_version SET on_failure = 'Explode'",
        "UPDATE policy_version SET max_removed_percent = 0",
        "UPDATE policy_version SET max_removed_percent = 101",
    ] {
        assert!(by_hand.execute(edit).await.is_err(), "{edit}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_relied_on_is_refused() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    add(&store, "mine", &vec![7; 100_000], &PolicySettings::default(), 1).await;
    store.close().await;

    let path = dir.path().join("policies.db");
    let good = std::fs::read(&path).unwrap();
    let mut damaged = good.clone();
    damaged[4096..2 * 4096].fill(0xa5);
    for bytes in [&damaged[..], &good[..3 * 4096], &b"a letter to the operator".repeat(400)] {
        std::fs::write(&path, bytes).unwrap();
        let error = Store::open(dir.path()).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("or remove it and upload the policies anew"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "the evidence was changed");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(Store::open(dir.path()).await.unwrap().policies().await.unwrap(), []);
}

#[tokio::test]
async fn nothing_is_promised_of_a_file_that_was_taken_away() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let settings = PolicySettings::default();
    add(&store, "mine", b"one", &settings, 1).await;
    std::fs::rename(dir.path().join("policies.db"), dir.path().join("elsewhere.db")).unwrap();
    let new = NewVersion {
        policy: "mine",
        world: World::Vip,
        bytes: b"two",
        settings: &settings,
        source: UPLOAD,
        signed_by: None,
    };
    assert!(matches!(store.add_policy_version(&new, 1).await, Err(StoreError::Replaced { .. })));
    assert!(matches!(store.activate_policy("mine", 1, Say::People).await, Err(StoreError::Replaced { .. })));
    assert!(matches!(store.delete_policy("mine").await, Err(StoreError::Replaced { .. })));
    assert_eq!(store.policy("mine").await.unwrap().unwrap().versions.len(), 1);
}
