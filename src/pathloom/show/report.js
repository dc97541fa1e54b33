"use strict";
// Draws the figures of a report and answers what lies under the pointer in charts that are too large for hover texts.
function pathloomPlots(count, config) {
  for (let i = 0; i < count; i++) {
    const figure = JSON.parse(document.getElementById("data" + i).textContent);
    const plot = document.getElementById("plot" + i);
    Plotly.newPlot(plot, figure.data, figure.layout, config).then(() => {
      const meta = figure.layout.meta;
      if (meta && meta.gantt) pathloomPointer(plot, meta.gantt);
    });
  }
}

function pathloomPointer(plot, gantt) {
  const read = (text, Type) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new Type(bytes.buffer);
  };
  const panels = gantt.panels.map((p) => ({
    ...p,
    start: read(p.start, Float64Array),
    end: read(p.end, Float64Array),
    item: read(p.item, Uint32Array),
    kind: read(p.kind, Uint8Array),
    stage: p.stage === null ? null : read(p.stage, Int32Array),
  }));
  const tip = document.createElement("div");
  tip.className = "tip";
  document.body.appendChild(tip);
  const number = (value) => value.toLocaleString("en-US", { minimumFractionDigits: 3, maximumFractionDigits: 3 });

  // Row of the panel whose bars reach y, or -1.
  function rowAt(centre, y) {
    let low = 0, high = centre.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (centre[middle] + 0.5 < y) low = middle + 1;
      else high = middle;
    }
    return low < centre.length && Math.abs(centre[low] - y) <= 0.5 ? low : -1;
  }

  // Span of the row that covers x, or -1; bars thinner than a pixel are found within `slack` of their middle.
  function spanAt(panel, row, x, slack) {
    let low = panel.first[row], high = panel.first[row + 1];
    const begin = low;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (panel.start[middle] <= x + slack) low = middle + 1;
      else high = middle;
    }
    for (let i = low - 1; i >= begin && i > low - 9; i--) {
      if (panel.end[i] >= x - slack) return i;
    }
    return -1;
  }

  function find(event) {
    const box = plot.getBoundingClientRect();
    const layout = plot._fullLayout;
    const px = event.clientX - box.left, py = event.clientY - box.top;
    const xaxis = layout.xaxis;
    if (px < xaxis._offset || px > xaxis._offset + xaxis._length) return null;
    for (const panel of panels) {
      const yaxis = layout[panel.axis];
      if (py < yaxis._offset || py > yaxis._offset + yaxis._length) continue;
      const row = rowAt(panel.centre, yaxis.p2c(py - yaxis._offset));
      if (row < 0) return null;
      const x = xaxis.p2c(px - xaxis._offset);
      const slack = Math.abs(xaxis.p2c(1) - xaxis.p2c(0));
      const span = spanAt(panel, row, x, slack);
      return span < 0 ? null : { panel, row, span };
    }
    return null;
  }

  function add(text, bold) {
    const line = document.createElement(bold ? "b" : "div");
    line.textContent = text;
    tip.appendChild(line);
  }

  plot.addEventListener("mousemove", (event) => {
    const hit = event.buttons ? null : find(event);
    tip.style.display = hit ? "block" : "none";
    if (!hit) return;
    const { panel, row, span } = hit;
    tip.textContent = "";
    add(gantt.items[panel.item[span]] + " " + panel.kinds[panel.kind[span]], true);
    if (panel.stage) add(gantt.stage + " " + panel.stage[span]);
    add(panel.labels[row]);
    add(number(panel.start[span]) + " to " + number(panel.end[span]) + " " + gantt.unit);
    add("lasts " + number(panel.end[span] - panel.start[span]) + " " + gantt.unit);
    const right = event.clientX + 16 + tip.offsetWidth > window.innerWidth;
    const below = event.clientY + 16 + tip.offsetHeight > window.innerHeight;
    tip.style.left = (right ? event.clientX - 12 - tip.offsetWidth : event.clientX + 16) + "px";
    tip.style.top = (below ? event.clientY - 12 - tip.offsetHeight : event.clientY + 16) + "px";
  });
  plot.addEventListener("mouseleave", () => { tip.style.display = "none"; });
}
