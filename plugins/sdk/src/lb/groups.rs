//! Builds a decision.

use super::{Decision, Endpoint, Group, Question};

/// Priorities that a policy may name; the one after them is for what drains.
const PRIORITIES: u32 = 127;

/// Endpoints by priority and locality, in a fixed order: by priority, then region and zone, then as they were added.
///
/// A group's weight is the sum of its endpoints', so that every endpoint of a priority gets its own share.
pub struct Groups<'a> {
    question: &'a Question,
    /// The group of each priority and locality, plus one; 0 for none.
    slots: Vec<u32>,
    groups: Vec<Group>,
    members: Vec<Member>,
    /// Some weight is another than the question's.
    own_weights: bool,
}

struct Member {
    group: u32,
    endpoint: u32,
    weight: u32,
}

impl<'a> Groups<'a> {
    /// No groups yet.
    pub fn new(question: &'a Question) -> Self {
        Self {
            question,
            slots: Vec::new(),
            groups: Vec::new(),
            members: Vec::with_capacity(question.endpoints.keys.len()),
            own_weights: false,
        }
    }

    /// Adds an endpoint with the weight that it has. Priorities may have gaps, which are closed in the end; above 126
    /// they are like 126.
    pub fn add(&mut self, priority: u32, endpoint: Endpoint<'_>) {
        self.put(priority.min(PRIORITIES - 1), endpoint, endpoint.weight);
    }

    /// Adds an endpoint with a weight of its own, at least 1. The weights of a priority add up to 2³² - 1 at most.
    pub fn add_weighted(&mut self, priority: u32, endpoint: Endpoint<'_>, weight: u32) {
        self.own_weights |= weight != endpoint.weight;
        self.put(priority.min(PRIORITIES - 1), endpoint, weight);
    }

    /// Adds an endpoint that gets no new requests, in a priority after all others. Among those that get requests, Envoy
    /// would count it as lost capacity and give some of its priority's and its locality's traffic away.
    pub fn drain(&mut self, endpoint: Endpoint<'_>) {
        self.put(PRIORITIES, endpoint, endpoint.weight);
    }

    fn put(&mut self, priority: u32, endpoint: Endpoint<'_>, weight: u32) {
        let localities = self.question.localities.len();
        let slot = priority as usize * localities + endpoint.locality_index as usize;
        if self.slots.len() <= slot {
            self.slots.resize((priority as usize + 1) * localities, 0);
        }
        if self.slots[slot] == 0 {
            let draining = priority == PRIORITIES;
            let locality = endpoint.locality_index;
            self.groups.push(Group { priority, locality, weight: 0, count: 0, draining });
            self.slots[slot] = self.groups.len() as u32;
        }
        let group = self.slots[slot] - 1;
        let entry = &mut self.groups[group as usize];
        entry.weight = entry.weight.saturating_add(weight);
        entry.count += 1;
        self.members.push(Member { group, endpoint: endpoint.index, weight });
    }

    /// The decision, with Causeway's defaults for everything else. Without endpoints it is an empty one.
    pub fn decide(self) -> Decision {
        let Self { question, groups, members, own_weights, .. } = self;
        let place = |group: &Group| {
            let locality = &question.localities[group.locality as usize];
            (group.priority, &locality.region, &locality.zone, group.locality)
        };
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_unstable_by(|a, b| place(&groups[*a]).cmp(&place(&groups[*b])));

        let mut sorted: Vec<Group> = Vec::with_capacity(groups.len());
        // Where the next endpoint of each group goes.
        let mut next = vec![0; groups.len()];
        let (mut start, mut before) = (0, None);
        for i in order {
            let priority = match (before, sorted.last()) {
                (Some(before), Some(last)) => last.priority + u32::from(before != groups[i].priority),
                _ => 0,
            };
            before = Some(groups[i].priority);
            next[i] = start;
            start += groups[i].count as usize;
            sorted.push(Group { priority, ..groups[i] });
        }
        let mut endpoints = vec![0; members.len()];
        let mut weights = vec![0; if own_weights { members.len() } else { 0 }];
        for member in &members {
            let at = &mut next[member.group as usize];
            endpoints[*at] = member.endpoint;
            if own_weights {
                weights[*at] = member.weight;
            }
            *at += 1;
        }
        Decision { groups: sorted, endpoints, weights, ..Decision::default() }
    }
}
