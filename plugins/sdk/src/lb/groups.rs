//! Builds a decision.

use super::{Decision, Endpoint, Group, Question};

/// Priorities that a policy may name; the one after them is for what drains.
const PRIORITIES: u32 = 127;

/// Pieces that endpoints are taken over in, at least: more are looked at one endpoint after the other.
const MOST_RUNS: usize = 32;

/// Endpoints by priority and locality, in a fixed order: by priority, then region and zone, then as they were added.
///
/// A group's weight is the sum of its endpoints', so that every endpoint of a priority gets its own share.
pub struct Groups<'a> {
    question: &'a Question,
    /// The group of each priority and locality, plus one; 0 for none.
    slots: Vec<u32>,
    groups: Vec<Building>,
    /// Some weight is another than the question's, and so groups have lists of them.
    own_weights: bool,
}

/// A group that is being filled.
struct Building {
    priority: u32,
    locality: u32,
    weight: u32,
    endpoints: Vec<u32>,
    /// As long as `endpoints` where there are own weights, else empty.
    weights: Vec<u32>,
}

impl<'a> Groups<'a> {
    /// No groups yet.
    pub fn new(question: &'a Question) -> Self {
        Self { question, slots: Vec::new(), groups: Vec::new(), own_weights: false }
    }

    /// Adds an endpoint with the weight that it has. Priorities may have gaps, which are closed in the end; above 126
    /// they are like 126.
    pub fn add(&mut self, priority: u32, endpoint: Endpoint<'_>) {
        self.put(priority.min(PRIORITIES - 1), endpoint, endpoint.weight());
    }

    /// Adds an endpoint with a weight of its own, at least 1. The weights of a priority add up to 2³² - 1 at most.
    pub fn add_weighted(&mut self, priority: u32, endpoint: Endpoint<'_>, weight: u32) {
        if !self.own_weights && weight != endpoint.weight() {
            self.own_weights = true;
            for group in &mut self.groups {
                group.weights = self.question.pick(&group.endpoints).map(Endpoint::weight).collect();
            }
        }
        self.put(priority.min(PRIORITIES - 1), endpoint, weight);
    }

    /// Adds an endpoint that gets no new requests, in a priority after all others. Among those that get requests, Envoy
    /// would count it as lost capacity and give some of its priority's and its locality's traffic away.
    pub fn drain(&mut self, endpoint: Endpoint<'_>) {
        self.put(PRIORITIES, endpoint, endpoint.weight());
    }

    /// Adds endpoints whose priority is a matter of their locality, with the weights that they have: `priorities` has one
    /// for each of the question's localities. Much faster than one after the other, where there are thousands.
    pub fn add_by_locality(&mut self, endpoints: &[u32], priorities: &[u32]) {
        let question = self.question;
        let (localities, weights) = (&question.endpoints.localities[..], &question.endpoints.weights[..]);
        // Where endpoints of one locality stand beside each other, they can be taken over in a few pieces.
        let most_runs = MOST_RUNS.max(4 * question.localities.len());
        let mut runs = Vec::with_capacity(most_runs);
        let mut start = 0;
        while start < endpoints.len() && runs.len() < most_runs {
            let locality = localities[endpoints[start] as usize];
            let (mut end, mut sum) = (start, 0u32);
            for endpoint in &endpoints[start..] {
                if localities[*endpoint as usize] != locality {
                    break;
                }
                sum = sum.saturating_add(weights[*endpoint as usize]);
                end += 1;
            }
            runs.push((locality, start..end, sum));
            start = end;
        }
        if start == endpoints.len() {
            for (locality, members, sum) in runs {
                self.put_all(locality, priorities, &endpoints[members], sum);
            }
            return;
        }
        // They are mixed: how many each locality has, and then where its next one goes.
        let mut next = vec![0; question.localities.len()];
        for endpoint in endpoints {
            next[localities[*endpoint as usize] as usize] += 1;
        }
        let mut start = 0;
        for place in &mut next {
            start += std::mem::replace(place, start);
        }
        let mut sums = vec![0u32; next.len()];
        let mut sorted = vec![0; endpoints.len()];
        for endpoint in endpoints {
            let locality = localities[*endpoint as usize] as usize;
            sums[locality] = sums[locality].saturating_add(weights[*endpoint as usize]);
            sorted[next[locality]] = *endpoint;
            next[locality] += 1;
        }
        let mut start = 0;
        for (locality, (end, sum)) in (0..).zip(next.into_iter().zip(sums)) {
            self.put_all(locality, priorities, &sorted[start..end], sum);
            start = end;
        }
    }

    /// Adds endpoints of one locality, whose weights add up to `sum`.
    fn put_all(&mut self, locality: u32, priorities: &[u32], members: &[u32], sum: u32) {
        if members.is_empty() {
            return;
        }
        let (own_weights, weights) = (self.own_weights, &self.question.endpoints.weights[..]);
        let priority = priorities[locality as usize].min(PRIORITIES - 1);
        let group = self.group(priority, locality);
        group.weight = group.weight.saturating_add(sum);
        group.endpoints.extend_from_slice(members);
        if own_weights {
            group.weights.extend(members.iter().map(|endpoint| weights[*endpoint as usize]));
        }
    }

    fn put(&mut self, priority: u32, endpoint: Endpoint<'_>, weight: u32) {
        let own_weights = self.own_weights;
        let group = self.group(priority, endpoint.locality_index());
        group.weight = group.weight.saturating_add(weight);
        group.endpoints.push(endpoint.index());
        if own_weights {
            group.weights.push(weight);
        }
    }

    fn group(&mut self, priority: u32, locality: u32) -> &mut Building {
        let slot = priority as usize * self.question.localities.len() + locality as usize;
        let group = match self.slots.get(slot) {
            Some(group) if *group > 0 => *group as usize - 1,
            _ => self.begin(priority, locality, slot),
        };
        &mut self.groups[group]
    }

    #[cold]
    fn begin(&mut self, priority: u32, locality: u32, slot: usize) -> usize {
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, 0);
        }
        self.groups.push(Building { priority, locality, weight: 0, endpoints: Vec::new(), weights: Vec::new() });
        self.slots[slot] = self.groups.len() as u32;
        self.groups.len() - 1
    }

    /// The decision, with Causeway's defaults for everything else. Without endpoints it is an empty one.
    pub fn decide(self) -> Decision {
        let Self { question, mut groups, .. } = self;
        groups.sort_unstable_by(|a, b| {
            let place = |group: &Building| {
                let locality = &question.localities[group.locality as usize];
                (group.priority, locality.region.as_str(), locality.zone.as_str(), group.locality)
            };
            place(a).cmp(&place(b))
        });
        let mut decision = Decision { groups: Vec::with_capacity(groups.len()), ..Decision::default() };
        let count = groups.iter().map(|group| group.endpoints.len()).sum();
        decision.endpoints.reserve_exact(count);
        let mut before = None;
        for group in groups {
            // Gaps are closed here.
            let last = decision.groups.last().map_or(0, |group| group.priority);
            let priority = last + u32::from(before.is_some_and(|before| before != group.priority));
            before = Some(group.priority);
            decision.groups.push(Group {
                priority,
                locality: group.locality,
                weight: group.weight,
                count: group.endpoints.len() as u32,
                draining: group.priority == PRIORITIES,
            });
            decision.endpoints.extend_from_slice(&group.endpoints);
            decision.weights.extend_from_slice(&group.weights);
        }
        decision
    }
}
