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
  querySelectorAll() { return []; }
  on() {}
  set textContent(text) { this.own = text; }
  get textContent() { return this.own + this.children.map((child) => (typeof child === "string" ? child : child.textContent)).join(" "); }
}

const selects = { colour: "", shade: "", panels: "", sort: "", order: "rising", rows: "each", "last-x": "", "last-y": "", "last-values": "rule", "last-scale": "auto", metric: "", axis: "", lines: "band", "values-shown": "absolute", scale: "log", "heat-metric": "", "heat-values": "absolute", "heat-row": "", "heat-column": "" };
const byName = new Map(Object.entries(selects).map(([id, value]) => [id, Object.assign(new Element("select"), { value })]));
const drawn = {};
Object.assign(globalThis, {
  document: {
    documentElement: {}, createElement: (tag) => new Element(tag),
    getElementById: (id) => { if (!byName.has(id)) byName.set(id, new Element("div")); return byName.get(id); },
  },
  getComputedStyle: () => ({ getPropertyValue: () => "" }),
  matchMedia: () => ({ matches: false }),
  Plotly: { react: (id, traces, layout) => { drawn[id] = {
    title: layout.yaxis.title.text, x: layout.xaxis.title.text, log: layout.xaxis.type === "log", panels: layout.annotations.map(({ text }) => text),
    lines: traces.map(({ x, y, fill, line, name, marker, xaxis, showlegend, width }) => ({ x, y, name, fill: fill || "", dash: line?.dash || "", colour: line?.color ?? marker?.color ?? "", axis: xaxis, listed: showlegend, width })),
  }; } },
});
const scripts = ["runs", "table", "chart", "bands", "curves", "last", "heatmap", "certificates"].map((name) => fs.readFileSync(`${assets}/${name}.js`, "utf8")).join("\n");
const { Runs, Looks, Table, Curves, Last, HeatMap, Certificates } = vm.runInThisContext(`${scripts}\n;({ Runs, Looks, Table, Curves, Last, HeatMap, Certificates })`);

const runs = new Runs(header, Object.fromEntries(Object.entries(arrays).map(([name, values]) => [name, Float64Array.from(values, (value) => value ?? NaN)])));
const looks = new Looks(runs), choose = () => {}, curves = new Curves(runs, looks, choose), last = new Last(runs, looks, choose);
const views = { table: new Table(runs, choose), curves, last, heat: new HeatMap(runs), certificates: new Certificates(runs, choose) };
const draw = () => Object.values(views).forEach((view) => view.draw(runs.all));
draw();
const told = actions.map((action) => {
  if ("filter" in action) {
    const { rows, said } = runs.filtered(action.filter);
    return { rows, said };
  }
  for (const [id, value] of Object.entries(action)) {
    const select = byName.get(id);
    select.value = value;
    for (const listener of select.listeners.change || [draw]) listener();
  }
  return {
    ...drawn, csv: Object.fromEntries(["table", "curves", "last", "heat"].map((name) => [name, views[name].csv()])), "last-told": byName.get("last-told").textContent,
    runs: byName.get("runs").textContent, reasons: byName.get("reasons").textContent, "chart-told": byName.get("chart-told").textContent, heat: byName.get("heat").textContent,
    values: byName.get("values-shown").value, "heat-values": byName.get("heat-values").value,
  };
});
console.log(JSON.stringify(told));
