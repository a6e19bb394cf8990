//! What people write: flags, files, names and ranges.

use std::time::Duration;

use causeway::agent::AdminAddress;
use causeway::config::{ListenAddr, SETTINGS, StoreUrl, parse_duration, parse_trust_domain};
use causeway::fuzzing;
use causeway::kube::convert::parse_address_range;
use causeway::kube::names;
use causeway::model::id::NamespacedName;
use causeway::model::object::Family;
use causeway::model::slot::Slot;
use causeway::policy::Digest;
use causeway::trust;
use causeway::vip::{listener_name, parse_listener_name};

/// The file of `--config`.
pub fn config_file(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match fuzzing::config_file(text) {
        Ok(settings) => {
            let is_elsewhere = SETTINGS.iter().any(|setting| {
                setting.key != "store" && settings.first(setting.key).is_some_and(|value| value.contains("hunter2"))
            });
            assert!(is_elsewhere || !format!("{settings:?}").contains("hunter2"), "a password is shown");
        }
        Err(refused) => assert!(refused.to_string().contains("causeway.yaml"), "{refused}"),
    }
}

/// The first byte says what the rest is.
pub fn config_texts(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match first % 11 {
        0 => same_again::<ListenAddr>(text),
        1 => same_again::<AdminAddress>(text),
        2 => duration(text),
        3 => store(text),
        4 => range(text),
        5 => same_again::<Slot>(text),
        6 => same_again::<NamespacedName>(text),
        7 => same_again::<Digest>(text),
        8 => {
            if let Some(socket) = parse_listener_name(text) {
                let name = listener_name(socket.ip(), socket.port());
                assert_eq!(parse_listener_name(&name), Some(std::net::SocketAddr::new(socket.ip(), socket.port())));
            }
        }
        9 => {
            let domain = parse_trust_domain(text).unwrap_or_else(|_| "causeway".to_owned());
            let uri = trust::id_of_cluster("east", &domain);
            assert_eq!(trust::cluster_of([uri.as_str()], &domain), Some("east"));
            assert!(trust::cluster_of([text], &domain).is_none_or(|name| trust::id_of_cluster(name, &domain) == text));
        }
        _ => named(text),
    }
}

/// What is read is said in one way, which is read as the same.
fn same_again<T: std::str::FromStr + std::fmt::Display + PartialEq + std::fmt::Debug>(text: &str)
where
    T::Err: std::fmt::Display,
{
    match text.parse::<T>() {
        Ok(read) => {
            let again = read.to_string().parse::<T>();
            assert!(again.as_ref().is_ok_and(|again| *again == read), "{text:?} is {read:?}, told as `{read}`");
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}

fn duration(text: &str) {
    match parse_duration(text) {
        Ok(duration) => {
            assert!(duration <= Duration::from_secs(366 * 24 * 3600));
            assert_eq!(parse_duration(&format!("{}ms", duration.as_millis())), Ok(duration));
        }
        Err(refused) => assert!(!refused.is_empty()),
    }
}

/// No password is shown: those of the seeds are all `hunter2`.
fn store(text: &str) {
    match StoreUrl::parse(text) {
        Ok(StoreUrl::Postgres(url)) => {
            assert_eq!(url.secret(), text);
            let is_password = text.contains(":hunter2@") && text.matches("hunter2").count() == 1;
            let is_in_authority = text.split_once("://").is_some_and(|(_, rest)| {
                rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains(":hunter2@"))
            });
            let shown = format!("{url} {url:?}");
            assert!(!(is_password && is_in_authority && shown.contains("hunter2")), "{shown} of {text}");
        }
        Ok(StoreUrl::Sqlite(folder)) => assert!(!folder.as_os_str().is_empty()),
        // Of what stands in the place of a scheme nobody can tell what it is.
        Err(refused) => {
            let told = text.split_once("://").map_or(refused.clone(), |(scheme, _)| refused.replacen(scheme, "", 1));
            assert!(!told.contains("hunter2"), "{refused}");
            let is_scheme = text.split_once("://").is_some_and(|(scheme, _)| !scheme.contains([':', '@', '/']));
            assert!(is_scheme || !refused.contains("hunter2"), "{refused}");
        }
    }
}

fn range(text: &str) {
    match parse_address_range(text) {
        Ok(range) => {
            assert!(range.first <= range.last && Family::of(range.first) == Family::of(range.last), "{range:?}");
            assert!(range.contains(range.first) && range.contains(range.last), "{range:?}");
            assert_eq!(parse_address_range(&format!("{}-{}", range.first, range.last)), Ok(range));
        }
        Err(refused) => assert!(!refused.message.is_empty() && !refused.remedy.is_empty(), "{refused:?}"),
    }
}

/// What is taken as a name is one wherever such a name is written.
fn named(text: &str) {
    if names::label_fault(text).is_none() {
        assert!(names::subdomain_fault(text).is_none() && names::label_value_fault(text).is_none(), "{text}");
        assert!(names::label_key_fault(text).is_none(), "{text}");
        assert!(names::hostname_fault(&format!("{text}.example")).is_none(), "{text}");
    }
    if names::hostname_fault(text).is_none() {
        assert!(names::subdomain_fault(text).is_none(), "{text}");
    }
    for fault in [names::label_key_fault(text), names::label_value_fault(text), names::hostname_fault(text)] {
        assert!(fault.is_none_or(|fault| !fault.is_empty()));
    }
}
