-- moonpool.dashboard: the page at /. It is an empty shell that anybody may have: it asks for a token, keeps it for the
-- browser tab alone, and draws what /api/db/overview tells it every two seconds.
local host = require "moonpool.host"

local page = [==[
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>moonpool</title>
<style nonce="NONCE">
:root { --bg: #f6f7f9; --card: #fff; --ink: #1b1f24; --dim: #5b6470; --line: #dfe3e8; --hue: #1f6feb; --ok: #1a7f37;
  --warn: #9a6700; --bad: #c2202b; }
@media (prefers-color-scheme: dark) { :root { --bg: #0e1116; --card: #171b22; --ink: #e6e9ee; --dim: #98a2ae;
  --line: #2c333d; --hue: #6cb0ff; --ok: #57c973; --warn: #e0b03a; --bad: #ff7b7b; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: center; padding: .7rem 1rem;
  border-bottom: 1px solid var(--line); background: var(--card); }
h1 { font-size: 1.1rem; margin: 0; } h2 { font-size: .95rem; margin: 0 0 .5rem; }
#state { margin-right: auto; font-weight: 600; } .ok { color: var(--ok); } .warning { color: var(--warn); }
.critical { color: var(--bad); }
main { display: grid; grid-template-columns: repeat(12, minmax(0, 1fr)); gap: .8rem; padding: .8rem 1rem; }
section { grid-column: span 12; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .8rem; min-width: 0; }
@media (min-width: 800px) { .third { grid-column: span 4; } }
main.stale { opacity: .45; filter: grayscale(1); }
dl { display: flex; flex-wrap: wrap; gap: .4rem 1.4rem; margin: 0; } dt { color: var(--dim); font-size: .8rem; }
dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: 48px; margin-top: .6rem; }
polyline { fill: none; stroke: var(--hue); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .5rem; border-top: 1px solid var(--line); white-space: nowrap; }
thead th { border: 0; color: var(--dim); font-size: .8rem; font-weight: 500; }
th:first-child, td:first-child { text-align: left; }
td.text { text-align: left; white-space: pre-wrap; overflow-wrap: anywhere; min-width: 14rem;
  font: 13px ui-monospace, monospace; }
p { margin: .3rem 0; } .dim { color: var(--dim); } ul { margin: 0; padding-left: 1.1rem; }
form { max-width: 34rem; margin: 2rem auto; padding: 0 1rem; } label { display: block; font-weight: 600; }
input, button { font: inherit; padding: .45rem .7rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); color: var(--ink); } input { width: 100%; margin: .4rem 0; }
:focus-visible { outline: 3px solid var(--hue); outline-offset: 2px; }
</style>
<header><h1>moonpool</h1><span id="state" role="status">no token yet</span><span id="age" class="dim"></span>
<button id="leave" hidden>Forget the token</button></header>
<noscript><p>This page needs JavaScript; the same numbers are at /metrics.</p></noscript>
<form id="ask" hidden><label for="token">Token with the scope <code>monitor</code></label>
<input id="token" type="password" autocomplete="off" spellcheck="false" required aria-describedby="hint">
<p id="hint" class="dim">Make one with <code>moonpool token create --scopes monitor</code>.
It stays in this tab, until the tab is closed.</p><p id="refused" class="critical" role="alert"></p>
<button>Open</button></form>
<main id="board" hidden aria-label="What the host does now">
<section aria-labelledby="h-alerts"><h2 id="h-alerts">Alerts</h2><div id="alerts" aria-live="polite"></div></section>
<section class="third" aria-labelledby="h-pool"><h2 id="h-pool">Connections</h2><dl id="pool"></dl>
<svg id="line-active" role="img" viewBox="0 0 100 48" preserveAspectRatio="none"></svg></section>
<section class="third" aria-labelledby="h-tx"><h2 id="h-tx">Transactions</h2><dl id="transactions"></dl>
<svg id="line-rate" role="img" viewBox="0 0 100 48" preserveAspectRatio="none"></svg></section>
<section class="third" aria-labelledby="h-host"><h2 id="h-host">Host</h2><dl id="host"></dl>
<svg id="line-lag" role="img" viewBox="0 0 100 48" preserveAspectRatio="none"></svg></section>
<section aria-labelledby="h-ops"><h2 id="h-ops">Operations</h2>
<div id="operations" class="scroll" tabindex="0" role="region" aria-labelledby="h-ops"></div></section>
<section class="third" aria-labelledby="h-retries"><h2 id="h-retries">Retries, by reason</h2>
<div id="retries" class="scroll"></div></section>
<section class="third" aria-labelledby="h-lanes"><h2 id="h-lanes">Lanes</h2><dl id="lanes"></dl></section>
<section class="third" aria-labelledby="h-gen"><h2 id="h-gen">Generations</h2><dl id="generations"></dl></section>
<section aria-labelledby="h-slow"><h2 id="h-slow">Slow queries</h2>
<div id="slow" class="scroll" tabindex="0" role="region" aria-labelledby="h-slow"></div></section>
</main>
<script nonce="NONCE">
"use strict";
const EVERY = 2000, PATIENCE = 8000, KEPT = 150, KEY = "moonpool.token";
const $ = id => document.getElementById(id);
let token = sessionStorage.getItem(KEY), last = null, lastAt = 0, timer = null, asking = null;
const lines = { active: [], rate: [], lag: [] };

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
function draw(name, value, what) {
  const list = lines[name], svg = $("line-" + name);
  if (value != null) list.push(value);
  if (list.length > KEPT) list.shift();
  const top = Math.max(1e-9, ...list), step = 100 / Math.max(1, list.length - 1);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", list.map((v, i) => (i * step).toFixed(2) + "," + (46 - v / top * 44).toFixed(2)).join(" "));
  svg.replaceChildren(line);
  if (list.length) svg.setAttribute("aria-label", what(list[list.length - 1], Math.max(...list)));
}

function show(now) {
  const p = now.pool, t = now.transactions, before = last;
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
  draw("active", p.activeConnections, (v, m) => "active connections: " + v + ", at most " + m);
  fields("transactions", [["now", perSecond(txRate)], ["committed", count(t.committedTransactions)],
    ["rolled back", count(t.rolledBackTransactions)], ["retried", count(t.retriedTransactions)],
    ["failed", count(t.failedTransactions), t.failedTransactions ? "critical" : ""],
    ["outcome unknown", count(t.unknownTransactions), t.unknownTransactions ? "critical" : ""]]);
  draw("rate", txRate, (v, m) => "transactions a second: " + v.toFixed(1) + ", at most " + m.toFixed(1));
  fields("host", [["up", span(p.uptime / 1000)], ["event-loop lag", ms(lagNow)], ["queries", count(p.totalQueries)],
    ["mean query", ms(p.avgQueryTime)], ["slow", count(p.slowQueries)], ["failed", count(p.failedQueries)]]);
  draw("lag", lagNow, (v, m) => "event-loop lag: " + ms(v) + ", at most " + ms(m));

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
  for (const line of Object.values(lines)) line.length = 0;
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
</script>
</html>
]==]

local dashboard = {}

--- The page, and the policy it is to be sent with: nothing runs in it but its own text.
function dashboard.page()
  local nonce = (host.uuid() .. host.uuid()):gsub("-", "")
  return (page:gsub("NONCE", nonce)),
    ("default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; connect-src 'self'; img-src data:; " ..
     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"):format(nonce, nonce)
end

return dashboard
