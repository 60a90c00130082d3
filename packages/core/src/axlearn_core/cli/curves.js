// Draws the charts of a report. The steps that are shown and the step that is read are common to all.
"use strict";
const data = JSON.parse(document.getElementById("curves").textContent);
const several = data.runs.length > 1;
const view = { from: null, to: null, at: null, smooth: 0, logSteps: false, cut: false, hidden: new Set() };
const margin = { left: 52, right: 10, top: 8, bottom: 20 };
const charts = [];

const make = (name, attributes = {}, ...children) => {
  const svg = ["svg", "path", "line", "text", "rect", "circle"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

const units = [" B", " KiB", " MiB", " GiB"];
const brief = (value) => {
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace(/\.?0*e/, "e");
  return String(Number(value.toPrecision(5)));
};
const scaled = (value, base, units) => {
  let unit = 0;
  while (Math.abs(value) >= base && unit < units.length - 1) { value /= base; unit += 1; }
  return Number(value.toPrecision(3)) + units[unit];
};
const write = {
  number: brief,
  percent: (value) => Number((value * 100).toPrecision(3)) + "%",
  count: (value) => scaled(value, 1000, ["", "k", "M", "B", "T"]),
  bytes: (value) => scaled(value, 1024, units),
};

// Round numbers that divide a range into about `count` parts; of a logarithmic one 1, 2, 5, 10, ...
const ticks = (low, high, count, log, form) => {
  const found = [];
  if (log && high / low >= 10) {
    const factors = high / low > 1e4 ? [1] : high / low > 100 ? [1, 3] : [1, 2, 5];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1)
      for (const factor of factors) {
        const value = factor * 10 ** power;
        if (value >= low && value <= high) found.push(value);
      }
    const every = Math.ceil(found.length / (count + 2));
    return found.filter((_, index) => index % every === 0);
  }
  if (form === "bytes") {
    const unit = 1024 ** Math.min(Math.floor(Math.log(Math.max(high, 1)) / Math.log(1024)), 3);
    return ticks(low / unit, high / unit, count).map((value) => value * unit);
  }
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const interval = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  for (let n = 0; n < 3 * count; n += 1) { // not `<= high`: it may be one float away from `low`
    const value = (Math.ceil(low / interval) + n) * interval;
    if (value <= high) found.push(value);
  }
  return found;
};

// An exponential mean over steps, unbiased at the start; null stays null.
const smoothed = (curve) => {
  if (!view.smooth || curve.evaluation) return curve.values;
  const apart = (curve.steps.at(-1) - curve.steps[0]) / (curve.steps.length - 1) || 1;
  let sum = 0, weight = 0;
  return curve.values.map((value, index) => {
    if (value === null) return null;
    const gap = index ? (curve.steps[index] - curve.steps[index - 1]) / apart : 1;
    const keep = view.smooth ** gap;
    sum = keep * sum + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    return sum / weight;
  });
};

// The index of the last step that is not after `step`, or -1.
const before = (steps, step) => {
  let low = 0, high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle + 1; else high = middle;
  }
  return low - 1;
};
const nearest = (steps, step) => {
  const index = before(steps, step);
  if (index < 0) return 0;
  return index + 1 < steps.length && steps[index + 1] - step < step - steps[index] ? index + 1 : index;
};

const all = data.charts.flatMap((chart) => chart.curves).filter((curve) => curve.steps.length);
const first = Math.min(...all.map((curve) => curve.steps[0]));
const last = Math.max(...all.map((curve) => curve.steps.at(-1)));

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.info = data.charts[figure.dataset.chart];
    this.log = false;
    this.svg = make("svg", { role: "img", tabindex: 0, "aria-label": this.info.title
      + ". Arrow keys read values, the table below has numbers." });
    this.legend = make("div", { class: "curves" });
    this.at = make("span", { class: "at" });
    this.legend.append(this.at);
    this.shown = this.info.curves.map((curve) => {
      const value = make("b");
      const name = several ? data.runs[curve.run].label : curve.name;
      const button = make("button", { type: "button", title: "show or hide" },
        make("i", { class: curve.evaluation ? "key round" : "key",
          style: `background:var(--${curve.colour})` }), name && name + " ", value);
      button.onclick = () => { toggle(this.key(curve)); };
      this.legend.append(button);
      return { curve, value, button };
    });
    const scale = make("button", { type: "button", "aria-pressed": "false" }, "log");
    scale.title = "logarithmic values";
    scale.onclick = () => {
      this.log = !this.log;
      scale.setAttribute("aria-pressed", this.log);
      this.draw();
    };
    figure.querySelector("figcaption").append(scale);
    figure.querySelector("figcaption").after(this.legend, this.svg);
    this.listen();
  }

  // What a button hides: a run everywhere, or one curve of the only run.
  key(curve) { return several ? "run " + curve.run : this.info.title + " " + curve.name; }

  visible() { return this.shown.filter(({ curve }) => !view.hidden.has(this.key(curve))); }

  listen() {
    let start = null;
    const place = (event) => event.clientX - this.svg.getBoundingClientRect().left;
    this.svg.onpointerdown = (event) => {
      start = place(event);
      this.svg.setPointerCapture(event.pointerId);
      read(this.step(start));
    };
    this.svg.onpointermove = (event) => {
      const x = place(event);
      read(this.step(x));
      this.select(start, x);
    };
    this.svg.onpointerup = (event) => {
      const x = place(event);
      if (start !== null && Math.abs(x - start) > 8)
        zoom(...[this.step(start), this.step(x)].sort((a, b) => a - b));
      start = null;
      this.select(null);
    };
    this.svg.onpointercancel = () => { start = null; this.select(null); };
    this.svg.onpointerleave = (event) => { if (event.pointerType === "mouse") read(null); };
    this.svg.ondblclick = () => zoom(null, null);
    this.svg.onkeydown = (event) => {
      const moves = { ArrowLeft: -1, ArrowRight: 1 };
      if (event.key === "Escape") { zoom(null, null); read(null); }
      if (!(event.key in moves) || !this.info.curves.length) return;
      event.preventDefault();
      const steps = this.info.curves[0].steps;
      const index = view.at === null ? steps.length - 1 : nearest(steps, view.at) + moves[event.key];
      read(steps[Math.min(Math.max(index, 0), steps.length - 1)]);
    };
  }

  select(from, to) {
    if (!this.selection) return;
    const some = from !== null && Math.abs(to - from) > 8;
    this.selection.setAttribute("x", some ? Math.min(from, to) : 0);
    this.selection.setAttribute("width", some ? Math.abs(to - from) : 0);
  }

  // From a step to a place on the screen, and back.
  x(step) {
    const f = view.logSteps ? (s) => Math.log(Math.max(s, 1)) : (s) => s;
    const share = (f(step) - f(this.from)) / (f(this.to) - f(this.from) || 1);
    return margin.left + share * (this.width - margin.left - margin.right);
  }
  step(x) {
    let share = (x - margin.left) / (this.width - margin.left - margin.right);
    share = Math.min(Math.max(share, 0), 1);
    if (!view.logSteps) return Math.round(this.from + share * (this.to - this.from));
    const from = Math.max(this.from, 1);
    return Math.round(from * (this.to / from) ** share);
  }
  y(value) {
    const f = this.log ? Math.log : (v) => v;
    const share = (f(value) - f(this.low)) / (f(this.high) - f(this.low) || 1);
    return this.height - margin.bottom - share * (this.height - margin.top - margin.bottom);
  }

  // The lowest and highest value among the steps in sight, or most of them.
  range() {
    let low = Infinity, high = -Infinity;
    for (const { curve } of this.visible()) {
      const values = curve.values.filter((value, index) => value !== null
        && curve.steps[index] >= this.from && curve.steps[index] <= this.to
        && !(this.log && value <= 0)).sort((a, b) => a - b);
      if (!values.length) continue;
      const cut = view.cut ? Math.floor(values.length * 0.02) : 0;
      low = Math.min(low, values[cut]);
      high = Math.max(high, values[values.length - 1 - cut]);
    }
    if (low > high) return [this.log ? 0.1 : 0, 1];
    if (this.log) return low === high ? [low / 2, high * 2] : [low, high];
    const edge = (high - low) * 0.04 || Math.abs(high) * 0.1 || 1;
    return [low >= 0 && low < edge ? 0 : low - edge, high + edge];
  }

  draw() {
    this.width = this.svg.clientWidth;
    if (!this.width) return; // in a part of the page that is not open
    this.height = this.figure.classList.contains("wide") ? 300 : 190;
    this.svg.setAttribute("height", this.height);
    this.from = view.from ?? first;
    this.to = view.to ?? last;
    [this.low, this.high] = this.range();
    this.svg.replaceChildren();
    this.axes();
    this.marks();
    const name = "clip" + this.figure.dataset.chart;
    const area = { x: margin.left, y: margin.top - 2, width: this.width - margin.left - margin.right,
      height: this.height - margin.top - margin.bottom + 4 };
    const clip = document.createElementNS("http://www.w3.org/2000/svg", "clipPath");
    clip.id = name;
    clip.append(make("rect", area));
    this.svg.append(clip);
    for (const { curve } of this.visible()) this.line(curve, name);
    this.selection = make("rect", { y: margin.top, height: this.height - margin.top - margin.bottom,
      width: 0, fill: "var(--a)", opacity: 0.18 });
    this.cursor = make("line", { y1: margin.top, y2: this.height - margin.bottom,
      stroke: "var(--soft)", "stroke-dasharray": "3 3", visibility: "hidden" });
    this.svg.append(this.selection, this.cursor);
    this.read();
  }

  axes() {
    const right = this.width - margin.right, bottom = this.height - margin.bottom;
    for (const value of ticks(this.low, this.high, this.height / 55, this.log,
      this.info.form)) {
      const y = this.y(value);
      this.svg.append(make("line", { x1: margin.left, x2: right, y1: y, y2: y,
        stroke: "var(--line)", "stroke-width": 1 }));
      this.svg.append(make("text", { x: margin.left - 6, y: y + 4, "text-anchor": "end" },
        write[this.info.form](value)));
    }
    const steps = ticks(Math.max(this.from, view.logSteps ? 1 : 0), this.to, this.width / 110,
      view.logSteps);
    for (const step of steps) {
      if (step % 1) continue;
      const x = this.x(step);
      const anchor = x > right - 16 ? "end" : "middle";
      this.svg.append(make("line", { x1: x, x2: x, y1: bottom, y2: bottom + 4,
        stroke: "var(--soft)" }));
      this.svg.append(make("text", { x: anchor === "end" ? right : x, y: bottom + 16,
        "text-anchor": anchor }, write.count(step)));
    }
    this.svg.append(make("line", { x1: margin.left, x2: right, y1: bottom, y2: bottom,
      stroke: "var(--soft)" }));
  }

  // Where a run had a fault, and where it went on after one.
  marks() {
    data.runs.forEach((run, index) => {
      if (several && view.hidden.has("run " + index)) return;
      const lines = [...run.resumed.map((step) => [step, "var(--quiet)", "resumed from"]),
        ...run.faults.map((step) => [step, "var(--bad)", "fault at"])];
      for (const [step, stroke, what] of lines) {
        if (step < this.from || step > this.to) continue;
        const x = this.x(step);
        const line = make("line", { x1: x, x2: x, y1: margin.top, y2: this.height - margin.bottom,
          stroke, "stroke-dasharray": "2 4" });
        line.append(document.createElementNS("http://www.w3.org/2000/svg", "title"));
        line.firstChild.textContent = `${run.label}: ${what} step ${step}`;
        this.svg.append(line);
      }
    });
  }

  line(curve, clip) {
    const common = { fill: "none", stroke: `var(--${curve.colour})`, "clip-path": `url(#${clip})`,
      "stroke-linejoin": "round" };
    const soft = smoothed(curve);
    const inSight = curve.steps.filter((step) => step >= this.from && step <= this.to).length;
    const thick = inSight > this.width / 2 ? 1 : 1.75; // dense lines would run together
    if (soft !== curve.values)
      this.svg.append(make("path", { ...common, d: this.path(curve, curve.values), opacity: 0.25 }));
    this.svg.append(make("path", { ...common, d: this.path(curve, soft), "stroke-width": soft === curve.values ? thick : 1.75,
      "stroke-dasharray": curve.evaluation ? "5 4" : "none" }));
    curve.steps.forEach((step, index) => {
      const value = soft[index];
      if (step < this.from || step > this.to) return;
      if (value === null)
        this.svg.append(make("text", { x: this.x(step), y: margin.top + 8, "text-anchor": "middle",
          style: "fill:var(--bad);font-weight:700" }, "×"));
      else if ((curve.evaluation || curve.steps.length < 3) && !(this.log && value <= 0))
        this.svg.append(make("circle", { cx: this.x(step), cy: this.y(value), r: 3,
          fill: `var(--${curve.colour})` }));
    });
  }

  path(curve, values) {
    let drawn = "", pen = "M";
    curve.steps.forEach((step, index) => {
      const value = values[index];
      if (value === null || (this.log && value <= 0)) { pen = "M"; return; }
      drawn += pen + this.x(step).toFixed(1) + " " + this.y(value).toFixed(1);
      pen = "L";
    });
    return drawn;
  }

  // Shows the values at the step under the pointer, or the last ones.
  read() {
    if (!this.cursor) return;
    this.svg.querySelectorAll(".dot").forEach((dot) => dot.remove());
    const reads = view.at !== null && view.at >= this.from && view.at <= this.to;
    this.cursor.setAttribute("visibility", reads ? "visible" : "hidden");
    if (reads) {
      this.cursor.setAttribute("x1", this.x(view.at));
      this.cursor.setAttribute("x2", this.x(view.at));
    }
    this.at.textContent = reads ? "step " + view.at : "latest";
    for (const { curve, value, button } of this.shown) {
      const hidden = view.hidden.has(this.key(curve));
      button.setAttribute("aria-pressed", !hidden);
      const index = reads ? nearest(curve.steps, view.at) : curve.steps.length - 1;
      const number = curve.values[index];
      value.textContent = number === undefined ? "" : number === null ? "not finite"
        : write[this.info.form](number);
      if (reads && !hidden && typeof number === "number" && !(this.log && number <= 0))
        this.svg.append(make("circle", { class: "dot", cx: this.x(curve.steps[index]),
          cy: this.y(number), r: 4, fill: `var(--${curve.colour})`, stroke: "var(--card)",
          "stroke-width": 1.5 }));
    }
  }
}

const from = document.getElementById("from"), to = document.getElementById("to");
const redraw = () => charts.forEach((chart) => chart.draw());
const read = (step) => {
  view.at = step;
  charts.forEach((chart) => chart.read());
};
const zoom = (low, high) => {
  [view.from, view.to] = low === null || high - low < 1 ? [null, null] : [low, high];
  from.value = view.from ?? first;
  to.value = view.to ?? last;
  redraw();
};
const toggle = (key) => {
  if (!view.hidden.delete(key)) view.hidden.add(key);
  redraw();
};

if (all.length) {
  document.querySelector(".tools").hidden = false;
  document.querySelectorAll("figure.chart").forEach((figure) => charts.push(new Chart(figure)));
  from.onchange = to.onchange = () => zoom(Number(from.value), Number(to.value));
  document.getElementById("whole").onclick = () => zoom(null, null);
  document.getElementById("smooth").oninput = (event) => {
    view.smooth = Number(event.target.value);
    redraw();
  };
  for (const [id, option] of [["log-steps", "logSteps"], ["cut", "cut"]])
    document.getElementById(id).onclick = (event) => {
      view[option] = !view[option];
      event.target.setAttribute("aria-pressed", view[option]);
      redraw();
    };
  document.querySelectorAll("details").forEach((part) => part.addEventListener("toggle", redraw));
  new ResizeObserver(redraw).observe(document.body);
  zoom(null, null);
}
