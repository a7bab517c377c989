// The playground: renders INRs from their weights, in the page. Data: window.PLAYGROUND, as playground.py makes it.
// All changes are changes of weights, by the formulas of inr_factory: rotate2d, scale, translate, contrast, brightness, mix.
(() => {
  "use strict";
  const data = window.PLAYGROUND;
  const root = document.querySelector(".playground");
  if (!root || !data) return;

  // --- INRs: flat float32 weights; each layer has its weights, (out, in) row by row, and then its biases ---

  const decode = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

  function layersOf(spec, flat) {
    const hidden = spec.widths || Array(spec.num_hidden).fill(spec.hidden_dim);
    const dims = [spec.in_dim * ((spec.coordinates === false ? 0 : 1) + 2 * (spec.frequencies || 0)), ...hidden, spec.out_dim];
    let at = 0;
    const take = (count) => flat.subarray(at, (at += count));
    return dims.slice(1).map((outputs, layer) => ({ inputs: dims[layer], outputs, W: take(outputs * dims[layer]), b: take(outputs) }));
  }

  /** What a hidden layer computes of z = W x + b, by activation; w is omega_0. */
  const HIDDEN = {
    sine: (z, w) => Math.sin(w * z), relu: (z) => Math.max(0, z), tanh: (z) => Math.tanh(z),
    gauss: (z, w) => Math.exp(-((w * z) ** 2) / 2), finer: (z, w) => Math.sin(w * (Math.abs(z) + 1) * z),
  };

  /** The positional encoding of points: the coordinates, if the spec has them, and sines and cosines of each frequency. */
  function encode(spec, points) {
    if (!spec.frequencies) return points;
    const size = spec.in_dim, encoded = [];
    for (let p = 0; p < points.length; p += size) {
      const point = points.subarray(p, p + size);
      if (spec.coordinates !== false) encoded.push(...point);
      for (let k = 0; k < spec.frequencies; k++) {
        const angles = point.map((value) => value * (spec.first_frequency ?? Math.PI) * 2 ** k);
        encoded.push(...angles.map(Math.sin), ...angles.map(Math.cos));
      }
    }
    return encoded;
  }

  /** Values (P * out_dim) of an INR at points (P * in_dim). */
  function evaluate(spec, layers, points) {
    const count = points.length / spec.in_dim, activate = HIDDEN[spec.activation];
    let hidden = encode(spec, points);
    layers.forEach(({ inputs, outputs, W, b }, layer) => {
      const next = new Float64Array(count * outputs), last = layer === layers.length - 1;
      for (let p = 0; p < count; p++) {
        for (let o = 0; o < outputs; o++) {
          let sum = b[o];
          for (let i = 0, w = o * inputs, h = p * inputs; i < inputs; i++) sum += W[w + i] * hidden[h + i];
          next[p * outputs + o] = last ? sum + spec.output_bias : activate(sum, spec.omega_0);
        }
      }
      hidden = next;
    });
    return hidden;
  }

  const FITTED = { rotate: 0, scale: 1, x: 0, y: 0, contrast: 1, brightness: 0 };

  /** New weights: the first layer rotates, scales and moves what an INR of an image shows, the last one changes its values.
   * Of one with a positional encoding only the values change. */
  function transform(spec, flat, { rotate, scale, x, y, contrast, brightness }) {
    const changed = flat.slice(), layers = layersOf(spec, changed);
    const { W, b } = layers[0], last = layers[layers.length - 1];
    const cos = Math.cos((rotate * Math.PI) / 180) / scale, sin = Math.sin((rotate * Math.PI) / 180) / scale;
    for (let o = 0; o < b.length && !spec.frequencies; o++) {
      const [wx, wy] = [W[2 * o], W[2 * o + 1]];
      W[2 * o] = wx * cos + wy * sin;
      W[2 * o + 1] = wy * cos - wx * sin;
      b[o] -= W[2 * o] * x + W[2 * o + 1] * y;
    }
    const shift = (contrast - 1) * (spec.output_bias - 0.5) + brightness;
    last.W.forEach((value, i) => { last.W[i] = contrast * value; });
    last.b.forEach((value, o) => { last.b[o] = contrast * value + shift; });
    return changed;
  }

  const mix = (a, b, t) => a.map((value, i) => value + t * (b[i] - value));

  // --- Pictures: coarse first, then finer, for some milliseconds of each frame; work that is out of date is dropped ---

  const jobs = new Set();
  let scheduled = false;
  function work() {
    const end = performance.now() + 12;
    while (jobs.size && performance.now() < end) [...jobs].reduce((a, b) => (b.stride > a.stride ? b : a)).step();
    scheduled = jobs.size > 0;
    if (scheduled) requestAnimationFrame(work);
  }

  const MOST_WORK = 1e9; // points times weights: seconds on a slow machine
  const BLUE = [33, 96, 168], ORANGE = [233, 154, 70], MIDDLE = [247, 246, 242], LINE = [24, 24, 28];
  const blend = (from, to, share) => from.map((value, i) => value + share * (to[i] - value));
  const signed = (amount) => blend(MIDDLE, amount > 0 ? BLUE : ORANGE, Math.min(1, Math.abs(amount)));

  /** Half of the width and height that are seen. The centres of an image's border pixels are at -1 and 1. */
  const halves = (one, view) => [one.width, one.height].map((pixels) => (pixels > 1 ? pixels / (pixels - 1) : 1) / view.zoom);

  /** A canvas that shows `one`, an INR or its source, in a view: the centre x, y, a zoom, and for shapes a plane. */
  class Canvas {
    constructor(view, attributes) {
      this.view = view;
      this.element = make("canvas", attributes);
      this.element.picture = this;
      new ResizeObserver(() => this.draw()).observe(this.element);
    }

    set(one) {
      this.one = one;
      this.element.style.aspectRatio = one.width ? `${one.width} / ${one.height}` : "1";
    }

    resize(sharp) {
      const { clientWidth, clientHeight } = this.element;
      const [width, height] = [clientWidth, clientHeight].map((side) => Math.max(1, Math.round(side * sharp)));
      if (this.element.width !== width || this.element.height !== height) Object.assign(this.element, { width, height });
    }
  }

  class Pixels extends Canvas {
    set(one) {
      super.set(one);
      this.image = make("img", { src: one.source });
      this.image.onload = () => this.draw();
    }

    draw() {
      const { element, view, image } = this;
      if (!image || !image.naturalWidth || !element.clientWidth) return;
      this.resize(2);
      const context = element.getContext("2d"), half = halves(this.one, view);
      const corner = [element.width, element.height].map((side, axis) => (side / 2) * (1 - view.zoom - [view.x, view.y][axis] / half[axis]));
      context.clearRect(0, 0, element.width, element.height);
      context.imageSmoothingEnabled = false;
      context.drawImage(image, ...corner, element.width * view.zoom, element.height * view.zoom);
    }
  }

  class Picture extends Canvas {
    constructor(view, attributes, one, flat) {
      super(view, attributes);
      Object.assign(this, { flat, cost: 0.002, scratch: make("canvas") }); // milliseconds for a point
      this.set(one);
    }

    draw(flat = this.flat) {
      this.flat = flat;
      const { element, one } = this, area = element.clientWidth * element.clientHeight;
      if (!flat || !area) return;
      this.resize(Math.min(devicePixelRatio, 2, 640 / element.clientWidth, Math.sqrt(MOST_WORK / (flat.length * area))));
      this.show(); // a new size empties the canvas
      this.layers = layersOf(one.spec, flat);
      let stride = 1;
      while (stride < 16 && (this.cost * element.width * element.height) / stride ** 2 > 6) stride *= 2;
      this.begin(stride);
      element.setAttribute("aria-busy", "true");
      jobs.add(this);
      if (!scheduled) requestAnimationFrame(work);
      scheduled = true;
    }

    begin(stride) {
      const [columns, rows] = [this.element.width, this.element.height].map((side) => Math.ceil(side / stride));
      Object.assign(this, { stride, columns, rows, row: 0, values: new Float32Array(columns * rows * this.one.spec.out_dim) });
    }

    /** The next row of values; after the last one the picture appears, and the next finer one begins. */
    step() {
      const { one, view, columns, rows, row } = this, start = performance.now();
      const size = one.spec.in_dim, points = new Float64Array(columns * size).fill(view.at), [halfX, halfY] = halves(one, view);
      const [across, down] = size === 2 ? [0, 1] : [(view.axis + 1) % 3, (view.axis + 2) % 3];
      const y = view.y + (((row + 0.5) / rows) * 2 - 1) * halfY;
      for (let column = 0; column < columns; column++) {
        points[size * column + across] = view.x + (((column + 0.5) / columns) * 2 - 1) * halfX;
        points[size * column + down] = size === 2 ? y : -y;
      }
      this.values.set(evaluate(one.spec, this.layers, points), row * columns * one.spec.out_dim);
      this.cost = 0.8 * this.cost + (0.2 * (performance.now() - start)) / columns;
      if (++this.row < rows) return;
      this.paint();
      if (this.stride > 1) return this.begin(this.stride / 2);
      jobs.delete(this);
      this.element.setAttribute("aria-busy", "false");
    }

    paint() {
      const image = new ImageData(this.columns, this.rows);
      if (this.one.spec.in_dim === 2) this.colorImage(image.data);
      else this.colorSlice(image.data);
      Object.assign(this.scratch, { width: this.columns, height: this.rows });
      this.scratch.getContext("2d").putImageData(image, 0, 0);
      this.show();
    }

    show() {
      const context = this.element.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(this.scratch, 0, 0, this.element.width, this.element.height);
    }

    colorImage(pixels) {
      const channels = this.one.spec.out_dim;
      for (let p = 0; p < pixels.length; p++) pixels[p] = 255 * (p % 4 === 3 ? 1 : this.values[(p >> 2) * channels + (p % 4) % channels]);
    }

    /** Blue inside, orange outside, and a line where the value crosses the level of the surface. */
    colorSlice(pixels) {
      const { values, columns } = this, { level, inside, reach } = this.one;
      for (let p = 0; p < values.length; p++) {
        const right = p % columns < columns - 1 ? p + 1 : p - 1, below = p + columns < values.length ? p + columns : p - columns;
        const steep = Math.hypot(values[right] - values[p], values[below] - values[p]) || 1e-9, value = values[p] - level;
        const line = Math.max(0, Math.min(1, 1.6 - Math.abs(value) / steep)) / this.stride;
        pixels.set([...blend(signed((inside * value) / reach), LINE, line), 255], 4 * p);
      }
    }
  }

  // --- Controls ---

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function button(content, attributes, act) {
    const element = make("button", { type: "button", ...attributes }, ...content);
    element.addEventListener("click", act);
    return element;
  }

  /** A labelled slider; `write` gives the text of a value, `change` gets the value, `put` sets it. */
  function slider(label, [low, high, value], write, change) {
    const input = make("input", { type: "range", min: low, max: high, step: high > 10 ? 1 : 0.01, "aria-label": label });
    const shown = make("span", { class: "pg-value" });
    const put = (next) => {
      input.value = next;
      shown.textContent = write(Number(input.value));
      input.setAttribute("aria-valuetext", shown.textContent);
    };
    input.addEventListener("input", () => { put(input.value); change(Number(input.value)); });
    put(value);
    return { element: make("label", { class: "pg-slider" }, make("span", {}, label), input, shown), put };
  }

  /** Buttons of which one is pressed; `faces` are lists of what they show. */
  function choice(label, faces, choose, className = "") {
    const buttons = faces.map((face, number) => button(face, { "aria-pressed": number === 0 }, () => {
      buttons.forEach((each, other) => each.setAttribute("aria-pressed", other === number));
      choose(number);
    }));
    return make("div", { class: `pg-choice ${className}`, role: "group", "aria-label": label }, ...buttons);
  }

  const still = () => ({ x: 0, y: 0, zoom: 1, axis: 0, at: 0 });
  const thumbnail = (one) => new Picture(still(), { "aria-hidden": "true" }, one, one.flat);
  const thumbnails = (label, inrs, choose) =>
    choice(label, inrs.map((one) => [thumbnail(one).element, make("span", {}, one.name)]), choose, "pg-thumbnails");

  const KEYS = "drag or arrow keys move, + and − zoom, 0 resets; the wheel zooms after a click, two fingers pinch";
  const picture = (label) => ({ role: "img", tabindex: 0, "aria-label": `${label}; ${KEYS}` });

  /** Canvases of one view: drag, pinch, wheel and keys move and zoom all of them; returns buttons that do so. */
  function stage(view, canvases) {
    const status = make("span", { class: "pg-status", role: "status" });
    const halfOf = () => halves(canvases[canvases.length - 1].one, view);
    const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
    function move(x, y) {
      Object.assign(view, { x: clamp(x, -1.5, 1.5), y: clamp(y, -1.5, 1.5) });
      status.textContent = `${view.zoom.toFixed(1)}×`;
      for (const canvas of canvases) {
        canvas.element.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
        canvas.draw();
      }
    }
    function zoom(factor, x = 0, y = 0) {
      const before = halfOf();
      view.zoom = clamp(view.zoom * factor, 0.5, 64);
      const after = halfOf();
      move(view.x + x * (before[0] - after[0]), view.y + y * (before[1] - after[1]));
    }
    const reset = () => { view.zoom = 1; move(0, 0); };
    for (const { element } of canvases) {
      const pointers = new Map();
      const place = (event) => {
        const box = element.getBoundingClientRect();
        return [((event.clientX - box.left) / box.width) * 2 - 1, ((event.clientY - box.top) / box.height) * 2 - 1];
      };
      const spread = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
      const on = (name, act, options) => element.addEventListener(name, act, options);
      on("pointerdown", (event) => { pointers.set(event.pointerId, place(event)); element.setPointerCapture(event.pointerId); });
      on("pointermove", (event) => {
        if (!pointers.has(event.pointerId)) return;
        const before = pointers.get(event.pointerId), after = place(event), half = halfOf(), wide = pointers.size === 2 && spread();
        pointers.set(event.pointerId, after);
        move(view.x - ((after[0] - before[0]) * half[0]) / pointers.size, view.y - ((after[1] - before[1]) * half[1]) / pointers.size);
        if (wide) zoom(spread() / wide, ...after);
      });
      for (const end of ["pointerup", "pointercancel"]) on(end, (event) => pointers.delete(event.pointerId));
      on("wheel", (event) => {
        if (document.activeElement !== element && !event.ctrlKey) return;
        event.preventDefault();
        zoom(Math.exp(-event.deltaY / 300), ...place(event));
      }, { passive: false });
      on("keydown", (event) => {
        const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        const factor = { "+": 1.25, "=": 1.25, "-": 0.8 }[event.key];
        if (event.ctrlKey || event.metaKey || !(by || factor || event.key === "0")) return;
        event.preventDefault();
        if (by) move(view.x + 0.15 * by[0] * halfOf()[0], view.y + 0.15 * by[1] * halfOf()[1]);
        else if (factor) zoom(factor);
        else reset();
      });
    }
    move(0, 0);
    return make("div", { class: "pg-zoom" }, button("−", { "aria-label": "Zoom out" }, () => zoom(0.8)), status,
      button("+", { "aria-label": "Zoom in" }, () => zoom(1.25)), button(["Reset view"], {}, reset), make("span", { class: "pg-small" }, "Drag to move. Click, then turn the wheel to zoom."));
  }

  const figure = (canvas, title, ...lines) =>
    make("figure", {}, canvas, make("figcaption", {}, make("strong", {}, title), ...lines.map((line) => make("span", {}, line))));
  const card = (title, text, ...children) => make("div", { class: "pg-card" }, make("h3", {}, title), make("p", {}, text), ...children);
  const columns = (...parts) => make("div", { class: "pg-columns" }, ...parts.map((part) => make("div", {}, ...part)));

  // --- Cards ---

  /** Weights and biases of a layer as colours: a column for each neuron, or for each input where `across`. */
  function drawWeights(canvas, { W, b, inputs, outputs }, before, across) {
    const [width, height] = across ? [inputs + 1, outputs] : [outputs, inputs + 1];
    const most = Math.max(...before.W.map(Math.abs), ...before.b.map(Math.abs)) || 1, image = new ImageData(width, height);
    for (let o = 0; o < outputs; o++) {
      for (let i = 0; i <= inputs; i++) {
        const value = i < inputs ? W[o * inputs + i] : b[o];
        image.data.set([...signed(value / most), 255], 4 * (across ? o * width + i : i * width + o));
      }
    }
    Object.assign(canvas, { width, height });
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  function imageCard(inrs) {
    const view = still(), number = (value) => value.toLocaleString("en"), encoded = inrs.some((one) => one.spec.frequencies);
    const pixels = new Pixels(view, picture("Source")), inr = new Picture(view, picture("INR"), inrs[0]);
    const first = make("canvas", { role: "img", "aria-label": "Weights of the first layer" });
    const last = make("canvas", { role: "img", "aria-label": "Weights of the last layer" });
    const size = make("span"), source = figure(pixels.element, "Source", size), counts = make("p", { class: "pg-small", role: "status" });
    let one = inrs[0], settings = { ...FITTED };
    function draw() {
      const flat = transform(one.spec, one.flat, settings), [now, before] = [flat, one.flat].map((each) => layersOf(one.spec, each));
      inr.draw(flat);
      drawWeights(first, now[0], before[0], false);
      drawWeights(last, now[now.length - 1], before[now.length - 1], true);
      const changed = flat.reduce((count, value, i) => count + (value !== one.flat[i]), 0);
      counts.textContent = changed ? `${number(changed)} of ${number(flat.length)} numbers changed; the layers in between are as fitted.`
        : `All ${number(flat.length)} numbers are as fitted.`;
    }
    function show(chosen) {
      one = inrs[chosen];
      source.hidden = !one.source;
      if (one.source) pixels.set(one);
      size.textContent = `${one.width} × ${one.height} pixels`;
      inr.set(one);
      draw();
    }
    const times = (value) => `${value.toFixed(2)}×`, plus = (value) => `${value > 0 ? "+" : ""}${value.toFixed(2)}`;
    const sliders = [
      ["rotate", "Rotate", [-180, 180], (value) => `${value}°`], ["scale", "Scale", [0.5, 2], times], ["x", "Move right", [-1, 1], plus],
      ["y", "Move down", [-1, 1], plus], ["brightness", "Brightness", [-0.5, 0.5], plus], ["contrast", "Contrast", [0, 2], times],
    ].slice(encoded ? 4 : 0).map(([name, label, range, write]) => [name, slider(label, [...range, FITTED[name]], write, (value) => { settings[name] = value; draw(); })]);
    const reset = () => {
      settings = { ...FITTED };
      for (const [name, { put }] of sliders) put(settings[name]);
      draw();
    };
    show(0);
    return card("Zoom in, and change the weights",
      "An INR is a function of x and y. It has no pixels: zoom in to see. " +
      `The sliders change weights of its ${encoded ? "" : "first and "}last layer, never the picture.`,
      thumbnails("INR", inrs, show),
      columns([make("div", { class: "pg-row" }, source, figure(inr.element, "INR", "at any resolution")), stage(view, [pixels, inr])],
        [...sliders.map(([, { element }]) => element), button(["Weights as fitted"], {}, reset),
          make("div", { class: "pg-weights" }, figure(first, "First layer", encoded ? "weights of encoded x and y, and biases" : "weights of x, of y, and biases"), figure(last, "Last layer", "weights and bias"), counts)]));
  }

  const WAYS = {
    "as fitted": ["As they are", "Neurons in other orders, signs and phases: the midpoint is noise"],
    permutation: ["Aligned", "B's neurons in the order of A's"],
    signed: ["Aligned", "B's neurons in the order and with the signs of A's"],
    phase: ["Aligned with phases", "B's biases moved by half turns of the sine, too"],
  };

  function morphCard(pairs) {
    const view = still(), names = pairs[0].ways.map(({ match }) => WAYS[match]);
    const pictures = names.map(([name]) => new Picture(view, picture(`Mixture, ${name.toLowerCase()}`), pairs[0]));
    const distances = names.map(() => make("span")), ends = [thumbnail(pairs[0]), thumbnail(pairs[0])];
    let pair, share = 0.5;
    const draw = () => pictures.forEach((each, way) => each.draw(mix(pair.flat, pair.ways[way].flat, share)));
    function show(chosen) {
      pair = pairs[chosen];
      for (const each of [...pictures, ...ends]) each.set(pair);
      distances.forEach((each, way) => { each.textContent = `Distance ${pair.ways[way].distance.toFixed(2)}`; });
      ends.forEach((each, end) => each.draw([pair.flat, pair.ways[0].flat][end]));
      draw();
    }
    show(0);
    const { element } = slider("A to B", [0, 1, share], (value) => `${Math.round(100 * value)} % B`, (value) => { share = value; draw(); });
    return card("Morph one INR into another",
      "The slider mixes the weights of A and B. Alignment changes the weights of B, but not what B shows: all pictures agree at both ends. Distances are those of the weights, relative to A.",
      choice("Pair", pairs.map(({ title }) => [title]), show),
      make("div", { class: "pg-ends" }, figure(ends[0].element, "A"), element, figure(ends[1].element, "B")),
      make("div", { class: "pg-row" }, ...pictures.map((each, way) => figure(each.element, ...names[way], distances[way]))), stage(view, pictures));
  }

  function shapeCard(inrs) {
    const view = still(), slice = new Picture(view, picture("A slice through the shape"), inrs[0], inrs[0].flat), axes = make("span");
    function draw() {
      axes.textContent = `${"xyz"[view.axis]} = ${view.at.toFixed(2)}, ${"yzx"[view.axis]} to the right, ${"zxy"[view.axis]} up`;
      slice.draw();
    }
    const plane = slider("Plane", [-1, 1, 0], (value) => value.toFixed(2), (value) => { view.at = value; draw(); });
    const key = (name) => make("span", { class: `pg-key pg-${name}` }, name);
    draw();
    return card("Slice a shape", "The INR of a shape is a function of x, y and z. A plane cuts it. The line is the surface, where the value is at its level.",
      thumbnails("Shape", inrs, (chosen) => { slice.set(inrs[chosen]); slice.flat = inrs[chosen].flat; draw(); }),
      columns([figure(slice.element, "Slice", axes), stage(view, [slice])],
        [choice("Axis", [["along x"], ["along y"], ["along z"]], (axis) => { view.axis = axis; draw(); }), plane.element,
          make("p", { class: "pg-legend" }, key("inside"), key("surface"), key("outside")),
          make("p", { class: "pg-small" }, "The deeper a colour, the further the value is from the level.")]));
  }

  for (const one of [...data.inrs, ...data.pairs, ...data.pairs.flatMap((pair) => pair.ways)]) one.flat = decode(one.weights);
  const images = data.inrs.filter((one) => one.spec.in_dim === 2), shapes = data.inrs.filter((one) => one.spec.in_dim === 3);
  if (images.length) root.append(imageCard(images));
  if (data.pairs.length) root.append(morphCard(data.pairs));
  if (shapes.length) root.append(shapeCard(shapes));
  if (data.credit) root.append(make("p", { class: "pg-small" }, data.credit));
})();
