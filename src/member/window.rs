//! How much may be under way at once: enough to keep a fast line busy, and so little on a slow one that a sign of life
//! does not wait behind it for longer than the other side's patience. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is begun with, and the least that is tried, in bytes.
const FIRST: usize = 64 * 1024;
const LEAST: usize = 16 * 1024;
/// The most, in bytes.
const MOST: usize = 4 * 1024 * 1024;
/// Batches under way at most, however small they are.
const BATCHES: usize = 256;
/// An answer that took no longer says that the line has room.
const BRISK: Duration = Duration::from_millis(500);
/// An answer that took longer says that too much was under way.
const SLOW: Duration = Duration::from_secs(3);

struct Sent {
    seq: u64,
    bytes: usize,
    at: Instant,
}

/// Batches that were sent and not acknowledged.
pub(super) struct Window {
    sent: VecDeque<Sent>,
    bytes: usize,
    limit: usize,
    last: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { sent: VecDeque::new(), bytes: 0, limit: FIRST, last: 0 }
    }
}

impl Window {
    /// Whether another batch may be sent.
    pub fn is_open(&self) -> bool {
        self.bytes < self.limit && self.sent.len() < BATCHES
    }

    /// A batch is sent; gives its number.
    pub fn sent(&mut self, bytes: usize, now: Instant) -> u64 {
        self.last += 1;
        self.bytes += bytes;
        self.sent.push_back(Sent { seq: self.last, bytes, at: now });
        self.last
    }

    /// A batch and all before it were taken; says whether there was such a batch.
    pub fn acked(&mut self, seq: u64, now: Instant) -> bool {
        if seq > self.last {
            return false;
        }
        while let Some(first) = self.sent.front().filter(|first| first.seq <= seq) {
            let took = now.duration_since(first.at);
            if took <= BRISK {
                self.limit = (self.limit + first.bytes).min(MOST);
            } else if took >= SLOW {
                self.limit = (self.limit - self.limit / 4).max(LEAST);
            }
            self.bytes -= first.bytes;
            self.sent.pop_front();
        }
        true
    }

    /// Bytes that are under way.
    #[cfg(test)]
    pub fn under_way(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: usize = 16 * 1024;

    /// What is under way at most when the line takes `ms` for a batch, once it has settled.
    fn settled(ms: u64) -> usize {
        let (mut window, mut now, mut most) = (Window::default(), Instant::now(), 0);
        let mut arrives = VecDeque::new();
        let mut free_at = now;
        for round in 0..400 {
            while window.is_open() {
                free_at = free_at.max(now) + Duration::from_millis(ms);
                arrives.push_back((window.sent(BATCH, now), free_at));
            }
            most = if round < 200 { 0 } else { window.under_way().max(most) };
            if let Some((seq, at)) = arrives.pop_front() {
                now = at;
                assert!(window.acked(seq, now));
            }
        }
        most
    }

    #[test]
    fn a_fast_line_is_filled_and_a_slow_one_is_not_stuffed() {
        assert!(settled(1) > 512 * 1024, "{}", settled(1));
        // 64 kbit/s: a sign of life waits for 6 s at most.
        assert!(settled(2_000) <= 3 * BATCH, "{}", settled(2_000));
    }

    #[test]
    fn an_answer_to_what_was_never_sent_is_none() {
        let mut window = Window::default();
        assert!(!window.acked(1, Instant::now()));
        let seq = window.sent(1, Instant::now());
        assert!(window.acked(seq, Instant::now()) && window.acked(seq, Instant::now()));
    }
}
