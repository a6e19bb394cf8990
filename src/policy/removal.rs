//! How many endpoints one decision may take out of service: a policy that is wrong should be seen to be so before it has
//! taken everything away.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use super::component::CallError;
use super::question::Endpoints;
use crate::model::decision::{LbDecision, Readiness};

/// The share, in percent, that is no limit.
pub const NO_LIMIT: u32 = 100;

/// Checks that, of the endpoints that `last` sends requests to and that are still ready, `next` takes away `most` percent
/// (1 to 100) at most. What is gone, not ready or draining by now loses its requests by itself and does not count. An
/// endpoint of any priority is in service: to fail over, and back, takes nothing away.
///
/// # Errors
/// [`CallError::TooManyRemoved`] where it takes away more.
pub fn check(last: &LbDecision, next: &LbDecision, endpoints: &Endpoints, most: u32) -> Result<(), CallError> {
    if most >= NO_LIMIT || std::ptr::eq(last, next) {
        return Ok(());
    }
    let stay: HashSet<SocketAddr> = in_service(next).collect();
    // Only what is missing is looked for among the endpoints, of which most decisions miss none.
    let mut missing: HashMap<SocketAddr, bool> =
        in_service(last).filter(|address| !stay.contains(address)).map(|address| (address, false)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut still_ready = HashSet::with_capacity(stay.len());
    for endpoint in endpoints.list().iter().filter(|endpoint| endpoint.readiness == Readiness::Ready) {
        match missing.get_mut(&endpoint.address) {
            Some(is_ready) => *is_ready = true,
            None => drop(still_ready.insert(endpoint.address)),
        }
    }
    let removed = missing.values().filter(|is_ready| **is_ready).count();
    let stayed = in_service(last).filter(|address| still_ready.contains(address)).count();
    let of = removed + stayed;
    // In whole numbers: 50 % of 3 endpoints are one of them.
    if removed as u64 * 100 > of as u64 * u64::from(most) {
        return Err(CallError::TooManyRemoved { removed, of, most });
    }
    Ok(())
}

/// Endpoints that get requests, if only when others cannot. A decision has each address once.
fn in_service(decision: &LbDecision) -> impl Iterator<Item = SocketAddr> {
    let endpoints = decision.groups.iter().flat_map(|group| group.endpoints.iter());
    endpoints.filter(|endpoint| !endpoint.draining).map(|endpoint| endpoint.address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::decision::{Endpoint, LbEndpoint, LbGroup};
    use crate::model::object::Locality;
    use Readiness::{Draining, NotReady, Ready};

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    fn place() -> Locality {
        Locality { region: "eu".into(), zone: "a".into() }
    }

    /// Endpoints by priority; those below zero drain.
    fn decision(priorities: &[&[i16]]) -> LbDecision {
        let endpoint = |number: &i16| LbEndpoint {
            address: address(number.unsigned_abs() as u8),
            cluster: 0,
            weight: 1,
            draining: *number < 0,
        };
        let group = |(priority, endpoints): (u32, &&[i16])| LbGroup {
            priority,
            locality: place(),
            weight: 1,
            endpoints: endpoints.iter().map(endpoint).collect(),
        };
        LbDecision::new((0..).zip(priorities).map(group).collect(), ["east".into()].into())
    }

    fn now(endpoints: &[(u8, Readiness)]) -> Endpoints {
        let endpoint = |(last, readiness): &(u8, Readiness)| Endpoint {
            address: address(*last),
            cluster: "east".into(),
            network: "flat".into(),
            locality: place(),
            node: None,
            pod: None,
            readiness: *readiness,
            stale: false,
            weight: 1,
        };
        Endpoints::new(endpoints.iter().map(endpoint).collect())
    }

    fn ready(endpoints: std::ops::RangeInclusive<u8>) -> Endpoints {
        now(&endpoints.map(|last| (last, Ready)).collect::<Vec<_>>())
    }

    #[test]
    fn only_what_a_policy_takes_away_counts() {
        let ten: &[i16] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        let last = decision(&[ten]);
        type Case<'a> = (&'a str, &'a [&'a [i16]], Endpoints, u32, Option<(usize, usize)>);
        let cases: [Case<'_>; 13] = [
            ("the same again", &[ten], ready(1..=10), 1, None),
            ("half of them", &[&ten[..5]], ready(1..=10), 50, None),
            ("one more than half", &[&ten[..4]], ready(1..=10), 50, Some((6, 10))),
            ("all are others", &[&[11]], ready(1..=11), 99, Some((10, 10))),
            ("no limit", &[&[11]], ready(1..=11), 100, None),
            ("those that are gone", &[&[11]], ready(11..=12), 1, None),
            ("most are gone, and one of the rest", &[&[9]], ready(9..=10), 49, Some((1, 2))),
            ("to another priority", &[&[1], &ten[1..]], ready(1..=10), 1, None),
            ("drained", &[&[1, -2, -3, -4, -5, -6, -7, -8, -9, -10]], ready(1..=10), 80, Some((9, 10))),
            ("who drains anyway", &[&[1, -2]], now(&[(1, Ready), (2, Draining)]), 1, None),
            ("who is not ready", &[&[1]], now(&[(1, Ready), (2, NotReady)]), 1, None),
            (
                "two of one address, one of them ready",
                &[&[1]],
                now(&[(1, Ready), (2, NotReady), (2, Ready)]),
                49,
                Some((1, 2)),
            ),
            ("nothing is left to take away", &[], now(&[(1, NotReady)]), 1, None),
        ];
        for (what, next, endpoints, most, wanted) in cases {
            let found = check(&last, &decision(next), &endpoints, most);
            let wanted = wanted.map_or(Ok(()), |(removed, of)| Err(CallError::TooManyRemoved { removed, of, most }));
            assert_eq!(found, wanted, "{what}");
        }
        // What drained before got no requests that could be taken away.
        let (drained, next) = (decision(&[&[1, -2, -3]]), decision(&[&[1]]));
        assert_eq!(check(&drained, &next, &ready(1..=3), 1), Ok(()));
        assert_eq!(check(&decision(&[]), &next, &ready(1..=3), 1), Ok(()));
    }

    #[test]
    fn the_refusal_says_how_many_and_what_to_do() {
        let error = check(&decision(&[&[1, 2, 3]]), &decision(&[&[3]]), &ready(1..=3), 50).unwrap_err();
        assert_eq!(error.reason(), "TooManyRemoved");
        assert_eq!(
            error.to_string(),
            "it takes 2 of 3 endpoints out of service (66 %), and at most 50 % may go at once: let it go in smaller steps, \
             or raise the policy's maxRemovedPercent"
        );
    }

    proptest! {
        /// Against the definition, in the plainest words.
        #[test]
        fn as_defined(
            last in proptest::collection::btree_set(1_u8..40, 0..30),
            next in proptest::collection::btree_map(1_u8..40, any::<bool>(), 0..30),
            there in proptest::collection::btree_map(1_u8..40, 0..3_usize, 0..40),
            most in 1_u32..=100,
        ) {
            let numbers = |set: &mut dyn Iterator<Item = i16>| set.collect::<Vec<_>>();
            let before = decision(&[&numbers(&mut last.iter().map(|n| i16::from(*n)))]);
            let after = numbers(&mut next.iter().map(|(n, drains)| if *drains { -i16::from(*n) } else { i16::from(*n) }));
            let states = [Ready, Draining, NotReady];
            let endpoints = now(&there.iter().map(|(n, state)| (*n, states[*state])).collect::<Vec<_>>());
            let usable: Vec<u8> = last.iter().filter(|n| there.get(n) == Some(&0)).copied().collect();
            let removed = usable.iter().filter(|n| next.get(n) != Some(&false)).count();
            let is_too_much = removed as f64 / usable.len().max(1) as f64 > f64::from(most) / 100.0 + 1e-9;
            prop_assert_eq!(check(&before, &decision(&[&after]), &endpoints, most).is_err(), is_too_much);
        }

        /// Whatever is refused would be taken in steps: each step that is small enough is let through.
        #[test]
        fn small_steps_arrive(count in 2_u8..60, most in 1_u32..100) {
            let all: Vec<i16> = (1..=i16::from(count)).collect();
            let endpoints = ready(1..=count);
            let mut left = all.len();
            while left > 1 {
                let step = left * most as usize / 100;
                if step == 0 {
                    // One of so few is more than the share.
                    prop_assert!(check(&decision(&[&all[..left]]), &decision(&[&all[..left - 1]]), &endpoints, most).is_err());
                    break;
                }
                let next = (left - step).max(1);
                prop_assert!(check(&decision(&[&all[..left]]), &decision(&[&all[..next]]), &endpoints, most).is_ok());
                left = next;
            }
        }
    }
}
