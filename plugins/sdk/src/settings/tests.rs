use super::*;

#[derive(Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Config {
    max_share: u32,
    mode: Mode,
    regions: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq, serde::Deserialize)]
enum Mode {
    #[default]
    Fast,
    Exact,
}

impl Settings for Config {
    const SETTINGS: &'static [(&'static str, &'static str)] = &[
        ("maxShare", "a whole number from 0 to 100"),
        ("mode", "`Fast` or `Exact`"),
        ("regions", "a list of regions"),
    ];

    fn check(&self) -> Result<(), String> {
        within("maxShare", self.max_share, 0..=100)
    }
}

fn read(config: &str) -> Result<Config, String> {
    parse("lb-mine", config)
}

#[test]
fn what_is_well_is_read() {
    for nothing in ["null", "{}", " null\n", "{ }"] {
        assert_eq!(read(nothing), Ok(Config::default()), "{nothing}");
        assert_eq!(parse::<()>("lb-mine", nothing), Ok(()), "{nothing}");
    }
    let all = r#"{"maxShare": 7, "mode": "Exact", "regions": ["eu"]}"#;
    assert_eq!(read(all), Ok(Config { max_share: 7, mode: Mode::Exact, regions: vec!["eu".into()] }));
}

#[test]
fn what_is_wrong_is_named_with_what_it_can_be() {
    let is_none = "`lb-mine` has no setting";
    for (config, said) in [
        (r#"{"maxshare": 7}"#, format!("{is_none} `maxshare`; did you mean `maxShare`?")),
        (r#"{"regoins": []}"#, format!("{is_none} `regoins`; did you mean `regions`?")),
        (r#"{"colour": 1}"#, format!("{is_none} `colour`; use `maxShare`, `mode` or `regions`")),
        (r#"{"maxShare": 101}"#, "maxShare: 101 is not within 0 to 100".into()),
        (r#"{"maxShare": -1}"#, "maxShare: -1 is not what it can be; use a whole number from 0 to 100".into()),
        (
            r#"{"mode": "Fast", "maxShare": "all"}"#,
            "maxShare: \"all\" is not what it can be; use a whole number from 0 to 100".into(),
        ),
        (r#"{"mode": "Slow"}"#, "mode: \"Slow\" is not what it can be; use `Fast` or `Exact`".into()),
        (r#"{"regions": [1]}"#, "regions: [1] is not what it can be; use a list of regions".into()),
        ("[]", "the configuration is no mapping; write `{}` or settings by name".into()),
        ("\"mode\"", "the configuration is no mapping; write `{}` or settings by name".into()),
        ("{", "the configuration is no JSON: EOF while parsing an object at line 1 column 1".into()),
        (r#"{"mode": "Fast", "mode": "Fast"}"#, "duplicate field `mode` at line 1 column 23".into()),
    ] {
        assert_eq!(read(config), Err(said), "{config}");
    }
}

#[test]
fn a_policy_without_settings_refuses_all() {
    assert_eq!(parse::<()>("lb-mine", r#"{"a": 1}"#), Err("`lb-mine` has no settings; leave `a` out".into()));
    assert!(parse::<()>("lb-mine", "7").is_err_and(|error| error.contains("no mapping")));
}
