// The looks that charts share: colours by one or two keys, panels by a third, axes, and pictures of them.
const COLOURS = ["#2a7fc4", "#d1622b", "#4d9a57", "#9a6bb3", "#b8963e", "#4f9a9a", "#c0527a", "#7f8c3a", "#6470c8", "#8a6d5a"];
const SHADES = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // viridis
const MOST_PANELS = 12, MOST_NAMES = 40, ORDERED = 5; // more values of a number than that have colours in their order
const isSeed = (key) => key === "seed" || key.endsWith(".seed") || key.endsWith(".holdout_seed");
const brief = (key) => key.replace(/\.(name|layers)$/, "");

class Looks {
  constructor(runs) {
    this.runs = runs;
    const first = runs.keys.find((key) => !isSeed(key)) || "";
    options(byId("colour"), ["", ...runs.keys], first, (name) => name || "one colour");
    for (const id of ["shade", "panels"]) options(byId(id), ["", ...runs.keys], "", (name) => name || "none");
  }

  // Groups of these rows, each with a name and a colour that a filter does not change: hue by one key, shade by another.
  groups(rows) {
    const keys = ["colour", "shade"].map((id) => byId(id).value), values = keys.map((key) => (key ? this.runs.different(key, this.runs.all) : [null]));
    const places = values.map((known) => new Map(known.map((value, place) => [value, place]))), groups = new Map();
    for (const row of rows) {
      const found = keys.map((key) => (key ? this.runs.value(key, row) : null)), at = places.map((known, k) => known.get(found[k]));
      const id = at[0] * values[1].length + at[1];
      if (!groups.has(id)) groups.set(id, { id, name: this.name(keys, found), colour: mixed(hue(values[0], at[0]), at[1], values[1].length), rows: [] });
      groups.get(id).rows.push(row);
    }
    return [...groups.values()].sort((a, b) => a.id - b.id);
  }

  name(keys, values) {
    return keys.map((key, k) => (key ? `${brief(key)} ${values[k] === null ? "null" : shown(values[k])}` : "")).filter(Boolean).join(", ") || "runs";
  }

  // Panels of these rows, and a remark if there would be too many.
  panels(rows) {
    const key = byId("panels").value;
    if (!key || !rows.length) return { panels: [{ name: "", rows }], remark: "" };
    const values = this.runs.different(key, rows), panels = values.slice(0, MOST_PANELS).map((value) => ({ name: this.name([key], [value]), rows: rows.filter((row) => this.runs.value(key, row) === value) }));
    return { panels, remark: values.length > MOST_PANELS ? `; the first ${MOST_PANELS} of ${values.length} panels are drawn` : "" };
  }
}

const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;
const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function viridis(share) {
  const at = Math.min(Math.max(share, 0), 1) * (SHADES.length - 1), k = Math.min(Math.floor(at), SHADES.length - 2);
  return SHADES[k].map((low, c) => Math.round(low + (SHADES[k + 1][c] - low) * (at - k)));
}

// The colour of a key's value: one of ten, or one of a scale if the values are many numbers.
function hue(values, at) {
  if (values.length <= ORDERED || values.some((value) => value !== null && typeof value !== "number")) return rgb(COLOURS[at % COLOURS.length]);
  const share = at / (values.length - 1);
  return viridis(isDark() ? 0.25 + 0.75 * share : 0.88 * share);
}

// A colour nearer to the page's own for each further value of the second key.
function mixed(colour, at, count) {
  const paper = isDark() ? [18, 22, 29] : [255, 255, 255], share = count > 1 ? at * Math.min(0.5, 0.7 / (count - 1)) : 0;
  return `rgb(${colour.map((value, c) => Math.round(value + (paper[c] - value) * share))})`;
}

const faded = (colour, alpha) => colour.replace("rgb(", "rgba(").replace(")", `,${alpha})`);

// Plotly interprets links, tags and entities in names and titles; this text is escaped.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
// In the templates of its labels, signs of per cent as well.
const inTemplate = (text) => plain(text).replace(/%/g, "&#37;");

// Axes of a panel as traces name them.
const axesOf = (place) => ({ xaxis: "x" + (place ? place + 1 : ""), yaxis: "y" + (place ? place + 1 : "") });

// A remark if a legend would have too many names; labels of points have them.
function unlisted(names) {
  const count = new Set(names).size;
  return count > MOST_NAMES ? `; a legend of ${count} names is left out: point at a line or a point` : "";
}

// Draw traces into panels that share their axes.
function drawChart(id, traces, { x, y, panels = [""], ...more }) {
  const box = byId(id), width = box.clientWidth || 1200, narrow = width < 640, n = panels.length;
  const columns = narrow ? 1 : n <= 3 ? n : Math.min(4, Math.ceil(Math.sqrt(n))), rows = Math.ceil(n / columns);
  const inner = rows * (n === 1 ? (narrow ? 250 : 340) : narrow ? 190 : 240), gap = 44;
  const labels = traces.filter((trace) => trace.showlegend !== false).map((trace) => trace.name.length * 7 + 50);
  const listed = labels.length <= MOST_NAMES, legend = listed && labels.length > 1 ? 19 * Math.ceil(labels.length / Math.max(1, Math.floor((width - 72) / greatest(labels)))) : 0;
  const height = inner + (rows - 1) * gap + legend + 90;
  box.style.height = `${height}px`;
  const ink = colourOf("--ink"), line = colourOf("--line"), paper = colourOf("--paper");
  const base = { gridcolor: line, linecolor: line, zeroline: false, exponentformat: "power", automargin: true };
  const layout = {
    height, // of a chart that is drawn again, too
    paper_bgcolor: paper, plot_bgcolor: paper, font: { color: ink, size: 12, family: "system-ui, sans-serif" }, margin: { l: 60, r: 12, t: 8, b: 44 },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1 + (n > 1 ? 26 : 8) / inner, yanchor: "bottom", itemsizing: "constant" },
    hovermode: "closest", hoverlabel: { namelength: -1, align: "left" }, annotations: [], showlegend: listed,
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", ...more, // a finger scrolls the page
  };
  const wide = columns === 1 ? 0 : narrow ? 0 : 0.035, high = rows === 1 ? 0 : gap / (inner + (rows - 1) * gap);
  panels.forEach((name, k) => {
    const column = k % columns, row = Math.floor(k / columns), place = k ? k + 1 : "";
    const w = (1 - wide * (columns - 1)) / columns, h = (1 - high * (rows - 1)) / rows, left = column * (w + wide), top = 1 - row * (h + high);
    const scaled = (axis) => ({ ...base, ...(axis.log ? { type: "log", nticks: 4 } : { type: "linear" }), ...(axis.range ? { range: axis.range.map((value) => (axis.log ? Math.log10(value) : value)) } : { autorange: axis.reversed ? "reversed" : true }) });
    layout["xaxis" + place] = { ...scaled(x), domain: [left, left + w], anchor: "y" + place, ...(k ? { matches: "x" } : {}), title: { text: k + columns >= n ? plain(x.title) : "", standoff: 8 } };
    layout["yaxis" + place] = { ...scaled(y), domain: [Math.max(0, top - h), top], anchor: "x" + place, ...(k ? { matches: "y" } : {}), title: { text: column ? "" : plain(y.title), standoff: 8 } };
    if (name) layout.annotations.push({ text: `<b>${plain(name)}</b>`, xref: "paper", yref: "paper", x: left, y: top, xanchor: "left", yanchor: "bottom", showarrow: false });
  });
  Plotly.react(id, traces, layout, { displayModeBar: false, responsive: true });
}

// A click on a point opens its run.
function onPoint(id, choose) {
  byId(id).removeAllListeners("plotly_click");
  byId(id).on("plotly_click", (event) => { const row = event.points[0].customdata; if (row >= 0) choose(row); });
}

// Save text, or a chart as a picture, under the page's title.
const named = (part) => `${document.title.split(" · ")[0]}-${part}`;

function saveTable(part, lines) {
  const field = (value) => { const text = value === null || value === undefined || Number.isNaN(value) ? "" : String(value); return /[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text; };
  const link = element("a", [], { href: URL.createObjectURL(new Blob([lines.map((line) => line.map(field).join(",") + "\r\n").join("")], { type: "text/csv" })), download: `${named(part)}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const savePicture = (id, part, format) => Plotly.downloadImage(byId(id), { format, filename: named(part), scale: format === "png" ? 2 : 1, width: byId(id).clientWidth, height: byId(id).clientHeight });
