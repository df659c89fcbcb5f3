// Charts over time, by uPlot, in the colours of the style sheet.

import { clock, power } from "./words.js";

const HEIGHT = 230;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function axes(format) {
  const grid = { stroke: colour("--edge"), width: 1 };
  // Seconds where marks are closer than a minute: the same label twice says nothing.
  const time = (plot, splits) => splits.map((s) => clock(s, splits.length > 1 && splits[1] - splits[0] < 60));
  return [
    { stroke: colour("--quiet"), grid, ticks: grid, values: time, space: 64 },
    { stroke: colour("--quiet"), grid, ticks: grid, size: 62, values: (plot, splits) => splits.map(format) },
  ];
}

class Chart {
  constructor(box, height) {
    this.box = box;
    this.height = height;
    this.data = null;
    new ResizeObserver(() => this.plot && this.plot.setSize({ width: box.clientWidth, height: this.height })).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.renew());
  }

  renew() {
    this.plot?.destroy();
    this.plot = null;
    if (this.data) this.show(this.data);
  }

  show(data) {
    this.data = data;
    // Without values there is no scale either: the style sheet says so in the empty box.
    if (!this.plot && data[0].length === 0) return;
    if (this.plot) {
      this.plot.setData(data);
    } else if (this.box.clientWidth > 0) {
      this.plot = new uPlot({ width: this.box.clientWidth, height: this.height, ...this.options() }, data, this.box);
    }
  }
}

const kilowatts = (plot, value) => (value === null || value === undefined ? "–" : power(value * 1000));

export class EnvelopeChart extends Chart {
  constructor(box, height = HEIGHT) {
    super(box, height);
    this.markAt = null;
    this.span = [null, null];
  }

  options() {
    const limit = { stroke: colour("--accent"), width: 1.5, dash: [6, 4], points: { show: false }, value: kilowatts };
    const scale = (plot, low, high) => {
      const room = Math.max((high - low) * 0.08, 0.2);
      return [Math.min(low - room, 0), Math.max(high + room, 0)];
    };
    return {
      scales: { x: { range: (plot, low, high) => [this.span[0] ?? low, this.span[1] ?? high] }, y: { range: scale } },
      axes: axes((value) => `${value} kW`),
      series: [
        { value: (plot, s) => (s === null ? "–" : new Date(s * 1000).toLocaleTimeString(undefined, { hourCycle: "h23" })), label: "time" },
        { ...limit, label: "import limit" },
        { ...limit, label: "export limit", value: (plot, v) => (v === null || v === undefined ? "–" : power(-v * 1000)) },
        { label: "net import", stroke: colour("--ink"), width: 2, points: { show: false }, value: kilowatts },
      ],
      bands: [{ series: [1, 2], fill: colour("--room") }],
      cursor: { drag: { x: false, y: false } },
      hooks: { draw: [(plot) => this.#mark(plot)] },
    };
  }

  // Arrays of seconds and watts.
  setSeries(times, netW, importW, exportW) {
    const kw = (values, sign = 1) => values.map((value) => (value === null || value === undefined ? null : (sign * value) / 1000));
    this.show([times, kw(importW), kw(exportW, -1), kw(netW)]);
  }

  // From when to when the chart goes; null is where the data go.
  setSpan(from, until) {
    this.span = [from, until];
  }

  setMark(seconds) {
    this.markAt = seconds;
    this.plot?.redraw();
  }

  #mark(plot) {
    if (this.markAt === null) return;
    const x = plot.valToPos(this.markAt, "x", true);
    plot.ctx.save();
    plot.ctx.strokeStyle = colour("--high");
    plot.ctx.lineWidth = 2;
    plot.ctx.beginPath();
    plot.ctx.moveTo(x, plot.bbox.top);
    plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
    plot.ctx.stroke();
    plot.ctx.restore();
  }
}

export class PriceChart extends Chart {
  constructor(box) {
    super(box, 150);
  }

  options() {
    return {
      axes: axes((value) => value.toFixed(2)),
      series: [
        { label: "time", value: (plot, s) => (s === null ? "–" : new Date(s * 1000).toLocaleTimeString(undefined, { hourCycle: "h23" })) },
        { label: "per kWh", stroke: colour("--accent"), width: 2, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false }, value: (plot, v) => (v === null ? "–" : v.toFixed(4)) },
      ],
      cursor: { drag: { x: false, y: false } },
    };
  }
}
