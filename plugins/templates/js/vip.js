// The address that was asked for, else one of the pool with the most free ones.
//
// Configuration: {"without": ["edge"]}: pools that are not used.

/** Checks a configuration (JSON). What is thrown is shown at the access. */
export function inspect(config) {
  settings(config);
}

/** Decides which address a service gets. Causeway checks that it is the pool's and free. */
export function assign(question) {
  const { without } = settings(question.config);
  const pools = question.pools.filter(({ name }) => !without.includes(name));
  const most = pools.reduce((best, pool) => (best === undefined || pool.free > best.free ? pool : best), undefined);
  if (most === undefined) return { tag: 'refuse', val: 'no pool is left' };
  const address = question.requested ?? most.candidates[0];
  if (address === undefined) return { tag: 'refuse', val: `no address is free in ${most.name}` };
  return { tag: 'take', val: { pool: most.name, address } };
}

function settings(text) {
  const config = JSON.parse(text) ?? {};
  const unknown = Object.keys(config).find((key) => key !== 'without');
  if (unknown !== undefined) throw `there is no setting \`${unknown}\`; use \`without\``;
  const { without = [] } = config;
  if (!Array.isArray(without)) throw 'without: use a list of names of pools';
  return { without };
}
