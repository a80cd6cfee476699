// From samples to medians, and to ratios of ours to the peer within a round.

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

/**
 * One line per model, threads and contender, then one per pair of ours and the peer.
 * @param {object[]} samples in the order of the measurements
 */
export function summarize(samples) {
  const lines = [];
  for (const [, group] of groupBy(samples, ({ model, threads }) => `${model} ${threads}`)) {
    const { model, threads } = group[0];
    const byLabel = groupBy(group, ({ label }) => label);
    const result = { model, threads, contenders: [], ratios: [] };
    for (const [label, own] of byLabel) result.contenders.push({ label, metrics: spread(own) });
    for (const [ours, own] of byLabel) {
      for (const [peer, theirs] of byLabel) {
        if (own[0].engine !== 'shiftadd' || theirs[0].engine === 'shiftadd') continue;
        result.ratios.push({ ours, peer, metrics: ratios(own, theirs) });
      }
    }
    lines.push(result);
  }
  return lines;
}

/** Median, least and most of every metric. */
function spread(samples) {
  const values = {};
  for (const { metrics } of samples) {
    for (const [name, value] of Object.entries(metrics)) if (value !== null) (values[name] ??= []).push(value);
  }
  return Object.fromEntries(Object.entries(values).map(([name, list]) => [
    name, { median: median(list), least: Math.min(...list), most: Math.max(...list), count: list.length },
  ]));
}

/** Medians over the rounds of ours / theirs, for what both have. */
function ratios(ours, theirs) {
  const values = {};
  for (const own of ours) {
    const other = theirs.find(({ round, kind }) => round === own.round && kind === own.kind);
    for (const [name, value] of Object.entries(own.metrics)) {
      if (value !== null && typeof other?.metrics[name] === 'number') (values[name] ??= []).push(value / other.metrics[name]);
    }
  }
  return Object.fromEntries(Object.entries(values).map(([name, list]) => [name, median(list)]));
}

function groupBy(list, key) {
  const groups = new Map();
  for (const entry of list) {
    const name = key(entry);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(entry);
  }
  return groups;
}
