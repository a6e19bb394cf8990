//! Which endpoints a client can use at all.

use super::{Question, Readiness};

/// Indexes of the endpoints that a client can use, in the question's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usable {
    /// These get requests.
    pub ready: Vec<u32>,
    /// These only finish what they have.
    pub draining: Vec<u32>,
}

impl Question {
    /// The endpoints that the client can use:
    ///
    /// - What is not ready is left out.
    /// - Endpoints of other networks than the client's are left out, unless there is no other.
    /// - Of endpoints with the same address the first one stays: networks may use the same addresses for different
    ///   pods, and an Envoy can only have one of them.
    /// - Where all of them are draining, they are the best there is, and count as ready.
    pub fn usable(&self) -> Usable {
        let network = self.client.network.as_deref();
        let near: Vec<bool> = self.clusters.iter().map(|c| network.is_none_or(|own| own == c.network)).collect();
        let all = &self.endpoints;
        let states = || all.states.iter().map(|state| Readiness::of(*state)).zip(&all.clusters);
        let some_near = states().any(|(state, cluster)| state != Readiness::NotReady && near[*cluster as usize]);

        let count = all.keys.len();
        let mut usable = Usable { ready: Vec::with_capacity(count), draining: Vec::new() };
        let mut seen = Keys::for_up_to(count);
        for (i, ((state, cluster), key)) in (0..).zip(states().zip(&all.keys)) {
            if state == Readiness::NotReady || (some_near && !near[*cluster as usize]) || !seen.insert(*key) {
                continue;
            }
            match state {
                Readiness::Ready => usable.ready.push(i),
                Readiness::Draining | Readiness::NotReady => usable.draining.push(i),
            }
        }
        if usable.ready.is_empty() {
            usable.ready = std::mem::take(&mut usable.draining);
        }
        usable
    }
}

/// A set of endpoint keys. These are hashes already, so a table with open addressing is all that it takes.
struct Keys {
    slots: Vec<u64>,
    shift: u32,
    has_zero: bool,
}

impl Keys {
    fn for_up_to(count: usize) -> Self {
        let size = (count * 2).next_power_of_two().max(2);
        Self { slots: vec![0; size], shift: 64 - size.trailing_zeros(), has_zero: false }
    }

    /// Whether it is new.
    fn insert(&mut self, key: u64) -> bool {
        if key == 0 {
            return !std::mem::replace(&mut self.has_zero, true);
        }
        let mut at = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        loop {
            match self.slots[at] {
                0 => {
                    self.slots[at] = key;
                    return true;
                }
                known if known == key => return false,
                _ => at = (at + 1) & (self.slots.len() - 1),
            }
        }
    }
}
