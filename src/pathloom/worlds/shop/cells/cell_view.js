"use strict";
(() => {
  const data = JSON.parse(document.getElementById("cell-data").textContent);
  const NS = "http://www.w3.org/2000/svg";
  const make = (parent, tag, attributes, text) => {
    const node = document.createElementNS(NS, tag);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    return parent.appendChild(node);
  };
  const colour = (item) => data.colours[item % data.colours.length];
  // Seconds that an axis needs for a way, and how far it is after some of them: a trapezoid of speed.
  const needs = (way, axis) => (way * axis[1] < axis[0] * axis[0] ? 2 * Math.sqrt(way / axis[1]) : way / axis[0] + axis[0] / axis[1]);
  const along = (time, way, axis) => {
    const total = needs(Math.abs(way), axis), t = Math.min(Math.max(time, 0), total);
    if (total === 0) return way;
    const ramp = Math.min(axis[0] / axis[1], total / 2), top = axis[1] * ramp;
    const gone = t <= ramp ? 0.5 * axis[1] * t * t : t <= total - ramp ? 0.5 * top * ramp + top * (t - ramp) : Math.abs(way) - 0.5 * axis[1] * (total - t) ** 2;
    return Math.sign(way) * gone;
  };
  const shortest = (turn) => { const t = ((turn % 360) + 360) % 360; return t > 180 ? t - 360 : t; };
  const last = (rows, time) => { // the last row that has begun
    let low = 0, high = rows.length;
    while (low < high) { const middle = (low + high) >> 1; if (rows[middle][0] <= time) low = middle + 1; else high = middle; }
    return low - 1;
  };

  const scene = document.getElementById("scene");
  scene.setAttribute("viewBox", data.box.join(" "));
  const size = data.size, half = size / 2;
  if (data.rail) make(scene, "line", { class: "rail", x1: data.rail[0], x2: data.rail[1], y1: 0, y2: 0 });
  const counts = {};
  for (const [number, place] of data.places.entries()) {
    make(scene, "rect", { class: place.port ? "port" : "place", x: place.x - half, y: -place.y - half, width: size, height: size, rx: 0.06 });
    const above = place.y > 0.01 || (Math.abs(place.y) <= 0.01 && place.label === "above");
    make(scene, "text", { class: "name", x: place.x, y: above ? -place.y - half - 0.09 : -place.y + half + 0.22 }, place.name);
    if (place.port) counts[number] = make(scene, "text", { class: "count", x: place.x, y: -place.y + 0.08 }, "");
  }
  const slots = data.slots.map((slot) => {
    const place = data.places[slot.place], many = place.slots, wide = Math.min(0.62 * size, (0.86 * size) / many - 0.04);
    const x = place.x + ((slot.number - (many - 1) / 2) * (wide + 0.05)), y = -place.y - 0.06;
    make(scene, "rect", { class: "slot", x: x - wide / 2, y: y - wide / 2, width: wide, height: wide, rx: 0.03 });
    const item = make(scene, "rect", { x: x - wide / 2, y: y - wide / 2, width: wide, height: wide, rx: 0.03, visibility: "hidden" });
    const meter = make(scene, "rect", { class: "meter", x: x - wide / 2, y: -place.y + half - 0.12, width: 0, height: 0.05, rx: 0.02 });
    return { ...slot, item, meter, wide };
  });
  const robots = data.robots.map((robot) => {
    const group = make(scene, "g", {});
    make(group, "circle", { class: "base", r: 0.3 });
    const turning = make(group, "g", {});
    const arms = [];
    for (let a = 0; a < robot.arms; a++) {
      const arm = make(turning, "g", { transform: `rotate(${-robot.armAngle * a})` });
      const shift = robot.arms === 2 && robot.armAngle === 0 ? (a ? 0.07 : -0.07) : 0;
      arms.push({ line: make(arm, "line", { class: "arm", x1: 0, y1: shift, x2: 0.5, y2: shift }), item: make(arm, "rect", { width: 0.42 * size / 0.8, height: 0.42 * size / 0.8, rx: 0.03, visibility: "hidden" }), shift });
    }
    make(turning, "circle", { class: "hub", r: 0.15 });
    return { ...robot, group, turning, armParts: arms };
  });

  const stand = (robot, place, arm) => place < 0 ? [robot.home, robot.homeAngle] : [robot.track ? data.places[place].trackX : robot.home, data.places[place].angle - (arm ? robot.armAngle : 0)];
  for (const robot of robots) { // where each span begins and ends, and what the arms hold after it
    let at = [robot.home, robot.homeAngle], held = [-1, -1];
    for (const span of robot.spans) { // [start, end, kind, place, arm, item]
      span.from = at;
      if (span[2] === 0 || span[2] === 4) at = stand(robot, span[3], span[4]);
      span.to = at; span.before = held;
      if (span[2] === 2) { held = held.slice(); held[span[4]] = span[5]; }
      if (span[2] === 3) { held = held.slice(); held[span[4]] = -1; }
      span.after = held;
    }
  }
  const tuck = 0.42, tip = (robot, out) => tuck + out * (data.reach - tuck);
  const drawRobot = (robot, time) => {
    const k = last(robot.spans, time), span = k >= 0 ? robot.spans[k] : null;
    let x = robot.home, angle = robot.homeAngle, held = [-1, -1], out = [0, 0];
    if (span) {
      const passed = time - span[0];
      x = span.from[0]; angle = span.from[1]; held = span.before;
      if (span[2] === 0 || span[2] === 4) {
        if (robot.track) x += along(passed, span.to[0] - span.from[0], robot.track);
        angle += along(passed, shortest(span.to[1] - span.from[1]), robot.rotation);
      } else { x = span.to[0]; angle = span.to[1]; }
      if (span[2] === 2 || span[2] === 3) {
        const share = (time - span[0]) / (span[1] - span[0]), way = needs(robot.stroke, robot.extension);
        const back = span[1] - span[0] - passed;
        if (share < 1) out[span[4]] = Math.min(along(passed, robot.stroke, robot.extension), along(Math.max(back, 0), robot.stroke, robot.extension)) / (robot.stroke || 1);
        held = share < 0.5 ? span.before : span.after;
      } else if (time >= span[1]) held = span.after;
    }
    robot.group.setAttribute("transform", `translate(${x} 0)`);
    robot.turning.setAttribute("transform", `rotate(${-angle})`);
    robot.armParts.forEach((part, a) => {
      const end = tip(robot, out[a]), wide = 0.42 * size / 0.8;
      part.line.setAttribute("x2", end);
      part.item.setAttribute("visibility", held[a] >= 0 ? "visible" : "hidden");
      part.item.setAttribute("x", end - wide / 2); part.item.setAttribute("y", part.shift - wide / 2);
      if (held[a] >= 0) part.item.setAttribute("fill", colour(held[a]));
    });
  };
  const drawSlot = (slot, time) => { // stays: [in, out, item, begun, ready, deadline]
    const k = last(slot.stays, time), stay = k >= 0 && time < slot.stays[k][1] ? slot.stays[k] : null;
    slot.item.setAttribute("visibility", stay ? "visible" : "hidden");
    slot.meter.setAttribute("width", 0);
    if (!stay) return;
    slot.item.setAttribute("fill", colour(stay[2]));
    const done = stay[4] > stay[3] ? Math.min(Math.max((time - stay[3]) / (stay[4] - stay[3]), 0), 1) : 1;
    slot.meter.setAttribute("width", done * slot.wide);
    slot.meter.setAttribute("class", time < stay[4] ? "meter" : stay[5] !== null && time > stay[5] ? "meter late" : "meter ready");
  };

  const strip = document.getElementById("strip"), rows = [...robots, ...slots];
  const left = 128, width = 1120, pitch = 21, before = 120, after = 30;
  strip.setAttribute("viewBox", `0 0 ${width} ${rows.length * pitch + 26}`);
  const at = (time, now) => left + ((time - now + before) / (before + after)) * (width - left);
  rows.forEach((row, k) => make(strip, "text", { x: left - 10, y: k * pitch + 15, "text-anchor": "end" }, row.name));
  const bars = make(strip, "g", {});
  const place = (start, end, now, k, attributes) => {
    const a = Math.max(at(start, now), left), b = Math.min(at(end, now), width);
    if (b > a) make(bars, "rect", { x: a, y: k * pitch + 3, width: Math.max(b - a, 0.5), height: pitch - 6, rx: 2, ...attributes });
  };
  const drawStrip = (now) => {
    bars.replaceChildren();
    for (let t = Math.ceil((now - before) / 30) * 30; t <= now + after; t += 30) {
      if (t < 0) continue;
      make(bars, "line", { x1: at(t, now), x2: at(t, now), y1: 0, y2: rows.length * pitch });
      make(bars, "text", { class: "axis", x: Math.min(at(t, now), width - 20), y: rows.length * pitch + 16, "text-anchor": "middle" }, `${t} s`);
    }
    rows.forEach((row, k) => {
      const spans = row.spans || row.stays;
      for (let n = Math.max(last(spans, now - before) - 1, 0); n < spans.length && spans[n][0] < now + after; n++) {
        const span = spans[n];
        if (row.spans) place(span[0], span[1], now, k, span[2] === 1 ? { class: "wait" } : span[2] === 0 ? { class: "moving" } : { class: "work" });
        else { place(span[3], span[4], now, k, { fill: colour(span[2]) }); place(span[4], span[1], now, k, { class: "wait" }); }
      }
    });
    make(bars, "line", { class: "now", x1: at(now, now), x2: at(now, now), y1: 0, y2: rows.length * pitch });
  };

  const slider = document.getElementById("time"), button = document.getElementById("play"), speed = document.getElementById("speed"), label = document.getElementById("label");
  let now = 0, playing = !matchMedia("(prefers-reduced-motion: reduce)").matches, stamp = null;
  slider.max = data.end;
  const draw = () => {
    robots.forEach((robot) => drawRobot(robot, now));
    slots.forEach((slot) => drawSlot(slot, now));
    for (const number in counts) { const times = data.places[number].times; counts[number].textContent = data.places[number].port === "input" ? data.items - (lastOf(data.entries, now) + 1) : lastOf(times, now) + 1; }
    drawStrip(now);
    slider.value = now;
    label.textContent = `${now.toFixed(0)} of ${data.end.toFixed(0)} s, ${lastOf(data.exits, now) + 1} done`;
    button.textContent = playing ? "Pause" : "Play";
  };
  const lastOf = (times, time) => { let low = 0, high = times.length; while (low < high) { const m = (low + high) >> 1; if (times[m] <= time) low = m + 1; else high = m; } return low - 1; };
  const frame = (clock) => {
    if (playing && stamp !== null) { now = Math.min(now + ((clock - stamp) / 1000) * Number(speed.value), data.end); if (now >= data.end) playing = false; draw(); }
    stamp = clock;
    requestAnimationFrame(frame);
  };
  const toggle = () => { if (!playing && now >= data.end) now = 0; playing = !playing; draw(); };
  button.addEventListener("click", toggle);
  slider.addEventListener("input", () => { now = Number(slider.value); draw(); });
  document.addEventListener("keydown", (event) => {
    if (["INPUT", "SELECT", "BUTTON"].includes(event.target.tagName)) return;
    if (event.key === " ") { event.preventDefault(); toggle(); }
    if (event.key === "ArrowRight") { now = Math.min(now + 5, data.end); draw(); }
    if (event.key === "ArrowLeft") { now = Math.max(now - 5, 0); draw(); }
  });
  window.cellView = { show: (time) => { playing = false; now = time; draw(); }, robots, slots };
  draw();
  requestAnimationFrame(frame);
})();
