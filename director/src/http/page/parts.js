// What the page consists of: elements, tables, graphs and numbers. Data becomes text only, never elements.

const SVG = "http://www.w3.org/2000/svg";

// An element with attributes and children; a child that is no element is text.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Sets a text if it is another one, so that what is selected or read aloud is left alone.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// A table whose rows are kept by their key from one time to the next. A column: [title, class]. A row: { key, cells };
// a cell: a text, { text, kind } or { node }. The first cell of a row is its header.
export class Table {
  constructor(caption, columns) {
    this.columns = columns;
    this.rows = new Map();
    this.body = element("tbody", { role: "rowgroup" });
    const heads = columns.map(([title, kind]) => element("th", { scope: "col", role: "columnheader", class: kind ?? "" }, title));
    // Roles in words: on a phone rows are laid out as cards, and would be no table any more to a screen reader.
    this.node = element("table", { role: "table" }, element("caption", {}, caption),
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...heads)), this.body);
  }

  show(rows) {
    const gone = new Set(this.rows.keys());
    let last = null;
    for (const { key, cells } of rows) {
      gone.delete(key);
      let row = this.rows.get(key);
      if (!row) this.rows.set(key, row = this.add());
      cells.forEach((cell, i) => this.fill(row.cells[i], cell, this.columns[i][1] ?? ""));
      const next = last ? last.nextSibling : this.body.firstChild;
      if (next !== row) this.body.insertBefore(row, next);
      last = row;
    }
    for (const key of gone) {
      this.rows.get(key).remove();
      this.rows.delete(key);
    }
  }

  add() {
    const cells = this.columns.map(([title], i) => i === 0
      ? element("th", { scope: "row", role: "rowheader" })
      : element("td", { role: "cell", "data-label": title }));
    return element("tr", { role: "row" }, ...cells);
  }

  fill(node, cell, column) {
    const { text = "", kind = "", node: child } = typeof cell === "object" ? cell : { text: String(cell) };
    if (child) {
      if (node.firstChild !== child) node.replaceChildren(child);
    } else {
      say(node, text);
    }
    mark(node, "class", [column, kind, child || text !== "" ? "" : "empty"].filter(Boolean).join(" "));
  }
}

// The last while of one or two series, as lines in a box. A gap in time is a gap in the line.
export class Graph {
  constructor(name, series) {
    this.name = name;
    this.paths = series.map((kind) => drawn("path", { class: kind }));
    this.area = drawn("path", { class: "area" });
    this.node = drawn("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img" });
    this.node.append(this.area, ...this.paths);
  }

  // `history` is a list of [time, value, value…], the newest last; `span` is the width in time.
  show(history, span, unit) {
    const end = history.length ? history[history.length - 1][0] : 0;
    const highest = Math.max(1e-9, ...history.flatMap(([, ...values]) => values.slice(0, this.paths.length)));
    const x = (time) => (100 * (1 - (end - time) / span)).toFixed(2);
    const y = (value) => (96 - 92 * value / highest).toFixed(2);
    this.paths.forEach((path, i) => {
      // What never was, such as answers that do not pass here, has no line.
      if (i > 0 && history.every(([, ...values]) => values[i] === 0)) return mark(path, "d", "");
      let line = "";
      history.forEach(([time, ...values], at) => {
        const gap = at === 0 || time - history[at - 1][0] > 5000;
        line += `${gap ? "M" : "L"}${x(time)} ${y(values[i])}`;
      });
      mark(path, "d", line);
    });
    const first = history.map(([time, value]) => `L${x(time)} ${y(value)}`).join("");
    mark(this.area, "d", history.length ? `M${x(history[0][0])} 96${first}L100 96Z` : "");
    const most = highest < 1e-6 ? 0 : highest;
    mark(this.node, "aria-label", `${this.name}, the last ${Math.round(span / 60000)} minutes, at most ${withUnit(most, unit)}`);
  }
}

function drawn(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// 0, 0.4, 12, 3.4 k, 56 M
export function short(number) {
  let unit = "";
  for (const larger of [" k", " M", " G", " T"]) {
    if (number < 999.5) break;
    number /= 1000;
    unit = larger;
  }
  return number.toFixed(number > 0 && number < 9.95 ? 1 : 0) + unit;
}

// 3.4 kbit/s, 12 bit/s, 1.2 k connections
export function withUnit(number, unit) {
  const text = short(number);
  return unit === "bit/s" && text.includes(" ") ? text + unit : `${text} ${unit}`;
}

export function commas(number) {
  return Math.round(number).toLocaleString("en");
}

// 45 s, 3 min 05 s, 2 h 10 min, 5 d 3 h
export function lasting(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole / 3600) % 24} h`;
}

// 2026-01-31 13:05:00, where the reader is
export function clock(text) {
  const at = new Date(text);
  const two = (number) => String(number).padStart(2, "0");
  const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
  return `${day} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":")}`;
}
