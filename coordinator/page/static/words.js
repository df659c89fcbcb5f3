// Numbers and times as people read them. Power comes in watts, positive into the thing named.

export function power(watts, digits = 1) {
  if (watts === null || watts === undefined) return "–";
  const text = (watts / 1000).toFixed(digits);
  return `${Number(text) === 0 ? text.replace("-", "") : text} kW`;
}

export function netWords(watts) {
  if (watts === null || watts === undefined) return "–";
  if (Math.abs(watts) < 50) return "balanced";
  return watts > 0 ? `imports ${power(watts)}` : `exports ${power(-watts)}`;
}

export function envelopeWords(importW, exportW) {
  const side = (limit, word) => (limit === null || limit === undefined ? `no limit on ${word}` : `${word} up to ${power(limit)}`);
  return `${side(importW, "import")}, ${side(exportW, "export")}`;
}

export function clock(seconds, withSeconds = true) {
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (withSeconds) options.second = "2-digit";
  return new Date(seconds * 1000).toLocaleTimeString(undefined, options);
}

export function date(seconds) {
  return new Date(seconds * 1000).toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "short" });
}

export const STATES = {
  controlled: "✓ follows its envelope",
  default: "▽ holds its default",
  failsafe: "⚠ failsafe",
  offline: "✕ offline",
  online: "✓ online",
  unknown: "? not heard yet",
};

const SIGNS = {
  failsafe: "⚠", offline: "✕", default: "▽", controlled: "✓", leader: "★", exceeded: "▲", refused: "⊘", coordinator: "●",
  infeasible: "⚠", unverified: "⚠", tightened: "▽", store: "⚠",
};

export function sign(kind) {
  return SIGNS[kind] ?? "•";
}

export function feederWords(levels, secret = false) {
  const count = (wanted) => levels.filter((level) => level === wanted).length;
  const [high, nearHigh, nearLow, low] = [2, 1, -1, -2].map(count);
  const unknown = levels.every((level) => level === null);
  if (unknown) return ["no picture", secret ? "voltages are not known: no home tells its power" : "voltages are not known yet"];
  const parts = [];
  if (high) parts.push(`${high} too high`);
  if (low) parts.push(`${low} too low`);
  if (nearHigh) parts.push(`${nearHigh} near the upper limit`);
  if (nearLow) parts.push(`${nearLow} near the lower limit`);
  return [high || low ? "outside limits" : nearHigh || nearLow ? "near a limit" : "within limits", parts.join(", ") || "all voltages well inside"];
}
