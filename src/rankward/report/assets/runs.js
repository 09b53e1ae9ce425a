// The runs: values of their columns, and the filter.
class Runs {
  constructor(header, arrays) {
    Object.assign(this, header);
    this.arrays = arrays;
    this.count = header.runs;
    this.columns = Object.keys(arrays).filter((name) => name.startsWith("run/")).map((name) => name.slice(4));
    this.all = Array.from({ length: this.count }, (_, row) => row);
    this.place = new Map(); // of a run's curve among the curves
    (arrays["curve/run"] || []).forEach((row, place) => this.place.set(row, place));
  }

  // A number, a text, or null.
  value(name, row) {
    const stored = this.arrays["run/" + name];
    if (!stored) return null;
    if (this.texts[name]) return stored[row] < 0 ? null : this.texts[name][stored[row]];
    return Number.isNaN(stored[row]) ? null : stored[row];
  }

  isText(name) { return name in this.texts; }

  // The loss, iteration or metric of a run's recorded rows.
  curve(name, row) {
    const place = this.place.get(row);
    const values = this.arrays["x/" + name] || this.arrays["y/" + name];
    if (place === undefined || !values) return null;
    const starts = this.arrays["curve/start"];
    return values.subarray(starts[place], starts[place + 1]);
  }

  // The runs that meet all terms of a filter, and notes on its terms. A term without a meaning is ignored.
  filtered(text) {
    const said = [], tests = [];
    for (const term of text.replace(/\s*([<>=!]+)\s*/g, "$1").split(/\s+/).filter(Boolean)) {
      try {
        tests.push(this.test(term, (note) => said.push(`${term}: ${note}`)));
      } catch (error) {
        if (!(error instanceof FilterError)) throw error;
        said.push(`${term}: ${error.message}; this term is left out`);
      }
    }
    return { rows: this.all.filter((row) => tests.every((test) => test(row))), said };
  }

  // A test of one term: a comparison, or any text.
  test(term, say) {
    const found = /^([^<>=!]*)([<>=!]+)(.*)$/.exec(term);
    if (!found) return this.contains(term, say);
    const [, word, sign] = found, text = found[3].replace(/['"]/g, ""), asked = Number(text);
    const signs = ["=", "!=", "<", "<=", ">", ">="], call = /^(\w*)\((.*)\)$/.exec(word), bars = /^\|(.+)\|$/.exec(word) || /^abs\((.+)\)$/.exec(word), name = bars ? bars[1] : word;
    if (!signs.includes(sign)) throw new FilterError(`${sign} is no comparison; expected one of ${signs.join(" ")}`);
    if (call && !bars) throw new FilterError(call[1] === "abs" ? "abs() is of a key or metric" : `no function ${call[1]}; there is abs`);
    if (!name) throw new FilterError(`a key or metric is missing before ${sign}`);
    if (text === "") throw new FilterError(`a value is missing after ${sign}`);
    const meant = this.meant(name), varying = meant.filter((column) => !column.same);
    if (!meant.length) throw new FilterError(`no key or metric ${name}${nearest(name, this.names())}`);
    const ordered = bars || !["=", "!="].includes(sign);
    const columns = varying.length && (ordered || !Number.isNaN(asked)) ? varying : meant;
    const used = ordered ? columns.filter((column) => column.texts === null || column.texts.some(isNumber)) : columns;
    if (!used.length) throw new FilterError(`${columns[0].name} holds text; expected = or !=, and no bars`);
    const numbers = used.every((column) => column.texts === null || column.texts.every(isNumber));
    if (Number.isNaN(asked) && (ordered || (numbers && text !== "null"))) throw new FilterError(`${used[0].name} holds numbers, and ${text} is none`);
    const texts = [...new Set(used.flatMap((column) => column.texts || []))];
    if (Number.isNaN(asked) && text !== "null" && !texts.includes(text)) say(`no run has ${text} there, but ${texts.slice(0, 8).join(", ")}${texts.length > 8 ? ", ..." : ""}`);
    const one = (value) => {
      if (bars && value !== null) value = Math.abs(value);
      const equal = String(value) === text || (value !== null && value !== "" && Number(value) === asked);
      if (sign === "=") return equal;
      if (sign === "!=") return !equal;
      if (value === null) return false;
      return { "<": value < asked, ">": value > asked, "<=": value <= asked, ">=": value >= asked }[sign];
    };
    return (row) => (sign === "!=" ? used.every((column) => one(column.value(row))) : used.some((column) => one(column.value(row))));
  }

  // A test for a text in a key, the name, the status or the overrides of a run.
  contains(text, say) {
    const test = (row) => [...this.keys, "run", "status", "overrides"].some((name) => String(this.value(name, row)).includes(text));
    if (!this.all.some(test)) say("no run has this text in its keys, name, status or overrides");
    return test;
  }

  // The columns and shared keys that a word of the filter can mean: depth is depth.name or depth.layers.
  meant(word) {
    const known = [...this.columns, ...Object.keys(this.aliases), ...Object.keys(this.constant)];
    const names = known.includes(word) ? [word] : known.filter((name) => name.startsWith(word + ".") || name.endsWith("." + word));
    return names.map((name) => {
      if (name in this.constant) return { name, same: true, texts: [this.constant[name]], value: () => this.constant[name] };
      const column = this.aliases[name] || name;
      return { name, same: false, texts: this.isText(column) ? this.texts[column] : null, value: (row) => this.value(column, row) };
    });
  }

  // Names that a filter accepts, long and short.
  names() {
    const keys = [...this.keys, ...Object.keys(this.aliases), ...Object.keys(this.constant)];
    return [...this.columns, ...keys, ...keys.filter((key) => key.includes(".")).flatMap((key) => [key.split(".")[0], key.split(".").at(-1)])];
  }

  // Distinct values of a column among these rows, sorted.
  different(name, rows) {
    const values = [...new Set(rows.map((row) => this.value(name, row)))];
    return values.sort((a, b) => (a === null) - (b === null) || (typeof a === "number" ? a - b : String(a).localeCompare(String(b))));
  }

  // Numeric keys and values of runs, which can stand on an axis.
  numbers() {
    const all = [...this.metrics, "loss", "iterations", "seconds", ...this.keys];
    return [...new Set(all)].filter((name) => this.columns.includes(name) && !this.isText(name) && !name.startsWith("bound/"));
  }

  // Runs that differ in their seeds alone, together.
  settings(rows) {
    const keys = this.keys.filter((key) => !isSeed(key)), settings = new Map();
    for (const row of rows) {
      const setting = JSON.stringify(keys.map((key) => this.value(key, row)));
      if (!settings.has(setting)) settings.set(setting, []);
      settings.get(setting).push(row);
    }
    return [...settings.values()];
  }

  label(row) { return `run ${this.value("run", row)}`; }
}

class FilterError extends Error {}

const isNumber = (text) => text !== "" && Number.isFinite(Number(text));

// The name of a metric, between bars if absolute values are shown.
const labelled = (name, absolute) => (absolute ? `|${name}|` : name);

// Absolute or signed values, as the page's data says for the metric: entries are absolute.
const ruleFor = (runs, metric) => (runs.absolute.includes(metric) ? "absolute" : "signed");
function followRule(id, runs, metric) { byId(id).value = ruleFor(runs, metric); }

// " (did you mean x?)" for the known name with the fewest edits, or "" if they are more than half of its length.
function nearest(word, known) {
  const edits = (a, b) => {
    let last = Array.from({ length: b.length + 1 }, (_, k) => k);
    for (let i = 1; i <= a.length; i++) {
      const line = [i];
      for (let j = 1; j <= b.length; j++) line.push(Math.min(last[j] + 1, line[j - 1] + 1, last[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
      last = line;
    }
    return last[b.length];
  };
  const found = [...new Set(known)].map((name) => [edits(word.toLowerCase(), name.toLowerCase()), name]).sort((a, b) => a[0] - b[0])[0];
  return found && found[0] <= found[1].length / 2 ? ` (did you mean ${found[1]}?)` : "";
}

const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
const greatest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
const median = (values) => quantile(values, 0.5);

function quantile(values, share) {
  const sorted = values.filter((value) => value !== null && !Number.isNaN(value)).sort((a, b) => a - b);
  if (!sorted.length) return NaN;
  const at = (sorted.length - 1) * share, low = Math.floor(at), high = Math.ceil(at);
  return high === low ? sorted[low] : sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

// A number with five digits.
function shown(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (!Number.isFinite(value)) return String(value);
  return size !== 0 && (size >= 1e6 || size < 1e-3) ? value.toExponential(4).replace(/\.?0+e/, "e") : String(Number(value.toPrecision(5)));
}

function element(tag, content = [], attributes = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...[content].flat());
  return made;
}

// A table of texts and numbers.
function fill(table, caption, head, body) {
  table.replaceChildren(element("caption", caption), element("thead", element("tr", head.map((name) => element("th", name, { scope: "col" })))),
    element("tbody", body.map((line) => element("tr", line.map((value) => element("td", shown(value), { class: typeof value === "number" ? "number" : null }))))));
}

const byId = (id) => document.getElementById(id);

function options(select, names, chosen, told = (name) => name) {
  select.replaceChildren(...names.map((name) => element("option", told(name), { value: name })));
  if (names.includes(chosen)) select.value = chosen;
}
