// Every ready endpoint of the client's own region first, the others after them.
//
// Configuration: {"overprovisioningPercent": 140}: 100 to 1000.

/** Checks a configuration (JSON). What is thrown is shown at the access. */
export function inspect(config) {
  settings(config);
  return { buckets: 1 };
}

/** Decides how a service's traffic is spread. */
export function decide(question) {
  const { overprovisioningPercent } = settings(question.config);
  const { states, localities, weights } = question.endpoints;
  const count = states.length;

  // Ready ones, or what drains where nothing is ready (0: ready, 1: draining, 2: not ready).
  const of = (state) => [...Array(count).keys()].filter((i) => states[i] === state);
  const ready = of(0);
  const usable = ready.length > 0 ? ready : of(1);

  const isNear = ({ region }) => region === question.client.locality.region;
  const places = question.localities
    .map((locality, index) => ({ index, near: isNear(locality), members: usable.filter((i) => localities[i] === index) }))
    .filter(({ members }) => members.length > 0);
  const someNear = places.some(({ near }) => near);
  // Priorities have no gaps.
  places.sort((a, b) => Number(b.near) - Number(a.near) || a.index - b.index);
  return {
    groups: places.map(({ index, near, members }) => ({
      priority: near || !someNear ? 0 : 1,
      locality: index,
      weight: members.reduce((sum, i) => sum + weights[i], 0),
      count: members.length,
      draining: false,
    })),
    endpoints: places.flatMap(({ members }) => members),
    weights: [],
    algorithm: { tag: 'round-robin' },
    overprovisioningPercent,
    panicThresholdPercent: 1,
    dropPerMillion: 0,
    outlierDetection: undefined,
    healthCheck: undefined,
  };
}

function settings(text) {
  const config = JSON.parse(text) ?? {};
  const unknown = Object.keys(config).find((key) => key !== 'overprovisioningPercent');
  if (unknown !== undefined) throw `there is no setting \`${unknown}\`; use \`overprovisioningPercent\``;
  const { overprovisioningPercent = 140 } = config;
  if (!Number.isInteger(overprovisioningPercent) || overprovisioningPercent < 100 || overprovisioningPercent > 1000) {
    throw `overprovisioningPercent: ${JSON.stringify(overprovisioningPercent)} is not what it can be; use 100 to 1000`;
  }
  return { overprovisioningPercent };
}
