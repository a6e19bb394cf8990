use causeway_policy::testing::{backend, check_lb, decide, question};

use super::*;

#[test]
fn it_can_do_what_it_should() {
    let asked = question([backend(1).at("eu", "a"), backend(2).at("us", "a")]);
    let decision = decide::<Hostile>(&asked).expect("it decides");
    assert_eq!(check_lb(&asked, &decision), Ok(()));
}

#[test]
fn what_it_answers_wrongly_is_against_the_rules() {
    for (misbehaviour, said) in [
        ("UnknownEndpoint", "is none of the 2 that were given"),
        ("UnknownLocality", "is none of the 2"),
        ("DuplicateEndpoint", "used twice"),
        ("DuplicateGroup", "used twice"),
        ("ZeroWeight", "has the weight 0"),
        ("ZeroGroupWeight", "has the weight 0"),
        ("HugeWeights", "add up to more than"),
        ("FewWeights", "1 weights for 2 endpoints"),
        ("LargeCount", "more endpoints than there are"),
        ("SmallCount", "has no endpoints"),
        ("Gap", "priority 1 is there, but 0 is not"),
        ("Nothing", "no endpoint would get requests"),
        ("AllDraining", "no endpoint would get requests"),
        ("WrongSettings", "is not within"),
    ] {
        let mut asked = question([backend(1).at("eu", "a"), backend(2).at("us", "a")]);
        asked.config = format!("{{\"misbehave\": \"{misbehaviour}\"}}");
        if misbehaviour == "HugeWeights" {
            asked.endpoints.localities = vec![0, 0];
        }
        let decision = decide::<Hostile>(&asked).expect("it decides");
        let error = check_lb(&asked, &decision).expect_err(misbehaviour);
        assert!(error.contains(said), "{misbehaviour}: {error}");
    }
}

#[test]
fn it_remembers_where_it_is_let() {
    let mut asked = question([backend(1), backend(2)]);
    asked.config = r#"{"misbehave": "Counter"}"#.to_owned();
    let [first, second] = [(); 2].map(|()| decide::<Hostile>(&asked).expect("it decides").endpoints);
    assert_ne!(first, second);
}
