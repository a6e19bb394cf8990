use super::*;

/// A request without its length, number and sender: type and flags, and what follows them.
fn asked(bytes: &[u8]) -> (u16, u16, &[u8]) {
    let two = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(length as usize, bytes.len());
    (two(4), two(6), &bytes[16..])
}

/// What iproute2 6.1 was seen to send.
#[test]
fn requests_are_those_of_the_command() {
    if cfg!(target_endian = "big") {
        return;
    }
    let v6 = "fd00::5".parse().unwrap();

    // ip -4 route replace local 240.11.0.0/16 dev lo
    let sent = b"\x02\x10\0\0\xff\x03\xfe\x02\0\0\0\0\x08\0\x01\0\xf0\x0b\0\0\x08\0\x04\0\x01\0\0\0";
    let route = encoded(local_route("240.11.0.0/16".parse().unwrap()), REPLACE);
    assert_eq!(asked(&route), (0x18, 0x505, &sent[..]));

    // ip -6 route replace local fd00::/112 dev lo
    let sent =
        b"\x0a\x70\0\0\xff\x03\0\x02\0\0\0\0\x14\0\x01\0\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\x04\0\x01\0\0\0";
    let route = encoded(local_route("fd00::/112".parse().unwrap()), REPLACE);
    assert_eq!(asked(&route), (0x18, 0x505, &sent[..]));

    // ip -6 address replace fd00::5/128 dev lo nodad
    let mut sent = *b"\x0a\x80\x02\0\x01\0\0\0\x14\0\x02\0\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\x14\0\x01\0\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05";
    let address = encoded(RouteNetlinkMessage::NewAddress(of_loopback(v6, AddressHeaderFlags::Nodad)), REPLACE);
    assert_eq!(asked(&address), (0x14, 0x505, &sent[..]));

    // ip -6 address delete fd00::5/128 dev lo
    sent[2] = 0;
    let address = encoded(RouteNetlinkMessage::DelAddress(of_loopback(v6, AddressHeaderFlags::empty())), 0);
    assert_eq!(asked(&address), (0x15, 0x005, &sent[..]));
}

#[test]
fn an_answer_is_yes_or_a_reason() {
    let answer = |code: i32| {
        let mut bytes = vec![0; 36];
        bytes[0] = 36;
        bytes[4] = 2; // NLMSG_ERROR
        bytes[16..20].copy_from_slice(&code.to_ne_bytes());
        bytes
    };
    if cfg!(target_endian = "little") {
        assert_eq!(understood(&answer(0)), Ok(()));
        assert_eq!(understood(&answer(-1)), Err(Errno::PERM));
        assert_eq!(understood(&answer(i32::MIN)), Err(Errno::PROTO));
    }
    for other in [&[][..], &answer(0)[..10], &[0; 36]] {
        assert_eq!(understood(other), Err(Errno::PROTO), "{other:?}");
    }
}

#[test]
fn errors_say_what_to_do() {
    for (errno, remedy) in [
        (Errno::PERM, "Operation not permitted (os error 1): to set a route needs CAP_NET_ADMIN"),
        (Errno::ACCESS, "`sysctl net.ipv6.conf.lo.disable_ipv6=0`"),
        (Errno::NETDOWN, "`ip link set lo up`"),
        (Errno::AFNOSUPPORT, "AF_NETLINK"),
        (Errno::NOBUFS, "No buffer space available"),
    ] {
        let said = told(errno, "a route");
        assert!(said.contains(remedy), "{said}");
    }
}
