//! The client's own zone first; of the others only so many.

use causeway_policy::lb::{Decision, Groups, LbPolicy, Question};
use causeway_policy::settings::{Settings, within};

/// The policy.
pub struct Policy;

/// What an access may say in `policies.loadBalancing.config`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// How many endpoints of other zones are used, 1 to 1000.
    max_far: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_far: 10 }
    }
}

impl Settings for Config {
    const SETTINGS: &'static [(&'static str, &'static str)] = &[("maxFar", "a whole number from 1 to 1000")];

    fn check(&self) -> Result<(), String> {
        within("maxFar", self.max_far, 1..=1000)
    }
}

impl LbPolicy for Policy {
    type Config = Config;

    fn decide(question: &Question, config: &Config) -> Result<Decision, String> {
        // Ready, in the client's network, every address once.
        let usable = question.usable();
        let (near, far): (Vec<_>, Vec<_>) =
            question.pick(&usable.ready).partition(|endpoint| *endpoint.locality() == question.client.locality);
        // By priority and locality, in an order that is always the same.
        let mut groups = Groups::new(question);
        near.into_iter().for_each(|endpoint| groups.add(0, endpoint));
        far.into_iter().take(config.max_far as usize).for_each(|endpoint| groups.add(1, endpoint));
        // Where nothing is ready, what drains still serves.
        question.pick(&usable.draining).for_each(|endpoint| groups.drain(endpoint));
        Ok(groups.decide())
    }
}

causeway_policy::export_lb!(Policy);

#[cfg(test)]
mod tests {
    use causeway_policy::testing::{backend, check_lb, decide, question, show};

    #[test]
    fn the_own_zone_comes_first() {
        // The client is at eu/a.
        let asked = question([backend(1).at("us", "a"), backend(2).at("eu", "a")]);
        let decision = decide::<super::Policy>(&asked).expect("it decides");
        assert_eq!(show(&asked, &decision), ["0 eu/a 1: 2*1", "1 us/a 1: 1*1"]);
        check_lb(&asked, &decision).expect("Causeway takes it");
    }

    #[test]
    fn of_the_others_only_so_many_are_used() {
        let mut asked = question([backend(1).at("us", "a"), backend(2).at("us", "a")]);
        asked.config = r#"{"maxFar": 1}"#.to_owned();
        let decision = decide::<super::Policy>(&asked).expect("it decides");
        assert_eq!(show(&asked, &decision), ["0 us/a 1: 1*1"]);
    }
}
