use causeway_policy::testing::{assign, pool, vip_question};

use super::*;

fn assigned(misbehaviour: &str) -> Result<Decision, String> {
    let config = format!("{{\"misbehave\": \"{misbehaviour}\"}}");
    assign::<HostileVip>(&Question { config, ..vip_question([pool("a", &[]), pool("b", &["10.0.0.1"])]) })
}

#[test]
fn it_does_as_it_is_told() {
    let take = |pool: &str, address: Option<&str>| {
        Ok(Decision::Take(Choice { pool: pool.into(), address: address.map(Into::into) }))
    };
    assert_eq!(assigned("None"), take("b", None));
    assert_eq!(assigned("UnknownPool"), take("no-such-pool", None));
    assert_eq!(assigned("OtherAddress"), take("b", Some("192.0.2.1")));
    assert_eq!(assigned("Error"), Err("this policy was asked to fail".to_owned()));
}
