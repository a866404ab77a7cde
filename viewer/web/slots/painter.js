// @ts-check
// WebGL2: the Slot Mixer once for every pixel into an off-screen target, then that target to the canvas.

import { column, position } from "../camera.js";
import { beginProgram, createContext, finishProgram } from "../program.js";

const TEXTURE_WIDTH = 1024;
const GONE = -1e30;

export class SlotPainter {
  constructor(canvas, scene, sources) {
    this.gl = createContext(canvas);
    this.canvas = canvas;
    this.scene = scene;
    this.sources = sources;
    this.prepare();
  }

  // Compiles and uploads; call again after a restored context.
  prepare() {
    const { gl, scene, sources } = this;
    this.targets = {};
    this.mixer = compile(gl, sources, "slots/mixer.frag", scene.sizes);
    this.screen = compile(gl, sources, "slots/present.frag", scene.sizes);
    this.network = isSoftware(gl)
      ? texture(gl, gl.RGBA32F, gl.FLOAT, widened(scene.network))
      : texture(gl, gl.RGBA16F, gl.HALF_FLOAT, scene.network);
    this.matrices = texture(gl, gl.RGBA32F, gl.FLOAT, scene.matrices);
    const { program, at } = this.mixer;
    gl.useProgram(program);
    gl.uniform1i(at("u_network"), 0);
    gl.uniform1i(at("u_scene"), 1);
    gl.uniform4iv(at("u_steps"), new Int32Array(scene.steps.flat()));
    gl.useProgram(this.screen.program);
    gl.uniform1i(this.screen.at("u_picture"), 0);
    gl.uniform3fv(this.screen.at("u_palette"), scene.slots.flatMap((slot) => slot.colour.map((value) => value / 255)));
    gl.bindVertexArray(gl.createVertexArray());
    gl.disable(gl.BLEND);
    gl.disable(gl.DITHER);
  }

  // Off-screen image of one role ("full" or "preview"), created again when the size changes.
  target(role, width, height) {
    const { gl } = this;
    const old = this.targets[role];
    if (old && old.width === width && old.height === height) return old;
    if (old) {
      gl.deleteTexture(old.image);
      gl.deleteFramebuffer(old.frame);
    }
    // Four layers: one for each pixel of a block of 2 x 2.
    const [columns, rows] = [(width + 1) >> 1, (height + 1) >> 1];
    const image = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, image);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, gl.RGBA8, columns, rows, 4);
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    const frame = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    const places = [0, 1, 2, 3].map((layer) => gl.COLOR_ATTACHMENT0 + layer);
    places.forEach((place, layer) => gl.framebufferTextureLayer(gl.FRAMEBUFFER, place, image, 0, layer));
    gl.drawBuffers(places);
    return (this.targets[role] = { width, height, columns, rows, image, frame });
  }

  // Draws rows [low, high) of 2 x 2 blocks of the target, counted from below; `hidden` holds indices of slots.
  draw(target, { matrix, fov }, hidden, low = 0, high = target.rows) {
    const { gl, scene } = this;
    const { at, program } = this.mixer;
    const visible = scene.slots.filter((_, index) => !hidden.has(index));
    const groups = [...new Set(visible.map((slot) => slot.group))];
    const tangent = Math.tan((fov * Math.PI) / 360) / (target.height / 2);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
    gl.viewport(0, 0, target.columns, target.rows);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(0, low, target.columns, high - low);
    gl.useProgram(program);
    this.#bind(gl.TEXTURE_2D, this.network, this.matrices);
    gl.uniform3fv(at("u_position"), position(matrix));
    gl.uniformMatrix3fv(at("u_rotation"), false, [0, 1, 2].flatMap((i) => column(matrix, i)));
    gl.uniform4f(at("u_lens"), tangent, tangent, target.width / 2, target.height / 2);
    const places = scene.slots.map((slot, index) => (hidden.has(index) ? [GONE, 0] : [0, groups.indexOf(slot.group)]));
    // Slots that an edit removed come last, without an entry.
    while (places.length < scene.sizes.SLOTS) places.push([GONE, 0]);
    gl.uniform2fv(at("u_slots"), places.flat());
    gl.uniform4fv(at("u_motion"), groups.flatMap((group) => scene.motions[group]));
    gl.uniform1i(at("u_group_count"), groups.length);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.disable(gl.SCISSOR_TEST);
  }

  // Puts a target on the canvas, enlarged smoothly; `highlight` is an index or -1.
  present(target, masks, highlight) {
    const { gl, canvas, screen } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.useProgram(screen.program);
    this.#bind(gl.TEXTURE_2D_ARRAY, target.image);
    gl.uniform2f(screen.at("u_picture_size"), target.width, target.height);
    gl.uniform2f(screen.at("u_corner"), 0, 0);
    gl.uniform2f(screen.at("u_size"), canvas.width, canvas.height);
    gl.uniform1f(screen.at("u_masks"), masks);
    gl.uniform1i(screen.at("u_highlight"), highlight);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  // Index of the slot that owns a place of a target, in fractions from its upper left.
  ownerAt(target, u, v) {
    const { gl } = this;
    const [x, y] = [u * target.width, (1 - v) * target.height].map((value, i) => {
      return Math.max(0, Math.min((i ? target.height : target.width) - 1, Math.floor(value)));
    });
    const out = new Uint8Array(4);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.frame);
    gl.readBuffer(gl.COLOR_ATTACHMENT0 + (x & 1) + 2 * (y & 1));
    gl.readPixels(x >> 1, y >> 1, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, out);
    return out[3];
  }

  #bind(kind, ...textures) {
    const { gl } = this;
    textures.forEach((each, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(kind, each);
    });
  }
}

// Whether the processor draws; it fetches whole floats faster than half ones.
function isSoftware(gl) {
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  return /swiftshader|llvmpipe|basic render/i.test(gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
}

// Half floats as floats; none is infinite.
function widened(halves) {
  return Float32Array.from(halves, (half) => {
    const [exponent, fraction] = [(half >> 10) & 31, half & 1023];
    const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
    return half & 0x8000 ? -size : size;
  });
}

function texture(gl, internal, type, numbers) {
  const rows = Math.ceil(numbers.length / 4 / TEXTURE_WIDTH);
  const padded = new numbers.constructor(4 * TEXTURE_WIDTH * rows);
  padded.set(numbers);
  const made = gl.createTexture();
  gl.activeTexture(gl.TEXTURE0);
  gl.bindTexture(gl.TEXTURE_2D, made);
  gl.texStorage2D(gl.TEXTURE_2D, 1, internal, TEXTURE_WIDTH, rows);
  gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, TEXTURE_WIDTH, rows, gl.RGBA, type, padded);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
  return made;
}

function compile(gl, sources, fragment, sizes) {
  // A whole number such as 0.0 loses its point in JSON.
  const floats = new Set(["SLAB_LOW", "SLAB_HIGH"]);
  const defines = Object.entries(sizes).map(([key, value]) => [key, floats.has(key) ? `float(${value})` : `(${value})`]);
  return finishProgram(gl, beginProgram(gl, sources, fragment, Object.fromEntries(defines)));
}
