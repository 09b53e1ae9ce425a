// The page: one filter and one choice of colours for all views, and one selected run.
const CONTROLS = ["filter", "colour", "shade", "panels", "sort", "order", "rows", "metric", "axis", "lines", "values-shown", "scale",
  "last-x", "last-y", "last-values", "last-scale", "heat-metric", "heat-values", "heat-row", "heat-column"];

(async () => {
  const plotly = new TextDecoder().decode(await gunzip(byId("plotly").textContent));
  document.head.append(element("script", plotly));
  const { header, arrays } = await unpack(byId("data").textContent);
  const runs = new Runs(header, arrays);
  for (const id of ["plotly", "data"]) byId(id).remove();

  const states = runs.different("status", runs.all).map((state) => `${runs.all.filter((row) => runs.value("status", row) === state).length.toLocaleString("en")} ${state}`);
  byId("states").textContent = `${runs.count.toLocaleString("en")} run${runs.count === 1 ? "" : "s"}: ${states.join(", ")}.`;
  byId("notes").replaceChildren(...header.notes.map((note) => element("li", note)));
  byId("notes").hidden = !header.notes.length;
  byId("constant").replaceChildren(...Object.entries(header.constant).map(([key, value]) => element("li", `${key}=${value}`)));
  const key = runs.keys.find((name) => !isSeed(name)) || runs.keys[0] || "run";
  byId("example").textContent = `${brief(key)}=${runs.value(key, 0)}`;
  byId("looks").hidden = !runs.keys.length;
  document.querySelector("main").hidden = false; // before anything is drawn: a chart takes its size from the page

  const select = (row) => { choose(row); state.write(); };
  const looks = new Looks(runs), certificates = new Certificates(runs, select), run = new Run(runs, certificates);
  const table = new Table(runs, select), heat = new HeatMap(runs);
  const charts = [header.metrics.length ? new Curves(runs, looks, select) : null, runs.numbers().length && runs.count > 1 ? new Last(runs, looks, select) : null];
  const views = [table, ...charts, heat, certificates].filter(Boolean);
  byId("curves").hidden = !charts[0];
  byId("last-section").hidden = !charts[1];

  function choose(row, focus = true) {
    table.mark(row);
    if (row === undefined) run.clear();
    else run.draw(row, focus);
  }
  let rows = [];
  function draw() {
    const found = runs.filtered(byId("filter").value);
    rows = found.rows;
    byId("filter-said").replaceChildren(...found.said.map((line) => element("li", line)));
    byId("filter-said").hidden = !found.said.length;
    for (const view of views) view.draw(rows);
  }
  const rule = (metric) => () => ruleFor(runs, byId(metric).value);
  const state = new State(CONTROLS, { "values-shown": rule("metric"), "heat-values": rule("heat-metric") }, runs, { draw, choose: (row) => choose(row, false), choice: () => run.row });

  let waiting, typed = false;
  byId("filter").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { draw(); state.write(typed); typed = true; }, 150);
  });
  byId("filter").addEventListener("blur", () => { typed = false; });
  for (const id of ["colour", "shade", "panels"]) byId(id).addEventListener("change", () => charts.forEach((view) => view?.draw(rows)));
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); byId("filter").focus(); });
  for (const button of document.querySelectorAll("[data-copy]"))
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(byId(button.dataset.copy).textContent);
        button.textContent = "Copied";
      } catch { // a page without that right: marked, to be copied by hand
        getSelection().selectAllChildren(byId(button.dataset.copy));
        button.textContent = "Marked";
      }
    });
  const saved = { runs: table, curves: charts[0], last: charts[1], heat };
  for (const button of document.querySelectorAll("[data-save]")) {
    const [part, kind] = button.dataset.save.split(".");
    button.addEventListener("click", () => (kind === "csv" ? saveTable(part, saved[part].csv()) : savePicture(button.dataset.of, part, kind)));
  }
  for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => charts.forEach((view) => view?.draw(rows)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { draw(); if (run.row !== undefined) run.draw(run.row, false); });
  state.read();
  document.documentElement.dataset.ready = "yes";
})().catch((error) => { byId("states").textContent = `This page could not be drawn: ${error.message}`; throw error; });
