"use strict";
// The leaderboard page: sorts, searches and filters its rows, keeps the view in the address, and draws the picture.
// Rows are columnar JSON; only those in sight are elements. Every text goes into the page as text.
(() => {
const data = JSON.parse(document.getElementById("rows").textContent);
const count = data.model.length;
const form = document.getElementById("controls");
const frame = document.querySelector(".window");
const table = document.getElementById("board");
const told = form.querySelector("output");
const link = document.getElementById("link");
const hasArchive = data.type.words.some((word) => word !== "own run");
const HEIGHT = 44, SPARE = 8;
const FLAGGED = 1;

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const spaced = (number) => String(number).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
const minus = (text) => text.replace("-", "−");
const score = (value, column) => minus(column.percent ? value.toFixed(2) : significant(value));
const significant = (value) => {
  const isSmall = value !== 0 && Math.abs(value) < 1e-4;
  const [digits, power] = (isSmall ? value.toExponential(3) : value.toPrecision(4)).split("e");
  const short = digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits;
  return power === undefined ? short : `${short}e${power[0]}${power.slice(1).padStart(2, "0")}`;
};
const word = (coded, row) => coded.words[coded.at[row]];

// What a column shows and sorts by. Missing values come last, whichever way a column is sorted.
const numbers = (values) => Float64Array.from(values, (value) => (value === null ? NaN : value));
const places = (coded) => {
  const order = coded.words.map((text, place) => [text, place]).sort((a, b) => (a[0] < b[0] ? -1 : 1));
  const rank = new Map(order.map(([, place], position) => [place, position]));
  return Float64Array.from(coded.at, (place) => (coded.words[place] === "" ? NaN : rank.get(place)));
};
const byName = (texts) => {
  const lower = texts.map((text) => text.toLowerCase());
  const rank = new Map([...new Set(lower)].sort().map((text, position) => [text, position]));
  return Float64Array.from(lower, (text) => (text === "" ? NaN : rank.get(text)));
};
// Numbers from 0 for a column's values, the smallest first, -1 for a missing one; made when the column is first sorted by.
const ranksOf = (field) => {
  if (!field.ranks) {
    const values = field.values();
    const distinct = [...new Set(values.filter((value) => value === value).sort())];
    const rank = new Map(distinct.map((value, position) => [value, position]));
    field.ranks = Int32Array.from(values, (value) => (value === value ? rank.get(value) : -1));
    field.kinds = distinct.length;
  }
  return field.ranks;
};
const fields = [];
const text = (content) => (cell) => { cell.textContent = content; cell.title = content; };
if (data.ranks) fields.push({ key: "rank", title: "rank", width: Object.keys(data.own).length ? 7 : 5, isUp: true, values: () => numbers(data.rank), fill: fillRank });
const coded = (key, title, width, source) => ({
  key, title, width, isText: true, isUp: true, isChosen: true, values: () => places(source), fill: (cell, row) => text(word(source, row))(cell),
});
const flagWords = (bits) => data.flagNames.filter((_, place) => bits >> place & 1).map(([, said]) => said).join(", ");
const ownText = (key, title, width) => {
  const texts = data.model.map((_, row) => (data.own[row] ? data.own[row][key] : ""));
  return { key, title, width, isText: true, isUp: true, isChosen: true, values: () => byName(texts), fill: (cell, row) => fillOwn(cell, row, key) };
};
if (!hasArchive) fields.push(ownText("run", "run", 11));
fields.push({ key: "model", title: "model", width: hasArchive ? 21 : 12, isText: true, isUp: true, values: () => byName(data.model), fill: fillModel });
if (!hasArchive) fields.push(ownText("recipe", "recipe", 13), coded("date", "date", 7, data.date));
data.columns.forEach((column, place) => fields.push({
  key: column.key, title: column.title, group: column.group, width: 7, column, place, isUp: column.fewer, isChosen: true,
  shown: column.shown, values: () => numbers(data.scores[place]), fill: (cell, row) => fillScore(cell, row, place),
}));
fields.push({ key: "size", title: "size (B)", width: 5.5, isUp: false, isChosen: true, values: () => numbers(data.size),
  fill: (cell, row) => { cell.textContent = data.size[row] === null ? "" : String(data.size[row]); } });
fields.push(coded("precision", "precision", 6.5, data.precision));
if (hasArchive) {
  fields.push(coded("type", "type", 13, data.type));
  fields.push({ key: "flags", title: "flags", width: 9, isText: true, isUp: false, isChosen: true, values: () => numbers(data.flags),
    fill: (cell, row) => text(flagWords(data.flags[row]))(cell) });
  fields.push(coded("date", "date", 7, data.date));
}
fields.forEach((field) => { field.shown = field.shown !== false; });
const fieldOf = new Map(fields.map((field) => [field.key, field]));
const names = data.model.map((name, row) => (data.own[row] ? `${name} ${data.own[row].run} ${data.own[row].recipe}` : name).toLowerCase());

function fillRank(cell, row) {
  const own = data.own[row];
  cell.textContent = data.rank[row] === null ? "" : spaced(data.rank[row]);
  if (own && own.range) cell.append(element("small", { textContent: `${spaced(own.range[0])}–${spaced(own.range[1])}` }));
}
function fillModel(cell, row) {
  const own = data.own[row];
  cell.title = data.model[row];
  cell.append(own && hasArchive ? `◆ ${data.model[row]}` : data.model[row]);
  if (data.flags[row] & FLAGGED) cell.append(element("small", { className: "alarm", textContent: "flagged by the leaderboard" }));
  if (!own || !hasArchive) return;
  const where = element("small");
  where.append(data.links[row] ? element("a", { href: data.links[row], textContent: own.run }) : own.run);
  if (own.recipe) where.append(`, ${own.recipe}`);
  cell.append(where);
}
function fillOwn(cell, row, key) {
  const said = data.own[row] ? data.own[row][key] : "";
  cell.title = said;
  cell.append(key === "run" && data.links[row] ? element("a", { href: data.links[row], textContent: said }) : said);
}
function fillScore(cell, row, place) {
  const value = data.scores[place][row], own = data.own[row], column = data.columns[place];
  if (value === null) return;
  cell.textContent = score(value, column);
  if (!own) return;
  if (own.notes[place]) {
    cell.title = own.notes[place];
    cell.append(element("span", { className: "mark", textContent: "*" }));
  }
  if (own.intervals[place]) {
    cell.append(element("small", { textContent: own.intervals[place].map((end) => score(end, column)).join(" to ") }));
  }
}

// Filters: a set of boxes for each coded column, and one for flags. Nothing ticked in a set: all of it is shown.
const sets = [];
const boxes = (home, name, legend, options) => {
  if (options.length < 2) return;
  const made = element("fieldset", {}, element("legend", { textContent: legend }));
  for (const [value, label] of options) {
    made.append(element("label", {}, element("input", { type: "checkbox", name, value }), ` ${label}`));
  }
  home.append(made);
  sets.push(name);
};
const filters = document.querySelector("#filters .sets");
const withWords = (source, empty) => source.words.map((each) => [each, each || empty]);
boxes(filters, "class", "size class", withWords(data.class, "unknown"));
boxes(filters, "precision", "precision", withWords(data.precision, "unknown"));
boxes(filters, "type", "type", withWords(data.type, "unknown"));
const bitsThere = data.flags.reduce((all, bits) => all | bits, 0);
const hideable = data.flagNames.map(([name, said], place) => [name, said, 1 << place]).filter(([, , bit]) => bitsThere & bit);
if (hideable.length) {
  const made = element("fieldset", {}, element("legend", { textContent: "flags" }));
  for (const [name, said] of hideable) {
    const select = element("select", { name: `flag-${name}` });
    for (const [value, label] of [["", "any"], ["no", "without"], ["only", "only"]]) select.append(element("option", { value, textContent: label }));
    made.append(element("label", {}, `${said} `, select));
  }
  filters.append(made);
}
if (!filters.children.length) document.getElementById("filters").hidden = true;
const chosen = document.querySelector("#columns .sets");
const columnBoxes = element("fieldset", {}, element("legend", { textContent: "shown" }));
for (const field of fields.filter((each) => each.isChosen)) {
  columnBoxes.append(element("label", {}, element("input", { type: "checkbox", name: "column", value: field.key, checked: field.shown, defaultChecked: field.shown }),
    ` ${field.group ? `${field.group}: ` : ""}${field.title}`));
}
chosen.append(columnBoxes);
if (!data.size.some((value) => value !== null)) document.getElementById("sizes").hidden = true;

// The view is what the form says, the sorted column and the direction; its permanent form is the address behind "#".
const startField = fields.find((field) => field.column) || fieldOf.get("model");
let sortKey = startField.key, isUp = startField.isUp;
const defaultColumns = fields.filter((field) => field.isChosen && field.shown).map((field) => field.key).join("|");

function written() {
  const found = new URLSearchParams();
  for (const name of ["q", "min", "max"]) if (form.elements[name].value.trim()) found.set(name, form.elements[name].value.trim());
  if (form.elements.own && form.elements.own.checked) found.set("own", "1");
  for (const name of sets) for (const box of ticked(name)) found.append(name, box.value);
  for (const [name] of hideable) { const { value } = form.elements[`flag-${name}`]; if (value) found.set(name, value); }
  const columns = ticked("column").map((box) => box.value).join("|");
  if (columns !== defaultColumns) found.set("columns", columns);
  if (sortKey !== startField.key || isUp !== startField.isUp) found.set("sort", `${isUp ? "+" : "-"}${sortKey}`);
  return found.toString();
}
function read(fragment) {
  const found = new URLSearchParams(fragment);
  for (const name of ["q", "min", "max"]) form.elements[name].value = found.get(name) || "";
  if (form.elements.own) form.elements.own.checked = found.has("own");
  for (const name of sets) {
    const wanted = new Set(found.getAll(name));
    for (const box of all(name)) box.checked = wanted.has(box.value);
  }
  for (const [name] of hideable) form.elements[`flag-${name}`].value = ["no", "only"].includes(found.get(name)) ? found.get(name) : "";
  const columns = new Set((found.has("columns") ? found.get("columns") : defaultColumns).split("|"));
  for (const box of all("column")) box.checked = columns.has(box.value);
  const sorted = found.get("sort") || "";
  const known = fieldOf.has(sorted.slice(1));
  sortKey = known ? sorted.slice(1) : startField.key;
  isUp = known ? sorted[0] === "+" : startField.isUp;
}
const all = (name) => [...form.querySelectorAll(`input[name="${name}"]`)];
const ticked = (name) => all(name).filter((box) => box.checked);

let shownRows = [];
function select() {
  const words = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
  const low = parseFloat(form.elements.min.value), high = parseFloat(form.elements.max.value);
  const bounded = !Number.isNaN(low) || !Number.isNaN(high);
  const onlyOwn = form.elements.own && form.elements.own.checked;
  const wanted = sets.map((name) => {
    const values = new Set(ticked(name).map((box) => box.value));
    return values.size ? [data[name].at, data[name].words.map((each) => values.has(each))] : null;
  }).filter(Boolean);
  let none = 0, only = 0;
  for (const [name, , bit] of hideable) {
    const { value } = form.elements[`flag-${name}`];
    if (value === "no") none |= bit;
    if (value === "only") only |= bit;
  }
  const found = [];
  for (let row = 0; row < count; row += 1) {
    if (onlyOwn && !data.own[row]) continue;
    if (data.flags[row] & none || (data.flags[row] & only) !== only) continue;
    if (bounded && !(data.size[row] !== null && !(data.size[row] < low) && !(data.size[row] > high))) continue;
    if (!wanted.every(([at, kept]) => kept[at[row]])) continue;
    if (!words.every((each) => names[row].includes(each))) continue;
    found.push(row);
  }
  shownRows = ordered(found);
}

// Rows by the sorted column, those of one value in the order of the page, those without one last.
function ordered(rows) {
  const field = fieldOf.get(sortKey), ranks = ranksOf(field), groups = new Int32Array(field.kinds + 2);
  const group = (row) => (ranks[row] < 0 ? field.kinds : isUp ? ranks[row] : field.kinds - 1 - ranks[row]);
  for (const row of rows) groups[group(row) + 1] += 1;
  for (let each = 1; each < groups.length; each += 1) groups[each] += groups[each - 1];
  const found = new Array(rows.length);
  for (const row of rows) found[groups[group(row)]++] = row;
  return found;
}

// The rows in sight, between two empty rows as high as those that are not.
const body = table.tBodies[0], head = table.tHead;
const above = element("tr", { className: "space" }, element("td")), below = element("tr", { className: "space" }, element("td"));
for (const each of [above, below]) each.setAttribute("aria-hidden", "true");
let first = -1, last = -1, visibleFields = [];
function draw(isForced) {
  const height = Math.max(frame.clientHeight, 0.75 * window.innerHeight); // it grows with its rows up to that
  const from = Math.max(0, Math.floor(frame.scrollTop / HEIGHT) - SPARE);
  const to = Math.min(shownRows.length, Math.ceil((frame.scrollTop + height) / HEIGHT) + SPARE);
  if (!isForced && from === first && to === last) return;
  [first, last] = [from, to];
  const rows = [];
  for (let place = from; place < to; place += 1) {
    const row = shownRows[place];
    const made = element("tr", { className: data.own[row] && hasArchive ? "own" : "" });
    made.setAttribute("aria-rowindex", place + 2);
    for (const field of visibleFields) {
      const cell = element(field.key === "model" ? "th" : "td", { className: field.isText ? "words" : "" });
      if (field.key === "model") cell.scope = "row";
      field.fill(cell, row);
      made.append(cell);
    }
    rows.push(made);
  }
  above.firstChild.style.height = `${from * HEIGHT}px`;
  below.firstChild.style.height = `${(shownRows.length - to) * HEIGHT}px`;
  body.replaceChildren(above, ...rows, below);
}
function drawHead() {
  visibleFields = fields.filter((field) => !field.isChosen || field.shown);
  const row = element("tr");
  row.setAttribute("aria-rowindex", 1);
  for (const field of visibleFields) {
    const button = element("button", { type: "button" });
    if (field.group) button.append(element("small", { textContent: field.group }));
    button.append(field.title);
    button.addEventListener("click", () => {
      isUp = sortKey === field.key ? !isUp : field.isUp;
      sortKey = field.key;
      update();
      markSorted();
    });
    const cell = element("th", { scope: "col", className: `${field.key === "model" ? "name words" : field.isText ? "words" : ""}` }, button);
    cell.dataset.key = field.key;
    row.append(cell);
  }
  head.replaceChildren(row);
  const narrow = window.innerWidth < 544;
  const group = element("colgroup");
  let total = 0;
  for (const field of visibleFields) {
    const width = field.key === "model" && narrow ? 9 : field.column && Object.keys(data.own).length ? 8.5 : field.width;
    total += width;
    group.append(element("col", { style: `width: ${width}rem` }));
  }
  table.querySelectorAll("colgroup").forEach((each) => each.remove());
  head.before(group);
  table.style.width = `${total}rem`;
  for (const each of [above, below]) each.firstChild.colSpan = visibleFields.length;
  markSorted();
}
function markSorted() {
  for (const cell of head.rows[0].cells) {
    if (cell.dataset.key === sortKey) cell.setAttribute("aria-sort", isUp ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  }
}
function update(keepsAddress) {
  const columns = new Set(ticked("column").map((box) => box.value));
  const before = visibleFields.length ? visibleFields.map((field) => field.key).join() : "";
  fields.forEach((field) => { if (field.isChosen) field.shown = columns.has(field.key); });
  if (fields.filter((field) => !field.isChosen || field.shown).map((field) => field.key).join() !== before) drawHead();
  select();
  frame.scrollTop = 0;
  table.setAttribute("aria-rowcount", shownRows.length + 1);
  draw(true);
  told.textContent = `${spaced(shownRows.length)} of ${spaced(count)} rows`;
  const address = written();
  link.href = `#${address}`;
  if (!keepsAddress) history.replaceState(null, "", address ? `#${address}` : location.pathname + location.search);
  pictureLater();
}

// The picture: the sorted column, or the first one, against parameters on a logarithmic axis.
const section = document.getElementById("picture"), canvas = section.querySelector("canvas");
const under = section.querySelector("output"), caption = section.querySelector("figcaption");
let points = [], pending = 0;
const valueOf = (field, row) => data.scores[field.place][row];
const pictureLater = () => { if (!pending) pending = requestAnimationFrame(() => { pending = 0; picture(); }); };
function picture() {
  const field = fieldOf.get(sortKey).column ? fieldOf.get(sortKey) : startField;
  if (!field.column) return;
  const rows = shownRows.filter((row) => data.size[row] > 0 && valueOf(field, row) !== null);
  section.hidden = !data.size.some((value) => value > 0);
  if (section.hidden) return;
  caption.textContent = `${field.group ? `${field.group}: ` : ""}${field.title} of the ${spaced(rows.length)} rows shown whose size is known`;
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  points = [];
  if (!rows.length) return;
  const ends = (row) => (data.own[row] && data.own[row].intervals[field.place]) || [valueOf(field, row), valueOf(field, row)];
  let [low, high, small, large] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const row of rows) {
    const [from, to] = ends(row);
    low = Math.min(low, from); high = Math.max(high, to);
    small = Math.min(small, data.size[row]); large = Math.max(large, data.size[row]);
  }
  if (high - low < 1e-9) { low -= 1; high += 1; }
  const room = (high - low) * 0.05;
  low -= room; high += room; small /= 1.3; large *= 1.3;
  const left = 46, right = width - 10, top = 8, bottom = height - 34;
  const x = (size) => left + (right - left) * Math.log(size / small) / Math.log(large / small);
  const y = (value) => bottom - (bottom - top) * (value - low) / (high - low);
  pen.fillStyle = colour("--soft"); pen.strokeStyle = colour("--grid"); pen.lineWidth = 1;
  pen.textAlign = "right"; pen.textBaseline = "middle";
  const step = niceStep((high - low) / 6);
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
    pen.beginPath(); pen.moveTo(left, y(value)); pen.lineTo(right, y(value)); pen.stroke();
    pen.fillText(minus(String(Number(value.toPrecision(6)))), left - 6, y(value));
  }
  pen.textAlign = "center"; pen.textBaseline = "top";
  let end = -Infinity;
  for (let power = Math.floor(Math.log10(small)); power <= Math.log10(large); power += 1) {
    for (const digit of [1, 2, 5]) {
      const size = digit * 10 ** power;
      if (size < small || size > large || x(size) < end) continue;
      pen.beginPath(); pen.moveTo(x(size), bottom); pen.lineTo(x(size), bottom + 4); pen.stroke();
      pen.fillText(String(Number(size.toPrecision(3))), x(size), bottom + 6);
      end = x(size) + 34;
    }
  }
  pen.fillText("billion parameters (logarithmic)", (left + right) / 2, height - 14);
  pen.fillStyle = colour("--accent"); pen.globalAlpha = 0.35;
  for (const row of rows) {
    points.push([x(data.size[row]), y(valueOf(field, row)), row]);
    if (!data.own[row] || !hasArchive) pen.fillRect(x(data.size[row]) - 2, y(valueOf(field, row)) - 2, 4, 4);
  }
  pen.globalAlpha = 1; pen.textBaseline = "middle";
  const named = []; // where names stand: one that would cover another is left out, the pointer finds it
  for (const row of rows.filter((each) => data.own[each])) {
    const [at, middle] = [x(data.size[row]), y(valueOf(field, row))];
    pen.strokeStyle = pen.fillStyle = colour("--rejected"); pen.lineWidth = 2;
    pen.beginPath(); pen.moveTo(at, y(ends(row)[0])); pen.lineTo(at, y(ends(row)[1])); pen.stroke();
    pen.beginPath(); pen.moveTo(at, middle - 6); pen.lineTo(at + 6, middle); pen.lineTo(at, middle + 6); pen.lineTo(at - 6, middle); pen.fill();
    const whole = hasArchive ? data.model[row] : `${data.own[row].run}: ${data.model[row]}`;
    const name = whole.length > 40 ? `${whole.slice(0, 39)}…` : whole;
    const long = pen.measureText(name).width, isLeft = at + 10 + long < right;
    const begin = isLeft ? at + 10 : at - 10 - long;
    if (named.some(([from, to, line]) => Math.abs(line - middle) < 14 && begin < to && from < begin + long)) continue;
    named.push([begin, begin + long, middle]);
    pen.textAlign = isLeft ? "left" : "right";
    pen.fillStyle = colour("--ink");
    pen.fillText(name, at + (isLeft ? 10 : -10), middle);
  }
}
const niceStep = (rough) => {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((digit) => digit * power).find((each) => each >= rough);
};
canvas.addEventListener("pointermove", (event) => {
  let nearest = null, least = 144;
  for (const point of points) {
    const distance = (point[0] - event.offsetX) ** 2 + (point[1] - event.offsetY) ** 2;
    if (distance < least) [nearest, least] = [point, distance];
  }
  const field = fieldOf.get(sortKey).column ? fieldOf.get(sortKey) : startField;
  under.textContent = nearest === null ? "" : `${data.model[nearest[2]]}: ${score(valueOf(field, nearest[2]), field.column)}, ${data.size[nearest[2]]} B`;
});

form.hidden = false;
document.getElementById("unscripted").hidden = true;
frame.classList.add("live");
table.classList.add("live");
form.addEventListener("input", () => update());
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(() => { [sortKey, isUp] = [startField.key, startField.isUp]; update(); markSorted(); }));
frame.addEventListener("scroll", () => draw(false), { passive: true });
window.addEventListener("hashchange", () => { if (location.hash.slice(1) !== written()) start(); });
window.addEventListener("resize", () => { drawHead(); draw(true); pictureLater(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", pictureLater);
function start() {
  const fragment = location.hash.slice(1);
  const isPlace = ["own", "table", "picture", "about", "main"].includes(fragment);
  read(isPlace ? "" : fragment);
  update(isPlace || !fragment);
  markSorted();
}
start();
// The names are sorted once, when there is time, so that the first click on their head need not wait for it.
(window.requestIdleCallback || setTimeout)(() => ranksOf(fieldOf.get("model")));
})();
