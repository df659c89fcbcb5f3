// One household: its net import inside its envelope, its devices, its last hours.

import { EnvelopeChart } from "./charts.js";
import { gauge } from "./gauge.js";
import { STATES, envelopeWords, netWords, power } from "./words.js";

const at = (id) => document.getElementById(id);
const MAX_POINTS = 2000;

const DEVICES = [
  ["pv_w", "Solar", (home) => (home.pv_w > -5 ? "idle" : `produces ${power(-home.pv_w)}`)],
  ["battery_w", "Battery", (home) => `${Math.abs(home.battery_w) < 5 ? "idle" : home.battery_w > 0 ? `charges ${power(home.battery_w)}` : `gives ${power(-home.battery_w)}`}${home.soc_frac === null ? "" : `, ${Math.round(100 * home.soc_frac)} % full`}`],
  ["ev_w", "Vehicle", (home) => (Math.abs(home.ev_w) < 5 ? "idle" : home.ev_w > 0 ? `charges ${power(home.ev_w)}` : `gives ${power(-home.ev_w)}`)],
  ["load_w", "Everything else", (home) => `uses ${power(home.load_w)}`],
];

export class HomePanel {
  constructor() {
    this.chart = new EnvelopeChart(at("home-chart"), 240);
    this.clear();
  }

  clear() {
    this.name = null;
    this.home = null;
    this.points = [];
    at("home-panel").hidden = true;
  }

  setHome(home, title, own) {
    this.name = home.name;
    this.points = [];
    if (own) {
      own.net_import_w.forEach((netW, index) => {
        if (netW !== null) this.points.push([own.start_s + (index + 0.5) * own.step_s, netW, own.import_limit_w[index], own.export_limit_w[index]]);
      });
    }
    at("home-panel").hidden = false;
    at("home-title").textContent = title;
    this.update(home);
  }

  addTelemetry(said) {
    if (said.sender === this.name) this.update({ ...this.home, ...said, name: said.sender });
  }

  setState(state, reasons) {
    this.home = { ...this.home, state, reasons };
    this.#showState();
  }

  update(home) {
    this.home = home;
    const last = this.points.at(-1);
    if (home.time_s !== null && home.net_import_w !== null && (!last || home.time_s > last[0])) {
      this.points.push([home.time_s, home.net_import_w, home.import_limit_w, home.export_limit_w]);
      if (this.points.length > MAX_POINTS) this.points.shift();
    }
    if (!this.replaying) this.#show();
  }

  showDay(day, step) {
    this.replaying = true;
    const { own } = day;
    const home = { ...this.home };
    for (const name of Object.keys(own)) home[name] = own[name][step];
    this.#numbers(home);
    const times = own.net_import_w.map((_, index) => day.start_s + (index + 0.5) * day.step_s);
    this.chart.setSpan(day.start_s, day.start_s + times.length * day.step_s);
    this.chart.setSeries(times, own.net_import_w, own.import_limit_w, own.export_limit_w);
    this.chart.setMark(times[step]);
  }

  showLive() {
    this.replaying = false;
    if (this.home) this.#show();
  }

  #show() {
    this.#showState();
    this.#numbers(this.home);
    this.chart.setMark(null);
    this.chart.setSpan(null, null);
    this.chart.setSeries(...[0, 1, 2, 3].map((column) => this.points.map((point) => point[column])));
  }

  #showState() {
    const reasons = this.home.reasons?.length ? `: ${this.home.reasons.join("; ")}` : "";
    at("home-state").textContent = `${STATES[this.home.state] ?? this.home.state}${reasons}`;
  }

  #numbers(home) {
    at("home-net").textContent = netWords(home.net_import_w);
    at("home-envelope").textContent = envelopeWords(home.import_limit_w, home.export_limit_w);
    gauge(at("home-gauge"), home.net_import_w, home.import_limit_w, home.export_limit_w);
    const most = Math.max(2000, ...DEVICES.map(([field]) => Math.abs(home[field] ?? 0)));
    at("devices").replaceChildren(...DEVICES.filter(([field]) => home[field] !== null && home[field] !== undefined).flatMap(([field, name, words]) => {
      const title = document.createElement("dt");
      title.textContent = name;
      const bar = document.createElement("dd");
      bar.className = "bar";
      const filled = document.createElement("span");
      filled.style.width = `${(100 * Math.abs(home[field])) / most}%`;
      bar.append(filled);
      const text = document.createElement("dd");
      text.textContent = words(home);
      return [title, text, bar];
    }));
  }
}
