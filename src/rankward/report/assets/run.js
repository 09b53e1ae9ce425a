// One run: the command that repeats it, its product matrix at any recorded row, its singular values, its verdicts.
class Run {
  constructor(runs, certificates) {
    this.runs = runs;
    this.certificates = certificates;
    this.entries = runs.metrics.map((name) => /^entry\/(\d+)_(\d+)$/.exec(name)).filter(Boolean).map(([name, i, j]) => ({ name, i: Number(i), j: Number(j) }));
    byId("moment").addEventListener("input", () => this.moment());
  }

  draw(row, focus = true) {
    this.row = row;
    const { runs } = this;
    byId("run-body").hidden = false;
    byId("run-title").textContent = `Run ${runs.value("run", row)}`;
    byId("run-told").textContent = ["status", "iterations", "loss", "engine"].map((name) => [name, runs.value(name, row)])
      .filter(([, value]) => value !== null).map(([name, value]) => `${name} ${shown(value)}`).join(", ");
    byId("run-command").textContent = `rankward ${quoted(runs.value("overrides", row) || "")}`.trim();
    const iterations = runs.curve("iteration", row);
    byId("moment").max = iterations ? iterations.length - 1 : 0;
    byId("moment").value = byId("moment").max;
    byId("moment").disabled = !iterations;
    this.moment();
    this.values();
    this.certificates.drawRun(row);
    if (focus) byId("run-title").focus({ preventScroll: false });
  }

  clear() {
    this.row = undefined;
    byId("run-body").hidden = true;
    byId("run-title").textContent = "A run";
    byId("run-told").textContent = "Choose a run in the table, or click one of its points in a chart.";
  }

  moment() {
    const iterations = this.runs.curve("iteration", this.row), at = Number(byId("moment").value);
    if (!iterations) {
      byId("moment-told").textContent = "none: this page has no curve of this run";
      byId("matrix").replaceChildren();
      return;
    }
    const told = `iteration ${shown(iterations[at])}, loss ${shown(this.runs.curve("loss", this.row)[at])}`;
    byId("moment-told").textContent = told;
    byId("moment").setAttribute("aria-valuetext", told);
    const here = this.entries.filter(({ name }) => Number.isFinite(this.runs.curve(name, this.row)[at]));
    const rows = Math.max(-1, ...here.map(({ i }) => i)) + 1, cols = Math.max(-1, ...here.map(({ j }) => j)) + 1;
    const value = (i, j) => { const name = `entry/${i}_${j}`; return here.some((e) => e.name === name) ? this.runs.curve(name, this.row)[at] : null; };
    const lines = Array.from({ length: rows }, (_, i) => element("tr", Array.from({ length: cols }, (_, j) => element("td", shown(value(i, j)), { class: "number" }))));
    byId("matrix").replaceChildren(element("caption", rows ? `The product matrix, as far as its entries are recorded (${rows} × ${cols}).` : "No entries of a product matrix are recorded of this run."), element("tbody", lines));
  }

  values() {
    const family = ["singular_value/", "cp_weight/"].find((start) => this.runs.metrics.some((name) => name.startsWith(start) && this.runs.curve(name, this.row)?.some(Number.isFinite)));
    byId("values-title").textContent = family === "cp_weight/" ? "The norms of its components" : "Its singular values";
    const x = this.runs.curve("iteration", this.row);
    const names = x && family ? this.runs.metrics.filter((name) => name.startsWith(family)) : [];
    const traces = names.map((name, k) => ({ x: [...x], y: [...this.runs.curve(name, this.row)], name: plain(name), mode: "lines", line: { color: COLOURS[k % COLOURS.length], width: 1.7 },
      hovertemplate: `<b>${inTemplate(name)}</b><br>iteration %{x:,}<br>%{y:.4g}<extra></extra>` }));
    drawChart("values", traces, { x: { title: "iteration", log: true }, y: { title: family ? family.slice(0, -1).replace("_", " ") : "", log: true } });
    byId("values-told").textContent = names.length ? "From start to end: " + names.slice(0, 10).map((name) => {
      const values = this.runs.curve(name, this.row);
      return `${name} ${shown(values[0])} → ${shown(values.at(-1))}`;
    }).join("; ") + "." : "None are recorded of this run.";
  }
}

// Overrides quoted for a shell.
function quoted(overrides) {
  return overrides.replace(/='(-?\d+)'(?= |$)/g, "=$1").split(/ (?=[+~]*[\w.\/@]+=)/).map((word) => (/^[\w@%+=:,./~-]*$/.test(word) ? word : "'" + word.replace(/'/g, "'\"'\"'") + "'")).join(" ");
}
