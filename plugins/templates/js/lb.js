// Most requests to the client's own zone, so many percent to the others.
//
// Configuration: {"farPercent": 10}: 1 to 99.

/** Checks a configuration (JSON). What is thrown is shown at the access. */
export function inspect(config) {
  settings(config);
  return { buckets: 1 };
}

/** Decides how a service's traffic is spread. */
export function decide(question) {
  const { farPercent } = settings(question.config);
  const { states, localities, weights } = question.endpoints;
  const own = question.client.locality;

  // Ready ones, or what drains where nothing is ready (0: ready, 1: draining, 2: not ready).
  const of = (state) => [...states.keys()].filter((i) => states[i] === state);
  const ready = of(0);
  const usable = ready.length > 0 ? ready : of(1);

  const places = question.localities
    .map(({ region, zone }, locality) => ({
      locality,
      isNear: region === own.region && zone === own.zone,
      members: usable.filter((i) => localities[i] === locality),
    }))
    .filter(({ members }) => members.length > 0);
  const weight = ({ members }) => members.reduce((sum, i) => sum + weights[i], 0);
  const near = places.filter(({ isNear }) => isNear).reduce((sum, place) => sum + weight(place), 0);
  const far = places.filter(({ isNear }) => !isNear).reduce((sum, place) => sum + weight(place), 0);
  // A place's part of the whole, in millionths; at least one, since Envoy takes no weight of 0.
  const part = (place) => {
    if (near === 0 || far === 0) return weight(place);
    const [percent, all] = place.isNear ? [100 - farPercent, near] : [farPercent, far];
    return Math.max(1, Math.round((percent * 10_000 * weight(place)) / all));
  };
  return {
    groups: places.map((place) => ({
      priority: 0,
      locality: place.locality,
      weight: part(place),
      count: place.members.length,
      draining: false,
    })),
    endpoints: places.flatMap(({ members }) => members),
    weights: places.flatMap(({ members }) => members.map((i) => weights[i])),
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
  const unknown = Object.keys(config).find((key) => key !== 'farPercent');
  if (unknown !== undefined) throw `there is no setting \`${unknown}\`; use \`farPercent\``;
  const { farPercent = 10 } = config;
  if (!Number.isInteger(farPercent) || farPercent < 1 || farPercent > 99) {
    throw `farPercent: ${JSON.stringify(farPercent)} is not what it can be; use a whole number from 1 to 99`;
  }
  return { farPercent };
}
