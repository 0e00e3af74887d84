// latency.js: percentiles of the last seconds, out of counts that only grow.
"use strict";
const WINDOW_S = 10;

// Of an operation's isolation levels, or of all operations: { bounds, counts, parts }; null when there is none.
function latencyOf(operations, name) {
  let sum = null;
  for (const { operation, isolation, latency } of operations) {
    if (!latency || name && operation !== name) continue;
    if (!sum) sum = { bounds: latency.bounds, counts: latency.counts.map(() => 0), parts: new Map() };
    latency.counts.forEach((n, i) => { sum.counts[i] += n; });
    sum.parts.set(operation + " " + isolation, latency);
  }
  return sum;
}

// The times between the two that the host still knows one by one, and the bounds of them all.
function known(before, now) {
  const values = [];
  let low = Infinity, high = 0;
  for (const [name, part] of now.parts) {
    const old = before && before.parts.get(name);
    const fresh = part.counts.at(-1) - (old ? old.counts.at(-1) : 0);
    if (fresh <= 0) continue;
    values.push(...part.last.slice(-fresh));
    low = Math.min(low, part.min);
    high = Math.max(high, part.max);
  }
  return { values: values.sort((a, b) => a - b), low, high };
}

// In ms: exact where all times are known, else as histogram_quantile of Prometheus, linear within a bucket, but never
// beyond what was seen; null: nothing has ended between the two.
function percentile(before, now, q) {
  const counts = now.counts.map((n, i) => n - (before ? before.counts[i] || 0 : 0));
  const all = counts.at(-1), rank = q * all, { values, low, high } = known(before, now);
  if (!(all > 0)) return null;
  if (values.length === all) return values[Math.max(0, Math.ceil(rank) - 1)];
  const i = counts.findIndex(n => n >= rank);
  if (i >= now.bounds.length) return high;
  const from = i ? now.bounds[i - 1] : 0, below = i ? counts[i - 1] : 0;
  const guess = (from + (now.bounds[i] - from) * (rank - below) / (counts[i] - below)) * 1000;
  return Math.min(Math.max(guess, low), high);
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
