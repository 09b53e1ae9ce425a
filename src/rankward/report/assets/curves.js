// Curves of a metric: a line for each run, or median and quartiles over seeds, with dashed bounds.
const MOST_LINES = 400;

class Curves {
  constructor(runs, looks, choose) {
    Object.assign(this, { runs, looks, choose });
    const metrics = runs.metrics.filter((name) => !name.startsWith("bound/"));
    const axes = ["loss", "iteration", "time"].filter((name) => "x/" + name in runs.arrays);
    const first = ["entry/0_0", "norm/nuclear", "error/reconstruction"].find((name) => metrics.includes(name)) || metrics[0];
    options(byId("metric"), [...metrics, "loss"], first);
    options(byId("axis"), axes, "loss");
    if (!runs.keys.some(isSeed)) byId("lines").value = "each";
    byId("metric").addEventListener("change", () => followRule("values-shown", runs, byId("metric").value));
    for (const id of ["metric", "axis", "lines", "values-shown", "scale"]) byId(id).addEventListener("change", () => this.draw(this.rows));
    followRule("values-shown", runs, byId("metric").value);
  }

  draw(rows) {
    this.rows = rows;
    const chosen = (id) => byId(id).value, log = chosen("scale") === "log";
    const [metric, axis] = ["metric", "axis"].map(chosen);
    this.absolute = chosen("values-shown") === "absolute";
    this.unbounded = 0;
    const kept = rows.filter((row) => this.runs.place.has(row)), { panels, remark } = this.looks.panels(kept);
    let unplaced = false; // on a logarithmic axis
    this.lines = panels.flatMap((panel, place) => this.looks.groups(panel.rows).flatMap(({ id, name, colour, rows: members }) => {
      const made = chosen("lines") === "band" ? this.bands(members, metric, axis) : this.each(members, metric, axis);
      const drawn = log ? made.map(positive) : made;
      unplaced ||= drawn.some((line) => line.unplaced && !line.bound);
      return drawn.filter((line) => line.x.length).map((line) => ({ ...line, id, name, colour, panel: panel.name, place }));
    }));
    const title = labelled(metric, this.absolute), measured = this.lines.filter((line) => !line.bound);
    this.plot(title, axis, log, panels);
    const bounded = this.lines.length > measured.length, missing = rows.length - kept.length;
    byId("chart-told").textContent = `${title} against ${axis}: ${measured.length} line${measured.length === 1 ? "" : "s"} of ${kept.length} runs` + remark + unlisted(this.lines.map((line) => (line.bound ? "bound" : line.name))) +
      (bounded ? `; dashed: the theorems' bound${this.premises(metric, kept)}` : "") + (this.unbounded ? `; no bound is drawn of ${this.unbounded} line${this.unbounded === 1 ? "" : "s"}, as it does not apply to each of the runs` : "") +
      (unplaced ? "; values of 0 and below have no place on a logarithmic scale" : "") + (missing ? `; ${missing} runs have no curve here` : "") + ".";
    this.table(measured, title, axis);
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

  // One band for each setting, that is, for runs that differ in their seeds alone, and its bound if all of them have one.
  bands(rows, metric, axis) {
    return this.runs.settings(rows).flatMap((setting) => {
      const lines = (name) => setting.map((row) => ({ row, ...this.points(row, name, axis) })).filter((line) => line.x.length);
      const measured = lines(metric), made = band(measured, axis);
      if (!made) return [];
      const bound = this.bounds(metric).flatMap((name) => {
        const each = lines(name);
        if (each.length && each.length < measured.length) this.unbounded++;
        return each.length && each.length === measured.length ? [band(each, axis)].filter(Boolean) : [];
      });
      return [{ ...made, runs: measured.length, row: measured.length === 1 ? measured[0].row : undefined }, ...bound.map(({ x, y }) => ({ x, y, bound: true, runs: measured.length }))];
    });
  }

  // In how many runs the bound is that of a statement whose premises are met; it is drawn for all runs.
  premises(metric, rows) {
    const verdicts = this.runs.columns.filter((name) => name.startsWith("certificates.") && name.endsWith(`/${metric}.verdict`));
    const met = rows.filter((row) => verdicts.some((name) => ![null, "not applicable"].includes(this.runs.value(name, row))));
    return verdicts.length ? `, whose premises are met by ${met.length === rows.length ? "all" : met.length || "none"} of these runs` : "";
  }

  plot(title, axis, log, panels) {
    const ink = colourOf("--ink"), traces = [], seen = new Set();
    for (const line of this.lines) {
      const name = line.bound ? "bound" : line.name, first = !seen.has(name);
      seen.add(name);
      const shared = { ...axesOf(line.place), legendgroup: plain(name), name: plain(name), mode: "lines" };
      if (line.low && line.runs > 1) {
        const at = log ? line.x.map((_, k) => k).filter((k) => line.low[k] > 0) : line.x.map((_, k) => k), back = [...at].reverse();
        traces.push({ ...shared, x: [...at, ...back].map((k) => line.x[k]), y: [...at.map((k) => line.high[k]), ...back.map((k) => line.low[k])], fill: "toself",
          fillcolor: faded(line.colour, 0.17), line: { width: 0 }, hoverinfo: "skip", showlegend: false });
      }
      const told = line.row === undefined ? `median of ${line.runs} runs` : this.runs.label(line.row);
      traces.push({ ...shared, x: line.x, y: line.y, showlegend: first, customdata: line.x.map(() => line.row ?? -1), legendrank: line.bound ? 1e6 : line.id,
        ...(line.bound ? { hoverinfo: "skip" } : { hovertemplate: `<b>${inTemplate(line.name)}</b>, ${inTemplate(told)}<br>${axis} %{x:.4g}<br>${inTemplate(title)} %{y:.4g}<extra></extra>` }),
        line: { color: line.bound ? ink : line.colour, width: line.bound ? 1 : 1.7, dash: line.bound ? "dash" : "solid" } });
    }
    drawChart("chart", traces, { x: { title: axis, log: true, reversed: axis === "loss" }, y: { title, log }, panels: panels.map((panel) => panel.name) });
    onPoint("chart", this.choose);
  }

  table(lines, title, axis) {
    const head = ["line", "runs", `${axis}, last`, `${title}, first`, "last", "smallest", "largest"];
    const body = lines.slice(0, PAGE).map((line) => [this.told(line), line.runs, line.x.at(-1), line.y[0], line.y.at(-1), least(line.y), greatest(line.y)]);
    fill(byId("chart-table"), `Lines of the chart${lines.length > PAGE ? `, the first ${PAGE}` : ""}.`, head, body);
  }

  told(line) {
    const name = [line.panel, line.name].filter(Boolean).join(": ");
    return line.row === undefined ? name : `${this.runs.label(line.row)}: ${name}`;
  }

  // The points that the chart has, a line each.
  csv() {
    const lines = this.lines.flatMap((line) => line.x.map((x, k) => [line.panel, line.name, line.bound ? "bound" : line.runs > 1 ? "median" : "run",
      line.row === undefined ? "" : this.runs.value("run", line.row), line.runs, x, line.y[k], line.low?.[k], line.high?.[k]]));
    return [["panel", "line", "kind", "run", "runs", byId("axis").value, labelled(byId("metric").value, this.absolute), "lower quartile", "upper quartile"], ...lines];
  }
}
