// board.js: what becomes of the host's numbers on the page.
"use strict";
const charts = {
  pool: chart("chart-pool", [{ label: "active", hue: "--hue" }, { label: "idle", hue: "--ok" },
    { label: "waiting", hue: "--warn" }], round),
  rate: chart("chart-rate", [{ label: "a second", hue: "--hue" }, { label: "retried", hue: "--warn" }], round),
  latency: chart("chart-latency", [{ label: "p50", hue: "--hue" }, { label: "p95", hue: "--ok" },
    { label: "p99", hue: "--warn" }], ms),
  lag: chart("chart-lag", [{ label: "event-loop lag", hue: "--hue" }], ms),
  lanes: chart("chart-lanes", [{ label: "calls waiting", hue: "--warn" }, { label: "lanes", hue: "--hue" }], round),
};
const past = recently();
let last = null; // the numbers before

function alertBox(severity, message, action, since) {
  const box = el("div");
  box.append(el("p", severity.toUpperCase() + ": " + message, severity), el("p", "What to do: " + action));
  if (since) box.append(el("p", "since " + clock(since), "dim"));
  return box;
}

const severityOf = state => state === "saturated" || state === "draining" ? "warning" : "critical";

function showAlerts(now) {
  put("alerts", [now.state.name, now.alerts.map(a => [a.severity, a.message, a.action, a.since])], () => {
    // A state of the host is told once: with the state itself, not with the alert about it too.
    const others = now.alerts.filter(a => a.state !== now.state.name);
    const boxes = others.map(a => alertBox(a.severity, a.message || a.title, a.action, a.since));
    if (now.state.name !== "healthy") {
      const said = [now.state.message, now.state.reason, now.state.holders && "held by " + now.state.holders];
      boxes.unshift(alertBox(severityOf(now.state.name), now.state.name + ": " + said.filter(Boolean).join("; "),
        now.state.advice));
    }
    return boxes.length ? boxes : el("p", "Nothing is wrong.", "ok");
  });
}

function showOperations(now, rate) {
  const name = o => o.operation + " " + o.isolation;
  const old = new Map(last ? last.operations.map(o => [name(o), o.total]) : []);
  const used = now.operations.filter(o => o.total).sort((a, b) => b.total - a.total || a.operation.localeCompare(b.operation));
  putTable("operations", ["operation", "isolation", "now", "total", "retried", "failed", "unknown", "p50", "p95", "p99"],
    used.map(o => [o.operation, o.isolation, perSecond(rate(o.total, old.get(name(o)))), count(o.total), count(o.retried),
      [count(o.failed), o.failed ? "critical" : ""], [count(o.unknown), o.unknown ? "critical" : ""],
      ms(o.p50), ms(o.p95), ms(o.p99)]), "No call yet.");
  const names = [...new Set(used.map(o => o.operation))].sort(), chosen = $("which").value;
  put("which", names, () => ["", ...names].map(text => {
    const option = el("option", text || "all operations");
    option.value = text;
    option.selected = text === chosen;
    return option;
  }));
}

const FAULTS = { operator: "critical", transient: "warning" };

function showFailures(now, ask) {
  putTable("failures", ["operation", "code", "whose fault", "count", "last", "call"], now.failures.map(f => [f.operation, f.code,
    [f.fault, FAULTS[f.fault]], count(f.count), clock(f.last), f.callId ? () => link(f.callId,
      "timeline of the call " + f.callId + " of " + f.operation, () => attempt(() => showCall(ask, f.callId))) : "–"]),
    "No call has failed.", now.failures);
}

function showMessages(now) {
  putTable("messages", ["subscriber", "waiting", "oldest", "dead", "delivered", "failed", "postponed"],
    now.messages.map(m => [m.subscriber, count(m.waiting), m.waiting ? span(m.oldest) : "–",
      [count(m.deadLetters), m.deadLetters ? "critical" : ""], count(m.delivered),
      [count(m.failed), m.failed ? "warning" : ""], count(m.postponed)]), "No subscriber is served here.");
}

function showSchedules(now) {
  putTable("schedules", ["operation", "next run", "last success", "failing", "late", "running", "done", "failed"],
    now.schedules.map(s => [s.operation, s.nextRun ? clock(s.nextRun) : "–", s.lastSuccess ? clock(s.lastSuccess) : "never",
      [count(s.failing), s.failing ? "critical" : ""], [s.late ? span(s.late) : "–", s.late > 60 ? "warning" : ""],
      count(s.running), count(s.ok), count(s.failed)]), "No operation has `every`.");
}

function showLatency(at, before, now) {
  const which = $("which").value, sum = latencyOf(now.operations, which), old = latencyOf(before, which);
  const [p50, p95, p99] = [0.5, 0.95, 0.99].map(q => sum && before !== now.operations ? percentile(old, sum, q) : null);
  putFields("latency", [["p50", ms(p50)], ["p95", ms(p95)], ["p99", ms(p99)]]);
  charts.latency.add(at, [p50, p95, p99]);
}

function show(now, ask) {
  const p = now.pool, t = now.transactions, at = Date.parse(now.timestamp) / 1000;
  if (last && (p.uptime < last.pool.uptime || Date.parse(last.timestamp) / 1000 >= at)) {
    last = null; // another process: its counts begin anew
    past.clear();
  }
  const seconds = last ? at - Date.parse(last.timestamp) / 1000 : 0;
  const rate = (a, b) => last ? Math.max(0, (a - (b || 0)) / seconds) : null;
  const before = past.add(at, now.operations);

  showAlerts(now);
  putFields("pool", [["total", count(p.totalConnections) + " of " + count(p.maxConnections)],
    ["active", count(p.activeConnections)], ["idle", count(p.idleConnections)],
    ["waiting", count(p.waitingClients), p.waitingClients > 0 ? "warning" : ""]]);
  charts.pool.add(at, [p.activeConnections, p.idleConnections, p.waitingClients]);

  const txRate = rate(t.totalTransactions, last && last.transactions.totalTransactions);
  putFields("transactions", [["now", perSecond(txRate)], ["committed", count(t.committedTransactions)],
    ["rolled back", count(t.rolledBackTransactions)], ["retried", count(t.retriedTransactions)],
    ["failed", count(t.failedTransactions), t.failedTransactions ? "critical" : ""],
    ["outcome unknown", count(t.unknownTransactions), t.unknownTransactions ? "critical" : ""]]);
  charts.rate.add(at, [txRate, rate(t.retriedTransactions, last && last.transactions.retriedTransactions)]);

  showOperations(now, rate);
  showLatency(at, before, now);

  const lag = last && now.lag.count > last.lag.count
    ? (now.lag.sum - last.lag.sum) / (now.lag.count - last.lag.count) * 1000 : null;
  const h = now.http, answers = h && rate(h.answers, last && last.http && last.http.answers);
  putFields("host", [["up", span(p.uptime / 1000)], ["event-loop lag", ms(lag), lag > 50 ? "warning" : ""],
    ["queries", count(p.totalQueries)], ["mean query", ms(p.avgQueryTime)], ["slow", count(p.slowQueries)],
    ["failed", count(p.failedQueries)]]);
  putFields("http", h ? [["answers", perSecond(answers)], ["refused (4xx)", count(h.clientErrors)],
    ["failed (5xx)", count(h.serverErrors), h.serverErrors ? "critical" : ""], ["clients", count(h.connections)]] : []);
  charts.lag.add(at, [lag]);

  const { calls, transactions } = now.groups;
  putFields("lanes", [["lanes in use", count(now.lanes.active)], ["calls waiting in them", count(now.lanes.waiting)],
    ["calls to a transaction", transactions ? (calls / transactions).toFixed(2) : "–"]]);
  charts.lanes.add(at, [now.lanes.waiting, now.lanes.active]);

  putTable("retries", ["operation", "reason", "count"], now.retries.map(r => [r.operation, r.reason, count(r.count)]),
    "Nothing had to be retried.");
  showMessages(now);
  showSchedules(now);
  showFailures(now, ask);
  const g = now.generations;
  putFields("generations", [["current", count(g.current)], ["open", count(g.open)], ["loaded", count(g.loaded)],
    ["refused", count(g.refused), g.refused ? "warning" : ""], ["age", span(at - g.startedAt)]]);
  putTable("slow", ["took", "statement", "operation", "line", "at", ""], now.slowQueries.map(q => [ms(q.duration),
    [q.query + (q.error ? "\n" + q.error : ""), "text"], q.operation || "–", q.line || "–", clock(q.timestamp),
    () => link("plan", "plan of the statement of " + (q.line || q.operation || "the host"),
      () => attempt(() => showPlan(ask, q)))]), "None above " + ms(now.threshold) + ".", now.slowQueries);
  last = now;
}

function clearBoard() {
  last = null;
  past.clear();
  shown.clear();
  for (const drawn of Object.values(charts)) drawn.clear();
}
