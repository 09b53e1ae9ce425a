// The page's state in its address: each control that differs from its default, and the run that is chosen.
class State {
  constructor(controls, rules, runs, { draw, choose, choice }) {
    Object.assign(this, { controls, rules, runs, draw, choose, choice });
    this.initial = Object.fromEntries(controls.map((id) => [id, byId(id).value]));
    document.addEventListener("change", (event) => { if (controls.includes(event.target.id) && event.target.id !== "filter") this.write(); });
    addEventListener("popstate", () => this.read());
  }

  // The value of a control that the address leaves out.
  default(id) { return id in this.rules ? this.rules[id]() : this.initial[id]; }

  text() {
    const said = this.controls.filter((id) => byId(id).value !== this.default(id)).map((id) => [id, byId(id).value]);
    const run = this.choice();
    return new URLSearchParams(run === undefined ? said : [...said, ["run", this.runs.value("run", run)]]).toString();
  }

  // A new entry of the browser's history; while the filter is typed, the same one.
  write(again = false) {
    const text = "#" + this.text();
    if (text === (location.hash || "#")) return;
    history[again ? "replaceState" : "pushState"](null, "", text);
  }

  // Set all controls as the address says, and say what it asks for in vain.
  read() {
    const asked = new URLSearchParams(location.hash.slice(1)), said = [];
    for (const id of this.controls) byId(id).value = this.initial[id];
    for (const id of this.controls) {
      const control = byId(id), value = asked.get(id) ?? this.default(id);
      if (control.options && ![...control.options].some((option) => option.value === value)) said.push(`${id}=${value}: no such choice`);
      else control.value = value;
    }
    for (const id of asked.keys()) if (id !== "run" && !this.controls.includes(id)) said.push(`${id}: no such control`);
    const run = asked.has("run") ? this.runs.all.find((row) => String(this.runs.value("run", row)) === asked.get("run")) : this.runs.count === 1 ? 0 : undefined;
    if (asked.has("run") && run === undefined) said.push(`run=${asked.get("run")}: no such run`);
    byId("address-said").replaceChildren(...said.map((line) => element("li", `The address of this page asks for ${line}`)));
    byId("address-said").hidden = !said.length;
    this.draw();
    this.choose(run);
  }
}
