import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide, inspect } from '../policy.js';

/** Asks about endpoints that are given as `[region, state, weight, load]`. */
function question(endpoints, config = null) {
  const regions = [...new Set(endpoints.map(([region]) => region))];
  const column = (i) => endpoints.map((endpoint) => endpoint[i]);
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
      states: column(1),
      weights: column(2),
      loads: endpoints.some((endpoint) => endpoint.length > 3) ? column(3) : [],
    },
    config: JSON.stringify(config),
  };
}

test('a busy endpoint has less', () => {
  const { groups, endpoints, weights } = decide(question([['eu', 0, 1, 0], ['us', 0, 2, 0], ['eu', 0, 1, 16]]));
  assert.deepEqual(endpoints, [0, 2, 1]);
  assert.deepEqual(weights, [1000, 500, 2000]);
  assert.deepEqual(groups.map(({ locality, weight, count }) => [locality, weight, count]), [[0, 1500, 2], [1, 2000, 1]]);
});

test('what is not ready is left out, and what drains is the last that serves', () => {
  assert.deepEqual(decide(question([['eu', 2, 1], ['eu', 1, 1], ['eu', 0, 1]])).endpoints, [2]);
  assert.deepEqual(decide(question([['eu', 2, 1], ['eu', 1, 1]])).endpoints, [1]);
  assert.deepEqual(decide(question([])).groups, []);
});

test('a configuration decides, and is read strictly', () => {
  assert.deepEqual(decide(question([['eu', 0, 1, 1]], { halfAt: 1 })).weights, [500]);
  assert.deepEqual(inspect('null'), { buckets: 1 });
  const refused = (config) => {
    try {
      inspect(JSON.stringify(config));
    } catch (error) {
      return error;
    }
  };
  assert.equal(refused({ half: 1 }), '`lb-by-load` has no setting `half`; use `halfAt`');
  assert.equal(refused({ halfAt: 0 }), 'halfAt: 0 is not what it can be; use a whole number from 1 to 1000');
  assert.match(refused([]), /no mapping/);
});

test('it says when there is no load to go by', () => {
  globalThis.logged = [];
  decide(question([['eu', 0, 1]]));
  assert.deepEqual(globalThis.logged, ['debug: no endpoint reports its load']);
});
