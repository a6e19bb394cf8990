use proptest::prelude::*;

use super::challenge::{self, Challenge};
use super::credentials::{self, Credentials};
use super::manifest::Manifest;
use super::{NoReference, Reference};

const DIGEST: &str = "sha256:f54cc6faae31019caf8fe643a527d3ea7f2ccac799d3c797fa5b291ecca8e7c2";

fn reference(of: &str) -> Reference {
    format!("oci://{of}@{DIGEST}").parse().unwrap()
}

#[test]
fn references_are_read_as_they_are_written() {
    for (text, registry, name) in [
        ("ghcr.io/acme/policy", "ghcr.io", "acme/policy"),
        ("ghcr.io/acme/policy:v1", "ghcr.io", "acme/policy"),
        ("127.0.0.1:5000/p", "127.0.0.1:5000", "p"),
        ("[::1]:5000/a.b/c_d/e__f/g--h:V_1.0-x", "[::1]:5000", "a.b/c_d/e__f/g--h"),
        ("[fd00::1]/p", "[fd00::1]", "p"),
        ("registry_1/p", "registry_1", "p"),
    ] {
        let read = reference(text);
        assert_eq!((read.registry(), read.name()), (registry, name));
        assert_eq!(read.to_string(), format!("oci://{text}@{DIGEST}"));
        assert_eq!(read.digest().to_string(), DIGEST);
    }
}

#[test]
fn what_is_no_reference_is_told_with_what_to_write() {
    let is = |text: &str| text.parse::<Reference>().unwrap_err();
    let pinned = |text: &str| is(&format!("{text}@{DIGEST}"));
    assert!(matches!(pinned("ghcr.io/acme/policy"), NoReference::Form(_)));
    assert!(matches!(pinned("oci://ghcr.io"), NoReference::Form(_)));
    assert!(matches!(pinned(&format!("oci://ghcr.io/{}", "a".repeat(2000))), NoReference::Form(_)));
    for unpinned in ["oci://ghcr.io/acme/policy:v1", "oci://ghcr.io/acme/policy"] {
        assert!(matches!(is(unpinned), NoReference::NotPinned(_)), "{unpinned}");
    }
    for digest in ["sha256:abc", "sha512:00", "", DIGEST.to_uppercase().as_str()] {
        assert!(matches!(is(&format!("oci://ghcr.io/p@{digest}")), NoReference::Digest(_)), "{digest}");
    }
    for host in [
        "",
        ":5000",
        "user:pass@ghcr.io",
        "a b",
        "ghcr.io:",
        "ghcr.io:0",
        "ghcr.io:+1",
        "ghcr.io:70000",
        "[::1",
        "-a",
        "a..b",
        "é",
    ] {
        assert!(matches!(pinned(&format!("oci://{host}/p")), NoReference::Host(_)), "{host}");
    }
    for name in ["", "Policy", "a//b", "a/", "/a", "_a", "a_", "a..b", "a___b", "a/../b", "a b", "a%2e"] {
        assert!(matches!(pinned(&format!("oci://ghcr.io/{name}")), NoReference::Name(_)), "{name}");
    }
    for tag in ["", ".a", "-a", "a:b", "a b", &"a".repeat(129)] {
        assert!(matches!(pinned(&format!("oci://ghcr.io/p:{tag}")), NoReference::Tag(_)), "{tag}");
    }
}

#[test]
fn loopback_is_known_by_its_address() {
    for (host, is) in [
        ("127.0.0.1:5000", true),
        ("127.8.8.8", true),
        ("[::1]:5000", true),
        ("[::ffff:127.0.0.1]", true),
        ("localhost:5000", true),
        ("localhost.example.com", false),
        ("10.0.0.1", false),
        ("[fd00::1]", false),
    ] {
        assert_eq!(reference(&format!("{host}/p")).is_loopback(), is, "{host}");
    }
}

#[test]
fn challenges_are_read_as_registries_write_them() {
    let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer {
        realm: realm.to_owned(),
        service: service.map(str::to_owned),
    };
    for (header, offered) in [
        (r#"Basic realm="Registry""#, vec![Challenge::Basic]),
        ("basic", vec![Challenge::Basic]),
        (
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
            vec![bearer("https://auth.docker.io/token", Some("registry.docker.io"))],
        ),
        (
            r#"Negotiate abc==, BEARER Realm = "https://a/\"b" , Basic realm=x"#,
            vec![bearer("https://a/\"b", None), Challenge::Basic],
        ),
        (r#"Bearer service="no realm""#, vec![]),
        (r#"Bearer realm="not closed"#, vec![bearer("not closed", None)]),
        ("", vec![]),
    ] {
        assert_eq!(challenge::parse(header), offered, "{header}");
    }
}

#[test]
fn credentials_are_found_as_docker_writes_them() {
    // printf 'reader:se:cret' | base64
    let auth = r#"{"auth":"cmVhZGVyOnNlOmNyZXQ="}"#;
    let basic =
        |user: &str, password: &str| Some(Credentials::Basic { user: user.to_owned(), password: password.to_owned() });
    let other = r#"{"username":"other","password":"x"}"#;
    for (auths, of, found) in [
        (format!(r#""ghcr.io":{auth}"#), "ghcr.io/acme/p", basic("reader", "se:cret")),
        (format!(r#""https://ghcr.io/v2/":{auth}"#), "ghcr.io/acme/p", basic("reader", "se:cret")),
        (format!(r#""https://index.docker.io/v1/":{auth}"#), "docker.io/acme/p", basic("reader", "se:cret")),
        (format!(r#""ghcr.io":{other},"ghcr.io/acme":{auth}"#), "ghcr.io/acme/p", basic("reader", "se:cret")),
        (format!(r#""ghcr.io":{other},"ghcr.io/acme":{auth}"#), "ghcr.io/acmes/p", basic("other", "x")),
        (format!(r#""ghcr.io":{auth}"#), "ghcr.io:5000/p", None),
        (format!(r#""ghcr.io":{auth}"#), "evil-ghcr.io/p", None),
        (r#""ghcr.io":{}"#.to_owned(), "ghcr.io/p", None),
        (r#""ghcr.io":{"registrytoken":"t"}"#.to_owned(), "ghcr.io/p", Some(Credentials::Token("t".to_owned()))),
    ] {
        let text = format!(r#"{{"auths":{{{auths}}}}}"#);
        assert_eq!(credentials::of_text(&text, &reference(of)), Ok(found), "{text} {of}");
    }
    assert_eq!(credentials::of_text("{}", &reference("ghcr.io/p")), Ok(None));
}

#[test]
fn credentials_that_cannot_be_used_are_told_without_the_secret() {
    for (text, word) in [
        (r#"{"auths":{"ghcr.io":{"auth":"c2VjcmV0"}}}"#, "auths.ghcr.io.auth"),
        (r#"{"auths":{"ghcr.io":{"auth":"secret!"}}}"#, "auths.ghcr.io.auth"),
        (r#"{"auths":{"ghcr.io":{"identitytoken":"secret"}}}"#, "identitytoken"),
        (r#"{"auths":{"ghcr.io":{}},"credsStore":"desktop"}"#, "docker-credential-desktop"),
        (r#"{"credHelpers":{"ghcr.io":"gh"}}"#, "docker-credential-gh"),
        (r#"{"auths":{"ghcr.io":{"auth":"secret"}"#, "line 1"),
        (r#"{"auths":"secret"}"#, "line 1"),
    ] {
        let error = credentials::of_text(text, &reference("ghcr.io/p")).unwrap_err();
        assert!(error.contains(word) && !error.contains("secret") && !error.contains("c2VjcmV0"), "{error}");
    }
    let shown = format!("{:?}", Credentials::Basic { user: "reader".to_owned(), password: "secret".to_owned() });
    assert!(shown.contains("reader") && !shown.contains("secret"), "{shown}");
}

#[test]
fn of_signatures_the_newest_that_can_be_some_are_taken() {
    let layer = |size: u64, kind: &str, name: &str| {
        format!(
            r#"{{"mediaType":"{kind}","digest":"{DIGEST}","size":{size},"annotations":{{"dev.cosignproject.cosign/signature":"{name}"}}}}"#
        )
    };
    let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
    let layers = [
        layer(9, kind, "a"),
        layer(10, kind, "b"),
        layer(99, kind, "too large"),
        layer(9, "text/plain", "of another type"),
        layer(9, kind, "c"),
        format!(r#"{{"mediaType":"{kind}","digest":"{DIGEST}","size":9}}"#),
    ];
    let text = format!(r#"{{"layers":[{}]}}"#, layers.join(","));
    let manifest = Manifest::parse(&reference("ghcr.io/p"), text.as_bytes()).unwrap();
    let taken: Vec<String> = manifest.signatures(10, 2).into_iter().map(|(_, signature)| signature).collect();
    assert_eq!(taken, ["b", "c"]);
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in ".{0,80}", ascii in "[ -~]{0,80}") {
        for text in [&text, &ascii] {
            let _ = challenge::parse(text);
            let _ = text.parse::<Reference>();
            let _ = format!("oci://{text}@{DIGEST}").parse::<Reference>();
            let _ = credentials::of_text(text, &reference("ghcr.io/p"));
            let _ = Manifest::parse(&reference("ghcr.io/p"), text.as_bytes());
        }
    }
}
