use std::time::Duration;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn parse(flags: &[&str]) -> Result<Options, String> {
    let flags = ["agent"].into_iter().chain(flags.iter().copied());
    Cli::try_parse_from(flags).map(|cli| cli.options).map_err(|error| error.to_string())
}

#[test]
fn defaults_suit_an_agent_beside_its_envoy() {
    let options = parse(&[]).unwrap();
    assert_eq!(options.control_plane, "http://127.0.0.1:18000");
    assert_eq!(options.envoy_admin, AdminAddress::Tcp(([127, 0, 0, 1], 9901).into()));
    assert_eq!(options.poll_interval, Duration::from_millis(250));
    assert!(options.assign.is_empty() && options.node_id.is_none() && !options.make_local);
}

#[test]
fn admin_addresses_are_read_and_shown() {
    for (text, shown) in [
        ("127.0.0.1:9901", "127.0.0.1:9901"),
        ("http://127.0.0.1:9901/", "127.0.0.1:9901"),
        ("localhost:9901", "127.0.0.1:9901"),
        ("[::1]:9901", "[::1]:9901"),
        ("unix:/run/envoy.sock", "unix:/run/envoy.sock"),
        ("unix:///run/envoy.sock", "unix:/run/envoy.sock"),
        ("unix:////run/envoy.sock", "unix:/run/envoy.sock"),
    ] {
        assert_eq!(text.parse::<AdminAddress>().unwrap().to_string(), shown, "{text}");
    }
    for text in ["", "unix:", "envoy", "127.0.0.1"] {
        assert!(text.parse::<AdminAddress>().is_err(), "{text}");
    }
}

#[test]
fn durations_need_a_unit_and_sense() {
    for (text, ms) in [("250ms", 250), ("1s", 1000), ("1.5s", 1500), ("60s", 60_000)] {
        assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for text in ["", "250", "s", "-1s", "5ms", "61s", "1m", "NaNs", "infs", "1e99s"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn assigning_needs_a_place_to_remember() {
    let error = parse(&["--assign", "240.11.0.0/24"]).unwrap_err();
    assert!(error.contains("--state-dir"), "{error}");
    assert!(parse(&["--make-local"]).unwrap_err().contains("--assign"));
    let options = parse(&["--assign", "240.11.0.0/24", "--assign", "fd00::/64", "--state-dir", "/var/lib/x"]).unwrap();
    assert_eq!(options.assign.len(), 2);
}

#[tokio::test]
async fn a_control_plane_that_cannot_be_one_is_an_error_at_once() {
    for url in ["https://127.0.0.1:1", "127.0.0.1:18000", "unix:relative", "http://", "ftp://x", ""] {
        let mut options = parse(&[]).unwrap();
        options.control_plane = url.into();
        let ended = tokio::time::timeout(Duration::from_secs(5), run(options, Default::default())).await;
        let error = ended.expect("ends at once").unwrap_err().to_string();
        assert!(error.contains("--control-plane"), "{url}: {error}");
    }
}
