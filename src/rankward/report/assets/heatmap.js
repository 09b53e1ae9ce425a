// The last value of a metric over two keys, as the median over all others; a table, so that it can be read aloud.
class HeatMap {
  constructor(runs) {
    this.runs = runs;
    const keys = runs.keys.filter((key) => !isSeed(key));
    byId("heat-section").hidden = keys.length < 1;
    const metrics = ["loss", "iterations", "seconds", ...runs.metrics].filter((name, place, all) => runs.columns.includes(name) && !runs.isText(name) && all.indexOf(name) === place);
    options(byId("heat-metric"), metrics, ["rank/effective", "error/reconstruction"].find((name) => metrics.includes(name)));
    options(byId("heat-row"), runs.keys, keys[0]);
    options(byId("heat-column"), ["", ...runs.keys], keys[1] || "", (name) => name || "none");
    byId("heat-metric").addEventListener("change", () => followRule("heat-values", runs, byId("heat-metric").value));
    for (const id of ["heat-metric", "heat-values", "heat-row", "heat-column"]) byId(id).addEventListener("change", () => this.draw(this.rows));
    followRule("heat-values", runs, byId("heat-metric").value);
  }

  draw(rows) {
    this.rows = rows;
    const absolute = byId("heat-values").value === "absolute";
    const [metric, down, across] = ["heat-metric", "heat-row", "heat-column"].map((id) => byId(id).value);
    if (!metric || !down) return;
    const ys = this.runs.different(down, rows), xs = across ? this.runs.different(across, rows) : [null];
    const cells = new Map();
    for (const row of rows) {
      const cell = JSON.stringify([this.runs.value(down, row), across ? this.runs.value(across, row) : null]);
      if (!cells.has(cell)) cells.set(cell, []);
      const value = this.runs.value(metric, row);
      cells.get(cell).push(absolute && value !== null ? Math.abs(value) : value);
    }
    const values = ys.map((y) => xs.map((x) => median(cells.get(JSON.stringify([y, x])) || [])));
    const found = values.flat().filter(Number.isFinite);
    const [low, high] = [least(found), greatest(found)];
    const log = low > 0 && high / low > 100;
    const share = (value) => (high === low ? 0.5 : log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));
    const small = xs.length > 14; // numbers would not fit: they stand in the titles
    const head = element("tr", [element("th", across ? `${down} ↓  ${across} →` : down, { scope: "col" }), ...xs.map((x) => element("th", x === null ? "all" : shown(x), { scope: "col", class: small ? "narrow" : "number" }))]);
    const body = ys.map((y, j) => element("tr", [element("th", shown(y), { scope: "row" }), ...xs.map((x, i) => {
      const value = values[j][i], runs = (cells.get(JSON.stringify([y, x])) || []).length;
      const told = Number.isFinite(value) ? shown(value) : runs ? "NaN" : "none";
      const cell = element("td", small ? element("span", told, { class: "unseen" }) : told, { title: `${down} ${shown(y)}${across ? `, ${across} ${shown(x)}` : ""}: ${told} (${runs} runs)` });
      if (Number.isFinite(value)) Object.assign(cell.style, coloured(share(value)));
      return cell;
    })]));
    this.saved = [[down, ...(across ? [across] : []), "runs", labelled(metric, absolute)], ...ys.flatMap((y, j) => xs.map((x, i) => [y, ...(across ? [x] : []), (cells.get(JSON.stringify([y, x])) || []).length, values[j][i]]))];
    byId("heat").replaceChildren(
      element("caption", `Last ${labelled(metric, absolute)} of ${rows.length.toLocaleString("en")} runs, medians over whatever else varies; colours from ${shown(low)} (dark) to ${shown(high)} (bright)${log ? ", logarithmic" : ""}.`),
      element("thead", head), element("tbody", body));
  }

  csv() { return this.saved; }
}

function coloured(share) {
  const colour = viridis(share), luminance = (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255;
  return { backgroundColor: `rgb(${colour})`, color: luminance > 0.5 ? "#000" : "#fff" };
}
