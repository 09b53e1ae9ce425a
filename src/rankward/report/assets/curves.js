// Curves of a metric: a line for each run, or median and quartiles over seeds, with a dashed bound.
const COLOURS = ["#2a7fc4", "#d1622b", "#4d9a57", "#9a6bb3", "#b8963e", "#4f9a9a", "#c0527a", "#7f8c3a", "#6470c8", "#8a6d5a"];
const MOST_LINES = 400, POINTS = 80;
const isSeed = (key) => key === "seed" || key.endsWith(".seed") || key.endsWith(".holdout_seed");

class Curves {
  constructor(runs, choose) {
    this.runs = runs;
    this.choose = choose;
    const metrics = runs.metrics.filter((name) => !name.startsWith("bound/"));
    const axes = ["loss", "iteration", "time"].filter((name) => "x/" + name in runs.arrays);
    const first = ["entry/0_0", "norm/nuclear", "error/reconstruction"].find((name) => metrics.includes(name)) || metrics[0];
    options(byId("metric"), [...metrics, "loss"], first);
    options(byId("axis"), axes, "loss");
    options(byId("colour"), ["", ...runs.keys], runs.keys.find((key) => !isSeed(key)) || "", (name) => name || "one colour");
    if (!runs.keys.some(isSeed)) byId("lines").value = "each";
    byId("metric").addEventListener("change", () => followRule("values-shown", runs, byId("metric").value));
    for (const id of ["metric", "axis", "colour", "lines", "values-shown", "scale"]) byId(id).addEventListener("change", () => this.draw(this.rows));
    followRule("values-shown", runs, byId("metric").value);
  }

  draw(rows) {
    this.rows = rows;
    const chosen = (id) => byId(id).value;
    const [metric, axis, colour] = ["metric", "axis", "colour"].map(chosen);
    const log = chosen("scale") === "log";
    this.absolute = chosen("values-shown") === "absolute";
    const kept = rows.filter((row) => this.runs.place.has(row));
    const groups = new Map();
    for (const value of colour ? this.runs.different(colour, kept) : [null]) groups.set(value, []);
    for (const row of kept) groups.get(colour ? this.runs.value(colour, row) : null).push(row);
    const lines = [];
    let unplaced = false; // on a logarithmic axis
    [...groups].forEach(([value, members], place) => {
      const name = colour ? `${colour.replace(/\.name$/, "")} ${shown(value)}` : "runs";
      const made = chosen("lines") === "band" ? this.bands(members, metric, axis) : this.each(members, metric, axis);
      const drawn = log ? made.map(positive) : made;
      unplaced ||= drawn.some((line) => line.unplaced && !line.bound);
      drawn.filter((line) => line.x.length).forEach((line, number) => lines.push({ ...line, name, group: place, first: number === 0 }));
    });
    this.plot(lines, metric, axis, log, kept, unplaced);
  }

  // Points of one run, in the order of its iterations.
  points(row, metric, axis) {
    const x = this.runs.curve(axis, row), y = this.runs.curve(metric, row);
    const made = { x: [], y: [] };
    if (!x || !y) return made;
    for (let k = 0; k < x.length; k++)
      if (Number.isFinite(y[k]) && Number.isFinite(x[k]) && x[k] > (axis === "loss" ? 0 : -1)) { made.x.push(x[k]); made.y.push(this.absolute && !metric.startsWith("bound/") ? Math.abs(y[k]) : y[k]); }
    return made;
  }

  each(rows, metric, axis) {
    const step = Math.max(1, this.rows.length / MOST_LINES);
    const some = rows.filter((_, place) => Math.floor(place / step) !== Math.floor((place - 1) / step));
    const lines = some.map((row) => ({ row, runs: 1, ...this.points(row, metric, axis) }));
    const bound = this.bounds(metric).map((name) => some.map((row) => ({ bound: true, runs: 1, ...this.points(row, name, axis) })));
    return [...lines, ...bound.flat()].filter((line) => line.x.length);
  }

  // The bound of an entry bounds its absolute value, so it is not drawn beside signed entries.
  bounds(metric) { return this.runs.absolute.includes(metric) && !this.absolute ? [] : ["bound/" + metric]; }

  // One band for each setting, that is, for runs that differ in their seeds alone.
  bands(rows, metric, axis) {
    const keys = this.runs.keys.filter((key) => !isSeed(key));
    const settings = new Map();
    for (const row of rows) {
      const setting = keys.map((key) => this.runs.value(key, row)).join("\n");
      settings.set(setting, [...(settings.get(setting) || []), row]);
    }
    return [...settings.values()].flatMap((members) => [metric, ...this.bounds(metric)].map((name) => {
      const made = band(members.map((row) => this.points(row, name, axis)), axis);
      return made && { ...made, bound: name !== metric, runs: members.length, row: members.length === 1 ? members[0] : undefined };
    })).filter(Boolean);
  }

  plot(lines, metric, axis, log, kept, unplaced) {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink"), grid = style.getPropertyValue("--line");
    const traces = [];
    for (const line of lines) {
      const colour = COLOURS[line.group % COLOURS.length];
      const shared = { legendgroup: line.name, hoverinfo: line.bound ? "skip" : "x+y+name", name: plain(line.name) };
      if (line.low && line.runs > 1) {
        const at = log ? line.x.map((_, k) => k).filter((k) => line.low[k] > 0) : line.x.map((_, k) => k), back = [...at].reverse();
        traces.push({ ...shared, x: [...at, ...back].map((k) => line.x[k]), y: [...at.map((k) => line.high[k]), ...back.map((k) => line.low[k])], fill: "toself",
          fillcolor: colour + "2b", line: { width: 0 }, hoverinfo: "skip", showlegend: false, mode: "lines" });
      }
      traces.push({ ...shared, x: line.x, y: line.y, mode: "lines", showlegend: line.first, customdata: line.x.map(() => line.row ?? -1),
        line: { color: line.bound ? ink : colour, width: line.bound ? 1 : 1.6, dash: line.bound ? "dash" : "solid" } });
    }
    const title = labelled(metric, this.absolute);
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12 }, margin: { l: 64, r: 12, t: 10, b: 48 },
      xaxis: { title: { text: axis }, type: "log", autorange: axis === "loss" ? "reversed" : true, gridcolor: grid, exponentformat: "power" },
      yaxis: { title: { text: plain(title) }, type: log ? "log" : "linear", gridcolor: grid, zeroline: false, exponentformat: "power" },
      legend: { orientation: "h", y: -0.2 }, hovermode: "closest",
    };
    Plotly.react("chart", traces, layout, { displaylogo: false, responsive: true });
    byId("chart").removeAllListeners("plotly_click");
    byId("chart").on("plotly_click", (event) => { const row = event.points[0].customdata; if (row >= 0) this.choose(row); });
    const measured = lines.filter((line) => !line.bound);
    const missing = this.rows.length - kept.length;
    byId("chart-told").textContent = `${title} against ${axis}: ${measured.length} line${measured.length === 1 ? "" : "s"} of ${kept.length} runs` +
      (lines.length > measured.length ? "; dashed: what the theorems force" : "") + (unplaced ? "; values of 0 and below have no place on a logarithmic scale" : "") + (missing ? `; ${missing} runs have no curve here` : "") + ".";
    this.table(measured, title, axis);
  }

  table(lines, title, axis) {
    const head = ["line", "runs", `${axis}, last`, `${title}, first`, "last", "smallest", "largest"];
    const body = lines.slice(0, PAGE).map((line) => [line.row === undefined ? line.name : `${this.runs.label(line.row)}: ${line.name}`, line.runs,
      line.x.at(-1), line.y[0], line.y.at(-1), Math.min(...line.y), Math.max(...line.y)]);
    byId("chart-table").replaceChildren(
      element("caption", `Lines of the chart${lines.length > PAGE ? `, the first ${PAGE}` : ""}.`),
      element("thead", element("tr", head.map((name) => element("th", name, { scope: "col" })))),
      element("tbody", body.map((line) => element("tr", line.map((value) => element("td", shown(value), { class: typeof value === "number" ? "number" : null }))))));
  }
}

// Plotly interprets links, tags and entities in names and titles; this text is escaped.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// Points of a line that a logarithmic axis can show. A bound of 0 or less says nothing.
function positive(line) {
  const at = line.y.map((_, k) => k).filter((k) => line.y[k] > 0), pick = (values) => values && at.map((k) => values[k]);
  return { ...line, x: pick(line.x), y: pick(line.y), low: pick(line.low), high: pick(line.high), unplaced: line.y.length - at.length };
}

// Median and quartiles at values of x that all runs reach; against the loss, at the first row of each run below it.
function band(curves, axis) {
  const falling = axis === "loss" ? -1 : 1;
  const sound = curves.map((curve) => monotone(curve, falling)).filter((curve) => curve.x.length);
  if (!sound.length || sound.length < curves.length) return sound.length ? band(sound, axis) : null;
  if (curves.length === 1) return curves[0];
  const first = Math.max(...sound.map((curve) => curve.x[0])), last = Math.min(...sound.map((curve) => curve.x.at(-1)));
  if (first > last) return null;
  const xs = Array.from({ length: POINTS }, (_, k) => first + ((last - first) * k) / (POINTS - 1));
  const at = xs.map((x) => sound.map((curve) => between(curve, x)));
  const [low, y, high] = [0.25, 0.5, 0.75].map((share) => at.map((values) => quantile(values, share)));
  return { x: xs.map((x) => Math.exp(falling * x)), y, low, high };
}

// Logarithms of x with the sign that makes them increase; rows that do not increase are dropped, as is an x of 0.
function monotone(curve, sign) {
  const made = { x: [], y: [] };
  let last = -Infinity;
  curve.x.forEach((value, k) => {
    const x = sign * Math.log(value);
    if (Number.isFinite(x) && x > last) { made.x.push(x); made.y.push(curve.y[k]); last = x; }
  });
  return made;
}

function between(curve, x) {
  const upper = curve.x.findIndex((value) => value >= x - 1e-9);
  if (upper <= 0) return curve.y[Math.max(upper, 0)];
  const [a, b] = [curve.x[upper - 1], curve.x[upper]];
  return curve.y[upper - 1] + ((curve.y[upper] - curve.y[upper - 1]) * (x - a)) / (b - a);
}
