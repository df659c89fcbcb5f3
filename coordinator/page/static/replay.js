// A day that has passed: fetched once, then stepped through.

import { clock } from "./words.js";

const at = (id) => document.getElementById(id);
const DAY_S = 86400;
const PLAY_MS = 160;

const localDay = (seconds) => {
  const day = new Date(seconds * 1000);
  return `${day.getFullYear()}-${String(day.getMonth() + 1).padStart(2, "0")}-${String(day.getDate()).padStart(2, "0")}`;
};

export class Replay {
  constructor({ ask, onStep, onLeave }) {
    Object.assign(this, { ask, onStep, onLeave, day: null, timer: null });
    at("go-live").addEventListener("click", () => this.leave());
    at("go-day").addEventListener("click", () => this.enter());
    at("day").addEventListener("change", () => this.load());
    at("step").addEventListener("input", () => this.#show());
    at("play").addEventListener("click", () => this.#play(this.timer === null));
  }

  async enter() {
    this.#press(true);
    try {
      const { span } = await this.ask("api/day");
      if (span === null) return this.#say("nothing is recorded yet");
      at("day").min = localDay(span[0]);
      at("day").max = at("day").value = localDay(span[1]);
      await this.load();
    } catch (error) {
      this.#say(error.message);
    }
  }

  leave() {
    this.#play(false);
    this.#press(false);
    this.day = null;
    this.onLeave();
  }

  async load() {
    const start = new Date(`${at("day").value}T00:00:00`).getTime() / 1000;
    if (!Number.isFinite(start)) return;
    try {
      this.day = await this.ask(`api/day?start=${start}&end=${start + DAY_S}`);
    } catch (error) {
      this.#say(error.message);
      return;
    }
    const steps = this.day.net_import_w.length;
    at("step").max = steps - 1;
    const [first, last] = [this.day.reporting.findIndex((count) => count > 0), this.day.reporting.findLastIndex((count) => count > 0)];
    at("step").value = first < 0 ? 0 : Math.floor((first + last) / 2);
    this.#show();
  }

  #show() {
    if (!this.day) return;
    const step = Number(at("step").value);
    this.#say(clock(this.day.start_s + step * this.day.step_s, false));
    this.onStep(this.day, step);
  }

  #play(playing) {
    clearInterval(this.timer);
    this.timer = null;
    at("play").setAttribute("aria-pressed", String(playing));
    at("play").textContent = playing ? "Pause" : "Play";
    if (!playing || !this.day) return;
    this.timer = setInterval(() => {
      const next = Number(at("step").value) + 1;
      if (next > Number(at("step").max)) return this.#play(false);
      at("step").value = next;
      this.#show();
    }, PLAY_MS);
  }

  #press(replaying) {
    at("replay").hidden = !replaying;
    at("go-live").setAttribute("aria-pressed", String(!replaying));
    at("go-day").setAttribute("aria-pressed", String(replaying));
  }

  #say(words) {
    at("step-time").textContent = words;
  }
}
