// The table of runs: sorted by any column, a page of rows at a time.
const PAGE = 200;
const METRICS_SHOWN = 40;

class Table {
  constructor(runs, choose) {
    this.runs = runs;
    this.choose = choose;
    this.by = null;
    this.rising = true;
    this.most = PAGE;
    this.columns = ["run", ...runs.keys, "status", "iterations", "seconds", "loss", ...runs.metrics]
      .filter((name, place, all) => runs.columns.includes(name) && all.indexOf(name) === place)
      .slice(0, runs.keys.length + METRICS_SHOWN);
    options(byId("sort"), ["", ...this.columns], "", (name) => name || "as run");
    byId("sort").addEventListener("change", () => this.sortBy(byId("sort").value || null, true));
    byId("more").addEventListener("click", () => { this.most += PAGE; this.draw(this.rows); });
  }

  sortBy(name, rising) {
    this.by = name;
    this.rising = rising;
    byId("sort").value = name || "";
    this.draw(this.rows);
  }

  sorted(rows) {
    if (!this.by) return rows;
    const sign = this.rising ? 1 : -1;
    return [...rows].sort((one, two) => {
      const a = this.runs.value(this.by, one), b = this.runs.value(this.by, two);
      if (a === null || b === null) return (a === null) - (b === null); // what is missing comes last
      return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
    });
  }

  draw(rows) {
    this.rows = rows;
    const head = element("tr", this.columns.map((name) => {
      const sorted = this.by === name ? (this.rising ? "ascending" : "descending") : "none";
      const arrow = { ascending: " ↑", descending: " ↓", none: "" }[sorted];
      const button = element("button", name + arrow, { type: "button" });
      button.dataset.column = name;
      button.addEventListener("click", () => {
        this.sortBy(name, this.by === name ? !this.rising : true);
        byId("runs").querySelector(`button[data-column="${CSS.escape(name)}"]`).focus(); // the head is a new one
      });
      return element("th", button, { scope: "col", "aria-sort": sorted, class: this.runs.isText(name) ? null : "number" });
    }));
    const body = this.sorted(rows).slice(0, this.most).map((row) => element("tr", this.columns.map((name) => {
      const value = this.runs.value(name, row);
      if (name === "run") {
        const open = element("button", String(value), { type: "button", "aria-label": `Show run ${value}` });
        open.addEventListener("click", () => this.choose(row));
        return element("th", open, { scope: "row" });
      }
      const ended = ["converged", "max_iterations", "max_time", "plateau", "stop_heldout"];
      const bad = name === "status" && !ended.includes(value);
      return element("td", shown(value), { class: bad ? "failed" : typeof value === "number" ? "number" : null });
    }), { "data-row": row }));
    const caption = element("caption", `Runs of the sweep${this.by ? `, sorted by ${this.by}` : ""}. The last value of each metric, with its sign.`);
    byId("runs").replaceChildren(caption, element("thead", head), element("tbody", body));
    byId("more").hidden = rows.length <= this.most;
    byId("shown").textContent = `${rows.length.toLocaleString("en")} of ${this.runs.count.toLocaleString("en")} runs` +
      (rows.length > this.most ? `; the first ${this.most.toLocaleString("en")} are listed` : "");
    this.mark(this.chosen);
  }

  mark(row) {
    this.chosen = row;
    for (const line of byId("runs").querySelectorAll("tbody tr")) line.classList.toggle("chosen", Number(line.dataset.row) === row);
  }
}
