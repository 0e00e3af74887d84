// page.js: the token, the answers, and what becomes of them on the page.
"use strict";
const EVERY = 2000, PATIENCE = 8000, KEY = "moonpool.token";
const $ = id => document.getElementById(id);
let token = sessionStorage.getItem(KEY), last = null, lastAt = 0, timer = null, asking = null;

function el(name, text, cls) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (cls) e.className = cls;
  return e;
}
const count = n => n == null ? "–" : Math.round(n).toLocaleString("en");
const ms = n => n == null ? "–" : n >= 1000 ? (n / 1000).toFixed(2) + " s" : n.toFixed(n < 10 ? 2 : 0) + " ms";
function span(s) {
  return s < 90 ? Math.round(s) + " s" : s < 5400 ? Math.round(s / 60) + " min" : s < 172800 ? Math.round(s / 3600) + " h"
    : Math.round(s / 86400) + " d";
}
function fields(id, list) {
  $(id).replaceChildren(...list.map(([name, value, cls]) => {
    const box = el("div");
    box.append(el("dt", name), el("dd", value, cls));
    return box;
  }));
}
function table(id, heads, rows, none) {
  if (!rows.length) return $(id).replaceChildren(el("p", none, "dim"));
  const t = el("table"), head = t.createTHead().insertRow(), body = t.createTBody();
  for (const h of heads) { const th = el("th", h); th.scope = "col"; head.append(th); }
  for (const row of rows) {
    const tr = body.insertRow();
    row.forEach(v => tr.append(Array.isArray(v) ? el("td", v[0], v[1]) : el("td", v)));
  }
  $(id).replaceChildren(t);
}
const round = n => n.toFixed(n < 10 && n % 1 ? 1 : 0);
const charts = {
  pool: chart("chart-active", [{ label: "active", hue: "--hue" }, { label: "waiting", hue: "--warn" }], round),
  rate: chart("chart-rate", [{ label: "a second", hue: "--hue" }], round),
  lag: chart("chart-lag", [{ label: "mean lag", hue: "--hue" }], ms),
};

function show(now) {
  const p = now.pool, t = now.transactions, before = last, at = Date.parse(now.timestamp) / 1000;
  const seconds = before ? (Date.parse(now.timestamp) - Date.parse(before.timestamp)) / 1000 : 0;
  const restarted = before && p.uptime < before.pool.uptime;
  const rate = (a, b) => before && !restarted && seconds > 0 ? Math.max(0, (a - (b || 0)) / seconds) : null;
  const perSecond = r => r == null ? "–" : r.toFixed(r < 10 ? 1 : 0) + "/s";
  const lagNow = before && !restarted && now.lag.count > before.lag.count
    ? (now.lag.sum - before.lag.sum) / (now.lag.count - before.lag.count) * 1000 : null;
  const txRate = rate(t.totalTransactions, before && before.transactions.totalTransactions);

  const alerts = now.alerts.map(a => {
    const box = el("div");
    box.append(el("p", a.severity.toUpperCase() + ": " + (a.message || a.title), a.severity),
      el("p", "What to do: " + a.action), el("p", "since " + new Date(a.since).toLocaleTimeString(), "dim"));
    return box;
  });
  if (!now.health) {
    const box = el("div");
    box.append(el("p", "CRITICAL: the database cannot be reached", "critical"), el("p", "What to do: see whether " +
      "PostgreSQL runs and DATABASE_URL is right (moonpool db status). The host reconnects by itself; " +
      "until then calls are refused with 503."));
    alerts.unshift(box);
  }
  const text = alerts.map(a => a.textContent).join();
  if (text !== show.alerts) $("alerts").replaceChildren(...(alerts.length ? alerts : [el("p", "Nothing is wrong.", "ok")]));
  show.alerts = text;

  fields("pool", [["total", count(p.totalConnections) + " of " + count(p.maxConnections)],
    ["active", count(p.activeConnections)], ["idle", count(p.idleConnections)],
    ["waiting", count(p.waitingClients), p.waitingClients > 0 ? "warning" : ""]]);
  charts.pool.add(at, [p.activeConnections, p.waitingClients]);
  fields("transactions", [["now", perSecond(txRate)], ["committed", count(t.committedTransactions)],
    ["rolled back", count(t.rolledBackTransactions)], ["retried", count(t.retriedTransactions)],
    ["failed", count(t.failedTransactions), t.failedTransactions ? "critical" : ""],
    ["outcome unknown", count(t.unknownTransactions), t.unknownTransactions ? "critical" : ""]]);
  charts.rate.add(at, [txRate]);
  fields("host", [["up", span(p.uptime / 1000)], ["event-loop lag", ms(lagNow)], ["queries", count(p.totalQueries)],
    ["mean query", ms(p.avgQueryTime)], ["slow", count(p.slowQueries)], ["failed", count(p.failedQueries)]]);
  charts.lag.add(at, [lagNow]);

  const name = o => o.operation + " " + o.isolation;
  const old = new Map(before ? before.operations.map(o => [name(o), o.total]) : []);
  table("operations", ["operation", "isolation", "now", "total", "retried", "failed", "p50", "p95", "p99"],
    now.operations.filter(o => o.total).sort((a, b) => b.total - a.total).map(o => [o.operation, o.isolation,
      perSecond(rate(o.total, old.get(name(o)))), count(o.total), count(o.retried),
      [count(o.failed), o.failed ? "critical" : ""], ms(o.p50), ms(o.p95), ms(o.p99)]), "No call yet.");
  table("retries", ["operation", "reason", "count"], now.retries.map(r => [r.operation, r.reason, count(r.count)]),
    "Nothing had to be retried.");
  fields("lanes", [["active", count(now.lanes.active)], ["waiting", count(now.lanes.waiting)]]);
  fields("generations", [["current", count(now.generations.current)], ["open", count(now.generations.open)],
    ["loaded", count(now.generations.loaded)],
    ["refused", count(now.generations.refused), now.generations.refused ? "warning" : ""],
    ["age", span(Date.parse(now.timestamp) / 1000 - now.generations.startedAt)]]);
  table("slow", ["took", "statement", "operation", "line", "at"], now.slowQueries.map(q => [ms(q.duration),
    [q.query + (q.error ? "\n" + q.error : ""), "text"], q.operation || "–", q.line || "–",
    new Date(q.timestamp).toLocaleTimeString()]), "None above " + ms(now.threshold) + ".");
  last = now;
  lastAt = Date.now();
}

function state(text, cls, stale) {
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").className = cls;
  $("board").classList.toggle("stale", stale);
}
function age() {
  $("age").textContent = lastAt ? "as of " + span((Date.now() - lastAt) / 1000) + " ago" : "";
  if (lastAt && Date.now() - lastAt > PATIENCE) $("board").classList.add("stale");
}
function ask(why) {
  if (asking) asking.abort();
  clearTimeout(timer);
  sessionStorage.removeItem(KEY);
  token = last = null;
  lastAt = 0;
  for (const drawn of Object.values(charts)) drawn.clear();
  $("board").hidden = $("leave").hidden = true;
  $("ask").hidden = false;
  $("refused").textContent = why || "";
  state("no token", "", false);
  age();
  $("token").focus();
}
async function poll() {
  clearTimeout(timer);
  if (!token || document.hidden || asking) return;
  const mine = asking = new AbortController(), used = token;
  const late = setTimeout(() => mine.abort(), PATIENCE);
  try {
    const answer = await fetch("/api/db/overview", { cache: "no-store", credentials: "omit", signal: mine.signal,
      headers: { Authorization: "Bearer " + used } });
    const body = await answer.json().catch(() => ({}));
    if (token !== used) return;
    const why = body.error && body.error.message;
    if (answer.status === 401 || answer.status === 403) return ask(why);
    if (!answer.ok) state("the host answers " + answer.status + ": " + (why || "no reason given"), "critical", true);
    else {
      $("ask").hidden = true;
      $("board").hidden = $("leave").hidden = false;
      show(body);
      const red = body.alerts.some(a => a.severity === "critical");
      if (!body.health) state("the database cannot be reached; trying again", "critical", false);
      else if (red) state("something is wrong: see the alerts", "critical", false);
      else if (body.alerts.length) state("worth a look: see the alerts", "warning", false);
      else state("all is well", "ok", false);
    }
  } catch (e) {
    if (token === used) state("the host cannot be reached; trying again", "critical", true);
  } finally {
    clearTimeout(late);
    if (asking === mine) asking = null;
    if (token) { age(); timer = setTimeout(poll, EVERY); }
  }
}
$("ask").addEventListener("submit", event => {
  event.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  if (!/^[\x21-\x7e]+$/.test(token)) return ask("That is no token.");
  sessionStorage.setItem(KEY, token);
  $("refused").textContent = "";
  state("asking the host", "", false);
  poll();
});
$("leave").addEventListener("click", () => ask());
document.addEventListener("visibilitychange", poll);
setInterval(age, 1000);
if (token) poll(); else ask();
