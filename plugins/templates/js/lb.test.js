import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide, inspect } from '../policy.js';

/** Asks about endpoints that are given as `[region, state]`; the client is in `eu`. */
function question(endpoints, config = null) {
  const regions = [...new Set(endpoints.map(([region]) => region))];
  return {
    service: { namespace: 'shop', name: 'checkout' },
    port: { name: 'http', number: 80, protocol: 'http' },
    client: { role: 'gateway', locality: { region: 'eu', zone: '' }, bucket: 0, buckets: 1 },
    clusters: [{ name: 'east', network: 'flat', stale: false }],
    localities: regions.map((region) => ({ region, zone: '' })),
    endpoints: {
      keys: endpoints.map((_, i) => BigInt(i)),
      clusters: endpoints.map(() => 0),
      localities: endpoints.map(([region]) => regions.indexOf(region)),
      states: endpoints.map(([, state]) => state),
      weights: endpoints.map(() => 1),
      loads: [],
    },
    config: JSON.stringify(config),
  };
}

test('the own region comes first', () => {
  const { groups, endpoints } = decide(question([['us', 0], ['eu', 0], ['eu', 2]]));
  assert.deepEqual(endpoints, [1, 0]);
  assert.deepEqual(groups.map(({ priority, locality, count }) => [priority, locality, count]), [[0, 1, 1], [1, 0, 1]]);
});

test('without one near, the others are first', () => {
  assert.deepEqual(decide(question([['us', 0]])).groups.map(({ priority }) => priority), [0]);
});

test('a configuration is read strictly', () => {
  assert.deepEqual(inspect('null'), { buckets: 1 });
  assert.throws(() => inspect('{"over": 1}'), (error) => error.includes('no setting `over`'));
});
