//! When a listener that an Envoy refused is offered to it anew.

use crate::model::Timestamp;

/// The first pause after a refusal, in milliseconds.
pub(super) const FIRST_PAUSE_MS: i64 = 5_000;
/// The longest pause, in milliseconds.
pub(super) const LONGEST_PAUSE_MS: i64 = 300_000;

/// How often one listener was offered anew to one node, and when it will be again.
///
/// The attempt's number is part of the listener that the node is sent, for refused content must not
/// be sent again (XDS.md, rule 2). It therefore never falls back while the node has the listener:
/// that would change a listener that serves, and so close its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) attempt: u32,
    /// Failures since the last success.
    failures: u32,
    /// Set while a failure waits for the next attempt.
    due: Option<Timestamp>,
    /// When the last failure came; `None` while there is none that waits for an attempt.
    failed_at: Option<Timestamp>,
    /// The agent found after the last failure that the address cannot be bound.
    unbindable: bool,
    /// The listener is not offered any more.
    set_aside: bool,
}

impl Retry {
    /// The listener was refused, or turned out not to listen.
    pub(super) fn failed(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        self.unbindable = false;
        self.set_aside = false;
        self.due = Some(now.saturating_add(pause_ms(self.failures)));
    }

    /// The listener is accepted.
    pub(super) fn succeeded(&mut self) {
        *self = Self { attempt: self.attempt, ..Self::default() };
    }

    /// The listener is not offered any more. Should it be again on the same stream, then not in a
    /// form that was refused there: so the number is remembered until the stream ends.
    pub(super) fn set_aside(&mut self) {
        let attempt = self.attempt.saturating_add(u32::from(self.failed_at.is_some()));
        *self = Self { attempt, set_aside: true, ..Self::default() };
    }

    /// The node has the listener and it is not offered any more: what is offered next is another.
    pub(super) fn withdrawn(&mut self) {
        self.set_aside();
        self.attempt = self.attempt.saturating_add(1);
    }

    pub(super) fn is_set_aside(&self) -> bool {
        self.set_aside
    }

    /// The agent tried to bind the address. It says so with each report, also where the refusal had
    /// another cause; so only news (the first word, or a change of mind) shortens the pause.
    pub(super) fn bindable(&mut self, bindable: bool, now: Timestamp) {
        if self.failed_at.is_none() {
            return;
        }
        if !bindable {
            self.unbindable = true;
            self.due = None;
        } else if self.unbindable || self.failures <= 1 {
            self.unbindable = false;
            self.due = Some(now);
        }
    }

    /// Nobody will say that the address can be bound: time has to do.
    pub(super) fn agent_gone(&mut self, now: Timestamp) {
        if self.failed_at.is_some() && self.due.is_none() {
            self.unbindable = false;
            self.due = Some(now.saturating_add(pause_ms(self.failures)));
        }
    }

    /// A new stream begins with nothing refused; what is sent on it is the present attempt.
    pub(super) fn reconnected(&mut self) {
        self.due = None;
        self.failed_at = None;
        self.unbindable = false;
    }

    /// Begins the next attempt where its time has come.
    pub(super) fn tick(&mut self, now: Timestamp) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.attempt = self.attempt.saturating_add(1);
        self.due = None;
        self.failed_at = None;
        true
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }
}

fn pause_ms(failures: u32) -> i64 {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_PAUSE_MS << doublings).min(LONGEST_PAUSE_MS)
}
