use clap::{CommandFactory, Parser};

use super::args::{Bootstrap, Cli, Command};
use super::client::{Admin, encode_segment};
use super::table::{Layout, age, shown, some_of};
use crate::config::SETTINGS;

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_setting_is_a_flag_of_serve_and_the_other_way_round() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let mut flags: Vec<&str> = serve.get_arguments().filter_map(|a| a.get_long()).collect();
    let mut keys: Vec<&str> = SETTINGS.iter().map(|s| s.key).collect();
    flags.sort_unstable();
    keys.sort_unstable();
    assert_eq!(flags, keys);
}

#[test]
fn every_flag_of_serve_reaches_the_settings() {
    for setting in SETTINGS {
        let flag = format!("--{}=true", setting.key);
        let cli = Cli::try_parse_from(["causeway", "serve", &flag]).unwrap();
        let Command::Serve(args) = cli.command else { panic!("not serve") };
        assert_eq!(args.settings().first(setting.key), Some("true"), "{flag}");
    }
}

#[test]
fn a_bare_insecure_does_not_swallow_what_follows() {
    let cli = Cli::try_parse_from(["causeway", "serve", "--insecure", "--manifests", "m"]).unwrap();
    let Command::Serve(args) = cli.command else { panic!("not serve") };
    let settings = args.settings();
    assert_eq!((settings.first("insecure"), settings.first("manifests")), (Some("true"), Some("m")));
}

#[test]
fn the_agent_is_told_beside_which_envoy_it_stands() {
    let cli = Cli::try_parse_from(["causeway", "agent", "--envoy-admin", "127.0.0.1:9902", "--node-id", "x"]).unwrap();
    let Command::Agent(options) = cli.command else { panic!("not agent") };
    assert_eq!((options.envoy_admin.to_string().as_str(), options.node_id.as_deref()), ("127.0.0.1:9902", Some("x")));
}

#[test]
fn ages_read_as_kubectl_writes_them() {
    for (seconds, text) in [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (312, "5m12s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (11_100, "3h5m"),
        (28_800, "8h"),
        (172_800, "2d"),
        (183_600, "2d3h"),
        (691_200, "8d"),
        (63_072_000, "2y"),
        (66_528_000, "2y40d"),
        (315_360_000, "10y"),
    ] {
        assert_eq!(age(seconds), text, "{seconds}");
    }
}

#[test]
fn later_rows_keep_the_columns() {
    let mut layout = Layout::default();
    let mut page = Vec::new();
    let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
    layout.print(&[row(&["NAME", "STATE"]), row(&["östlich", ""])], &mut page).unwrap();
    layout.print(&[row(&["b", "up"])], &mut page).unwrap();
    layout.print(&[row(&["b", "up", "<gone>"])], &mut page).unwrap();
    let expected = "NAME      STATE\nöstlich   <none>\nb         up\nb         up       <gone>\n";
    assert_eq!(String::from_utf8(page).unwrap(), expected);
}

#[test]
fn cells_cannot_command_the_terminal() {
    assert_eq!(shown("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
}

#[test]
fn long_lists_are_cut() {
    assert_eq!(some_of([1, 2, 3], 3), "1,2,3");
    assert_eq!(some_of([1, 2, 3, 4, 5], 3), "1,2,3 + 2 more");
}

#[test]
fn segments_are_encoded() {
    assert_eq!(encode_segment("side/car ü~1"), "side%2Fcar%20%C3%BC~1");
}

#[test]
fn admin_addresses_are_read_in_several_spellings() {
    let admin = |text: &str| {
        let cli = Cli::try_parse_from(["causeway", "status", "--admin-addr", text]).unwrap();
        let Command::Status(args) = cli.command else { panic!("not status") };
        Admin::new(&args.server).map(|_| ())
    };
    for fine in ["127.0.0.1:1", "http://127.0.0.1:1", "http://localhost:1/", "[::1]:1"] {
        admin(fine).unwrap();
    }
    for wrong in ["127.0.0.1", "https://x:1", "", "u@x:1", "x:1/y", ":1"] {
        let error = admin(wrong).unwrap_err();
        assert!(error.is::<super::Usage>() && error.to_string().contains("--admin-addr"), "{wrong}: {error}");
    }
}

fn bootstrap(more: &[&str]) -> anyhow::Result<String> {
    let given = ["causeway", "bootstrap", "--role=gateway", "--node-id=gw-1", "--cluster=east"];
    let Command::Bootstrap(args) = Cli::try_parse_from(given.iter().chain(more))?.command else { panic!() };
    let args: Bootstrap = args;
    super::bootstrap::render(&args)
}

#[test]
fn bootstraps_are_yaml_whatever_the_texts_are() {
    let hostile = "a\": {b: 'c'}\n- d # e";
    let label = format!("tier={hostile}");
    let text = bootstrap(&["--zone", hostile, "--network", hostile, "--label", &label, "--protocol=sotw"]).unwrap();
    let value: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
    assert_eq!(value["node"]["locality"]["zone"], hostile);
    assert_eq!(value["node"]["metadata"]["network"], hostile);
    assert_eq!(value["node"]["metadata"]["tier"], hostile);
    assert_eq!(value["node"]["metadata"]["role"], "gateway");
    assert_eq!(value["dynamic_resources"]["ads_config"]["api_type"], "GRPC");
}

#[test]
fn bootstraps_find_the_control_plane_in_three_ways() {
    let first = |text: &str, path: &str| {
        let value: serde_json::Value = serde_yaml_ng::from_str(text).unwrap();
        value["static_resources"]["clusters"][0].pointer(path).cloned()
    };
    const ENDPOINT: &str = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
    let static_v6 = bootstrap(&["--xds=[::1]:18000"]).unwrap();
    assert_eq!(first(&static_v6, "/type").unwrap(), "STATIC");
    assert_eq!(first(&static_v6, ENDPOINT).unwrap()["socket_address"]["address"], "::1");
    let named = bootstrap(&["--xds=causeway.svc:18000", "--xds=127.0.0.1:1"]).unwrap();
    assert_eq!(first(&named, "/type").unwrap(), "STRICT_DNS");
    let unix = bootstrap(&["--xds=unix:/run/causeway.sock"]).unwrap();
    assert_eq!(first(&unix, ENDPOINT).unwrap()["pipe"]["path"], "/run/causeway.sock");
}

#[test]
fn bootstraps_refuse_what_envoy_would() {
    for (more, part) in [
        (vec!["--label", "role=x"], "use --role"),
        (vec!["--label", "x"], "KEY=VALUE"),
        (vec!["--label", "=x"], "KEY=VALUE"),
        (vec!["--label", "a=1", "--label", "a=2"], "twice"),
        (vec!["--xds", "host"], "port is missing"),
        (vec!["--xds", "http://x:1"], "is a URL"),
        (vec!["--xds", "unix:"], "path is missing"),
        (vec!["--xds", "x:1", "--xds", "unix:/y"], "cannot look up names"),
        (vec!["--envoy-admin", "localhost:9901"], "is not an IP address"),
        (vec!["--network", ""], "--network is empty"),
    ] {
        let error = bootstrap(&more).unwrap_err();
        assert!(error.is::<super::Usage>() && error.to_string().contains(part), "{more:?}: {error}");
    }
}
