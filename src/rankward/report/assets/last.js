// Last values of runs: a histogram over runs, or one value against another.
class Last {
  constructor(runs, looks, choose) {
    Object.assign(this, { runs, looks, choose });
    const numbers = runs.numbers(), first = ["entry/0_0", "rank/effective", "error/reconstruction"].find((name) => numbers.includes(name));
    options(byId("last-x"), numbers, first);
    options(byId("last-y"), ["", ...numbers], "", (name) => name || "number of runs (histogram)");
    for (const id of ["last-x", "last-y", "last-values", "last-scale"]) byId(id).addEventListener("change", () => this.draw(this.rows));
  }

  draw(rows) {
    this.rows = rows;
    const [x, y] = ["last-x", "last-y"].map((id) => byId(id).value), names = y ? [x, y] : [x];
    this.titles = names.map((name) => labelled(name, this.absolute(name)));
    const whole = rows.filter((row) => names.every((name) => Number.isFinite(this.value(name, row))));
    const logs = names.map((name) => this.isLog(name, whole)), kept = whole.filter((row) => names.every((name, k) => !logs[k] || this.value(name, row) > 0));
    const { panels, remark } = this.looks.panels(kept);
    this.groups = panels.flatMap((panel, place) => this.looks.groups(panel.rows).map((group) => ({ ...group, place, panel: panel.name })));
    const found = y || !kept.length ? null : bins(kept.map((row) => this.value(x, row)), logs[0]);
    const traces = y ? this.points(names) : this.bars(x, found);
    const axes = { x: { title: this.titles[0], log: logs[0], range: found && [found.edges[0], found.edges.at(-1)] }, y: { title: y ? this.titles[1] : "runs", log: y ? logs[1] : false } };
    drawChart("last", traces, { ...axes, panels: panels.map((panel) => panel.name), barmode: "stack", bargap: 0 });
    onPoint("last", this.choose);
    byId("last-told").textContent = (y ? `${this.titles[1]} against ${this.titles[0]} at the last rows of ${kept.length} runs` : `${this.titles[0]} at the last rows of ${kept.length} runs`) + remark + unlisted(this.groups.map((group) => group.name)) +
      (y && kept.length > 2 ? `; Spearman's rank correlation ${shown(correlation(...names.map((name) => ranks(kept.map((row) => this.value(name, row))))))}` : "") +
      (rows.length > whole.length ? `; ${rows.length - whole.length} runs have no such value` : "") +
      (whole.length > kept.length ? `; ${whole.length - kept.length} runs with values of 0 and below have no place on a logarithmic scale` : "") + ".";
    this.table(y || x);
  }

  absolute(name) { return byId("last-values").value === "rule" && this.runs.absolute.includes(name); }

  value(name, row) {
    const value = this.runs.value(name, row);
    return this.absolute(name) && value !== null ? Math.abs(value) : value;
  }

  // Asked for, or else by the values: positive numbers over more than two decades.
  isLog(name, rows) {
    const asked = byId("last-scale").value, values = rows.map((row) => this.value(name, row));
    return asked === "log" || (asked === "auto" && least(values) > 0 && greatest(values) > 100 * least(values));
  }

  points([x, y]) {
    const seen = new Set();
    return this.groups.map(({ id, name, colour, rows, place }) => {
      const first = !seen.has(name);
      seen.add(name);
      const setting = (row) => [this.runs.label(row), ...this.runs.keys.map((key) => `${brief(key)} ${shown(this.runs.value(key, row))}`)].join(", ");
      return { ...axesOf(place), type: rows.length > 4000 ? "scattergl" : "scatter", mode: "markers", name: plain(name), legendgroup: plain(name), showlegend: first, legendrank: id,
        x: rows.map((row) => this.value(x, row)), y: rows.map((row) => this.value(y, row)), customdata: rows, text: rows.map((row) => plain(setting(row))),
        hovertemplate: `<b>%{text}</b><br>${inTemplate(this.titles[0])} %{x:.5g}<br>${inTemplate(this.titles[1])} %{y:.5g}<extra></extra>`,
        marker: { color: colour, size: 8, opacity: 0.8, line: { color: colourOf("--paper"), width: 1 } } };
    });
  }

  // Bars over bins that all groups share, even on the axis that is drawn.
  bars(name, found) {
    const { edges, place: bin } = found || {}, seen = new Set();
    return this.groups.map((group) => {
      const counts = edges.slice(1).map(() => 0), first = !seen.has(group.name);
      seen.add(group.name);
      for (const row of group.rows) counts[bin(this.value(name, row))]++;
      return { ...axesOf(group.place), type: "bar", name: plain(group.name), legendgroup: plain(group.name), showlegend: first, legendrank: group.id, y: counts,
        x: counts.map((_, k) => (edges[k] + edges[k + 1]) / 2), width: counts.map((_, k) => edges[k + 1] - edges[k]), text: counts.map((_, k) => `${shown(edges[k])} to ${shown(edges[k + 1])}`),
        textposition: "none", hovertemplate: `<b>${inTemplate(group.name)}</b><br>%{y} runs with ${inTemplate(this.titles[0])}<br>from %{text}<extra></extra>`,
        customdata: counts.map(() => -1), marker: { color: group.colour, line: { color: colourOf("--paper"), width: 1 } } };
    });
  }

  table(name) {
    const head = ["group", "runs", `${labelled(name, this.absolute(name))}, smallest`, "lower quartile", "median", "upper quartile", "largest"];
    const body = this.groups.map((group) => {
      const values = group.rows.map((row) => this.value(name, row));
      return [[group.panel, group.name].filter(Boolean).join(": "), values.length, ...[0, 0.25, 0.5, 0.75, 1].map((share) => quantile(values, share))];
    });
    fill(byId("last-table"), "Groups of the chart.", head, body);
  }

  csv() {
    const names = [byId("last-x").value, byId("last-y").value].filter(Boolean);
    return [["panel", "group", "run", ...this.titles], ...this.groups.flatMap((group) => group.rows.map((row) => [group.panel, group.name, this.runs.value("run", row), ...names.map((name) => this.value(name, row))]))];
  }
}

// Edges of 2 n^(1/3) bins of equal width (Rice's rule), in logarithms if asked, and the bin of a value.
function bins(values, log) {
  const scale = log ? Math.log : (value) => value, back = log ? Math.exp : (value) => value;
  let low = scale(least(values)), high = scale(greatest(values));
  if (!(high - low > 1e-9 * Math.max(Math.abs(low), Math.abs(high)))) [low, high] = [low - (Math.abs(low) / 20 || 0.5), low + (Math.abs(low) / 20 || 0.5)]; // one value
  const count = Math.min(60, Math.max(1, Math.ceil(2 * Math.cbrt(values.length))));
  const edges = Array.from({ length: count + 1 }, (_, k) => back(low + ((high - low) * k) / count));
  return { edges, place: (value) => Math.min(count - 1, Math.max(0, Math.floor(((scale(value) - low) / (high - low)) * count))) };
}

// Ranks of values; equal values share the mean of theirs.
function ranks(values) {
  const order = values.map((_, k) => k).sort((a, b) => values[a] - values[b]), found = new Array(values.length);
  for (let first = 0, last; first < order.length; first = last) {
    for (last = first + 1; last < order.length && values[order[last]] === values[order[first]]; ) last++;
    for (let k = first; k < last; k++) found[order[k]] = (first + last - 1) / 2;
  }
  return found;
}

// Pearson's correlation; NaN if either is constant.
function correlation(a, b) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length, [ma, mb] = [mean(a), mean(b)];
  const sum = (f) => a.reduce((total, _, k) => total + f(a[k] - ma, b[k] - mb), 0), spread = sum((x) => x * x) * sum((_, y) => y * y);
  return spread > 0 ? sum((x, y) => x * y) / Math.sqrt(spread) : NaN;
}
