// Charts that answer: the value under the pointer or by the arrow keys, a part of the span, a logarithmic scale.
// A page is whole without it. It fetches nothing, and sets attributes and text alone, so that a strict policy allows it.
"use strict";
(() => {
  const NS = "http://www.w3.org/2000/svg";
  const FEWEST = 2; // points that a zoomed chart still shows
  const CLICK = 8; // units that a pointer may move in a click
  const PIXEL = 0.001; // of the span: less than one of any screen
  const NEAR = 0.02; // of the width: two fingers that lie closer tell no span
  const SCALES = {
    percent: (value) => Math.log1p(value / 100), // of what grew by so much
    price: (value) => Math.log(value),
    symmetric: (value) => Math.sign(value) * Math.log1p(Math.abs(value)), // of what lies on both sides of 0
  };
  const left = new Map(); // by the id of a chart what was chosen and read, for when the page puts a newer one in its place

  function make(name, attributes, inside) {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (inside) inside.append(element);
    return element;
  }

  // The same round values as the pages have without this script.
  function ticks(low, high, about) {
    const raw = ((high - low) || 1) / about;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((times) => times * power).find((each) => each >= raw * (1 - 1e-9));
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k <= Math.floor(high / step + 1e-9); k += 1) found.push(k * step);
    return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
  }

  function nearest(places, wanted) {
    let low = 0;
    let high = places.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (places[middle] <= wanted) low = middle; else high = middle;
    }
    return wanted - places[low] <= places[high] - wanted ? low : high;
  }

  // For an axis: the days of minutes that span several, the times of those of one day.
  function shorten(labels) {
    const days = new Set(labels.map((label) => label.slice(0, 10)));
    return labels.map((label) => {
      if (!/^\d{4}-\d\d-\d\d/.test(label)) return label.length > 10 ? "" : label;
      return days.size > 1 || label.length < 16 ? label.slice(0, 10) : label.slice(11, 16);
    });
  }

  // One drawing of a chart: there may be one for a screen and one for a phone.
  class Drawing {
    constructor(svg, chart) {
      this.svg = svg;
      this.chart = chart;
      [this.left, this.top, this.right, this.bottom, this.first, this.last, this.low, this.high] =
        svg.dataset.frame.split(" ").map(Number);
      this.width = svg.viewBox.baseVal.width;
      this.axes = svg.querySelector(".axes");
      this.plot = svg.querySelector(".plot");
      this.whole = [this.axes.innerHTML, this.plot.innerHTML];
      this.reading = make("g", { class: "reading" }, svg);
      this.fingers = new Map(); // by pointer: which share of the width lies left of it, and the place that it holds
      this.scale(this.first, this.last, this.low, this.high, false);
      svg.addEventListener("pointermove", (event) => this.move(event));
      svg.addEventListener("pointerdown", (event) => this.press(event));
      svg.addEventListener("pointerup", (event) => this.release(event));
      svg.addEventListener("pointercancel", (event) => { this.fingers.delete(event.pointerId); this.drop(); });
      svg.addEventListener("dblclick", () => chart.zoom(null, null));
    }

    scale(from, to, low, high, log) {
      const bend = log ? SCALES[this.chart.data.log] : (value) => value;
      const [foot, head] = [bend(low), bend(high)];
      this.from = from;
      this.to = to;
      this.x = (place) => this.left + (this.right - this.left) * (place - from) / ((to - from) || 1);
      this.y = (value) => this.top + (this.bottom - this.top) * (head - bend(value)) / ((head - foot) || 1);
    }

    // Which share of the chart's width lies left of a pointer: less than 0 or more than 1 beyond its sides.
    share(event) {
      const box = this.svg.getBoundingClientRect();
      return ((event.clientX - box.left) / box.width * this.width - this.left) / (this.right - this.left);
    }

    place(event) {
      const share = this.share(event);
      return [this.left + share * (this.right - this.left), this.from + Math.min(Math.max(share, 0), 1) * (this.to - this.from)];
    }

    // Two fingers hold the places that they touched: apart they show less of the span, together more, aside another part.
    touch(event) {
      this.fingers.set(event.pointerId, { share: this.share(event), held: 0 });
      for (const finger of this.fingers.values()) finger.held = this.from + finger.share * (this.to - this.from);
      this.svg.setPointerCapture(event.pointerId); // what was touched may be drawn anew
    }

    pinch() {
      const [one, other] = [...this.fingers.values()];
      const apart = other.share - one.share;
      const span = (other.held - one.held) / apart;
      if (Math.abs(apart) < NEAR || !(span > 0)) return;
      this.chart.zoom(one.held - one.share * span, one.held + (1 - one.share) * span);
    }

    move(event) {
      const finger = this.fingers.get(event.pointerId);
      if (finger) finger.share = this.share(event);
      if (this.fingers.size > 1) { this.pinch(); return; }
      const [at, place] = this.place(event);
      this.chart.read(nearest(this.chart.places, place));
      if (this.begun === undefined) return;
      this.band = this.band || make("rect", { class: "band", y: this.top, height: this.bottom - this.top }, this.svg);
      this.band.setAttribute("x", Math.max(Math.min(at, this.begun[0]), this.left));
      this.band.setAttribute("width", Math.abs(Math.min(Math.max(at, this.left), this.right) - this.begun[0]));
    }

    press(event) {
      if (event.pointerType === "touch") { this.touch(event); return; } // one finger reads, two zoom
      if (event.button !== 0) return;
      this.begun = this.place(event);
      this.svg.setPointerCapture(event.pointerId);
    }

    release(event) {
      this.fingers.delete(event.pointerId);
      const begun = this.begun;
      this.drop();
      if (begun === undefined) return;
      const [at, place] = this.place(event);
      if (Math.abs(at - begun[0]) > CLICK) this.chart.zoom(Math.min(begun[1], place), Math.max(begun[1], place));
    }

    drop() {
      this.begun = undefined;
      if (this.band) this.band.remove();
      this.band = undefined;
    }

    draw({ from, to, log }) {
      [this.axes.innerHTML, this.plot.innerHTML] = this.whole;
      if (from === null && !log) {
        this.scale(this.first, this.last, this.low, this.high, false);
        return;
      }
      const [begin, end] = from === null ? [this.first, this.last] : [Math.max(from, this.first), Math.min(to, this.last)];
      const [low, high] = from === null ? [this.low, this.high] : this.fit(begin, end);
      this.scale(begin, end, low, high, log);
      this.drawAxes(low, high);
      for (const shape of this.plot.querySelectorAll("[data-series]")) this.drawSeries(shape);
      for (const mark of this.plot.querySelectorAll("[data-x]")) this.drawMark(mark);
    }

    // Lowest and highest value between two places, with the air that the pages give.
    fit(begin, end) {
      const values = this.chart.data.series.flatMap((series) => this.cut(series, 0, series.y.length - 1, begin, end)
        .map((point) => point[1]));
      for (const mark of this.plot.querySelectorAll("[data-y]")) {
        const at = Number(mark.dataset.x);
        if (at >= begin && at <= end) values.push(Number(mark.dataset.y));
        if (mark.dataset.x2) values.push(0);
      }
      if (!values.length) return [this.low, this.high];
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const air = 0.06 * (high - low) || 0.001 * Math.abs(high) || 0.5;
      return [low - air, high + air];
    }

    // The points of a series from one to another that lie between two places, those at the edges interpolated.
    cut(series, one, other, begin, end) {
      const points = [];
      for (let k = one; k <= other; k += 1) {
        const [x, y] = [series.x[k], series.y[k]];
        if (y === null) continue;
        const before = k > one && series.y[k - 1] !== null ? [series.x[k - 1], series.y[k - 1]] : null;
        for (const edge of before ? [begin, end] : []) {
          if (before[0] < edge && edge < x) points.push([edge, before[1] + (y - before[1]) * (edge - before[0]) / (x - before[0])]);
        }
        if (x >= begin && x <= end) points.push([x, y]);
      }
      return points;
    }

    path(series, shape) {
      const [one, other] = (shape.dataset.run || `0 ${series.y.length - 1}`).split(" ").map(Number);
      return this.cut(series, one, other, this.from, this.to);
    }

    drawSeries(shape) {
      const all = this.chart.data.series;
      const points = this.path(all[shape.dataset.series], shape);
      if (shape.dataset.lower) points.push(...this.path(all[shape.dataset.lower], shape).reverse());
      if (shape.dataset.base && points.length) {
        points.unshift([points[0][0], Number(shape.dataset.base)]);
        points.push([points[points.length - 1][0], Number(shape.dataset.base)]);
      }
      shape.setAttribute("points", points.map(([x, y]) => `${this.x(x).toFixed(1)},${this.y(y).toFixed(1)}`).join(" "));
    }

    drawMark(mark) {
      const [x, y, end] = [mark.dataset.x, mark.dataset.y, mark.dataset.x2].map(Number);
      if (mark.dataset.x2 === undefined) {
        if (x < this.from || x > this.to) { mark.remove(); return; }
        const was = this.left + (this.right - this.left) * (x - this.first) / ((this.last - this.first) || 1);
        const high = this.top + (this.bottom - this.top) * (this.high - y) / ((this.high - this.low) || 1);
        const up = mark.dataset.y === undefined ? 0 : this.y(y) - high;
        mark.setAttribute("transform", `translate(${(this.x(x) - was).toFixed(1)},${up.toFixed(1)})`);
        return;
      }
      const [begin, stop] = [Math.max(x, this.from), Math.min(end, this.to)];
      if (begin >= stop) { mark.remove(); return; }
      mark.setAttribute("x", this.x(begin).toFixed(1));
      mark.setAttribute("width", Math.max(this.x(stop) - this.x(begin), 0.8).toFixed(1));
      if (mark.dataset.y === undefined) return;
      mark.setAttribute("y", Math.min(this.y(y), this.y(0)).toFixed(1));
      mark.setAttribute("height", Math.max(Math.abs(this.y(y) - this.y(0)), 0.8).toFixed(1));
    }

    drawAxes(low, high) {
      const size = parseFloat(getComputedStyle(this.svg.querySelector("text") || this.svg).fontSize) || 12;
      const [values, digits] = ticks(low, high, Math.max(3, Math.round((this.bottom - this.top) / (2.6 * size))));
      this.axes.replaceChildren();
      let free = Infinity;
      for (const value of values) {
        const y = this.y(value);
        make("path", { class: Math.abs(value) < 1e-9 ? "zero" : "grid", d: `M${this.left} ${y}H${this.right}` }, this.axes);
        if (free - y < 1.2 * size && value !== values[0]) continue;
        const text = value.toFixed(digits);
        const fits = text.length * size * 0.56 < this.left - 8; // on a phone letters are twice as large
        make("text", { x: fits ? this.left - 8 : 0, y: y + size / 3, "text-anchor": fits ? "end" : "start" }, this.axes).textContent = text;
        free = y;
      }
      const shown = this.chart.places.map((place, k) => k).filter((k) => this.chart.places[k] >= this.from && this.chart.places[k] <= this.to);
      const fit = Math.max(2, Math.floor((this.right - this.left) / (8 * size)));
      const labels = shorten(shown.map((k) => this.chart.data.labels[k]));
      let edge = -Infinity;
      let last = null;
      for (let n = 0; n < Math.min(fit, shown.length); n += 1) {
        const nth = Math.round(n * (shown.length - 1) / (Math.min(fit, shown.length) - 1 || 1));
        const [k, label] = [shown[nth], labels[nth]];
        const wide = label.length * size * 0.56;
        const x = Math.min(Math.max(this.x(this.chart.places[k]), this.left + wide / 2), this.right - wide / 2);
        if (x - wide / 2 < edge || label === last) continue;
        edge = x + wide / 2 + size / 2;
        last = label;
        make("text", { class: "soft", x, y: this.svg.viewBox.baseVal.height - 7, "text-anchor": "middle" }, this.axes).textContent = label;
      }
    }

    show(k) {
      this.reading.replaceChildren();
      if (k < 0) return;
      const place = this.chart.places[k];
      if (place < this.from || place > this.to) return;
      const x = this.x(place);
      make("path", { class: "hair", d: `M${x} ${this.top}V${this.bottom}` }, this.reading);
      for (const [, value] of this.chart.values(k)) {
        const y = this.y(value);
        if (y >= this.top - 1 && y <= this.bottom + 1) make("circle", { class: "dot", cx: x, cy: y, r: 4.5 }, this.reading);
      }
    }

    // What stands at the place: who took over, what was bought.
    titles(k) {
      const x = this.x(this.chart.places[k]);
      return [...this.plot.querySelectorAll("[data-x]:not([data-x2]) > title")].filter((title) =>
        Math.abs(this.x(Number(title.parentNode.dataset.x)) - x) <= 4).slice(0, 3).map((title) => title.textContent);
    }
  }

  class Chart {
    constructor(box) {
      this.box = box;
      this.data = JSON.parse(box.querySelector("script").textContent);
      this.places = this.data.series[0].x;
      for (const series of this.data.series) series.x = series.x || this.places;
      const kept = left.get(box.id);
      this.at = kept ? this.places.indexOf(kept.read) : -1;
      this.state = kept ? this.slide(kept) : { from: null, to: null, log: false };
      this.drawings = [...box.querySelectorAll("svg[data-frame]")].map((svg) => new Drawing(svg, this));
      const title = box.querySelector("svg[role=img]").getAttribute("aria-label");
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", `${title}. Left and right read the values, plus and minus zoom, 0 shows all` +
        `${this.data.log ? ", L changes to a logarithmic scale" : ""}.`);
      this.told = document.createElement("p");
      this.told.className = "told";
      this.told.setAttribute("role", "status");
      this.bar = document.createElement("div");
      this.bar.className = "tools";
      this.button("\u2212", "Show more of the span", () => this.grow(2));
      this.button("+", "Show less of the span, more closely", () => this.grow(0.5));
      this.all = this.button("all", "Show the whole span", () => this.zoom(null, null));
      if (this.data.log) this.log = this.button("log", "Logarithmic scale", () => this.turn());
      const line = document.createElement("div");
      line.className = "under-chart";
      line.append(this.told, this.bar);
      box.append(line);
      box.addEventListener("keydown", (event) => this.press(event));
      box.addEventListener("pointerleave", () => { if (document.activeElement !== box) this.read(-1); });
      if (this.log && !this.canBend()) this.log.disabled = true;
      this.draw();
    }

    button(text, explained, act) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.title = explained;
      button.setAttribute("aria-label", explained);
      button.addEventListener("click", act);
      this.bar.append(button);
      return button;
    }

    // Whether every value has a place on the logarithmic scale: more than all can be lost.
    canBend() {
      const lowest = Math.min(...this.drawings.map((drawing) => drawing.low));
      return Number.isFinite(SCALES[this.data.log](lowest));
    }

    draw() {
      for (const drawing of this.drawings) drawing.draw(this.state);
      this.all.disabled = this.state.from === null;
      if (this.log) this.log.setAttribute("aria-pressed", String(this.state.log));
      this.read(this.at);
    }

    // What was shown up to the newest point goes along with newer ones; of what is drawn no more the whole is shown.
    slide({ from, to, log, end }) {
      const [first, last] = [this.places[0], this.places[this.places.length - 1]];
      const by = from !== null && to >= end ? last - end : 0;
      const [begin, stop] = [Math.max(from + by, first), Math.min(to + by, last)];
      const shown = this.places.filter((place) => place >= begin && place <= stop).length;
      return from === null || shown < FEWEST ? { from: null, to: null, log } : { from: begin, to: stop, log };
    }

    zoom(from, to) {
      const [first, last] = [this.places[0], this.places[this.places.length - 1]];
      const shown = from === null ? 0 : this.places.filter((place) => place >= from && place <= to).length;
      if (from !== null && shown < FEWEST) return;
      const air = PIXEL * (last - first);
      const whole = from === null || (from <= first + air && to >= last - air);
      this.state = { ...this.state, from: whole ? null : Math.max(from, first), to: whole ? null : Math.min(to, last) };
      this.draw();
    }

    grow(times) {
      const [first, last] = [this.places[0], this.places[this.places.length - 1]];
      const [from, to] = this.state.from === null ? [first, last] : [this.state.from, this.state.to];
      const read = this.at < 0 ? (from + to) / 2 : this.places[this.at];
      const middle = read < from || read > to ? (from + to) / 2 : read;
      this.zoom(middle - (middle - from) * times, middle + (to - middle) * times);
    }

    turn() {
      if (!this.log || this.log.disabled) return;
      this.state = { ...this.state, log: !this.state.log };
      this.draw();
    }

    values(k) {
      const place = this.places[k];
      return this.data.series.filter((series) => series.name !== null).map((series) => {
        const at = series.x === this.places ? k : nearest(series.x, place);
        return [series.name, series.y[at]];
      }).filter(([, value]) => value !== null && value !== undefined);
    }

    read(k) {
      this.at = k;
      left.set(this.box.id, { ...this.state, end: this.places[this.places.length - 1], read: this.places[k] });
      for (const drawing of this.drawings) drawing.show(k);
      if (k < 0) { this.told.textContent = ""; return; }
      const { digits, unit, signed, labels } = this.data;
      const told = this.values(k).map(([name, value]) => {
        const text = value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
        return `${name ? `${name} ` : ""}${signed && value >= 0 ? "+" : ""}${text}${unit ? ` ${unit}` : ""}`;
      });
      const titles = this.drawings.length ? this.drawings[0].titles(k) : [];
      this.told.textContent = [`${labels[k]}: ${told.join(", ") || "not defined"}`, ...titles].join(" \u00b7 ");
    }

    press(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { from, to } = this.state;
      const shown = this.places.map((place, k) => k).filter((k) => from === null || (this.places[k] >= from && this.places[k] <= to));
      const [first, last] = [shown[0], shown[shown.length - 1]];
      const step = (by) => this.read(this.at < 0 ? (by > 0 ? first : last) : Math.min(Math.max(this.at + by, first), last));
      const acts = {
        ArrowLeft: () => step(-1), ArrowRight: () => step(1), PageUp: () => step(-10), PageDown: () => step(10),
        Home: () => this.read(first), End: () => this.read(last),
        "+": () => this.grow(0.5), "=": () => this.grow(0.5), "-": () => this.grow(2),
        0: () => this.zoom(null, null), Escape: () => this.zoom(null, null),
        l: () => this.turn(), L: () => this.turn(),
      };
      if (!Object.hasOwn(acts, event.key)) return;
      event.preventDefault();
      acts[event.key]();
    }
  }

  // A drawing without a chart's data: the arrow keys go from one thing that has a title to the next.
  function walk(svg) {
    const things = [...svg.querySelectorAll(":scope * > title")].map((title) => title.parentNode);
    const box = svg.parentNode;
    if (!things.length || box.closest(".chart-box") || box.tabIndex === 0) return;
    const told = document.createElement("p");
    told.className = "told";
    told.setAttribute("role", "status");
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `${svg.getAttribute("aria-label")}. Left and right read the values.`);
    box.append(told);
    let at = -1;
    const read = (k) => {
      for (const thing of things) thing.classList.toggle("chosen", thing === things[k]);
      at = k;
      told.textContent = k < 0 ? "" : things[k].querySelector("title").textContent;
    };
    svg.addEventListener("pointermove", (event) => read(things.indexOf(event.target)));
    box.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      read(Math.min(Math.max(at + by, 0), things.length - 1));
    });
  }

  function enliven(root) {
    for (const box of root.querySelectorAll(".chart-box")) new Chart(box);
    for (const svg of root.querySelectorAll("svg[role=img]")) walk(svg);
  }

  document.addEventListener("part", (event) => enliven(event.target));
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => enliven(document));
  else enliven(document);
})();
