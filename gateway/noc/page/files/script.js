// Keeps the page as fresh as GET /events says. The page is complete without it:
// the gateway writes every word, here they are only put where they belong.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const live = byId("live"), pause = byId("pause");
  let source = null, paused = false, last = 0, retry = 0;

  // Only what differs is touched: a screen reader keeps its place, and the
  // health line is read out only when it says something new.
  const text = (node, value) => { if (node.textContent !== value) node.textContent = value; };
  const name = (node, value) => { if (node.className !== value) node.className = value; };

  const facts = (all) => {
    for (const f of all) {
      const box = byId("f-" + f.id);
      name(box, f.mark || "");
      text(box.querySelector("dd"), f.value);
    }
  };
  const rates = (all) => {
    for (const r of all) {
      const box = byId("r-" + r.id);
      text(box.querySelector(".value"), r.now);
      text(box.querySelector(".most"), r.peak);
      box.querySelector("polyline").setAttribute("points", r.points);
    }
  };
  const table = (t) => {
    const whole = byId("t-" + t.id), body = whole.tBodies[0], note = byId("n-" + t.id);
    const labels = Array.from(whole.tHead.rows[0].cells, (c) => c.textContent);
    while (body.rows.length > t.rows.length) body.deleteRow(-1);
    t.rows.forEach((r, i) => {
      let row = body.rows[i];
      if (!row) {
        row = body.insertRow();
        row.setAttribute("role", "row");
        for (const label of labels) {
          const cell = row.insertCell();
          cell.setAttribute("role", "cell");
          cell.dataset.label = label;
        }
      }
      name(row, r.mark || "");
      r.cells.forEach((c, k) => text(row.cells[k], c));
    });
    text(note, t.note || "");
    note.hidden = !t.note;
  };
  const show = (v) => {
    const health = byId("health");
    name(health, "health " + v.health.mark);
    text(health, v.health.line);
    text(byId("at"), v.at);
    facts(v.glance);
    facts(v.store);
    rates(v.rates);
    v.tables.forEach(table);
  };

  const say = (words, on) => { text(live, words); name(live, on ? "on" : ""); };
  const stop = () => {
    clearTimeout(retry);
    if (source) source.close();
    source = null;
  };
  const start = () => {
    stop();
    source = new EventSource("/events");
    source.onmessage = (e) => {
      last = Date.now();
      show(JSON.parse(e.data));
      say("Live", true);
    };
    source.onerror = () => {
      say("Not live: the gateway does not answer. As of", false);
      if (source && source.readyState === EventSource.CLOSED) { // refused: it does not try again by itself
        stop();
        retry = setTimeout(start, 10000);
      }
    };
  };
  setInterval(() => {
    if (source && Date.now() - last > 5000 && last > 0) say("Not live. As of", false);
  }, 1000);

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    text(pause, paused ? "Go on" : "Pause");
    if (paused) { stop(); say("Paused. As of", false); } else start();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop(); else if (!paused) start();
  });
  if (!document.hidden) start();
})();
