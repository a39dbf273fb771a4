"use strict";
// Asks the viewer for what it sees, and shows it. All text is set as text: names are another
// process's.

const $ = (id) => document.getElementById(id);
const open = new Set(); // the holders whose stacks are open

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

// ---- figures --------------------------------------------------------------------------------

function span(seconds) {
  if (seconds === null || seconds === undefined) return "-";
  if (seconds < 1e-3) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toPrecision(seconds < 0.01 ? 2 : 3)} ms`;
  if (seconds < 120) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

const shown = (value) => (value === null || value === undefined ? "-" : value.toLocaleString("en"));
const rate = (value) => (value === null || value === undefined ? "-" : value.toFixed(1));
const usedOf = (row) => (row.max === null ? shown(row.used) : `${shown(row.used)} of ${shown(row.max)}`);

function spark(values, top, kind, label) {
  const most = Math.max(top || 0, 1, ...values);
  const points = values.length > 1 ? values : [...values, ...values];
  const step = 100 / Math.max(1, points.length - 1);
  const path = points.map((value, i) => `${i ? "L" : "M"}${(i * step).toFixed(2)} ${(29 - (value / most) * 28).toFixed(2)}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", `spark ${kind}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path.join(""));
  svg.append(line);
  return svg;
}

// ---- all pools ------------------------------------------------------------------------------

function cell(label, kind, ...children) {
  return make("td", { "data-label": label, class: kind }, ...children);
}

function beside(text, alarm, drawing) {
  return make("div", { class: "with-spark" }, make("span", alarm ? { class: "alarm" } : {}, text), drawing);
}

function oldest(row) {
  if (row.error) return [make("span", { class: "alarm" }, row.error)];
  if (!row.oldest) return ["-"];
  const place = row.oldest.place ? make("span", { class: "place" }, row.oldest.place) : null;
  return [`${span(row.oldest.age)} by ${row.oldest.thread || "an unknown thread"}`, place];
}

function rowOf(row, [used, waiting]) {
  const name = row.id === null ? row.name : make("a", { href: `#${row.id}` }, row.name);
  const full = row.max !== null && row.used >= row.max;
  return make(
    "tr",
    {},
    cell("Pool", "name", name),
    cell("Kind", "kind", row.kind),
    cell("Used of max", "used", beside(usedOf(row), full, spark(used, row.max, "", "used of late"))),
    cell("Idle", "number", shown(row.idle)),
    cell("Waiting", "line", beside(shown(row.waiting), row.waiting > 0, spark(waiting, 0, "waiting", "waiting of late"))),
    cell("Wait p50", "number", span(row.wait_p50)),
    cell("Wait p99", "number", span(row.wait_p99)),
    cell("New/s", "number", rate(row.creates_per_s)),
    cell("Timeouts", row.new_timeouts ? "number alarm" : "number", shown(row.timeouts)),
    cell("Oldest holder", "wide", ...oldest(row)),
  );
}

function showPools(seen) {
  const focused = document.activeElement && document.activeElement.getAttribute("href");
  $("rows").replaceChildren(...seen.rows.map((row) => rowOf(row, seen.series[row.key])));
  $("none").hidden = seen.rows.length > 0;
  if (focused && focused !== "#") {
    const link = [...$("rows").querySelectorAll("a")].find((each) => each.getAttribute("href") === focused);
    if (link) link.focus();
  }
}

// ---- one pool -------------------------------------------------------------------------------

function chart(label, values, top, kind) {
  return make("figure", {}, make("figcaption", {}, label), spark(values, top, kind, label));
}

function holderOf(one, index) {
  const place = one.stack.length ? one.stack[0] : "its line is known of pools with leak_after";
  const key = `${one.thread} ${one.resource} ${place} ${index}`;
  const details = make(
    "details",
    open.has(key) ? { open: "" } : {},
    make("summary", {}, `${span(one.age)} by ${one.thread || "an unknown thread"}, a ${one.resource}`, make("span", { class: "place" }, place)),
    make("pre", {}, one.stack.join("\n")),
  );
  details.addEventListener("toggle", () => (details.open ? open.add(key) : open.delete(key)));
  return details;
}

function showPool(seen, row, detail) {
  if (!row || !detail) {
    $("name").textContent = "This pool is gone";
    for (const id of ["figures", "charts", "places", "keys", "holders"]) $(id).replaceChildren();
    return;
  }
  $("name").textContent = `${row.name} (${row.kind})`;
  const counters = ["queued", "creating", "closing", "draining", "uses", "created", "create_failures", "overloads", "overdue"];
  const figures = [
    ["Used", usedOf(row)],
    ["Idle", shown(row.idle)],
    ["Waiting", shown(row.waiting)],
    ["Wait p50", span(row.wait_p50)],
    ["Wait p99", span(row.wait_p99)],
    ["New/s", rate(row.creates_per_s)],
    ["Timeouts", shown(row.timeouts)],
    ...counters.filter((name) => detail.counters[name]).map((name) => [name.replace("_", " "), shown(detail.counters[name])]),
  ];
  $("figures").replaceChildren(...figures.map(([label, value]) => make("div", {}, make("dt", {}, label), make("dd", {}, value))));
  const [used, waiting] = seen.series[row.key];
  $("charts").replaceChildren(
    chart(`Used, ${usedOf(row)}`, used, row.max, ""),
    chart(`Waiting, ${shown(row.waiting)}`, waiting, 0, "waiting"),
  );
  $("places-section").hidden = detail.places.length === 0;
  $("places").replaceChildren(
    ...detail.places.map((each) =>
      make("li", {}, `${each.count} of ${detail.holders.length}, the oldest for ${span(each.age)}`, make("span", { class: "place" }, each.place)),
    ),
  );
  const keys = Object.entries(detail.keys);
  $("keys-section").hidden = keys.length === 0;
  $("keys").replaceChildren(
    ...keys.map(([key, size]) => make("li", {}, `${key}: ${size.leased} leased, ${size.idle} idle, ${size.waiting} waiting`)),
  );
  $("holders").replaceChildren(...(detail.holders.length ? detail.holders.map(holderOf) : ["Nobody holds anything."]));
}

// ---- asking ---------------------------------------------------------------------------------

let seen = null;
let pressed = false; // a link that is replaced between press and release is not followed
window.addEventListener("pointerdown", () => (pressed = true));
for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => (pressed = false));

async function ask(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`the viewer says ${answer.status}`);
  return answer.json();
}

async function look() {
  let why = "";
  try {
    seen = await ask("pools.json");
    why = seen.gone && `${seen.gone}; this is what was last seen.`;
    const id = Number(location.hash.slice(1));
    if (id && !seen.gone) {
      const row = seen.rows.find((each) => each.id === id);
      showPool(seen, row, row && (await ask(`pool.json?id=${id}`)));
    }
    $("pools").hidden = Boolean(id);
    $("pool").hidden = !id;
    if (!pressed) showPools(seen);
    $("about").textContent = `${seen.program}, process ${seen.pid}, fastpool ${seen.version}`;
    document.title = `${seen.program.split("/").pop()} - fastpool top`;
  } catch (error) {
    why = `The viewer does not answer (${error.message}); this is what was last seen.`;
  }
  $("gone").hidden = !why;
  $("gone").textContent = why;
}

let timer = 0;
let round = 0;
async function again() {
  clearTimeout(timer);
  const mine = ++round; // another one may begin meanwhile, and goes on in our place
  await look();
  if (mine === round) timer = setTimeout(again, ((seen && seen.interval) || 1) * 1000);
}
window.addEventListener("hashchange", again);
again();
