import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assign, inspect } from '../policy.js';

const pool = (name, candidates) => ({
  name,
  candidates,
  free: BigInt(candidates.length),
  heldByNamespace: 0,
  gateways: 1,
});
const question = (pools, config = null) => ({
  access: { namespace: 'shop', name: 'checkout' },
  service: { namespace: 'shop', name: 'checkout' },
  family: 'ipv4',
  pools,
  config: JSON.stringify(config),
});

test('a pool that is left out gives nothing', () => {
  const pools = [pool('a', ['10.0.0.1', '10.0.0.2']), pool('b', ['10.1.0.1'])];
  assert.deepEqual(assign(question(pools)), { tag: 'take', val: { pool: 'a', address: '10.0.0.1' } });
  assert.deepEqual(assign(question(pools, { without: ['a'] })), { tag: 'take', val: { pool: 'b', address: '10.1.0.1' } });
  assert.equal(assign(question([])).tag, 'refuse');
});

test('a configuration is read strictly', () => {
  assert.equal(inspect('null'), undefined);
  assert.throws(() => inspect('{"with": []}'), (error) => error.includes('no setting `with`'));
});
