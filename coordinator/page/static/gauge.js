// A scale from the export limit to the import limit, with the present as a needle.

export function gauge(box, netW, importW, exportW) {
  const known = [netW, importW, exportW].every((value) => value !== null && value !== undefined);
  box.hidden = !known;
  if (!known) return;
  const low = Math.min(-exportW, netW) - 1;
  const high = Math.max(importW, netW) + 1;
  const margin = 0.06 * (high - low);
  const place = (watts) => `${(100 * (watts - low + margin)) / (high - low + 2 * margin)}%`;
  const [room, zero, needle] = box.children;
  room.style.left = place(-exportW);
  room.style.width = `calc(${place(importW)} - ${place(-exportW)})`;
  zero.style.left = place(0);
  needle.style.left = place(netW);
}
