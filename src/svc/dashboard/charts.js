// charts.js: the last minutes as lines, by uPlot; in words where the host was built without it.
"use strict";
const PAST_S = 600;
const GAP_S = 4; // without a number: the line is broken
const styleOf = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const DASHES = [[], [6, 3], [2, 3]]; // lines differ without their colours too

function plotIn(box, data, series, say) {
  const axis = { stroke: () => styleOf("--dim"), grid: { stroke: () => styleOf("--line"), width: 1 }, ticks: { show: false },
    font: "11px system-ui, sans-serif" };
  const plot = new uPlot({
    width: 300, height: 130, cursor: { drag: { x: false, y: false } }, legend: { live: true },
    scales: { y: { range: (u, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [{ ...axis, size: 24, space: 70,
      values: (u, at, i, space, step) => at.map(s => clock(s * 1000).slice(0, step < 60 ? 8 : 5)) },
      { ...axis, size: 52, space: 34, values: (u, at) => at.map(say) }],
    series: [{ label: "at", value: (u, s) => s == null ? "–" : clock(s * 1000) },
      ...series.map((line, i) => ({ label: line.label, stroke: () => styleOf(line.hue), width: 1.5, dash: DASHES[i],
        value: (u, v) => v == null ? "–" : say(v) }))],
  }, data, box);
  new ResizeObserver(() => plot.setSize({ width: Math.max(120, box.clientWidth), height: 130 })).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.redraw(false, true));
  return plot;
}

// One chart in the element `id`. series: [{ label, hue }]; `say` makes a number into text.
function chart(id, series, say) {
  const box = $(id), data = [[], ...series.map(() => [])];
  const plot = globalThis.uPlot && plotIn(box, data, series, say);
  box.setAttribute("role", "img");
  function push(at, values) {
    data[0].push(at);
    values.forEach((v, i) => data[i + 1].push(v));
  }
  return {
    // `at` in seconds; a value that is null is a gap.
    add(at, values) {
      const last = data[0].at(-1);
      if (last !== undefined && at - last > GAP_S) push(last + 1, series.map(() => null));
      push(at, values);
      while (data[0].length && data[0][0] < at - PAST_S) for (const list of data) list.shift();
      const words = series.map((line, i) => {
        const known = data[i + 1].filter(v => v != null);
        return line.label + ": " + (known.length ? say(known.at(-1)) + " now, at most " + say(Math.max(...known))
          : "nothing yet");
      }).join("; ");
      box.setAttribute("aria-label", words);
      if (!plot) return void (box.textContent = words);
      plot.setData(data);
      if (plot.cursor.idx == null) plot.setLegend({ idx: data[0].length - 1 });
    },
    clear() {
      for (const list of data) list.length = 0;
      if (plot) plot.setData(data);
    },
  };
}
