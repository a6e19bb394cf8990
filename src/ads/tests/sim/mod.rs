//! A control plane of several replicas, clients, and a network that delays, stalls and cuts their
//! connections, all moved by one number. The same seed gives the same world, so a failure can be had again:
//! `CAUSEWAY_SIM_SEED=… cargo test --no-default-features --lib ads::tests::sim -- --nocapture`.
//!
//! `CAUSEWAY_SIM_SEEDS` says how many seeds are tried and `CAUSEWAY_SIM_FROM` the first of them.

mod client;
mod content;
mod link;
mod random;
mod world;

use std::panic::catch_unwind;

pub(super) use self::random::Random;
use self::world::{Fleet, Trace, World};

/// Seeds that are tried for each fleet.
const SEEDS: u64 = 3_400;

/// Most steps before the world comes to rest.
const STEPS: usize = 120;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

fn run(seed: u64, fleet: Fleet, steps: usize, trace: Trace) {
    let mut world = World::new(seed, fleet, trace);
    for _ in 0..steps {
        world.step();
    }
    world.rest();
    world.move_on();
}

fn fails(seed: u64, fleet: Fleet, steps: usize) -> bool {
    catch_unwind(|| run(seed, fleet, steps, Trace::Off)).is_err()
}

/// Runs the seeds; the first that fails is run again with the fewest steps that do, and told.
fn explore(fleet: Fleet) {
    if let Some(seed) = number("CAUSEWAY_SIM_SEED") {
        let steps = number("CAUSEWAY_SIM_STEPS").map_or(STEPS, |steps| steps as usize);
        return run(seed, fleet, steps, Trace::On);
    }
    let from = number("CAUSEWAY_SIM_FROM").unwrap_or(0);
    for seed in from..from + number("CAUSEWAY_SIM_SEEDS").unwrap_or(SEEDS) {
        if fails(seed, fleet, STEPS) {
            let steps = (0..STEPS).find(|steps| fails(seed, fleet, *steps)).unwrap_or(STEPS);
            eprintln!(
                "seed {seed} fails; again with: CAUSEWAY_SIM_SEED={seed} CAUSEWAY_SIM_STEPS={steps} \
                 cargo test --no-default-features --lib ads::tests::sim::{}",
                fleet.test()
            );
            run(seed, fleet, steps, Trace::On);
        }
    }
}

#[test]
fn sotw_clients_have_their_views() {
    explore(Fleet::Sotw);
}

#[test]
fn delta_clients_have_their_views() {
    explore(Fleet::Delta);
}

#[test]
fn clients_of_both_protocols_have_their_views() {
    explore(Fleet::Both);
}
