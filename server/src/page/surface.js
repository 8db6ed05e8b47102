// A canvas that is as sharp as its screen, in the page's colours, drawn only while it is seen.

/**
 * @typedef {object} Pen
 * @property {CanvasRenderingContext2D} context in CSS pixels
 * @property {number} width
 * @property {number} height
 * @property {(name: string) => string} color of a CSS custom property
 */

export class Surface {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(pen: Pen) => void} draw
   */
  constructor(canvas, draw) {
    this.canvas = canvas;
    this.#draw = draw;
    this.#context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
    new ResizeObserver(() => {
      this.#isSized = false;
    }).observe(canvas);
    new IntersectionObserver(([entry]) => {
      this.#isSeen = entry?.isIntersecting ?? true;
    }).observe(canvas);
  }

  get isSeen() {
    return this.#isSeen;
  }

  paint() {
    if (!this.#isSeen) return;
    if (!this.#isSized) this.#size();
    const { width, height } = this;
    if (width === 0 || height === 0) return;
    const context = this.#context;
    context.setTransform(this.#scale, 0, 0, this.#scale, 0, 0);
    context.clearRect(0, 0, width, height);
    this.#draw({ context, width, height, color });
  }

  #size() {
    this.#scale = Math.min(globalThis.devicePixelRatio || 1, SCALE_MAX);
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = Math.round(this.width * this.#scale);
    this.canvas.height = Math.round(this.height * this.#scale);
    this.#isSized = true;
  }

  width = 0;
  height = 0;
  #scale = 1;
  #isSized = false;
  #isSeen = true;
  #context;
  #draw;
}

/** Paints all surfaces, at most once a frame, and no more often than there are data. */
export class Painter {
  /** @param {Surface} surface */
  add(surface) {
    this.#surfaces.push(surface);
    return surface;
  }

  /** Asks for a frame; asking twice is asking once, and a hidden page gets none. */
  request() {
    if (this.#isRequested) return;
    this.#isRequested = true;
    requestAnimationFrame(() => {
      this.#isRequested = false;
      for (const surface of this.#surfaces) surface.paint();
    });
  }

  /** @type {Surface[]} */
  #surfaces = [];
  #isRequested = false;
}

/** @type {Map<string, string>} */
const colors = new Map();

/** @param {string} name */
function color(name) {
  let value = colors.get(name);
  if (value === undefined) {
    value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    colors.set(name, value);
  }
  return value;
}

// Light gives way to dark while the page is open.
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => colors.clear());

export const LABEL_FONT = '11px ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
/** Beyond it the eye sees no difference, and a phone pays for it. */
const SCALE_MAX = 2;
