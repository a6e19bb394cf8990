//! The address that was asked for, else one of the pool with the most free ones.

use causeway_policy::Settings;
use causeway_policy::vip::{Decision, Question, VipPolicy};

/// The policy.
pub struct Policy;

/// What an access may say in `policies.vip.config`.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Pools that are not used.
    without: Vec<String>,
}

impl Settings for Config {
    const SETTINGS: &'static [(&'static str, &'static str)] = &[("without", "a list of names of pools")];
}

impl VipPolicy for Policy {
    type Config = Config;

    fn assign(question: &Question, config: &Config) -> Result<Decision, String> {
        let pools = question.pools.iter().filter(|pool| !config.without.contains(&pool.name));
        let Some(pool) = pools.max_by_key(|pool| pool.free) else {
            return Ok(Decision::Refuse("no pool is left".to_owned()));
        };
        // Causeway checks that it is the pool's and free.
        let address = question.requested.as_ref().or(pool.candidates.first());
        match address {
            Some(address) => Ok(Decision::take_from(pool, Some(address))),
            None => Ok(Decision::Refuse(format!("no address is free in {}", pool.name))),
        }
    }
}

causeway_policy::export_vip!(Policy);

#[cfg(test)]
mod tests {
    use causeway_policy::testing::{assign, pool, vip_question};
    use causeway_policy::vip::{Choice, Decision, Question};

    #[test]
    fn a_pool_that_is_left_out_gives_nothing() {
        let asked = Question {
            config: r#"{"without": ["a"]}"#.to_owned(),
            ..vip_question([pool("a", &["10.0.0.1"]), pool("b", &["10.1.0.1"])])
        };
        let wanted = Choice { pool: "b".to_owned(), address: Some("10.1.0.1".to_owned()) };
        assert_eq!(assign::<super::Policy>(&asked), Ok(Decision::Take(wanted)));
    }
}
