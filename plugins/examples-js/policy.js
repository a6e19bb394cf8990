// Less traffic to endpoints that are busy: an endpoint's share falls with the requests that it has in flight.
//
// Configuration: {"halfAt": 16}: with so many requests in flight an endpoint has half of its share, 1 to 1000.
import { write } from 'causeway:policy/log@0.1.0';

/** Checks a configuration (JSON). What is thrown is shown at the access. */
export function inspect(config) {
  settings(config);
  return { buckets: 1 };
}

/** Decides how a service's traffic is spread. */
export function decide(question) {
  const { halfAt } = settings(question.config);
  const { states, localities, weights, loads } = question.endpoints;
  const count = states.length;

  // Ready ones, or what drains where nothing is ready (0: ready, 1: draining, 2: not ready).
  const of = (state) => [...Array(count).keys()].filter((i) => states[i] === state);
  const ready = of(0);
  const usable = ready.length > 0 ? ready : of(1);
  if (loads.length === 0 && usable.length > 0) write('debug', 'no endpoint reports its load');

  // A group has the endpoints of one locality, and its weight is the sum of theirs.
  const members = question.localities.map(() => []);
  for (const i of usable) members[localities[i]].push(i);
  // In fine steps, so that a weight of 1 can become less.
  const share = (i) => Math.max(1, Math.round((weights[i] * 1000 * halfAt) / (halfAt + (loads[i] ?? 0))));

  const groups = [];
  const [endpoints, shares] = [[], []];
  members.forEach((list, locality) => {
    if (list.length === 0) return;
    const own = list.map(share);
    const weight = own.reduce((sum, one) => sum + one, 0);
    groups.push({ priority: 0, locality, weight, count: list.length, draining: false });
    endpoints.push(...list);
    shares.push(...own);
  });
  return {
    groups,
    endpoints,
    weights: shares,
    algorithm: { tag: 'round-robin' },
    overprovisioningPercent: 140,
    panicThresholdPercent: 1,
    dropPerMillion: 0,
    outlierDetection: undefined,
    healthCheck: undefined,
  };
}

function settings(text) {
  const config = JSON.parse(text) ?? {};
  if (typeof config !== 'object' || Array.isArray(config)) {
    throw 'the configuration is no mapping; write `{}` or settings by name';
  }
  const unknown = Object.keys(config).find((key) => key !== 'halfAt');
  if (unknown !== undefined) throw `\`lb-by-load\` has no setting \`${unknown}\`; use \`halfAt\``;
  const { halfAt = 16 } = config;
  if (!Number.isInteger(halfAt) || halfAt < 1 || halfAt > 1000) {
    throw `halfAt: ${JSON.stringify(halfAt)} is not what it can be; use a whole number from 1 to 1000`;
  }
  return { halfAt };
}
