//! What registries of container images say, and how components in them are referred to.

use std::sync::LazyLock;

use causeway::fuzzing;
use causeway::registry::Reference;

static REFERENCE: LazyLock<Reference> = LazyLock::new(|| {
    let text = format!("oci://registry.example:5000/team/policy:1@sha256:{}", "ab".repeat(32));
    text.parse().unwrap_or_else(|error| panic!("{error}"))
});

/// The first byte says what the rest is: a reference, a manifest, a challenge, or a file of credentials.
pub fn registry(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    if first % 4 == 1 {
        return manifest(rest);
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match first % 4 {
        0 => match text.parse::<Reference>() {
            Ok(reference) => {
                assert_eq!(reference.to_string(), text);
                assert_eq!(reference.to_string().parse(), Ok(reference));
            }
            Err(refused) => assert!(refused.to_string().contains("oci://") || refused.to_string().contains('`')),
        },
        2 => {
            let offered = fuzzing::challenges(text);
            assert!(offered.iter().all(|offer| offer.starts_with("B")), "{offered:?}");
        }
        _ => match fuzzing::credentials(text, &REFERENCE) {
            Ok(found) => assert!(found.is_none_or(|shown| !shown.contains("hunter2")), "a secret is shown"),
            Err(refused) => assert!(!refused.is_empty()),
        },
    }
}

fn manifest(json: &[u8]) {
    match fuzzing::image(&REFERENCE, json) {
        Ok((digest, _, signatures)) => {
            assert_eq!(digest.to_string().parse(), Ok(digest));
            assert!(signatures <= 16, "{signatures} signatures");
        }
        Err(refused) => {
            let refused = refused.to_string();
            assert!(refused.contains("registry.example") && refused.len() < 4096, "{refused}");
        }
    }
}
