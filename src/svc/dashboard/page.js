// page.js: the token, and the stream of numbers that it opens.
"use strict";
const KEY = "moonpool.token";
const SILENT_S = 5;   // without a line: something is wrong
const CALLS_S = 5;    // how often the list of calls is read
const LONGEST_S = 15; // between two tries
let token = sessionStorage.getItem(KEY), lineAt = 0, heardAt = 0, callsAt = 0, stream = null, timer = null, tries = 0;

function state(text, cls, stale) {
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").className = cls;
  $("board").classList.toggle("stale", stale);
}
function age() {
  const old = (Date.now() - lineAt) / 1000;
  $("age").textContent = lineAt && old >= 2 ? "as of " + span(old) + " ago" : "";
  if (heardAt && (Date.now() - heardAt) / 1000 > SILENT_S && stream) stream.abort();
}

function askForToken(why) {
  if (stream) stream.abort();
  clearTimeout(timer);
  sessionStorage.removeItem(KEY);
  token = null;
  lineAt = 0;
  clearBoard();
  $("detail").close();
  $("board").hidden = $("leave").hidden = true;
  $("ask").hidden = false;
  $("refused").textContent = why || "";
  state("no token", "", false);
  age();
  $("token").focus();
}

class Refused extends Error {
  constructor(status, message, after) {
    super(message);
    this.status = status;
    this.after = after; // seconds, or NaN
  }
}

// The answer to a GET, or an error that says why not.
async function request(path, signal) {
  const answer = await fetch(path, { cache: "no-store", credentials: "omit", signal,
    headers: { Authorization: "Bearer " + token } });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, body.error && body.error.message || "the host answers " + answer.status,
    parseFloat(answer.headers.get("Retry-After")));
}
const ask = async path => (await request(path)).json();

const refusals = {
  401: "The host does not know this token: it may be mistyped, expired or revoked.",
  403: "The token is valid, but it lacks the scope monitor.",
};

function line(text) {
  const now = JSON.parse(text);
  if (now.stopping) return state("the host is stopping", "warning", true);
  lineAt = heardAt = Date.now();
  tries = 0;
  $("ask").hidden = true;
  $("board").hidden = $("leave").hidden = false;
  show(now, ask);
  age();
  if (now.state.name !== "healthy") state(now.state.message, severityOf(now.state.name), false);
  else if (now.alerts.some(a => a.severity === "critical")) state("something is wrong: see the alerts", "critical", false);
  else if (now.alerts.length) state("worth a look: see the alerts", "warning", false);
  else state("all is well", "ok", false);
  if (lineAt - callsAt > CALLS_S * 1000) refreshCalls();
}
function refreshCalls() {
  callsAt = Date.now();
  listCalls(ask).catch(() => {}); // the stream tells what is wrong
}

async function readLines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "";;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const text of lines) line(text);
  }
}

// Reads the stream until it ends, which it does once a minute; then again, at once or after a pause that grows.
async function follow() {
  clearTimeout(timer);
  if (!token || document.hidden || stream) return;
  const mine = stream = new AbortController(), used = token;
  heardAt = 0; // of this stream: nothing yet
  const connecting = setTimeout(() => mine.abort(), 2 * SILENT_S * 1000);
  let after = null;
  try {
    const answer = await request("/api/db/overview/stream", mine.signal);
    clearTimeout(connecting);
    heardAt = Date.now();
    await readLines(answer.body);
  } catch (e) {
    if (token !== used || document.hidden) return;
    if (refusals[e.status]) return askForToken(refusals[e.status]);
    if (e instanceof Refused) after = e.after;
    state(e instanceof Refused ? e.message : lineAt ? "the host cannot be reached: trying again"
      : "the host cannot be reached; does moonpool serve run?", "critical", true);
    tries++;
  } finally {
    clearTimeout(connecting);
    mine.abort(); // what is left of it
    if (stream === mine) stream = null;
    if (token && !document.hidden && !stream) {
      const pause = tries ? Math.min(LONGEST_S, 2 ** (tries - 1)) : 0;
      timer = setTimeout(follow, (after > 0 ? Math.max(after, pause) : pause) * 1000 * (0.75 + Math.random() / 2));
    }
  }
}

$("ask").addEventListener("submit", event => {
  event.preventDefault();
  const given = $("token").value.trim();
  $("token").value = "";
  if (!/^mp_[\x21-\x7e]+$/.test(given)) return askForToken("That is no token: one begins with mp_.");
  token = given;
  tries = 0;
  sessionStorage.setItem(KEY, token);
  $("refused").textContent = "";
  state("asking the host", "", false);
  follow();
});
$("find").addEventListener("submit", event => {
  event.preventDefault();
  const id = $("call-id").value.trim();
  if (id) attempt(() => showCall(ask, id));
});
$("notable").addEventListener("change", refreshCalls);
$("which").addEventListener("change", () => charts.latency.clear());
$("leave").addEventListener("click", () => askForToken());
document.addEventListener("visibilitychange", () => document.hidden ? stream && stream.abort() : follow());
setInterval(age, 1000);
if (token) follow(); else askForToken();
