// The one-line diagram: mains along the longer side of the window, homes as drops beside them.

const SVG = "http://www.w3.org/2000/svg";
const SIGN = { 2: "▲", 1: "△", "-1": "▽", "-2": "▼" };
const LEVEL = { 2: "level-2", 1: "level-1", 0: "level-0", "-1": "level-n1", "-2": "level-n2" };
const IN_WORDS = { 2: "too high", 1: "near the upper limit", 0: "within limits", "-1": "near the lower limit", "-2": "too low" };
const NARROW_PX = 620;
const MARGIN = 34;

function make(parent, name, attributes = {}, text = null) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  parent.append(element);
  return element;
}

export class Diagram {
  constructor(box, onChoose) {
    this.box = box;
    this.onChoose = onChoose;
    this.buses = [];
    this.shown = null;
    new ResizeObserver(() => this.layOut()).observe(box);
  }

  setFeeder(feeder) {
    this.buses = feeder.buses;
    this.own = feeder.own;
    this.width = 0;
    this.layOut();
  }

  layOut() {
    const width = this.box.clientWidth;
    if (!this.buses.length || Math.abs(width - this.width) < 8) return;
    this.width = width;
    const upright = width < NARROW_PX;
    const longest = Math.max(...this.buses.map((bus) => bus.along), 1);
    const widest = Math.max(...this.buses.map((bus) => bus.across), 1);
    const fit = (room, units, least, most) => Math.min(Math.max((room - 2 * MARGIN) / units, least), most);
    const along = upright ? 46 : fit(width, longest, 15, 112);
    const across = upright ? fit(width, widest, 16, 46) : Math.min(Math.max(430 / widest, 24), 46);
    const place = (bus) => (upright ? [MARGIN + bus.across * across, MARGIN + bus.along * along] : [MARGIN + bus.along * along, MARGIN + bus.across * across]);
    const size = place({ along: longest, across: widest });
    this.box.replaceChildren();
    this.root = make(this.box, "svg", { width: size[0] + MARGIN, height: size[1] + MARGIN - 6, role: "img", "aria-label": "one-line diagram of the feeder" });
    const lines = make(this.root, "g");
    const marks = make(this.root, "g");
    const dense = along < 26;
    this.marks = this.buses.map((bus) => this.#draw(bus, place, upright, lines, marks, dense));
    if (this.shown) this.show(...this.shown);
  }

  #draw(bus, place, upright, lines, marks, dense) {
    const [x, y] = place(bus);
    const mark = { bus };
    if (bus.parent !== null) {
      const [px, py] = place(this.buses[bus.parent]);
      const corner = upright ? `H${x}V${y}` : `V${y}H${x}`;
      const path = bus.drop ? (upright ? `V${y}H${x}` : `H${x}V${y}`) : corner;
      mark.branch = make(lines, "path", { class: bus.drop ? "branch drop" : "branch", d: `M${px} ${py}${path}`, "stroke-width": 3 });
      mark.branchTitle = make(mark.branch, "title");
      const middle = upright ? [x, (py + y) / 2] : [(px + x) / 2, y];
      if (bus.transformer) {
        const step = upright ? [0, 7] : [7, 0];
        for (const sign of [-1, 1]) make(marks, "circle", { class: "coil", cx: middle[0] + sign * step[0], cy: middle[1] + sign * step[1], r: 10 });
      }
      if (!bus.drop) {
        const at = upright ? { x: middle[0] + (bus.transformer ? 22 : 8), y: middle[1] + 4 } : { x: middle[0], y: middle[1] - (bus.transformer ? 16 : 8), "text-anchor": "middle" };
        mark.load = make(marks, "text", { class: "load", ...at }, "");
      }
    }
    const group = make(marks, "g");
    if (bus.parent === null) {
      mark.shape = make(group, "rect", { class: "place", x: x - 9, y: y - 9, width: 18, height: 18, rx: 3 });
      make(group, "text", { x, y: y - 14, "text-anchor": "middle" }, "grid");
    } else if (bus.home || bus.drop) {
      const half = dense ? 4 : 6.5;
      mark.shape = make(group, "rect", { class: "place", x: x - half, y: y - half, width: 2 * half, height: 2 * half, rx: 2.5 });
    } else {
      mark.shape = make(group, "circle", { class: "place", cx: x, cy: y, r: dense ? 3.5 : 5 });
    }
    mark.title = make(group, "title");
    mark.sign = make(group, "text", { class: "sign", x: x + 10, y: y + 4 }, "");
    const index = this.buses.indexOf(bus);
    if (index === this.own) make(group, "circle", { class: "own", cx: x, cy: y, r: 12 });
    if (this.onChoose && bus.home && bus.name !== undefined) {
      group.setAttribute("role", "button");
      group.setAttribute("tabindex", "0");
      const choose = () => this.onChoose(index);
      group.addEventListener("click", choose);
      group.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); }
      });
    }
    return mark;
  }

  // `levels` and `loading` have one entry for each bus; `names` and `volts` are known to administrators alone.
  show(levels, loading, volts = null, names = null) {
    this.shown = [levels, loading, volts, names];
    if (!this.marks) return;
    this.marks.forEach((mark, index) => {
      const level = levels[index];
      const shape = mark.shape;
      shape.setAttribute("class", level === null || level === undefined ? "place" : `place ${LEVEL[level]}`);
      mark.sign.textContent = SIGN[level] ?? "";
      const what = names?.get(index) ?? mark.bus.name ?? (index === this.own ? "my home" : mark.bus.home ? "a home" : "a place in the network");
      const voltage = volts?.[index] != null ? `${volts[index].toFixed(1)} V, ` : "";
      const words = level === null || level === undefined ? `${what}: voltage not known` : `${what}: ${voltage}${IN_WORDS[level]}`;
      if (mark.title.textContent !== words) mark.title.textContent = words;
      this.#load(mark, loading[index]);
    });
  }

  #load(mark, percent) {
    if (!mark.branch) return;
    const known = percent !== null && percent !== undefined;
    const kind = !known || percent < 60 ? "" : percent < 90 ? " warm" : percent <= 100 ? " hot" : " over";
    mark.branch.setAttribute("class", `branch${mark.bus.drop ? " drop" : ""}${kind}`);
    if (!mark.bus.drop) mark.branch.setAttribute("stroke-width", known ? (2 + 6 * Math.min(percent / 100, 1.2)).toFixed(1) : 2);
    mark.branchTitle.textContent = known ? `${percent} % of its rating` : "loading not shown";
    if (mark.load) mark.load.textContent = known && (mark.bus.transformer || percent >= 60) ? `${Math.round(percent)} %` : "";
  }
}
