// The table of runs, or of medians over seeds: sorted by any column, a page of rows at a time.
const PAGE = 200;
const METRICS_SHOWN = 40;
const ENDED = ["converged", "max_iterations", "max_time", "plateau", "stop_heldout"];

class Table {
  constructor(runs, choose) {
    Object.assign(this, { runs, choose });
    this.most = PAGE;
    this.columns = ["run", ...runs.keys, "status", "iterations", "seconds", "loss", ...runs.metrics]
      .filter((name, place, all) => runs.columns.includes(name) && all.indexOf(name) === place)
      .slice(0, runs.keys.length + METRICS_SHOWN);
    options(byId("sort"), ["", ...this.columns], "", (name) => name || "as run");
    byId("rows").disabled = !runs.keys.some(isSeed);
    for (const id of ["sort", "order", "rows"]) byId(id).addEventListener("change", () => this.draw(this.rows));
    byId("more").addEventListener("click", () => { this.most += PAGE; this.draw(this.rows); });
  }

  // A line for each run, or one for each setting, with the medians of its runs; of entries the medians of absolute values.
  lines(rows) {
    const { runs } = this;
    if (!this.grouped) return rows.map((row) => ({ row, value: (name) => runs.value(name, row) }));
    return runs.settings(rows).map((members) => {
      const states = () => runs.different("status", members).map((state) => `${members.filter((row) => runs.value("status", row) === state).length} ${state}`).join(", ");
      const middle = (name) => median(members.map((row) => runs.value(name, row)).map((value) => (value !== null && runs.absolute.includes(name) ? Math.abs(value) : value)));
      const values = new Map(); // a sort reads them often
      const found = (name) => (name === "run" ? members.length : name === "status" ? states() : runs.keys.includes(name) ? runs.value(name, members[0]) : noNaN(middle(name)));
      return { value: (name) => { if (!values.has(name)) values.set(name, found(name)); return values.get(name); } };
    });
  }

  sorted(lines) {
    const by = byId("sort").value, sign = byId("order").value === "falling" ? -1 : 1;
    if (!by) return lines;
    return [...lines].sort((one, two) => {
      const a = one.value(by), b = two.value(by);
      if (a === null || b === null) return (a === null) - (b === null); // what is missing comes last
      return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
    });
  }

  title(name) { return !this.grouped ? name : name === "run" ? "runs" : labelled(name, this.runs.absolute.includes(name)); }

  shownColumns() { return this.grouped ? this.columns.filter((name) => !isSeed(name)) : this.columns; }

  draw(rows) {
    this.rows = rows;
    this.grouped = byId("rows").value === "settings";
    const by = byId("sort").value, rising = byId("order").value !== "falling", columns = this.shownColumns(), lines = this.lines(rows);
    byId("order").disabled = !by;
    const head = element("tr", columns.map((name) => {
      const sorted = by === name ? (rising ? "ascending" : "descending") : "none";
      const button = element("button", this.title(name) + { ascending: " ↑", descending: " ↓", none: "" }[sorted], { type: "button" });
      button.dataset.column = name;
      button.addEventListener("click", () => {
        byId("sort").value = name;
        byId("order").value = by === name && rising ? "falling" : "rising";
        byId("sort").dispatchEvent(new Event("change", { bubbles: true }));
        byId("runs").querySelector(`button[data-column="${CSS.escape(name)}"]`).focus(); // the head is a new one
      });
      return element("th", button, { scope: "col", "aria-sort": sorted, class: this.runs.isText(name) && name !== "run" ? null : "number" });
    }));
    const body = this.sorted(lines).slice(0, this.most).map((line) => element("tr", columns.map((name) => this.cell(name, line)), { "data-row": line.row ?? null }));
    const sorted = by ? `, sorted by ${this.title(by)}` : "";
    byId("runs").replaceChildren(element("caption", this.grouped ? `Medians over runs that differ in their seeds alone${sorted}: of entries those of absolute values, of all other columns those of the values with their signs.`
      : `Runs of the sweep${sorted}. The last value of each metric, with its sign.`), element("thead", head), element("tbody", body));
    byId("more").hidden = lines.length <= this.most;
    byId("shown").textContent = `${rows.length.toLocaleString("en")} of ${this.runs.count.toLocaleString("en")} runs` +
      (this.grouped ? ` in ${lines.length.toLocaleString("en")} settings` : "") + (lines.length > this.most ? `; the first ${this.most.toLocaleString("en")} are listed` : "");
    this.mark(this.chosen);
  }

  cell(name, line) {
    const value = line.value(name);
    if (name === "run" && line.row === undefined) return element("th", shown(value), { scope: "row", class: "number" });
    if (name === "run") {
      const open = element("button", String(value), { type: "button", "aria-label": `Show run ${value}` });
      open.addEventListener("click", () => this.choose(line.row));
      return element("th", open, { scope: "row", class: "number" });
    }
    const bad = name === "status" && !String(value).split(", ").every((state) => ENDED.includes(state.replace(/^\d+ /, "")));
    return element("td", shown(value), { class: bad ? "failed" : typeof value === "number" ? "number" : null });
  }

  mark(row) {
    this.chosen = row;
    for (const line of byId("runs").querySelectorAll("tbody tr")) line.classList.toggle("chosen", row !== undefined && line.dataset.row === String(row));
  }

  // All lines, not only those of this page.
  csv() {
    const columns = this.shownColumns();
    return [columns.map((name) => this.title(name)), ...this.sorted(this.lines(this.rows)).map((line) => columns.map((name) => line.value(name)))];
  }
}

const noNaN = (value) => (Number.isNaN(value) ? null : value);
