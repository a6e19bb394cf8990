//! Takes every endpoint as it comes: what a policy costs that does nothing.

use causeway_policy::lb::{Decision, Groups, LbPolicy, Question};

/// One priority with every endpoint in it.
pub struct Noop;

impl LbPolicy for Noop {
    type Config = ();

    fn decide(question: &Question, _: &()) -> Result<Decision, String> {
        let mut groups = Groups::new(question);
        let all: Vec<u32> = (0..question.count()).collect();
        groups.add_by_locality(&all, &vec![0; question.localities.len()]);
        Ok(groups.decide())
    }
}

causeway_policy::export_lb!(Noop);
