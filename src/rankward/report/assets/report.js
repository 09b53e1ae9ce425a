// The page: one filter for all views, and one selected run.
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
  byId("example").textContent = `${key.replace(/\.(name|layers)$/, "")}=${runs.value(key, 0)}`;
  document.querySelector("main").hidden = false; // before anything is drawn: a chart takes its size from the page

  const certificates = new Certificates(runs, choose);
  const run = new Run(runs, certificates);
  const table = new Table(runs, choose);
  const views = [table, header.metrics.length ? new Curves(runs, choose) : null, new HeatMap(runs), certificates].filter(Boolean);
  byId("curves").hidden = !header.metrics.length;

  function choose(row, focus = true) {
    table.mark(row);
    run.draw(row, focus);
    history.replaceState(null, "", `#run=${encodeURIComponent(runs.value("run", row))}`);
  }
  function draw() {
    const { rows, said } = runs.filtered(byId("filter").value);
    byId("filter-said").replaceChildren(...said.map((line) => element("li", line)));
    byId("filter-said").hidden = !said.length;
    for (const view of views) view.draw(rows);
  }
  let waiting;
  byId("filter").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(draw, 150); });
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
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { draw(); if (run.row !== undefined) run.draw(run.row, false); });
  draw();
  const asked = /^#run=(.*)$/.exec(location.hash);
  const found = asked ? runs.all.find((row) => runs.value("run", row) === decodeURIComponent(asked[1])) : runs.count === 1 ? 0 : undefined;
  if (found !== undefined) choose(found, false);
  document.documentElement.dataset.ready = "yes";
})().catch((error) => { byId("states").textContent = `This page could not be drawn: ${error.message}`; throw error; });
