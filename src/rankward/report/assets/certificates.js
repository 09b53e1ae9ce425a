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

  draw(rows) {
    const body = this.statements.map((statement) => {
      const count = (verdict) => rows.filter((row) => this.of(statement, "verdict", row) === verdict).length;
      const judged = rows.filter((row) => ["holds", "violated"].includes(this.of(statement, "verdict", row)) && this.of(statement, "margin", row) !== null);
      const least = judged.reduce((a, b) => (a === null || this.of(statement, "margin", b) < this.of(statement, "margin", a) ? b : a), null);
      const cells = [element("th", statement, { scope: "row" }), element("td", String(count("holds")), { class: "number holds" }),
        element("td", String(count("violated")), { class: count("violated") ? "number violated" : "number" }),
        element("td", String(count("says nothing here")), { class: "number" }),
        element("td", String(count("not applicable")), { class: "number" })];
      if (least === null) return element("tr", [...cells, element("td", ""), element("td", "")]);
      const open = element("button", this.runs.label(least), { type: "button" });
      open.addEventListener("click", () => this.choose(least));
      return element("tr", [...cells, element("td", shown(this.of(statement, "margin", least)), { class: "number" }), element("td", open)]);
    });
    const head = ["statement", "holds", "violated", "says nothing here", "not applicable", "smallest margin", "at"];
    byId("certificates").replaceChildren(element("caption", "Number of runs for each verdict."),
      element("thead", element("tr", head.map((name) => element("th", name, { scope: "col" })))), element("tbody", body));
  }

  drawRun(row) {
    const told = this.statements.filter((statement) => this.of(statement, "verdict", row) !== null).map((statement) => {
      const verdict = this.of(statement, "verdict", row), seen = this.of(statement, "seen", row);
      const slope = this.of(statement, "slope", row), margin = this.of(statement, "margin", row), at = this.of(statement, "iteration", row);
      const until = this.of(statement, "until", row), reason = this.of(statement, "reason", row);
      const why = (verdict === "not applicable" ? `needs ${this.of(statement, "premise", row)}` + (seen ? `; the rows would have had: ${seen}` : "") : reason ?? "")
        + (until === null ? "" : ` (judged up to iteration ${shown(until)})`);
      const number = margin !== null ? `margin ${shown(margin)}${at === null ? "" : ` at iteration ${shown(at)}`}` : slope !== null ? `slope ${shown(slope)}` : "";
      return element("tr", [element("th", statement, { scope: "row" }), element("td", verdict, { class: ["holds", "violated"].includes(verdict) ? verdict : null }),
        element("td", number), element("td", why)]);
    });
    byId("run-certificates").replaceChildren(element("caption", told.length ? "Verdicts of this run." : "No certificate was asked of this run."), element("tbody", told));
  }
}
