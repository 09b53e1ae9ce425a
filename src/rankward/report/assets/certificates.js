// Verdicts: a row for each statement over the filtered runs, and a row for each statement of one run.
const FIELD = /^certificates\.(.+)\.(verdict|premise|reason|seen|margin|iteration|rows|limit|until|beyond|slope|standard_error|tolerance|loss)$/;

class Certificates {
  constructor(runs, choose) {
    this.runs = runs;
    this.choose = choose;
    this.statements = [...new Set(runs.columns.map((name) => FIELD.exec(name)?.[1]).filter(Boolean))];
    byId("certificates-section").hidden = !this.statements.length;
  }

  of(statement, field, row) { return this.runs.value(`certificates.${statement}.${field}`, row); }

  // The premise that fails, or another reason for the verdict.
  reason(statement, row) {
    return this.of(statement, "verdict", row) === "not applicable" ? `needs ${this.of(statement, "premise", row)}` : this.of(statement, "reason", row) ?? "";
  }

  // The reasons of these runs, the most frequent first. Reasons that differ in their last number alone are one.
  reasons(statement, rows) {
    const found = new Map();
    for (const row of rows) {
      const text = this.of(statement, "verdict", row) === null ? "" : this.reason(statement, row), [, start, number] = /^(.*\s)(\d+)$/.exec(text) || [null, text, null];
      if (!found.has(start)) found.set(start, { runs: 0, numbers: [] });
      found.get(start).runs++;
      if (number !== null) found.get(start).numbers.push(Number(number));
    }
    found.delete("");
    return [...found].sort((a, b) => b[1].runs - a[1].runs).map(([start, { runs, numbers }]) => {
      const [low, high] = [least(numbers), greatest(numbers)], ends = !numbers.length ? "" : low === high ? shown(low) : `${shown(low)} to ${shown(high)}`;
      return `${runs === rows.length ? "all runs" : runs === 1 ? "1 run" : `${runs.toLocaleString("en")} runs`}: ${start}${ends}`;
    });
  }

  // Reasons, each list once, with the statements that share it; a family of statements by its name alone if all do.
  drawReasons(rows) {
    const shared = new Map(), family = (statement) => statement.split("/")[0];
    for (const statement of this.statements) {
      const lines = this.reasons(statement, rows), key = JSON.stringify(lines);
      if (lines.length) shared.set(key, [...(shared.get(key) || []), statement]);
    }
    const count = (statements, name) => statements.filter((statement) => family(statement) === name).length;
    byId("reasons").replaceChildren(...[...shared].flatMap(([key, statements]) => {
      const names = [...new Set(statements.map((statement) => (count(statements, family(statement)) === count(this.statements, family(statement)) ? family(statement) : statement)))];
      return [element("dt", names.join(", ")), ...JSON.parse(key).map((line) => element("dd", line))];
    }));
    byId("reasons-section").hidden = !shared.size;
  }

  draw(rows) {
    const body = this.statements.map((statement) => {
      const count = (verdict) => rows.filter((row) => this.of(statement, "verdict", row) === verdict).length;
      const judged = rows.filter((row) => ["holds", "violated"].includes(this.of(statement, "verdict", row)) && this.of(statement, "margin", row) !== null);
      const closest = judged.reduce((a, b) => (a === null || this.of(statement, "margin", b) < this.of(statement, "margin", a) ? b : a), null);
      const cells = [element("th", statement, { scope: "row" }), element("td", String(count("holds")), { class: count("holds") ? "number holds" : "number" }),
        element("td", String(count("violated")), { class: count("violated") ? "number violated" : "number" }),
        element("td", String(count("says nothing here")), { class: "number" }),
        element("td", String(count("not applicable")), { class: "number" })];
      if (closest === null) return element("tr", [...cells, element("td", ""), element("td", "")]);
      const open = element("button", this.runs.label(closest), { type: "button" });
      open.addEventListener("click", () => this.choose(closest));
      return element("tr", [...cells, element("td", shown(this.of(statement, "margin", closest)), { class: "number" }), element("td", open)]);
    });
    this.drawReasons(rows);
    const head = ["statement", "holds", "violated", "says nothing here", "not applicable", "smallest margin", "at"];
    byId("certificates").replaceChildren(element("caption", "Number of runs for each verdict."),
      element("thead", element("tr", head.map((name) => element("th", name, { scope: "col" })))), element("tbody", body));
  }

  drawRun(row) {
    const told = this.statements.filter((statement) => this.of(statement, "verdict", row) !== null).map((statement) => {
      const verdict = this.of(statement, "verdict", row), seen = this.of(statement, "seen", row);
      const slope = this.of(statement, "slope", row), margin = this.of(statement, "margin", row), at = this.of(statement, "iteration", row);
      const until = this.of(statement, "until", row);
      const why = this.reason(statement, row) + (seen ? `; the rows would have had: ${seen}` : "")
        + (until === null ? "" : ` (judged up to iteration ${shown(until)})`);
      const number = margin !== null ? `margin ${shown(margin)}${at === null ? "" : ` at iteration ${shown(at)}`}` : slope !== null ? `slope ${shown(slope)}` : "";
      return element("tr", [element("th", statement, { scope: "row" }), element("td", verdict, { class: ["holds", "violated"].includes(verdict) ? verdict : null }),
        element("td", number), element("td", why, { class: "why" })]);
    });
    byId("run-certificates").replaceChildren(element("caption", told.length ? "Verdicts of this run." : "No certificate was asked of this run."), element("tbody", told));
  }
}
