// The playground: renders INRs from their weights, in the page. Data: window.PLAYGROUND, as playground.py makes it.
// Each change is a change of weights, with the formulas of inr_factory: rotate2d, scale, translate, contrast, brightness, mix.
(() => {
  "use strict";
  const data = window.PLAYGROUND;
  const root = document.querySelector(".playground");
  if (!root || !data) return;

  // --- INRs: flat float32 weights, layer by layer as (out, in), then the biases ---

  const decode = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

  function layersOf(spec, flat) {
    const dims = [spec.in_dim, ...Array(spec.num_hidden).fill(spec.hidden_dim), spec.out_dim];
    let at = 0;
    const take = (count) => flat.subarray(at, (at += count));
    return dims.slice(1).map((outputs, layer) => ({ inputs: dims[layer], outputs, W: take(outputs * dims[layer]), b: take(outputs) }));
  }

  /** Values of an INR at points (P * in_dim), row by row; (P * out_dim). */
  function evaluate(spec, layers, points) {
    const count = points.length / spec.in_dim;
    let hidden = points;
    layers.forEach(({ inputs, outputs, W, b }, layer) => {
      const next = new Float64Array(count * outputs);
      const last = layer === layers.length - 1, sine = spec.activation === "sine";
      for (let p = 0; p < count; p++) {
        for (let o = 0; o < outputs; o++) {
          let sum = b[o];
          for (let i = 0, w = o * inputs, h = p * inputs; i < inputs; i++) sum += W[w + i] * hidden[h + i];
          next[p * outputs + o] = last ? sum + spec.output_bias : sine ? Math.sin(spec.omega_0 * sum) : Math.max(0, sum);
        }
      }
      hidden = next;
    });
    return hidden;
  }

  const thousands = (number) => number.toLocaleString("en");
  const UNCHANGED = { rotate: 0, scale: 1, x: 0, y: 0, contrast: 1, brightness: 0 };

  /** New weights: what an INR of an image shows is rotated, scaled and moved by the first layer, its values by the last. */
  function transform(spec, flat, { rotate, scale, x, y, contrast, brightness }) {
    const changed = flat.slice();
    const layers = layersOf(spec, changed);
    const { W, b } = layers[0], last = layers[layers.length - 1];
    const cos = Math.cos((rotate * Math.PI) / 180) / scale, sin = Math.sin((rotate * Math.PI) / 180) / scale;
    for (let o = 0; o < b.length; o++) {
      const [wx, wy] = [W[2 * o], W[2 * o + 1]];
      W[2 * o] = wx * cos + wy * sin;
      W[2 * o + 1] = wy * cos - wx * sin;
      b[o] -= W[2 * o] * x + W[2 * o + 1] * y;
    }
    for (let i = 0; i < last.W.length; i++) last.W[i] *= contrast;
    const shift = contrast * spec.output_bias + (1 - contrast) / 2 + brightness - spec.output_bias;
    for (let o = 0; o < last.b.length; o++) last.b[o] = contrast * last.b[o] + shift;
    return changed;
  }

  const mix = (a, b, t) => a.map((value, i) => value + t * (b[i] - value));

  // --- Pictures: coarse first, then finer, a few milliseconds of each frame; what is out of date is dropped ---

  const jobs = new Set();
  let scheduled = false;
  function work() {
    const end = performance.now() + 12;
    while (jobs.size && performance.now() < end) {
      let next = null;
      for (const job of jobs) if (!next || job.stride > next.stride) next = job;
      next.step();
    }
    scheduled = jobs.size > 0;
    if (scheduled) requestAnimationFrame(work);
  }

  const MOST_WORK = 1e9; // points times weights: what a slow machine does in seconds
  const BLUE = [33, 96, 168], ORANGE = [230, 145, 56], MIDDLE = [247, 246, 242], LINE = [24, 24, 28];
  const blend = (from, to, share) => from.map((value, i) => value + share * (to[i] - value));
  const signed = (amount) => blend(MIDDLE, amount > 0 ? BLUE : ORANGE, Math.min(1, Math.abs(amount)) ** 0.8);

  /** One INR on a canvas. `one` has its spec and size; `view` what of it is seen: centre x, y, zoom, and a plane of a shape. */
  class Picture {
    constructor(canvas, one, view) {
      Object.assign(this, { canvas, view, cost: 0.002, scratch: document.createElement("canvas") });
      canvas.picture = this;
      this.set(one);
      new ResizeObserver(() => this.draw()).observe(canvas);
    }

    set(one) {
      this.one = one;
      this.canvas.style.aspectRatio = one.width && one.height ? `${one.width} / ${one.height}` : "1";
    }

    draw(flat = this.flat) {
      const { canvas, one } = this;
      this.flat = flat;
      if (!flat || !canvas.clientWidth) return;
      const most = Math.sqrt(MOST_WORK / (flat.length * canvas.clientWidth * canvas.clientHeight));
      const sharp = Math.min(devicePixelRatio, 2, most, 640 / canvas.clientWidth);
      const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.max(1, Math.round(side * sharp)));
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      this.layers = layersOf(one.spec, flat);
      let stride = 1;
      while (stride < 16 && (this.cost * width * height) / stride ** 2 > 6) stride *= 2;
      this.begin(stride);
      canvas.setAttribute("aria-busy", "true");
      jobs.add(this);
      if (!scheduled) requestAnimationFrame(work);
      scheduled = true;
    }

    begin(stride) {
      const [columns, rows] = [this.canvas.width, this.canvas.height].map((side) => Math.ceil(side / stride));
      Object.assign(this, { stride, columns, rows, row: 0, values: new Float32Array(columns * rows * this.one.spec.out_dim) });
    }

    /** The next row of values; after the last one the picture appears, and the next finer one begins. */
    step() {
      const { one, view, columns, rows, row } = this;
      const start = performance.now();
      const size = one.spec.in_dim, points = new Float64Array(columns * size);
      const [halfX, halfY] = halves(one, view);
      const down = view.y + (((row + 0.5) / rows) * 2 - 1) * halfY;
      for (let column = 0; column < columns; column++) {
        const right = view.x + (((column + 0.5) / columns) * 2 - 1) * halfX;
        if (size === 2) points.set([right, down], 2 * column);
        else {
          points[3 * column + view.axis] = view.at;
          points[3 * column + ((view.axis + 1) % 3)] = right;
          points[3 * column + ((view.axis + 2) % 3)] = -down;
        }
      }
      this.values.set(evaluate(one.spec, this.layers, points), row * columns * one.spec.out_dim);
      this.cost = 0.8 * this.cost + 0.2 * ((performance.now() - start) / columns);
      if (++this.row < rows) return;
      this.paint();
      if (this.stride > 1) return this.begin(this.stride / 2);
      jobs.delete(this);
      this.canvas.setAttribute("aria-busy", "false");
    }

    paint() {
      const { canvas, columns, rows } = this;
      const image = new ImageData(columns, rows);
      if (this.one.spec.in_dim === 2) this.colorImage(image.data);
      else this.colorSlice(image.data);
      Object.assign(this.scratch, { width: columns, height: rows });
      this.scratch.getContext("2d").putImageData(image, 0, 0);
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(this.scratch, 0, 0, canvas.width, canvas.height);
    }

    colorImage(pixels) {
      const channels = this.one.spec.out_dim;
      for (let p = 0; p < pixels.length / 4; p++) {
        for (let c = 0; c < 3; c++) pixels[4 * p + c] = 255 * this.values[p * channels + (channels === 3 ? c : 0)];
        pixels[4 * p + 3] = 255;
      }
    }

    /** Blue inside, orange outside, and a line where the value crosses the level of the surface. */
    colorSlice(pixels) {
      const { values, columns } = this, { level, inside, reach } = this.one;
      for (let p = 0; p < values.length; p++) {
        const value = values[p] - level;
        const right = p % columns < columns - 1 ? p + 1 : p - 1, below = p + columns < values.length ? p + columns : p - columns;
        const steep = Math.hypot(values[right] - values[p], values[below] - values[p]) || 1e-9;
        const line = Math.max(0, Math.min(1, 1.6 - Math.abs(value) / steep));
        pixels.set([...blend(signed((inside * value) / reach), LINE, line), 255], 4 * p);
      }
    }
  }

  /** Half of what is seen, in coordinates of the INR. The centres of an image's border pixels are at -1 and 1. */
  function halves(one, view) {
    return [one.width, one.height].map((pixels) => (pixels > 1 ? pixels / (pixels - 1) : 1) / view.zoom);
  }

  /** The pixels that an INR was fitted to, on a canvas, in the same view. */
  class Pixels {
    constructor(canvas, view) {
      Object.assign(this, { canvas, view, image: new Image() });
      this.image.onload = () => this.draw();
      new ResizeObserver(() => this.draw()).observe(canvas);
    }

    set(one) {
      this.one = one;
      this.canvas.style.aspectRatio = `${one.width} / ${one.height}`;
      this.image.src = one.source;
    }

    draw() {
      const { canvas, image, view } = this;
      if (!image.naturalWidth || !canvas.clientWidth) return;
      Object.assign(canvas, { width: canvas.clientWidth * 2, height: canvas.clientHeight * 2 });
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      const [halfX, halfY] = halves(this.one, view), [width, height] = [canvas.width * view.zoom, canvas.height * view.zoom];
      const x = canvas.width / 2 - width / 2 - (view.x / halfX) * (canvas.width / 2);
      const y = canvas.height / 2 - height / 2 - (view.y / halfY) * (canvas.height / 2);
      context.drawImage(image, x, y, width, height);
    }
  }

  // --- Controls ---

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  /** A labelled slider; `show` writes its value, `change` gets it. */
  function slider(label, [low, high, step, value], show, change) {
    const input = make("input", { type: "range", min: low, max: high, step, "aria-label": label });
    const shown = make("span", { class: "pg-value" });
    const say = () => {
      shown.textContent = show(Number(input.value));
      input.setAttribute("aria-valuetext", shown.textContent);
    };
    input.addEventListener("input", () => { say(); change(Number(input.value)); });
    input.put = (next) => { input.value = next; say(); };
    input.put(value);
    return { element: make("label", { class: "pg-slider" }, make("span", {}, label), input, shown), input };
  }

  /** Buttons of which one is pressed; `faces` are what they show. */
  function choice(label, faces, choose, pressed = 0) {
    const buttons = faces.map((face, number) =>
      make("button", { type: "button", "aria-pressed": number === pressed, onclick: () => {
        buttons.forEach((button, other) => button.setAttribute("aria-pressed", other === number));
        choose(number);
      } }, ...[face].flat()));
    return make("div", { class: "pg-choice", role: "group", "aria-label": label }, ...buttons);
  }

  function thumbnails(label, inrs, choose) {
    const faces = inrs.map((one) => [make("canvas", { "aria-hidden": "true" }), make("span", {}, one.name)]);
    const element = choice(label, faces, choose);
    element.classList.add("pg-thumbnails");
    inrs.forEach((one, number) => new Picture(faces[number][0], one, { x: 0, y: 0, zoom: 1, axis: 2, at: 0 }).draw(one.flat));
    return element;
  }

  const KEYS = "drag or arrow keys move, + and − zoom, 0 resets; a wheel zooms after a click, two fingers pinch";

  /** Canvases that share a view: drag, pinch, wheel and keys move and zoom all of them; `change` is called after each. */
  function stage(view, canvases, change) {
    const status = make("span", { class: "pg-status", role: "status" });
    const move = (x, y) => { Object.assign(view, { x: clamp(x), y: clamp(y) }); update(); };
    const clamp = (value) => Math.max(-1.5, Math.min(1.5, value));
    const halfOf = (canvas) => halves(canvas.picture ? canvas.picture.one : canvases[canvases.length - 1].picture.one, view);
    function zoom(factor, canvas = canvases[0], px = 0, py = 0) {
      const before = halfOf(canvas);
      view.zoom = Math.max(0.5, Math.min(64, view.zoom * factor));
      const after = halfOf(canvas);
      move(view.x + px * (before[0] - after[0]), view.y + py * (before[1] - after[1]));
    }
    const reset = () => { view.zoom = 1; move(0, 0); };
    function update() {
      for (const canvas of canvases) canvas.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
      status.textContent = `${view.zoom.toFixed(1)}×`;
      change();
    }
    for (const canvas of canvases) {
      const pointers = new Map();
      const place = (event) => {
        const box = canvas.getBoundingClientRect();
        return [((event.clientX - box.left) / box.width) * 2 - 1, ((event.clientY - box.top) / box.height) * 2 - 1];
      };
      const spread = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
      canvas.tabIndex = 0;
      canvas.addEventListener("pointerdown", (event) => {
        pointers.set(event.pointerId, place(event));
        canvas.setPointerCapture(event.pointerId);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (!pointers.has(event.pointerId)) return;
        const before = pointers.get(event.pointerId), after = place(event), [halfX, halfY] = halfOf(canvas);
        const wide = pointers.size === 2 ? spread() : 0;
        pointers.set(event.pointerId, after);
        move(view.x - ((after[0] - before[0]) * halfX) / pointers.size, view.y - ((after[1] - before[1]) * halfY) / pointers.size);
        if (wide) zoom(spread() / wide, canvas, after[0], after[1]);
      });
      for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
      canvas.addEventListener("wheel", (event) => {
        if (document.activeElement !== canvas && !event.ctrlKey) return;
        event.preventDefault();
        zoom(Math.exp(-event.deltaY / 300), canvas, ...place(event));
      }, { passive: false });
      canvas.addEventListener("keydown", (event) => {
        const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        const factor = { "+": 1.25, "=": 1.25, "-": 0.8 }[event.key];
        if (event.ctrlKey || event.metaKey || !(by || factor || event.key === "0")) return;
        event.preventDefault();
        if (by) move(view.x + by[0] * 0.15 * halfOf(canvas)[0], view.y + by[1] * 0.15 * halfOf(canvas)[1]);
        else if (factor) zoom(factor, canvas);
        else reset();
      });
    }
    const button = (text, label, act) => make("button", { type: "button", "aria-label": label, onclick: act }, text);
    update();
    return make("div", { class: "pg-zoom" }, button("−", "Zoom out", () => zoom(0.8)), status, button("+", "Zoom in", () => zoom(1.25)),
      button("Reset view", "Reset view", reset));
  }

  const figure = (canvas, ...caption) => make("figure", {}, canvas, make("figcaption", {}, ...caption));
  const strong = (text) => make("strong", {}, text);
  const card = (title, text, ...children) => make("div", { class: "pg-card" }, make("h3", {}, title), make("p", {}, text), ...children);

  // --- Cards ---

  /** The weights of one layer as colours: a column for each hidden neuron, rows for its weights and its bias. */
  function drawWeights(canvas, layer, before, across) {
    const { W, b, inputs, outputs } = layer, [columns, rows] = across ? [inputs + 1, outputs] : [outputs, inputs + 1];
    const most = Math.max(...before.W.map(Math.abs), ...before.b.map(Math.abs)) || 1;
    const image = new ImageData(columns, rows);
    for (let o = 0; o < outputs; o++) {
      for (let i = 0; i <= inputs; i++) {
        const value = i < inputs ? W[o * inputs + i] : b[o];
        image.data.set([...signed(value / most), 255], 4 * (across ? o * columns + i : i * columns + o));
      }
    }
    Object.assign(canvas, { width: columns, height: rows });
    canvas.style.aspectRatio = `${columns} / ${rows}`;
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  function imageCard(inrs) {
    const view = { x: 0, y: 0, zoom: 1 };
    const label = (what) => ({ role: "img", "aria-label": `${what}; ${KEYS}` });
    const pixels = new Pixels(make("canvas", label("Source pixels")), view);
    const picture = new Picture(make("canvas", label("The INR, rendered from its weights")), inrs[0], view);
    const first = make("canvas", { role: "img", "aria-label": "First layer, weights and biases" });
    const last = make("canvas", { role: "img", "aria-label": "Last layer, weights and biases" });
    const counts = make("p", { class: "pg-small", role: "status" });
    const sizes = make("span"), source = figure(pixels.canvas, strong("Source"), " ", sizes);
    let one = inrs[0], settings = { ...UNCHANGED };
    function draw() {
      const flat = transform(one.spec, one.flat, settings);
      picture.draw(flat);
      const [now, before] = [layersOf(one.spec, flat), layersOf(one.spec, one.flat)];
      drawWeights(first, now[0], before[0], false);
      drawWeights(last, now[now.length - 1], before[now.length - 1], true);
      const changed = flat.reduce((count, value, i) => count + (value !== one.flat[i]), 0);
      counts.textContent = changed ? `${thousands(changed)} of ${thousands(flat.length)} numbers changed; all layers in between are as they were fitted.`
        : `All ${thousands(flat.length)} numbers are as they were fitted.`;
    }
    function show(number) {
      one = inrs[number];
      source.hidden = !one.source;
      if (one.source) pixels.set(one);
      sizes.textContent = `${one.width} × ${one.height} pixels`;
      picture.set(one);
      draw();
    }
    const signs = (digits, unit = "") => (value) => `${value > 0 ? "+" : ""}${value.toFixed(digits)}${unit}`;
    const sliders = [
      ["rotate", "Rotate", [-180, 180, 1], (value) => `${value}°`], ["scale", "Scale", [0.5, 2, 0.01], (value) => `${value.toFixed(2)}×`],
      ["x", "Move right", [-1, 1, 0.01], signs(2)], ["y", "Move down", [-1, 1, 0.01], signs(2)],
      ["brightness", "Brightness", [-0.5, 0.5, 0.01], signs(2)], ["contrast", "Contrast", [0, 2, 0.01], (value) => `${value.toFixed(2)}×`],
    ].map(([name, text, range, write]) => ({ name, ...slider(text, [...range, UNCHANGED[name]], write, (value) => { settings[name] = value; draw(); }) }));
    const reset = make("button", { type: "button", onclick: () => {
      settings = { ...UNCHANGED };
      for (const { name, input } of sliders) input.put(settings[name]);
      draw();
    } }, "Weights as fitted");
    const zoom = stage(view, [pixels.canvas, picture.canvas], () => { pixels.draw(); picture.draw(); });
    show(0);
    return card("Zoom in, and change the weights", "An INR is a function of x and y, so it has no pixels: zoom into both. The sliders change weights of the first and the last layer, never the picture.",
      thumbnails("INR", inrs, show),
      make("div", { class: "pg-columns" },
        make("div", {}, make("div", { class: "pg-row" }, source, figure(picture.canvas, strong("INR"), make("span", {}, "at any resolution"))), zoom),
        make("div", {}, ...sliders.map(({ element }) => element), reset,
          make("div", { class: "pg-weights" }, figure(first, "First layer: rows are the weights of x and y, and the biases"), figure(last, "Last layer: weights and bias"), counts))));
  }

  const WAYS = {
    "as fitted": ["As they are", "Neurons in other orders, signs and phases: the midpoint is noise"],
    permutation: ["Aligned", "B's neurons in the order of A's"],
    signed: ["Aligned", "B's neurons in the order and with the signs of A's"],
    phase: ["Aligned with phases", "B's biases moved by half turns of the sine, too"],
  };

  function morphCard(pairs) {
    const view = { x: 0, y: 0, zoom: 1 };
    const pictures = pairs[0].ways.map(({ match }) =>
      new Picture(make("canvas", { role: "img", "aria-label": `Mixture, ${WAYS[match][0].toLowerCase()}; ${KEYS}` }), pairs[0], view));
    const distances = pictures.map(() => make("span"));
    let pair = pairs[0], share = 0.5;
    const draw = () => pictures.forEach((picture, number) => picture.draw(mix(pair.flat, pair.ways[number].flat, share)));
    function show(number) {
      pair = pairs[number];
      pair.ways.forEach(({ distance }, way) => { distances[way].textContent = `Distance ${distance.toFixed(2)}`; pictures[way].set(pair); });
      draw();
    }
    const { element } = slider("A to B", [0, 1, 0.01, share], (value) => `${Math.round(100 * value)} % B`, (value) => { share = value; draw(); });
    const zoom = stage(view, pictures.map((picture) => picture.canvas), draw);
    show(0);
    return card("Morph one INR into another", "The slider mixes the weights of A and B. Alignment changes the weights of B, but not what B shows, so all pictures agree at both ends. The distance is that of the weights, relative to A.",
      choice("Pair", pairs.map(({ title }) => title), show), element,
      make("div", { class: "pg-row" }, ...pictures.map((picture, way) => {
        const [name, text] = WAYS[pairs[0].ways[way].match];
        return figure(picture.canvas, strong(name), make("span", {}, text), distances[way]);
      })), zoom);
  }

  function shapeCard(inrs) {
    const view = { x: 0, y: 0, zoom: 1, axis: 2, at: 0 };
    const picture = new Picture(make("canvas", { role: "img", "aria-label": `A slice through the shape; ${KEYS}` }), inrs[0], view);
    const axes = make("span");
    const draw = () => {
      axes.textContent = ` ${"xyz"[view.axis]} = ${view.at.toFixed(2)}: ${"yzx"[view.axis]} to the right, ${"zxy"[view.axis]} up`;
      picture.draw();
    };
    const plane = slider("Plane", [-1, 1, 0.01, 0], (value) => value.toFixed(2), (value) => { view.at = value; draw(); });
    const show = (number) => { picture.set(inrs[number]); picture.flat = inrs[number].flat; draw(); };
    const zoom = stage(view, [picture.canvas], draw);
    show(0);
    return card("Slice a shape", "The INR of a shape is a function of x, y and z. A plane cuts it: the line is where it has the value of the surface.",
      thumbnails("Shape", inrs, show),
      make("div", { class: "pg-columns" },
        make("div", {}, figure(picture.canvas, strong("Slice"), axes), zoom),
        make("div", {}, choice("Axis", ["along x", "along y", "along z"], (number) => { view.axis = number; draw(); }, view.axis), plane.element,
          make("p", { class: "pg-legend" }, make("span", { class: "pg-inside" }), "inside ", make("span", { class: "pg-line" }), "surface ", make("span", { class: "pg-outside" }), "outside"),
          make("p", { class: "pg-small" }, "The deeper a colour, the further the value is from that of the surface."))));
  }

  for (const one of [...data.inrs, ...data.pairs, ...data.pairs.flatMap((pair) => pair.ways)]) one.flat = decode(one.weights);
  const images = data.inrs.filter((one) => one.spec.in_dim === 2), shapes = data.inrs.filter((one) => one.spec.in_dim === 3);
  if (images.length) root.append(imageCard(images));
  if (data.pairs.length) root.append(morphCard(data.pairs));
  if (shapes.length) root.append(shapeCard(shapes));
  if (data.credit) root.append(make("p", { class: "pg-small" }, data.credit));
})();
