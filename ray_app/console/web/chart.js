// Line chart of the last minutes: one colour per model version, the main figure solid, a second one dashed.

import { h, s, show } from "./dom.js";

const HEIGHT = 170;
const EDGE = { left: 4, right: 4, top: 14, bottom: 20 };
const PLOT = HEIGHT - EDGE.top - EDGE.bottom;
const SPANS_MIN = [3, 6, 9, 15];

/** Minutes that charts span: the shortest span that holds the whole history, so that a short one fills the width. */
export function spanOf(history, now) {
  const known = (now - (history.at[0] ?? now) + 5) / 60;
  return SPANS_MIN.find((span) => span >= known) ?? SPANS_MIN.at(-1);
}

export class LineChart {
  /**
   * `lines` are {label, dashed, of(columns, i, seconds)}: `of` returns a version's figure in step i, null for none;
   * `log` makes the value axis logarithmic; `text` formats a figure.
   */
  constructor({ title, unit, lines, log = false, text }) {
    Object.assign(this, { title, unit, lines, log, text });
    this.svg = s("svg", { role: "img", tabindex: 0, height: HEIGHT });
    this.tip = h("div", { class: "tip", hidden: true });
    this.legend = h("ul", { class: "legend" });
    const styles = lines.map((line) => h("span", { class: `stroke${line.dashed ? " dashed" : ""}` }, line.label));
    this.element = h(
      "figure",
      { class: "card chart" },
      h("figcaption", null, h("h3", null, title), h("span", { class: "muted" }, unit), h("span", { class: "styles" }, styles)),
      h("div", { class: "plot" }, this.svg, this.tip),
      this.legend,
    );
    this.at = null;
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.pick(null));
    this.svg.addEventListener("blur", () => this.pick(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  /** Draw the `history` of `/console/data`; `now` is in s since 1970, `colour(version)` is the index of its colour. */
  update(history, now, colour) {
    this.history = history;
    this.now = now;
    this.colour = colour;
    this.span = spanOf(history, now) * 60;
    this.series = Object.entries(history.versions).flatMap(([version, columns]) =>
      this.lines.map((line) => ({
        version,
        line,
        values: history.at.map((_, i) => line.of(columns, i, history.seconds[i])),
      })),
    );
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth;
    if (!this.history || !width) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const values = this.series.flatMap((series) => series.values).filter((value) => value !== null && (!this.log || value > 0));
    const ticks = this.log ? logTicks(values) : linearTicks(Math.max(0, ...values));
    const y = this.scale(ticks);
    this.x = (at) => EDGE.left + ((at - this.now + this.span) / this.span) * (width - EDGE.left - EDGE.right);
    this.y = y;
    const paths = this.series.map((series) =>
      s("path", { class: `line c${this.colour(series.version)}${series.line.dashed ? " dashed" : ""}`, d: this.path(series.values) }),
    );
    show(this.svg, this.grid(ticks, y, width), paths, s("g", { class: "cross" }));
    this.svg.setAttribute("aria-label", `${this.title}. ${this.summary() || "Nothing yet."}`);
    show(this.legend, this.legendItems());
    this.pick(this.at);
  }

  scale(ticks) {
    const pass = this.log ? Math.log : (value) => value;
    const [low, high] = [pass(ticks[0]), pass(ticks[ticks.length - 1])];
    return (value) => EDGE.top + PLOT * (1 - (pass(Math.max(value, this.log ? ticks[0] : 0)) - low) / (high - low));
  }

  grid(ticks, y, width) {
    const across = ticks.map((tick) => [
      s("line", { class: "rule", x1: EDGE.left, x2: width - EDGE.right, y1: y(tick), y2: y(tick) }),
      s("text", { class: "tick", x: EDGE.left, y: y(tick) - 3 }, String(Number(tick.toPrecision(3)))),
    ]);
    const whole = this.span / 60;
    const down = [3, 2, 1, 0].map((third) => {
      const minutes = (whole * third) / 3;
      const anchor = third === 3 ? "start" : third === 0 ? "end" : "middle";
      const label = minutes ? `−${minutes} min` : "now";
      return s("text", { class: "tick", x: this.x(this.now - minutes * 60), y: HEIGHT - 4, "text-anchor": anchor }, label);
    });
    return [across, down];
  }

  path(values) {
    let pen = "M";
    return values
      .map((value, i) => {
        if (value === null) {
          pen = "M";
          return "";
        }
        const x = this.x(this.history.at[i]);
        if (x < EDGE.left) return "";
        const point = `${pen}${x.toFixed(1)} ${this.y(value).toFixed(1)}`;
        // A point without neighbours shows as a dot: a line of length 0 with round caps. Otherwise it would be invisible.
        const dot = pen === "M" ? "h0" : "";
        pen = "L";
        return point + dot;
      })
      .join("");
  }

  last(series) {
    return series.values[series.values.length - 1] ?? null;
  }

  summary() {
    return this.series
      .filter((series) => this.last(series) !== null)
      .map((series) => `Version ${series.version} ${series.line.label} ${this.text(this.last(series))} ${this.unit}.`)
      .join(" ");
  }

  legendItems() {
    const versions = Object.keys(this.history.versions);
    if (!versions.length) return h("li", { class: "muted" }, "Nothing was counted yet: figures come every 5 s.");
    return versions.map((version) => {
      const own = this.series.filter((series) => series.version === version);
      const figures = own.map((series) => (this.last(series) === null ? "–" : this.text(this.last(series)))).join(" / ");
      return h("li", { "data-key": version }, h("span", { class: `swatch c${this.colour(version)}` }), `v${version} `, h("b", null, figures));
    });
  }

  point(event) {
    const at = this.now - this.span * (1 - event.offsetX / this.svg.clientWidth);
    const distance = this.history?.at.map((time) => Math.abs(time - at)) ?? [];
    this.pick(distance.length ? distance.indexOf(Math.min(...distance)) : null);
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const last = (this.history?.at.length ?? 0) - 1;
    if (!step || last < 0) return;
    event.preventDefault();
    this.pick(Math.min(Math.max((this.at ?? last + 1) + step, 0), last));
  }

  pick(i) {
    const known = i !== null && i < this.history.at.length && this.x(this.history.at[i]) >= EDGE.left;
    this.at = known ? i : null;
    this.tip.hidden = !known;
    const cross = this.svg.querySelector(".cross");
    if (!cross) return;
    if (!known) return show(cross);
    const x = this.x(this.history.at[i]);
    const shown = this.series.filter((series) => series.values[i] !== null);
    const dots = shown.map((series) =>
      s("circle", { class: `dot c${this.colour(series.version)}`, cx: x, cy: this.y(series.values[i]), r: 3 }),
    );
    show(cross, s("line", { class: "rule strong", x1: x, x2: x, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }), dots);
    const rows = shown.map((series) =>
      h("div", null, h("span", { class: `swatch c${this.colour(series.version)}` }), `v${series.version} ${series.line.label} `, h("b", null, this.text(series.values[i]))),
    );
    show(this.tip, h("div", { class: "muted" }, new Date(this.history.at[i] * 1000).toLocaleTimeString("en-GB")), rows);
    const right = x > this.svg.clientWidth / 2;
    this.tip.style.left = right ? "" : `${x + 10}px`;
    this.tip.style.right = right ? `${this.svg.clientWidth - x + 10}px` : "";
  }
}

/** Axis ticks: three to five round numbers from 0 to at least `most`. */
export function linearTicks(most) {
  const rough = (most || 1) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((tick) => tick >= rough);
  return Array.from({ length: Math.max(Math.ceil((most || 1) / step - 1e-9), 1) + 1 }, (_, i) => i * step);
}

/** Ticks of a logarithmic axis that enclose the values: powers of ten, or 1, 2, 5, ... when the values span little. */
export function logTicks(values) {
  const low = Math.min(...values, Infinity);
  if (low === Infinity) return [1, 10];
  const high = Math.max(...values);
  const all = [];
  for (let power = -2; power < 6; power++) for (const m of [1, 2, 5]) all.push(m * 10 ** power);
  const first = Math.max(all.findLastIndex((tick) => tick <= low), 0);
  const last = Math.max(all.findIndex((tick) => tick >= high), first + 1);
  const chosen = all.slice(first, last + 1);
  if (chosen.length <= 5) return chosen;
  // Only whole powers of ten between the ends, and none so near an end that their labels would overlap.
  const [bottom, top] = [chosen[0], chosen[chosen.length - 1]];
  const between = chosen.filter((tick) => Math.abs(Math.log10(tick) % 1) < 1e-9 && tick > 2.5 * bottom && 2.5 * tick < top);
  return [bottom, ...between, top];
}
