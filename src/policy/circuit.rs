//! What failed several times in a row is not asked about the same for a while.

use std::collections::HashMap;
use std::sync::Arc;

use super::component::Digest;
use super::host::{Failure, Subject};
use super::tally::Tally;
use crate::model::Timestamp;

/// Failures in a row after which a policy is not asked about a subject for a while.
const PATIENCE: u32 = 3;
/// For how long it is not asked then, in ms.
const REST_MS: i64 = 30_000;

/// What is asked: a component with a configuration.
pub type Asked<'a> = (Digest, &'a Arc<str>);

#[derive(Debug)]
struct Circuit {
    digest: Digest,
    config: Arc<str>,
    failures: u32,
    last: Failure,
    at: Timestamp,
}

/// The failures in a row, by what was decided about.
#[derive(Debug)]
pub struct Circuits {
    by_subject: HashMap<Subject, Circuit>,
    tally: Tally,
}

impl Circuits {
    /// Nothing has failed. `tally` is told how many are open.
    pub fn new(tally: Tally) -> Self {
        Self { by_subject: HashMap::new(), tally }
    }

    /// What is said while nobody is asked.
    pub fn rests(&self, subject: &Subject, asked: Asked<'_>, now: Timestamp) -> Option<Failure> {
        if self.by_subject.is_empty() {
            return None;
        }
        self.by_subject.get(subject).filter(|circuit| circuit.is_of(asked)).and_then(|circuit| circuit.rests(now))
    }

    /// It failed.
    pub fn failed(&mut self, subject: &Subject, asked: Asked<'_>, failure: &Failure, now: Timestamp) {
        let before = self.by_subject.remove(subject);
        let mut circuit = match before {
            Some(before) if before.is_of(asked) => before,
            other => {
                self.note_closed(other);
                let (digest, config) = asked;
                Circuit { digest, config: config.clone(), failures: 0, last: failure.clone(), at: now }
            }
        };
        circuit.failures = circuit.failures.saturating_add(1);
        (circuit.last, circuit.at) = (failure.clone(), now);
        if circuit.failures == PATIENCE {
            self.tally.count(&failure.policy, |counts| counts.circuits_open += 1);
        }
        self.by_subject.insert(subject.clone(), circuit);
    }

    /// It did not fail.
    pub fn close(&mut self, subject: &Subject) {
        if !self.by_subject.is_empty() {
            let before = self.by_subject.remove(subject);
            self.note_closed(before);
        }
    }

    /// Forgets what is known of subjects that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&Subject) -> bool) {
        let gone: Vec<Subject> = self.by_subject.keys().filter(|subject| !is_there(subject)).cloned().collect();
        gone.iter().for_each(|subject| self.close(subject));
    }

    /// A policy is to be asked about everything again.
    pub fn close_all_of(&mut self, policy: &str) {
        let of_policy = self.by_subject.iter().filter(|(_, circuit)| &*circuit.last.policy == policy);
        let subjects: Vec<Subject> = of_policy.map(|(subject, _)| subject.clone()).collect();
        subjects.iter().for_each(|subject| self.close(subject));
    }

    fn note_closed(&self, circuit: Option<Circuit>) {
        if let Some(circuit) = circuit.filter(Circuit::is_open) {
            // Of a policy that was taken away nothing is counted any more.
            self.tally.count_known(&circuit.last.policy, |counts| {
                counts.circuits_open = counts.circuits_open.saturating_sub(1);
            });
        }
    }
}

impl Circuit {
    fn is_of(&self, (digest, config): Asked<'_>) -> bool {
        self.digest == digest && self.config == *config
    }

    fn is_open(&self) -> bool {
        self.failures >= PATIENCE
    }

    fn rests(&self, now: Timestamp) -> Option<Failure> {
        if !self.is_open() || now.saturating_sub(self.at) >= REST_MS {
            return None;
        }
        let mut failure = self.last.clone();
        failure.message = format!(
            "{}, {} times in a row; it is asked again in {} s at the soonest",
            failure.message,
            self.failures,
            REST_MS / 1000
        );
        Some(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::decision::{ClientView, NodeRole, Sender};
    use crate::model::object::Locality;

    fn subject(backend: &str) -> Subject {
        let locality = Locality { region: "".into(), zone: "".into() };
        let client = ClientView { role: NodeRole::Gateway, cluster: None, network: None, locality };
        Subject { backend: backend.into(), sender: Sender { client, buckets: 1, bucket: 0 } }
    }

    fn failure(policy: &str) -> Failure {
        Failure { policy: policy.into(), reason: "Trapped", message: "it trapped".to_owned() }
    }

    #[test]
    fn what_is_open_is_counted_until_it_is_closed_replaced_or_gone() {
        let tally = Tally::default();
        let mut circuits = Circuits::new(tally.clone());
        let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
        let config: Arc<str> = "{}".into();
        let open = || tally.all().iter().map(|told| told.counts.circuits_open).sum::<u64>();
        let backends = ["a", "b", "c"].map(subject);
        for backend in &backends {
            for now in 0..5 {
                assert_eq!(circuits.rests(backend, (one, &config), now).is_some(), now >= 3, "{now}");
                circuits.failed(backend, (one, &config), &failure("mine"), now);
            }
        }
        assert_eq!(open(), 3);
        assert_eq!(circuits.rests(&backends[0], (one, &config), 4 + REST_MS), None);
        let said = circuits.rests(&backends[0], (one, &config), 5).expect("it rests").message;
        assert_eq!(said, "it trapped, 5 times in a row; it is asked again in 30 s at the soonest");
        // Another component is another chance, and so is another configuration.
        assert_eq!(circuits.rests(&backends[0], (other, &config), 5), None);
        assert_eq!(circuits.rests(&backends[0], (one, &"null".into()), 5), None);
        circuits.failed(&backends[0], (other, &config), &failure("mine"), 6);
        assert_eq!(open(), 2);
        circuits.close(&backends[1]);
        circuits.close(&backends[1]);
        assert_eq!(open(), 1);
        circuits.close_all_of("another");
        assert_eq!(open(), 1);
        circuits.retain(|subject| &*subject.backend != "c");
        assert_eq!((open(), circuits.by_subject.len()), (0, 1));
    }

    #[test]
    fn nothing_is_counted_of_a_policy_that_was_taken_away() {
        let (tally, config): (_, Arc<str>) = (Tally::default(), "{}".into());
        let mut circuits = Circuits::new(tally.clone());
        for now in 0..3 {
            circuits.failed(&subject("a"), (Digest::of(b""), &config), &failure("mine"), now);
        }
        tally.remove("mine");
        circuits.close(&subject("a"));
        assert_eq!(tally.all().len(), 0);
    }
}
