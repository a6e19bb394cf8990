use std::path::Path;

use super::*;

fn flags(pairs: &[(&'static str, &str)]) -> Settings {
    pairs.iter().fold(Settings::default(), |settings, (key, value)| settings.flag(key, [(*value).to_owned()]))
}

fn resolve(pairs: &[(&'static str, &str)], env: &[(&str, &str)]) -> Result<ServeConfig, ConfigError> {
    let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    ServeConfig::resolve(flags(pairs), &env)
}

/// A folder with a configuration file in it.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("causeway.yaml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn defaults_are_loopback() {
    let config = resolve(&[("manifests", "m")], &[]).unwrap();
    assert_eq!(config.xds_addrs, [ListenAddr::Tcp(DEFAULT_XDS_ADDR)]);
    assert_eq!((config.admin_addr, config.dns_addr), (DEFAULT_ADMIN_ADDR, Some(DEFAULT_DNS_ADDR)));
    assert_eq!((config.drain, config.grace), (Duration::from_secs(5), Duration::from_secs(60)));
    assert_eq!(config.load_report_interval, Some(Duration::from_secs(10)));
    let silent = resolve(&[("manifests", "m"), ("load-report-interval", "none")], &[]).unwrap();
    assert_eq!(silent.load_report_interval, None);
    assert!(!config.insecure && config.primary.is_none() && config.log_format == LogFormat::Text);
    assert_eq!(config.data_dir, Path::new("causeway-data"));
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let (_dir, path) = file("manifests: from-file\ndrain: 1s\ngrace: 2s\ndataDir: from-file\n");
    let given = [("config", path.as_str()), ("drain", "9s")];
    let env = [("CAUSEWAY_DRAIN", "8s"), ("CAUSEWAY_GRACE", "7s")];
    let config = resolve(&given, &env).unwrap();
    assert_eq!(config.drain, Duration::from_secs(9));
    assert_eq!(config.grace, Duration::from_secs(7));
    assert_eq!(config.data_dir, Path::new("from-file"));
    assert_eq!(config.admin_addr, DEFAULT_ADMIN_ADDR);
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let (_dir, path) = file("manifests: m\nlog-format: json\n");
    assert_eq!(resolve(&[], &[("CAUSEWAY_CONFIG", &path)]).unwrap().log_format, LogFormat::Json);
}

#[test]
fn an_insecure_flag_can_be_taken_back() {
    let env = [("CAUSEWAY_INSECURE", "true")];
    assert!(resolve(&[("manifests", "m")], &env).unwrap().insecure);
    assert!(!resolve(&[("manifests", "m"), ("insecure", "false")], &env).unwrap().insecure);
}

#[test]
fn lists_come_in_each_layer() {
    let expected = ["127.0.0.1:1", "unix:/run/x.sock"];
    let shown = |config: ServeConfig| config.xds_addrs.iter().map(ToString::to_string).collect::<Vec<_>>();
    let both = Settings::default().flag("xds-addr", expected.map(str::to_owned)).over(flags(&[("manifests", "m")]));
    assert_eq!(shown(ServeConfig::resolve(both, &|_| None).unwrap()), expected);
    let env = [("CAUSEWAY_XDS_ADDR", "127.0.0.1:1, unix:///run/x.sock")];
    assert_eq!(shown(resolve(&[("manifests", "m")], &env).unwrap()), expected);
    let (_dir, path) = file("manifests: m\nxdsAddr: ['127.0.0.1:1', 'unix:/run/x.sock']\n");
    assert_eq!(shown(resolve(&[("config", &path)], &[]).unwrap()), expected);
}

#[test]
fn empty_variables_count_as_unset() {
    let env = [("CAUSEWAY_ADMIN_ADDR", ""), ("CAUSEWAY_PRIMARY", "  ")];
    let config = resolve(&[("manifests", "m")], &env).unwrap();
    assert_eq!((config.admin_addr, config.primary), (DEFAULT_ADMIN_ADDR, None));
}

#[test]
fn dns_can_be_switched_off() {
    assert_eq!(resolve(&[("manifests", "m"), ("dns-addr", "none")], &[]).unwrap().dns_addr, None);
}

#[test]
fn addresses_that_others_reach_need_insecure() {
    for (flag, address) in [
        ("xds-addr", "0.0.0.0:18000"),
        ("admin-addr", "10.0.0.1:80"),
        ("dns-addr", "[::]:53"),
        ("admin-addr", "[::ffff:10.0.0.1]:80"),
    ] {
        let error = resolve(&[("manifests", "m"), (flag, address)], &[]).unwrap_err().to_string();
        for part in [flag, address, "--insecure", "127.0.0.1"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let config = resolve(&[("manifests", "m"), (flag, address), ("insecure", "true")], &[]).unwrap();
        assert!(config.warnings()[0].contains(address), "{:?}", config.warnings());
    }
    for address in ["127.8.8.8:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "localhost:80"] {
        resolve(&[("manifests", "m"), ("admin-addr", address)], &[]).unwrap();
    }
}

#[test]
fn two_servers_cannot_have_one_address() {
    let error = resolve(&[("manifests", "m"), ("admin-addr", "127.0.0.1:18000")], &[]).unwrap_err().to_string();
    assert!(error.contains("--xds-addr and --admin-addr are both 127.0.0.1:18000"), "{error}");
    // Port 0 means any free port.
    resolve(&[("manifests", "m"), ("admin-addr", "127.0.0.1:0"), ("xds-addr", "127.0.0.1:0")], &[]).unwrap();
}

#[test]
fn values_that_cannot_be_read_name_their_origin_and_a_remedy() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("xds-addr", "18000", &["127.0.0.1:PORT"]),
        ("xds-addr", ":18000", &["0.0.0.0:18000"]),
        ("xds-addr", "host:18000", &["`host` is not an IP address"]),
        ("xds-addr", "127.0.0.1:99999", &["`99999` is not a port"]),
        ("xds-addr", "::1", &["[::1]:PORT"]),
        ("xds-addr", "127.0.0.1", &["127.0.0.1:PORT"]),
        ("xds-addr", "unix:", &["path is missing"]),
        ("insecure", "maybe", &["true or false"]),
        ("primary", "East", &["lower-case"]),
        ("primary", "../etc", &["lower-case"]),
        ("drain", "5", &["unit is missing"]),
        ("drain", "5 s", &["unit is missing"]),
        ("drain", "-5s", &["number is missing"]),
        ("grace", "5d", &["`d` is not a unit"]),
        ("load-report-interval", "500ms", &["1s to 1h, or none"]),
        ("load-report-interval", "2h", &["1s to 1h, or none"]),
        ("grace", "99999999h", &["longer than a year"]),
        ("grace", "99999999999999999999s", &["longer than a year"]),
        ("policy-compile-cpu", "500ms", &["write whole seconds, 1s to 1h"]),
        ("policy-compile-cpu", "2h", &["write whole seconds, 1s to 1h"]),
        ("policy-compile-memory-mib", "255", &["write 256 to 65536"]),
        ("policy-compile-memory-mib", "1Gi", &["write 256 to 65536"]),
        ("log-format", "xml", &["text or json"]),
    ];
    for (key, value, parts) in cases {
        let name = SETTINGS.iter().find(|s| s.key == *key).unwrap().env();
        let error = resolve(&[("manifests", "m")], &[(name.as_str(), value)]).unwrap_err().to_string();
        for part in parts.iter().chain(&[name.as_str(), value]) {
            assert!(error.contains(part), "{key}={value}: `{part}` is not in: {error}");
        }
        let error = resolve(&[("manifests", "m"), (key, value)], &[]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--{key}: ")), "{error}");
    }
    let long = format!("unix:/{}", "x".repeat(200));
    let error = resolve(&[("manifests", "m"), ("xds-addr", &long)], &[]).unwrap_err().to_string();
    assert!(error.contains("201 bytes"), "{error}");
}

#[test]
fn mistakes_in_the_file_name_file_line_and_remedy() {
    let cases: &[(&str, &str, &str)] = &[
        ("manifests: m\nxds_adr: x\n", ":2: ", "unknown key `xds_adr`; did you mean `xds-addr`?"),
        ("xds_addr: x\n", ":1: ", "did you mean `xds-addr`?"),
        ("manifest: m\n", ":1: ", "did you mean `manifests`?"),
        ("colour: red\n", ":1: ", "the keys are manifests"),
        ("config: other.yaml\n", ":1: ", "only as --config"),
        ("a: b: c\n", ":1: ", "is not YAML"),
        ("manifests: m\nmanifests: n\n", "", "duplicate entry"),
        ("xdsAddr: a\nxds-addr: b\n", ":2: ", "there twice"),
        ("- manifests\n", ": ", "must be a mapping"),
        ("manifests:\n", ":1: ", "has no value"),
        ("manifests: ''\n", ":1: ", "is empty"),
        ("manifests: [a, b]\n", ":1: ", "takes one value"),
        ("manifests: {a: b}\n", ":1: ", "must be plain text"),
        ("xds-addr: []\n", ":1: ", "empty list"),
        ("manifests: m\n\n# later\ndrain: 5\n", ":4: ", "unit is missing"),
        ("manifests: m\n'grace': 5\n", ":2: ", "unit is missing"),
        ("7: x\n", ": ", "must be text"),
    ];
    for (text, place, message) in cases {
        let (_dir, path) = file(text);
        let error = resolve(&[("config", &path)], &[]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{path}{place}")), "{text:?}: {error}");
        assert!(error.contains(message), "{text:?}: {error}");
    }
}

#[test]
fn an_empty_file_says_nothing() {
    for text in ["", "# nothing\n", "---\n"] {
        let (_dir, path) = file(text);
        resolve(&[("config", &path), ("manifests", "m")], &[]).unwrap();
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = resolve(&[("config", "/nowhere/x.yaml")], &[]).unwrap_err().to_string();
    assert!(error.contains("/nowhere/x.yaml"), "{error}");
    let error = resolve(&[("config", "/dev/zero")], &[]).unwrap_err().to_string();
    assert!(error.contains("is larger than"), "{error}");
}

#[test]
fn manifests_are_required() {
    let error = resolve(&[], &[]).unwrap_err().to_string();
    assert!(error.contains("--manifests is missing"), "{error}");
}

#[test]
fn folders_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir_all(at("clusters/east")).unwrap();
    std::fs::write(at("file"), "").unwrap();
    let check = |manifests: &str, data: &str| {
        let config = resolve(&[("manifests", &at(manifests)), ("data-dir", &at(data))], &[]).unwrap();
        config.check_folders().map_err(|e| e.to_string())
    };
    check("clusters", "data/not/yet").unwrap();
    let cases = [
        ("nowhere", "data", "no such folder"),
        ("file", "data", "is a file"),
        ("clusters", "file", "is a file"),
        ("clusters", "clusters/data", "lies within --manifests"),
        ("clusters", "clusters", "lies within --manifests"),
        ("clusters", "clusters/east/../data", "lies within --manifests"),
    ];
    for (manifests, data, message) in cases {
        let error = check(manifests, data).unwrap_err();
        assert!(error.contains(message), "{manifests} {data}: {error}");
    }
    let (manifests, data) = (at("clusters"), at("data"));
    let given = |primary| [("manifests", manifests.as_str()), ("data-dir", data.as_str()), ("primary", primary)];
    assert!(resolve(&given("east"), &[]).unwrap().warnings().is_empty());
    assert!(resolve(&given("west"), &[]).unwrap().warnings()[0].contains("--primary west has no folder"));
}

#[test]
fn durations_add_up() {
    for (text, ms) in [("250ms", 250), ("5s", 5_000), ("1m30s", 90_000), ("2h", 7_200_000), ("0s", 0)] {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for text in ["", "s", "1", "1x", "1m30", "1.5s", "１s"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn a_socket_is_told_as_it_is_read() {
    for (text, told) in [
        ("unix:///run/x", "unix:/run/x"),
        ("unix:////run/x", "unix:/run/x"),
        ("unix:run/x", "unix:run/x"),
        ("unix://x", "unix:x"),
    ] {
        let address: ListenAddr = text.parse().unwrap();
        assert_eq!(address.to_string(), told);
        assert_eq!(told.parse(), Ok(address));
    }
}

#[test]
fn settings_have_one_name_in_three_spellings() {
    let setting = SETTINGS.iter().find(|s| s.key == "xds-addr").unwrap();
    assert_eq!((setting.env().as_str(), setting.camel().as_str()), ("CAUSEWAY_XDS_ADDR", "xdsAddr"));
}

#[test]
fn the_store_is_in_the_data_directory_unless_it_is_said_where() {
    let store = |url: &str| resolve(&[("manifests", "m"), ("data-dir", "d"), ("store", url)], &[]);
    assert_eq!(resolve(&[("manifests", "m"), ("data-dir", "d")], &[]).unwrap().store, StoreUrl::Sqlite("d".into()));
    assert_eq!(store("sqlite:///var/lib/x").unwrap().store, StoreUrl::Sqlite("/var/lib/x".into()));
    assert_eq!(store("sqlite://beside").unwrap().store, StoreUrl::Sqlite("beside".into()));
    let env = [("CAUSEWAY_STORE", "postgres://me@db/causeway?sslmode=verify-full")];
    let config = resolve(&[("manifests", "m")], &env).unwrap();
    let StoreUrl::Postgres(url) = &config.store else { panic!("it is a database") };
    assert_eq!((url.to_string().as_str(), url.is_private()), ("postgres://me@db/causeway", true));
    assert_eq!(config.warnings(), Vec::<String>::new());
    let (_dir, path) = file("manifests: m\nstore: postgresql:///causeway?host=/run/postgresql&user=me\n");
    let config = resolve(&[("config", &path)], &[]).unwrap();
    assert_eq!(format!("{:?}", config.store), "Postgres(postgres://me@/run/postgresql/causeway)");

    let [warning] = &store("postgres://me:hunter2@db:1/x?sslmode=prefer").unwrap().warnings()[..] else {
        panic!("one warning")
    };
    assert!(warning.contains("--store postgres://me@db:1/x: without sslmode=require"), "{warning}");
    for local in
        ["postgres://127.0.0.1/x", "postgres://[::1]:5/x", "postgres://localhost/x", "postgres://%2Frun%2Fpg/x"]
    {
        assert_eq!(store(local).unwrap().warnings(), Vec::<String>::new(), "{local}");
    }
}

#[test]
fn a_store_that_is_none_is_refused_without_its_password() {
    for (url, reason) in [
        ("mysql://me:hunter2@db/x", "`mysql://` is neither sqlite:// nor postgres://"),
        ("hunter2", "there is no scheme"),
        ("me:hunter2@db/x?sslrootcert=file:///ca.pem", "there is no scheme"),
        ("sqlite://", "there is no folder"),
        ("postgres://me:hunter2@db", "it names no database"),
        ("postgres://me:hunter2@db/", "it names no database"),
        ("postgres://me:hunter2@db:port/x", "invalid port number"),
        ("postgres://me:hunter2@db/x?sslmode=hunter2", "sslmode is none of disable, allow"),
        ("postgres://me@db/x?pasword=hunter2", "one of its parameters is unknown"),
        ("postgres://me:hunter#2@db/x", "write %23"),
        ("postgres://me:hunter2@db/x?port=hunter2", "the parameter port is no port"),
    ] {
        let flags = flags(&[("manifests", "m"), ("store", url)]);
        let error = ServeConfig::resolve(flags.clone(), &|_| None).unwrap_err();
        let text = format!("{error} {error:?} {flags:?}");
        assert!(text.contains(reason) && error.to_string().starts_with("--store: "), "{url}: {text}");
        assert!(!text.contains("hunter"), "{text}");
    }
}
