//! Which names Kubernetes and the DNS accept (RFC 1123, RFC 1035, Kubernetes' label syntax).

/// What is wrong with a DNS label (RFC 1123: 1 to 63 of `a-z`, `0-9` and `-`, which neither starts
/// nor ends with `-`). Namespaces, Services and ports of Services are named by one.
pub fn label_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty");
    }
    if name.len() > 63 {
        return Some("is longer than 63 characters");
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some("has upper case letters");
    }
    if name.bytes().any(|b| !(b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')) {
        return Some("has characters other than a-z, 0-9 and `-`");
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Some("starts or ends with `-`");
    }
    None
}

/// What is wrong with a DNS subdomain (labels joined by dots, at most 253 characters). Most
/// Kubernetes objects are named by one.
pub fn subdomain_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty");
    }
    if name.len() > 253 {
        return Some("is longer than 253 characters");
    }
    // Kubernetes does not limit the parts of a subdomain to 63 characters, so neither do we here.
    name.split('.').find_map(|part| match label_fault(part) {
        Some("is longer than 63 characters") => None,
        Some("is empty") => Some("has an empty part between dots"),
        other => other,
    })
}

/// What is wrong with a host name that is to be answered by DNS: lower case, no final dot, two
/// labels at least.
pub fn hostname_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty");
    }
    if name.contains('*') {
        return Some("has a wildcard, and each name is answered by itself");
    }
    if name.contains("://") || name.contains('/') {
        return Some("is a URL, not a host name");
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Some("is an IP address, not a host name");
    }
    if name.contains(':') {
        return Some("has a port");
    }
    if name.len() > 253 {
        return Some("is longer than 253 characters");
    }
    if !name.contains('.') {
        return Some("is a single label, and answering it would answer a whole top-level domain");
    }
    name.split('.').find_map(|part| match label_fault(part) {
        Some("is empty") => Some("has an empty part between dots"),
        other => other,
    })
}

/// What is wrong with a label's key: an optional DNS subdomain and `/`, then 1 to 63 of letters,
/// digits, `-`, `_` and `.` that start and end with a letter or digit.
pub fn label_key_fault(key: &str) -> Option<&'static str> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            if subdomain_fault(prefix).is_some() {
                return Some("has a prefix that is not a DNS name");
            }
            name
        }
        None => key,
    };
    if name.is_empty() { Some("is empty") } else { label_value_fault(name) }
}

/// What is wrong with a label's value: empty, or as the name of a key.
pub fn label_value_fault(value: &str) -> Option<&'static str> {
    if value.len() > 63 {
        return Some("is longer than 63 characters");
    }
    if value.bytes().any(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))) {
        return Some("has characters other than letters, digits, `-`, `_` and `.`");
    }
    let ends = [value.bytes().next(), value.bytes().last()];
    if ends.iter().flatten().any(|b| !b.is_ascii_alphanumeric()) {
        return Some("does not start and end with a letter or digit");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let long = "a".repeat(64);
        for good in ["a", "web-1", "0", &long[..63]] {
            assert_eq!(label_fault(good), None, "{good}");
        }
        for bad in ["", "Web", "a_b", "-a", "a-", "a.b", "é", &long] {
            assert!(label_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn subdomains() {
        let long_part = "a".repeat(100);
        for good in ["a", "a.b", "ip-10-0-0-1.eu-central-1.compute.internal", &long_part] {
            assert_eq!(subdomain_fault(good), None, "{good}");
        }
        for bad in ["", "a..b", ".a", "a.", "A.b", "a/b"] {
            assert!(subdomain_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn hostnames() {
        assert_eq!(hostname_fault("checkout.example.com"), None);
        assert_eq!(hostname_fault("xn--mnchen-3ya.example"), None);
        for bad in ["", "com", "*.example.com", "https://a.b", "a.b:80", "10.0.0.1", "fd00::1", "a..b", "a_b.c", "a.b."]
        {
            assert!(hostname_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn label_keys_and_values() {
        for good in ["app", "app.kubernetes.io/name", "a_b", "A"] {
            assert_eq!(label_key_fault(good), None, "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "Not A Key", "UP/a"] {
            assert!(label_key_fault(bad).is_some(), "{bad}");
        }
        assert_eq!(label_value_fault(""), None);
        assert!(label_value_fault("a b").is_some());
    }
}
