// The report's scripts on a page's data, with as much of a browser as they touch: what the views show, as JSON.
const fs = require("fs"), vm = require("vm");
const [assets, page] = process.argv.slice(2), { header, arrays, actions } = JSON.parse(fs.readFileSync(page, "utf8"));

class Element {
  constructor(tag) { Object.assign(this, { tag, children: [], listeners: {}, style: {}, dataset: {}, attributes: {}, value: "", own: "" }); }
  setAttribute(name, value) { this.attributes[name] = value; }
  append(...children) { this.children.push(...children); }
  replaceChildren(...children) { this.children = children; if (this.tag === "select") this.value = children[0]?.attributes.value ?? ""; }
  addEventListener(kind, listener) { (this.listeners[kind] ||= []).push(listener); }
  removeAllListeners() {}
  on() {}
  set textContent(text) { this.own = text; }
  get textContent() { return this.own + this.children.map((child) => (typeof child === "string" ? child : child.textContent)).join(" "); }
}

const selects = { metric: "", axis: "", colour: "", lines: "band", "values-shown": "absolute", scale: "log", "heat-metric": "", "heat-values": "absolute", "heat-row": "", "heat-column": "" };
const byName = new Map(Object.entries(selects).map(([id, value]) => [id, Object.assign(new Element("select"), { value })]));
let chart;
Object.assign(globalThis, {
  document: {
    documentElement: {}, createElement: (tag) => new Element(tag),
    getElementById: (id) => { if (!byName.has(id)) byName.set(id, new Element("div")); return byName.get(id); },
  },
  getComputedStyle: () => ({ getPropertyValue: () => "" }),
  Plotly: { react: (id, traces, layout) => { chart = { title: layout.yaxis.title.text, lines: traces.map(({ y, mode, fill, line, name }) => ({ y, name, fill: fill || "", dash: line.dash || "" })) }; } },
});
const scripts = ["runs", "table", "curves", "heatmap"].map((name) => fs.readFileSync(`${assets}/${name}.js`, "utf8")).join("\n");
const { Runs, Curves, HeatMap } = vm.runInThisContext(`${scripts}\n;({ Runs, Curves, HeatMap })`);

const runs = new Runs(header, Object.fromEntries(Object.entries(arrays).map(([name, values]) => [name, Float64Array.from(values, (value) => value ?? NaN)])));
const curves = new Curves(runs, () => {}), heat = new HeatMap(runs);
for (const view of [curves, heat]) view.draw(runs.all);
const told = actions.map((action) => {
  if ("filter" in action) {
    const { rows, said } = runs.filtered(action.filter);
    return { rows, said };
  }
  for (const [id, value] of Object.entries(action)) {
    const select = byName.get(id);
    select.value = value;
    for (const listener of select.listeners.change) listener();
  }
  return {
    chart, "chart-told": byName.get("chart-told").textContent, heat: byName.get("heat").textContent,
    values: byName.get("values-shown").value, "heat-values": byName.get("heat-values").value,
  };
});
console.log(JSON.stringify(told));
