// calls.js: the flight recorder: the last calls, one as a timeline, and the plan of a statement.
"use strict";
const KINDS = { queued: "waits", lane: "script", waits: "waits", connected: "script", attempt: "script", sent: "sent", blocked: "waits",
  answered: "script", failed: "wrong", rollback: "wrong", backoff: "wrong", resolve: "wrong" };
const BAD = { failed: "critical", unknown: "critical", refused: "critical", running: "dim" };

// Each step with how long it was the last one, as a bar on the call's whole time.
function timeline(call) {
  const list = el("ol", undefined, "timeline"), steps = call.notes.filter(note => note.kind !== "statement");
  const ends = new Map(steps.map((note, i) => [note, i + 1 < steps.length ? steps[i + 1].at : call.duration]));
  for (const note of call.notes) {
    const item = el("li", undefined, note.kind), end = ends.get(note);
    item.append(el("time", end === undefined ? "" : ms(note.at)), el("span", note.said.trim(), "said"));
    if (end !== undefined) {
      const track = el("div", undefined, "track"), bar = el("i", undefined, KINDS[note.kind]);
      const share = t => Math.min(100, 100 * t / Math.max(call.duration, 1e-9)) + "%";
      bar.style.marginLeft = share(note.at);
      bar.style.width = share(Math.max(0, end - note.at));
      track.title = "+" + ms(end - note.at);
      track.append(bar);
      item.append(track);
    }
    list.append(item);
  }
  return list;
}

async function showCall(ask, id) {
  const call = await ask("/api/db/call?id=" + encodeURIComponent(id));
  const facts = el("dl");
  facts.append(...fields([["call", call.id], ["outcome", call.outcome + (call.error ? ": " + call.error : ""),
    BAD[call.outcome]], ["took", ms(call.duration)], ["attempts", count(call.attempts)],
    ["round trips", count(call.roundTrips)], ["began", new Date(call.began).toLocaleString()], ["caller", call.caller],
    ["lane", call.lane], ["calls in its transaction", call.group && count(call.group)], ["request", call.request_id],
    ["trace", call.trace_id]].filter(([, value]) => value && value !== "–")));
  const content = [facts, timeline(call)];
  if (call.omitted) content.push(el("p", count(call.omitted) + " further steps were not kept.", "dim"));
  detail(call.operation, ...content);
}

async function listCalls(ask) {
  const { calls } = await ask("/api/db/calls?limit=30&notable=" + $("notable").checked);
  const rows = calls.map(call => [() => link(call.id, "timeline of the call " + call.id + " of " + call.operation,
    () => attempt(() => showCall(ask, call.id))), call.operation, [call.outcome, BAD[call.outcome]], ms(call.duration),
    count(call.attempts), count(call.roundTrips), clock(call.began), [call.error || "", "text"]]);
  putTable("calls", ["call", "operation", "outcome", "took", "attempts", "round trips", "began", "error"], rows,
    $("notable").checked ? "None that failed, was retried or was slow." : "No call yet.", calls);
}

async function showPlan(ask, query) {
  const { plan } = await ask("/api/db/plan?number=" + query.number);
  detail("Plan", el("p", (query.operation || "") + " " + (query.line || ""), "dim"), el("pre", query.query),
    el("pre", plan.join("\n")));
}

// Runs something that asks the host; what it cannot give is said in the dialog.
async function attempt(action) {
  try {
    await action();
  } catch (e) {
    detail("That could not be shown", el("p", e.message));
  }
}
