//! Takes every endpoint as it comes: what a policy costs that does nothing.

use causeway_policy::lb::{Decision, Groups, LbPolicy, Question};

/// One priority with every endpoint in it.
pub struct Noop;

impl LbPolicy for Noop {
    type Config = ();

    fn decide(question: &Question, _: &()) -> Result<Decision, String> {
        let mut groups = Groups::new(question);
        for endpoint in question.endpoints() {
            groups.add(0, endpoint);
        }
        Ok(groups.decide())
    }
}

causeway_policy::export_lb!(Noop);
