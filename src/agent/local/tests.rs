use std::net::TcpListener;

use super::*;

#[tokio::test]
async fn a_port_is_bindable_unless_somebody_listens_there() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let blocker = TcpListener::bind(any).unwrap();
        let address = blocker.local_addr().unwrap();
        assert_eq!(bindable(address), Some(false), "{address}");
        drop(blocker);
        assert_eq!(bindable(address), Some(true), "{address}");
    }
}

#[tokio::test]
async fn an_address_that_is_not_ours_is_not_bindable() {
    // TEST-NET-3 (RFC 5737) and the documentation prefix (RFC 3849).
    assert_eq!(bindable("203.0.113.7:80".parse().unwrap()), Some(false));
    assert_eq!(bindable("[2001:db8::7]:80".parse().unwrap()), Some(false));
}

#[tokio::test]
async fn trying_does_not_disturb_an_envoy_that_binds_at_the_same_moment() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tried = TcpSocket::new_v4().unwrap();
    tried.set_reuseaddr(true).unwrap();
    tried.bind(address).unwrap();
    // As Envoy does.
    let envoys = TcpSocket::new_v4().unwrap();
    envoys.set_reuseaddr(true).unwrap();
    envoys.set_reuseport(true).unwrap();
    envoys.bind(address).unwrap();
    let _listening = envoys.listen(16).unwrap();
    assert_eq!(bindable(address), Some(false), "though it shares its port");
}

#[test]
fn only_what_can_be_bound_is_made_bindable() {
    for (text, range) in [
        ("240.11.0.0/16", "240.11.0.0/16"),
        ("10.0.0.7", "10.0.0.7/32"),
        ("fd00::7", "fd00::7/128"),
        ("fd00::7/128", "fd00::7/128"),
    ] {
        assert_eq!(local_range(text), Ok(range.parse().unwrap()), "{text}");
    }
    for (text, said) in [("fd00::/64", "one by one"), ("edge", "expected CIDR"), ("10.0.0.0/33", "expected CIDR")] {
        assert!(local_range(text).unwrap_err().contains(said), "{text}");
    }
}
