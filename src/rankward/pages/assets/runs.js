// The runs: values of their columns, and which of them a filter keeps.
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

  // Names that a word of the filter can mean: depth is depth.name or depth.layers.
  meant(word) {
    if (this.columns.includes(word)) return [word];
    return this.columns.filter((name) => name.startsWith(word + ".") || name.endsWith("." + word));
  }

  keeps(term, row) {
    const found = /^([^<>=!]+)(!=|<=|>=|=|<|>)(.*)$/.exec(term);
    if (!found) return [...this.keys, "run", "status", "overrides"].some((name) => String(this.value(name, row)).includes(term));
    const [, word, sign, wanted] = found;
    const asked = Number(wanted.replace(/['"]/g, ""));
    const text = wanted.replace(/['"]/g, "");
    const names = this.meant(word);
    const values = names.length ? names.map((name) => this.value(name, row)) : [this.same(word)];
    const one = (value) => {
      const equal = String(value) === text || (text !== "" && value !== null && Number(value) === asked);
      if (sign === "=") return equal;
      if (sign === "!=") return !equal;
      if (value === null) return false;
      return { "<": value < asked, ">": value > asked, "<=": value <= asked, ">=": value >= asked }[sign];
    };
    return sign === "!=" ? values.every(one) : values.some(one);
  }

  // What all runs have for a key.
  same(word) {
    const name = Object.keys(this.constant).find((key) => key === word || key.startsWith(word + ".name") || key.endsWith("." + word));
    return name === undefined ? undefined : this.constant[name];
  }

  filtered(text) {
    const terms = text.split(/\s+/).filter(Boolean);
    return this.all.filter((row) => terms.every((term) => this.keeps(term, row)));
  }

  // A column's different values among these rows, numbers in their order.
  different(name, rows) {
    const values = [...new Set(rows.map((row) => this.value(name, row)))];
    return values.sort((a, b) => (a === null) - (b === null) || (typeof a === "number" ? a - b : String(a).localeCompare(String(b))));
  }

  label(row) { return `run ${this.value("run", row)}`; }
}

const median = (values) => quantile(values, 0.5);

function quantile(values, share) {
  const sorted = values.filter((value) => value !== null && !Number.isNaN(value)).sort((a, b) => a - b);
  if (!sorted.length) return NaN;
  const at = (sorted.length - 1) * share, low = Math.floor(at), high = Math.ceil(at);
  return high === low ? sorted[low] : sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

// Five digits, as they are read most easily.
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

const byId = (id) => document.getElementById(id);

function options(select, names, chosen, told = (name) => name) {
  select.replaceChildren(...names.map((name) => element("option", told(name), { value: name })));
  if (names.includes(chosen)) select.value = chosen;
}
