// dom.js: numbers as text, and text on the page; nothing is ever read as HTML.
"use strict";
const $ = id => document.getElementById(id);

function el(name, text, cls) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (cls) e.className = cls;
  return e;
}
const count = n => n == null ? "–" : Math.round(n).toLocaleString("en");
const ms = n => n == null ? "–" : n >= 1000 ? (n / 1000).toFixed(2) + " s" : n.toFixed(n < 10 ? 2 : 0) + " ms";
const perSecond = n => n == null ? "–" : n.toFixed(n < 10 ? 1 : 0) + "/s";
const round = n => n.toFixed(n < 10 && n % 1 ? 1 : 0);
const clock = time => new Date(time).toTimeString().slice(0, 8);
function span(s) {
  return s < 90 ? Math.round(s) + " s" : s < 5400 ? Math.round(s / 60) + " min" : s < 172800 ? Math.round(s / 3600) + " h"
    : Math.round(s / 86400) + " d";
}

// [[name, value, class], …] as a list of definitions.
function fields(list) {
  return list.map(([name, value, cls]) => {
    const box = el("div");
    box.append(el("dt", name), el("dd", value, cls));
    return box;
  });
}

// A button that looks like a link.
function link(text, label, action) {
  const button = el("button", text, "link");
  button.type = "button";
  button.setAttribute("aria-label", label);
  button.addEventListener("click", action);
  return button;
}

// What the element with this id shows; made anew only when it would differ, so that focus and selection stay.
const shown = new Map();
function put(id, what, make) {
  const key = JSON.stringify(what);
  if (shown.get(id) === key) return;
  shown.set(id, key);
  $(id).replaceChildren(...[make()].flat());
}
const putFields = (id, list) => put(id, list, () => fields(list));

// rows of cells: a text, [text, class], or a function that makes the cell's content. `none`: said when there is no row.
function putTable(id, heads, rows, none, key) {
  put(id, [rows.length, key || rows, none], () => {
    if (!rows.length) return el("p", none, "dim");
    const table = el("table"), head = table.createTHead().insertRow(), body = table.createTBody();
    heads.forEach((text, i) => {
      const th = el("th", text, Array.isArray(rows[0][i]) && rows[0][i][1] === "text" ? "text" : "");
      th.scope = "col";
      head.append(th);
    });
    for (const row of rows) {
      const tr = body.insertRow();
      for (const cell of row) {
        const td = el("td", Array.isArray(cell) ? cell[0] : typeof cell === "function" ? undefined : cell,
          Array.isArray(cell) ? cell[1] : "");
        if (typeof cell === "function") td.append(cell());
        tr.append(td);
      }
    }
    return table;
  });
}

// The dialog, with a title and content.
function detail(title, ...content) {
  $("detail-title").textContent = title;
  $("detail-body").replaceChildren(...content);
  if (!$("detail").open) $("detail").showModal();
}
