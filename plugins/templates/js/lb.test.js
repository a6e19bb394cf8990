import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide, inspect } from '../policy.js';

/** Asks about endpoints that are given as `[zone, state]`; the client is in the zone `a`. */
function question(endpoints, config = null) {
  const zones = [...new Set(endpoints.map(([zone]) => zone))];
  return {
    service: { namespace: 'shop', name: 'checkout' },
    port: { name: 'http', number: 80, protocol: 'http' },
    client: { role: 'gateway', locality: { region: 'eu', zone: 'a' }, bucket: 0, buckets: 1 },
    clusters: [{ name: 'east', network: 'flat', stale: false }],
    localities: zones.map((zone) => ({ region: 'eu', zone })),
    endpoints: {
      keys: endpoints.map((_, i) => BigInt(i)),
      clusters: endpoints.map(() => 0),
      localities: endpoints.map(([zone]) => zones.indexOf(zone)),
      states: endpoints.map(([, state]) => state),
      weights: endpoints.map(() => 1),
      loads: [],
    },
    config: JSON.stringify(config),
  };
}

const parts = ({ groups }) => groups.map(({ locality, weight, count }) => [locality, weight, count]);

test('the own zone has most, the others their part', () => {
  const decision = decide(question([['b', 0], ['a', 0], ['a', 2], ['c', 0]]));
  assert.deepEqual(decision.endpoints, [0, 1, 3]);
  assert.deepEqual(parts(decision), [[0, 50_000, 1], [1, 900_000, 1], [2, 50_000, 1]]);
  assert.deepEqual(parts(decide(question([['a', 0], ['b', 0]], { farPercent: 50 }))), [[0, 500_000, 1], [1, 500_000, 1]]);
});

test('without one near, the others have all', () => {
  assert.deepEqual(parts(decide(question([['b', 0], ['b', 0]]))), [[0, 2, 2]]);
});

test('what drains serves where nothing is ready', () => {
  assert.deepEqual(decide(question([['a', 2], ['b', 1]])).endpoints, [1]);
});

test('a configuration is read strictly', () => {
  assert.deepEqual(inspect('null'), { buckets: 1 });
  assert.throws(() => inspect('{"far": 1}'), (error) => error.includes('no setting `far`'));
});
