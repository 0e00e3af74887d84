// latency.js: percentiles of the last seconds, out of counts that only grow.
"use strict";
const WINDOW_S = 10;

// Of an operation's isolation levels, or of all operations: { bounds, counts }; null when there is none.
function latencyOf(operations, name) {
  let sum = null;
  for (const { operation, latency } of operations) {
    if (!latency || name && operation !== name) continue;
    if (!sum) sum = { bounds: latency.bounds, counts: latency.counts.slice() };
    else latency.counts.forEach((n, i) => { sum.counts[i] += n; });
  }
  return sum;
}

// In ms, as histogram_quantile of Prometheus: linear within a bucket; null: nothing has ended between the two.
function percentile(before, now, q) {
  const counts = now.counts.map((n, i) => n - (before ? before.counts[i] || 0 : 0));
  const all = counts.at(-1), rank = q * all;
  if (!(all > 0)) return null;
  const i = counts.findIndex(n => n >= rank);
  if (i >= now.bounds.length) return now.bounds.at(-1) * 1000;
  const low = i ? now.bounds[i - 1] : 0, below = i ? counts[i - 1] : 0;
  return (low + (now.bounds[i] - low) * (rank - below) / (counts[i] - below)) * 1000;
}

// Remembers what was a window ago: add(at, operations) -> those operations.
function recently() {
  const kept = [];
  return {
    add(at, operations) {
      kept.push({ at, operations });
      while (kept.length > 2 && kept[1].at <= at - WINDOW_S) kept.shift();
      return kept[0].operations;
    },
    clear() { kept.length = 0; },
  };
}
