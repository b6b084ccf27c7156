// Draws the figures of the page, sorts and filters its tables. Everything it needs is in the page.
"use strict";
(() => {
  const PALETTES = {
    light: ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933"],
    dark: ["#4FA8E0", "#FF8A4C", "#2BC796", "#E29CC4", "#F5B83D", "#8CD0F5", "#E0709F", "#C9C95A"],
  };
  const NAMED = {
    light: { ink: "#1b1f24", paper: "#ffffff", grid: "#dfe3e8", low: "#0072B2", rest: "#f4f5f7", high: "#D55E00" },
    dark: { ink: "#e6edf3", paper: "#12161c", grid: "#2c343e", low: "#4FA8E0", rest: "#1b2129", high: "#FF8A4C" },
  };
  const CONFIG = {
    displaylogo: false, responsive: true, scrollZoom: false, showSendToCloud: false, plotlyServerURL: "",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "sendChartToCloud"],
  };
  const CLEAR = "rgba(0,0,0,0)";
  const LAYOUT = {
    margin: { l: 52, r: 14, t: 32, b: 46 }, hovermode: "closest", showlegend: false,
    paper_bgcolor: CLEAR, plot_bgcolor: CLEAR, font: { size: 12, color: "@ink" },
    hoverlabel: { bgcolor: "@paper", bordercolor: "@ink", font: { color: "@ink" }, align: "left" },
    modebar: { bgcolor: CLEAR, color: "@ink/0.45", activecolor: "@ink" },
  };
  const AXIS = {
    gridcolor: "@grid", linecolor: "@ink", ticks: "outside", tickcolor: "@grid", zeroline: false, automargin: true,
  };
  const PRINTED = 680; // pixels across a sheet
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const plots = [];
  let printing = false;

  // --- colours: '@0/0.3' and the like become colours of the theme, wherever a key says that it is about colour
  function colour(token) {
    const theme = dark.matches && !printing ? "dark" : "light";
    const [name, opacity] = token.slice(1).split("/");
    const found = /^\d/.test(name) ? PALETTES[theme][Number(name)] : NAMED[theme][name];
    if (opacity === undefined) return found;
    const part = (k) => parseInt(found.slice(k, k + 2), 16);
    return `rgba(${part(1)},${part(3)},${part(5)},${opacity})`;
  }
  function themed(value, about = false) {
    if (Array.isArray(value)) return value.some((v) => v && typeof v === "object") || about
      ? value.map((v) => themed(v, about)) : value.slice();
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v, /colou?r/.test(k))]));
    }
    return about && typeof value === "string" && value[0] === "@" ? colour(value) : value;
  }

  // --- figures
  class Plot {
    constructor(element) {
      this.element = element;
      this.items = JSON.parse(element.querySelector("script").textContent).items;
      this.canvas = element.querySelector(".canvas");
      this.shown = 0;
      this.off = new Set(); // names of curves that are hidden
      this.drawn = false;
      this.controls();
    }
    get spec() { return this.items[this.shown]; }
    get name() { return this.element.querySelector("figcaption").textContent; }
    async draw() {
      const spec = this.spec;
      const { xaxis, yaxis, ...rest } = spec.layout;
      const data = themed(spec.data);
      const layout = themed({ ...LAYOUT, ...rest, xaxis: { ...AXIS, ...xaxis }, yaxis: { ...AXIS, ...yaxis } });
      for (const entry of spec.legend) {
        for (const k of entry.traces) data[k].visible = !this.off.has(entry.name);
      }
      const log = this.element.querySelector(".log");
      if (log?.checked) Object.assign(layout.yaxis, logarithmic(spec.data));
      layout.uirevision = `${this.shown}`;
      if (printing) { layout.width = Math.min(PRINTED, this.canvas.clientWidth || PRINTED); layout.autosize = false; }
      else { layout.width = undefined; layout.autosize = true; }
      this.drawn = true;
      this.legend();
      await Plotly.react(this.canvas, data, layout, CONFIG);
      this.canvas.style.minHeight = "";
      this.element.dataset.drawn = "yes";
    }
    legend() {
      const box = this.element.querySelector(".legend");
      if (this.spec.legend.length < 2) { box.replaceChildren(); return; }
      box.replaceChildren(...this.spec.legend.map((entry) => {
        const button = document.createElement("button");
        button.type = "button";
        button.setAttribute("aria-pressed", String(!this.off.has(entry.name)));
        button.title = "Hide or show";
        button.append(sign(entry), entry.name);
        button.addEventListener("click", () => {
          this.off.has(entry.name) ? this.off.delete(entry.name) : this.off.add(entry.name);
          button.setAttribute("aria-pressed", String(!this.off.has(entry.name)));
          Plotly.restyle(this.canvas, { visible: !this.off.has(entry.name) }, entry.traces);
        });
        return button;
      }));
    }
    controls() {
      const select = this.element.querySelector("select");
      const small = [...this.element.querySelectorAll(".small button")];
      const choose = (k) => {
        this.shown = k;
        select.value = String(k);
        small.forEach((one, n) => one.setAttribute("aria-pressed", String(n === k)));
        this.numbers(true);
        this.note();
        this.draw();
      };
      if (select) select.addEventListener("change", () => choose(Number(select.value)));
      small.forEach((one) => one.addEventListener("click", () => choose(Number(one.dataset.k))));
      this.element.querySelector(".log")?.addEventListener("change", () => this.draw());
      this.element.querySelector(".numbers").addEventListener("toggle", () => this.numbers(false));
      this.canvas.addEventListener("keydown", (event) => this.key(event));
      this.note();
    }
    note() {
      const note = this.element.querySelector(".note");
      note.textContent = this.spec.note ? `${this.spec.name}: ${this.spec.note}` : "";
      note.classList.toggle("hidden", !this.spec.note);
    }
    // plus and minus zoom, arrows move, 0 shows all again
    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || !this.drawn) return;
      const step = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, 0.15], ArrowDown: [0, -0.15] }[event.key];
      const zoom = { "+": 0.7, "=": 0.7, "-": 1 / 0.7 }[event.key];
      const axes = ["xaxis", "yaxis"];
      if (event.key === "0") {
        const kept = this.spec.layout;
        Plotly.relayout(this.canvas, Object.fromEntries(axes.flatMap((axis) => kept[axis].range
          ? [[`${axis}.range`, kept[axis].range.slice()]] : [[`${axis}.autorange`, kept[axis].autorange ?? true]])));
      } else if (step || zoom) {
        Plotly.relayout(this.canvas, Object.fromEntries(axes.map((axis, k) => {
          const [from, to] = this.canvas._fullLayout[axis].range, size = to - from;
          const moved = step ? step[k] * size : 0, margin = zoom ? ((zoom - 1) * size) / 2 : 0;
          return [`${axis}.range`, [from + moved - margin, to + moved + margin]];
        })));
      } else return;
      event.preventDefault();
    }
    // the same as a table, made when it is opened
    numbers(changed) {
      const box = this.element.querySelector(".numbers");
      if (!box.open || (!changed && box.querySelector("table"))) return;
      const rows = [];
      for (const trace of this.spec.data) {
        if (trace.type === "heatmap") {
          trace.hovertext.flat().forEach((text) => rows.push([plain(text)]));
        } else if (trace.hovertext) {
          trace.hovertext.forEach((text, k) => text && text !== trace.hovertext[k - 1] && rows.push([plain(trace.name), plain(text)]));
        } else if (trace.name) {
          trace.y.forEach((y, k) => {
            const x = trace.x ? trace.x[k] : Number((trace.x0 + k * trace.dx).toPrecision(6));
            if (y !== null) rows.push([plain(trace.name), String(x), String(y)]);
          });
        }
      }
      const table = document.createElement("table");
      for (const row of rows) {
        const line = table.insertRow();
        row.forEach((cell) => { line.insertCell().textContent = cell; });
      }
      const scroll = document.createElement("div");
      scroll.className = "scroll";
      scroll.tabIndex = 0;
      scroll.append(table);
      box.querySelector(".scroll")?.remove();
      box.append(scroll);
    }
  }
  // an axis for shares of 0 and more: powers of ten, or with 2 and 5 where there are few of them
  function logarithmic(data) {
    const some = data.flatMap((trace) => trace.y).filter((y) => y > 0);
    const long = Math.max(...some) > 50 * Math.min(...some);
    return { type: "log", tickformat: "~g", dtick: long ? 1 : "D2" };
  }
  function plain(text) {
    return new DOMParser().parseFromString(text || "", "text/html").body.textContent;
  }
  // the mark of a curve in the legend
  function sign(entry) {
    const NS = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(NS, "svg");
    svg.setAttribute("viewBox", "0 0 26 12");
    svg.setAttribute("aria-hidden", "true");
    const shapes = {
      solid: "M1 6H25", dash: "M1 6H9M13 6H21", dot: "M2 6H4M8 6H10M14 6H16M20 6H22", fill: "M1 1H25V11H1z",
      circle: "M8 6a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z", square: "M8 1H18V11H8z", diamond: "M13 0L19 6L13 12L7 6z",
      "triangle-up": "M13 1L19 11H7z", "triangle-down": "M13 11L19 1H7z", cross: "M11 1h4v3h3v4h-3v3h-4v-3h-3v-4h3z",
      x: "M8 1L18 11M18 1L8 11", star: "M13 0L15 4H19L16 7L17 12L13 9L9 12L10 7L7 4H11z",
    };
    const path = document.createElementNS(NS, "path");
    path.setAttribute("d", shapes[entry.sign] || shapes.solid);
    const line = ["solid", "dash", "dot", "x"].includes(entry.sign);
    path.setAttribute(line ? "stroke" : "fill", colour(entry.color));
    if (line) path.setAttribute("stroke-width", "2.4");
    svg.append(path);
    return svg;
  }
  function visible(plot) {
    return !plot.element.closest("details:not([open])");
  }
  // one at a time, so that the page can be used meanwhile
  async function drawAll() {
    for (const plot of plots) {
      if (plot.drawn || !visible(plot)) continue;
      await plot.draw();
      await new Promise((go) => setTimeout(go, 0));
    }
    document.documentElement.dataset.ready = "yes";
  }
  function again() {
    for (const plot of plots) if (plot.drawn && visible(plot)) plot.draw();
  }
  async function unpack() {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const text = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
    script.remove();
  }
  async function start() {
    const figures = [...document.querySelectorAll("figure.plot")];
    if (!figures.length) { document.documentElement.dataset.ready = "yes"; return; }
    if (!("DecompressionStream" in window)) {
      for (const figure of figures) figure.querySelector(".note").textContent = "This browser is too old to draw plots.";
      document.documentElement.dataset.ready = "yes";
      return;
    }
    if (!window.Plotly && document.getElementById("plotly")) await unpack();
    if (!window.Plotly) {
      for (const figure of figures) figure.querySelector(".note").textContent = "Plots are missing: the page has lost its plotly file.";
      document.documentElement.dataset.ready = "yes";
      return;
    }
    figures.forEach((figure) => plots.push(new Plot(figure)));
    dark.addEventListener("change", again);
    addEventListener("beforeprint", () => {
      printing = true;
      for (const plot of plots) if (visible(plot)) plot.draw();
    });
    addEventListener("afterprint", () => { printing = false; again(); });
    for (const box of document.querySelectorAll("details")) box.addEventListener("toggle", () => box.open && drawAll());
    await drawAll();
  }

  // --- tables
  function value(cell) {
    const text = cell.textContent.trim();
    const number = Number(text.replaceAll(",", "").replace(/ %$/, ""));
    return text === "" ? null : Number.isNaN(number) ? text : number;
  }
  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1;
    if (typeof b === "number") return 1;
    return a.localeCompare(b, "en", { numeric: true });
  }
  for (const box of document.querySelectorAll("div.table")) {
    const body = box.querySelector("tbody"), heads = [...box.querySelectorAll("thead th")];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
      rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : (down ? -1 : 1) * compare(a, b)));
      body.append(...rows.map(([, row]) => row));
    }));
    box.querySelector(".filter")?.addEventListener("input", (event) => {
      const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        row.classList.toggle("hidden", !words.every((word) => text.includes(word)));
      }
    });
  }

  // --- links into folded parts open them; on a phone the contents are folded at first
  function reveal() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  }
  addEventListener("hashchange", reveal);
  if (innerWidth < 1100) document.querySelector("nav details").open = false;
  reveal();
  start();
})();
