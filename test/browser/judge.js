// What keeps people from using a page, as far as a script can tell.
(() => {
  const faults = [];
  const say = (node, what) => faults.push(what + ": " + node.outerHTML.slice(0, 120));
  const shown = (node) => node.checkVisibility({ visibilityProperty: true });

  if (!document.documentElement.lang) faults.push("html has no lang");
  if (!document.title) faults.push("no title");
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  for (const landmark of ["header", "main"])
    if (document.querySelectorAll("body > " + landmark).length !== 1) faults.push("not one " + landmark);
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth)
    faults.push("the page scrolls sideways: " + document.documentElement.scrollWidth + " > " + document.documentElement.clientWidth);
  const ids = new Set();
  for (const n of document.querySelectorAll("[id]")) {
    if (ids.has(n.id)) say(n, "id twice");
    ids.add(n.id);
  }
  for (const n of document.querySelectorAll("[aria-labelledby]"))
    for (const id of n.getAttribute("aria-labelledby").split(" ")) if (!ids.has(id)) say(n, "labelled by nothing");
  let level = 0;
  for (const h of document.querySelectorAll("h1, h2, h3, h4")) {
    if (+h.tagName[1] > level + 1) say(h, "heading skips a level");
    level = +h.tagName[1];
  }
  for (const t of document.querySelectorAll("table")) {
    if (!t.caption || !t.caption.textContent.trim()) say(t, "table without a caption");
    const heads = t.tHead ? t.tHead.querySelectorAll("th[scope=col]").length : 0;
    if (!heads) say(t, "table without headers");
    for (const r of t.tBodies[0].rows) if (r.cells.length !== heads) say(r, "row of another length than its headers");
    for (const c of t.querySelectorAll("td")) if (c.getAttribute("role") !== "cell" || !c.dataset.label) say(c, "cell without a role or label");
  }
  for (const i of document.querySelectorAll("input, select, textarea"))
    if (!i.labels.length || !i.labels[0].textContent.trim()) say(i, "input without a label");
  for (const b of document.querySelectorAll("button, a")) {
    if (!b.textContent.trim()) say(b, "nothing to read on it");
  }
  for (const b of document.querySelectorAll("button, input, select"))
    if (shown(b) && (b.getBoundingClientRect().height < 24 || b.getBoundingClientRect().width < 24)) say(b, "target under 24 px");
  const live = document.querySelectorAll("[aria-live]");
  if (live.length > 1 || live.length === 1 && live[0].id !== "health") faults.push("live regions: " + live.length);

  // Contrast as WCAG 2.2 reckons it (1.4.3).
  const colour = (s) => s.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const f = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
  };
  const ground = (node) => {
    for (let n = node; n; n = n.parentElement) {
      const c = colour(getComputedStyle(n).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  let texts = 0, least = 21;
  for (const n of document.querySelectorAll("body *")) {
    if (!Array.from(n.childNodes).some((c) => c.nodeType === 3 && c.textContent.trim()) || !shown(n) || n.closest("noscript")) continue;
    const a = luminance(colour(getComputedStyle(n).color)), b = luminance(ground(n));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    texts++;
    least = Math.min(least, ratio);
    if (ratio < 4.5) say(n, "contrast " + ratio.toFixed(2));
  }
  return { faults, texts, least };
})()
