// @ts-check
// WebGL2: two full-screen passes (march, shade) into an off-screen target, then a copy to the canvas.

import { pixelLens, position, viewerRotation } from "./camera.js";
import { t } from "./language.js";
import { beginProgram, createContext, finishProgram } from "./program.js";

const SAMPLERS = ["atlas_density", "atlas_colour", "planes_density", "planes_colour", "blocks", "occupancy"];
const ID_WORDS = 8;
// Rays beside each other that find the depth of a point.
const PROBE = 3;
const BLENDED = ["colour", "features", "coarse_colour", "coarse_features"];

export class Renderer {
  constructor(canvas) {
    this.gl = createContext(canvas);
    this.canvas = canvas;
    this.targets = {};
    // Defines beside those of the scene, for measurements.
    this.extra = {};
    /** Bits of the ids that are hidden and lit. */
    this.objects = { hidden: new Uint32Array(ID_WORDS), lit: new Uint32Array(ID_WORDS) };
    /** Whether what is behind the page is seen where the scene has nothing. */
    this.isSeeThrough = false;
  }

  // Compiles the programs for a scene; call again after a restored context.
  prepare(scene, sources, { background, exposure, occlusionDelay }) {
    const { gl } = this;
    this.scene = scene;
    this.occlusionDelay = occlusionDelay;
    this.background = background;
    this.exposure = exposure;
    // Few devices draw to four targets only: nothing fades there, and nobody can tell whose a pixel is.
    const hasRoom = gl.getParameter(gl.MAX_DRAW_BUFFERS) > BLENDED.length;
    this.unknownColour = hasRoom && scene.fades ? scene.region.colour : null;
    this.hasObjects = hasRoom && scene.objects.length > 0;
    this.samplers = this.unknownColour ? [...SAMPLERS, "known"] : SAMPLERS;
    this.hasFloatTargets = !!gl.getExtension("EXT_color_buffer_float");
    this.blended = scene.hasCoarseSum ? BLENDED : BLENDED.slice(0, 3);
    if (this.unknownColour || this.hasObjects) this.blended = [...this.blended, "unknown"];
    const size = 16 * scene.widths.weightCount;
    if (size > gl.getParameter(gl.MAX_UNIFORM_BLOCK_SIZE)) throw new Error(t("This device cannot draw the scene."));
    this.parallel = gl.getExtension("KHR_parallel_shader_compile");
    this.sources = sources;
    this.marches = new Map();
    this.shades = new Map();
    this.#shade(false);
    this.network = gl.createBuffer();
    gl.bindBuffer(gl.UNIFORM_BUFFER, this.network);
    gl.bufferData(gl.UNIFORM_BUFFER, size, gl.DYNAMIC_DRAW);
    gl.bindVertexArray(gl.createVertexArray());
    gl.disable(gl.BLEND);
    gl.disable(gl.DITHER);
    this.targets = {};
  }

  // `looks`: whether the march asks whose each sample is. Without anything hidden or lit it has no need to.
  #defines(params, looks) {
    const settings = {
      EXPOSURE: this.exposure ? 1 : 0, GROWING_STEPS: this.occlusionDelay < 1 ? 1 : 0, KNOWN_REGION: this.unknownColour ? 1 : 0,
      OBJECTS: looks ? 1 : 0,
    };
    return { ...this.scene.defines(params), ...settings, ...this.extra };
  }

  // Levels of different resolutions need programs of their own.
  #march(params, looks = false) {
    const key = [params.triplane_resolution, params.sparse_grid_resolution, params.data_block_size, looks].join();
    if (!this.marches.has(key)) {
      const begun = beginProgram(this.gl, this.sources, "march.frag", this.#defines(params, looks));
      this.marches.set(key, { begun, samplers: looks ? [...this.samplers, "atlas_ids"] : this.samplers });
    }
    return this.marches.get(key);
  }

  #shade(looks) {
    const { gl } = this;
    const made = this.shades.get(looks);
    if (made) return made;
    const shade = finishProgram(gl, beginProgram(gl, this.sources, "shade.frag", this.#defines(this.scene.params, looks)));
    gl.useProgram(shade.program);
    this.blended.forEach((name, unit) => gl.uniform1i(shade.at(`u_${name}`), unit));
    bindNetwork(gl, shade.program);
    this.shades.set(looks, shade);
    return shade;
  }

  // Begins to compile what draws hidden and lit objects, before anyone has hidden any.
  prepareObjects(level) {
    if (this.hasObjects && level) this.#march(level.params, true);
  }

  // Compiles the march for a level in the background; resolves when it can be rendered without a stall.
  async compiled(params, signal) {
    const { gl, parallel } = this;
    const march = this.#march(params, this.hasObjects && this.#areObjectsMarked);
    if (march.done) return;
    const { program } = march.begun;
    while (parallel && !gl.isContextLost() && !gl.getProgramParameter(program, parallel.COMPLETION_STATUS_KHR)) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      signal?.throwIfAborted();
    }
    this.#finishMarch(march);
  }

  #finishMarch(march) {
    if (march.done) return march.done;
    const { gl } = this;
    march.done = finishProgram(gl, march.begun);
    gl.useProgram(march.done.program);
    march.samplers.forEach((name, unit) => gl.uniform1i(march.done.at(`u_${name}`), unit));
    if (this.extra.FUSED_APPEARANCE) bindNetwork(gl, march.done.program);
    return march.done;
  }

  /**
   * Which ids of objects are hidden and lit, as 256 numbers each; says whether that is another image.
   * @param {Uint8Array} hidden @param {Uint8Array} lit
   */
  setObjects(hidden, lit) {
    const old = this.objects;
    this.objects = { hidden: bits(hidden), lit: bits(lit) };
    return ["hidden", "lit"].some((name) => this.objects[name].some((word, i) => word !== old[name][i]));
  }

  get #areObjectsMarked() {
    return [...this.objects.hidden, ...this.objects.lit].some((word) => word !== 0);
  }

  // Off-screen images of one role ("full" or "preview"), re-created when the size changes.
  target(role, width, height, floats = /** @type {number} */ (this.gl.RGBA16F)) {
    const { gl } = this;
    const old = this.targets[role];
    if (old && old.width === width && old.height === height) return old;
    if (old) this.#free(old);
    const format = this.hasFloatTargets ? floats : gl.RGBA8;
    const image = (internal) => {
      const texture = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.texStorage2D(gl.TEXTURE_2D, 1, internal, width, height);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
      return texture;
    };
    const frame = (textures) => {
      const buffer = gl.createFramebuffer();
      gl.bindFramebuffer(gl.FRAMEBUFFER, buffer);
      textures.forEach((texture, i) => {
        gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + i, gl.TEXTURE_2D, texture, 0);
      });
      gl.drawBuffers(textures.map((_, i) => gl.COLOR_ATTACHMENT0 + i));
      return buffer;
    };
    const blended = this.blended.map(() => image(format));
    const pixel = image(gl.RGBA8);
    const made = { width, height, blended, pixel, blendedFrame: frame(blended), pixelFrame: frame([pixel]) };
    this.targets[role] = made;
    return made;
  }

  // Renders rows [low, high) of the target, counted from below; with `picks` it then knows whose each pixel is.
  draw(target, level, camera, low = 0, high = target.height, picks = false) {
    const { gl, scene } = this;
    const centre = position(camera.matrix);
    const lens = pixelLens(target.width, target.height, camera.fov, camera.lens);
    const rotation = viewerRotation(camera.matrix);
    gl.viewport(0, 0, target.width, target.height);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(0, low, target.width, high - low);

    const isFused = !!this.extra.FUSED_APPEARANCE;
    gl.bindFramebuffer(gl.FRAMEBUFFER, isFused ? target.pixelFrame : target.blendedFrame);
    const looks = this.hasObjects && "atlas_ids" in level.textures && (picks || this.#areObjectsMarked);
    // Drawing to what the shader does not write is an error.
    const isWritten = (/** @type {string} */ name) => name !== "unknown" || looks || this.unknownColour !== null;
    if (!isFused) gl.drawBuffers(this.blended.map((name, i) => (isWritten(name) ? gl.COLOR_ATTACHMENT0 + i : gl.NONE)));
    const marches = this.#march(level.params, looks);
    const march = this.#finishMarch(marches);
    gl.useProgram(march.program);
    marches.samplers.forEach((name, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(name.startsWith("planes") ? gl.TEXTURE_2D_ARRAY : gl.TEXTURE_3D, level.textures[name]);
    });
    const scale = scene.params.submodel_scale;
    const place = scene.placeIn(level.k, centre);
    gl.uniform3fv(march.at("u_atlas_size"), level.atlasSize);
    gl.uniformMatrix3fv(march.at("u_camera_rotation"), false, rotation);
    gl.uniform3fv(march.at("u_camera_position"), place.position);
    gl.uniform4fv(march.at("u_lens"), lens);
    gl.uniform1f(march.at("u_near"), camera.near * scale);
    gl.uniform1f(march.at("u_submodel_scale"), scale);
    gl.uniform1f(march.at("u_occlusion_delay"), this.occlusionDelay);
    if (looks) {
      gl.uniform4uiv(march.at("u_hidden"), this.objects.hidden);
      gl.uniform4uiv(march.at("u_lit"), this.objects.lit);
    }
    gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, this.network);
    gl.bufferSubData(gl.UNIFORM_BUFFER, 0, level.appearance.weightsAt(level.index, place.region));
    if (isFused) this.#setShading(march);
    gl.drawArrays(gl.TRIANGLES, 0, 3);

    if (!isFused) {
      gl.bindFramebuffer(gl.FRAMEBUFFER, target.pixelFrame);
      const shade = this.#shade(looks);
      gl.useProgram(shade.program);
      target.blended.forEach((texture, unit) => {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(gl.TEXTURE_2D, texture);
      });
      gl.uniformMatrix3fv(shade.at("u_camera_rotation"), false, rotation);
      gl.uniform4fv(shade.at("u_lens"), lens);
      this.#setShading(shade);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
    }
    gl.disable(gl.SCISSOR_TEST);
  }

  #setShading(program) {
    const { gl, isSeeThrough } = this;
    const black = [0, 0, 0];
    gl.uniform3fv(program.at("u_background"), isSeeThrough ? black : this.background);
    if (this.unknownColour) gl.uniform3fv(program.at("u_unknown_colour"), isSeeThrough ? black : this.unknownColour);
    gl.uniform1f(program.at("u_see_through"), isSeeThrough ? 1 : 0);
    if (this.exposure) this.gl.uniform1f(program.at("u_log_exposure"), Math.log(this.exposure));
  }

  // Copies a target to the canvas, which keeps its own size; only rows [low, high) where not all are rendered yet.
  present(target, low = 0, high = target.height) {
    const { gl, canvas } = this;
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.pixelFrame);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, null);
    const same = target.width === canvas.width && target.height === canvas.height;
    const [from, to] = [low, high].map((row) => Math.round((row * canvas.height) / target.height));
    gl.blitFramebuffer(0, low, target.width, high, 0, from, canvas.width, to, gl.COLOR_BUFFER_BIT, same ? gl.NEAREST : gl.LINEAR);
  }

  // Copies a target to a rectangle of another framebuffer.
  copy(target, framebuffer, { x, y, width, height }) {
    const { gl } = this;
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.pixelFrame);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, framebuffer);
    gl.blitFramebuffer(0, 0, target.width, target.height, x, y, x + width, y + height, gl.COLOR_BUFFER_BIT, gl.LINEAR);
  }

  // Paints a rectangle of another framebuffer white.
  fill(framebuffer, { x, y, width, height }) {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(x, y, width, height);
    gl.clearColor(1, 1, 1, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.disable(gl.SCISSOR_TEST);
  }

  // The same at (u, v) of a canvas, by rays of its own beside each other: their median.
  probe(level, camera, canvas, u, v) {
    const target = this.#drawAround(PROBE, level, camera, canvas, u, v, false);
    const places = Array.from({ length: PROBE }, (_, i) => (i + 0.5) / PROBE);
    const depths = places.flatMap((y) => places.map((x) => this.depthAt(target, x, y))).filter((depth) => depth !== null);
    return depths.length ? depths.sort((a, b) => a - b)[depths.length >> 1] : null;
  }

  // Id of the object that is seen at (u, v) of a canvas; 0 where there is none.
  objectAt(level, camera, canvas, u, v) {
    if (!this.hasObjects || !("atlas_ids" in level.textures)) return 0;
    const { gl } = this;
    const target = this.#drawAround(1, level, camera, canvas, u, v, true);
    const out = this.hasFloatTargets ? new Float32Array(4) : new Uint8Array(4);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.blendedFrame);
    gl.readBuffer(gl.COLOR_ATTACHMENT0 + this.blended.indexOf("unknown"));
    gl.readPixels(0, 0, 1, 1, gl.RGBA, this.hasFloatTargets ? gl.FLOAT : gl.UNSIGNED_BYTE, out);
    return Math.round(this.hasFloatTargets ? 255 * out[2] : out[2]);
  }

  // A target of `edge` x `edge` rays beside each other, those of the canvas's pixels around (u, v).
  #drawAround(edge, level, camera, { width, height }, u, v, picks) {
    const target = this.target(`around/${edge}`, edge, edge, this.gl.RGBA32F);
    const [ix, iy, cx, cy] = pixelLens(width, height, camera.fov, camera.lens);
    const centre = (middle, at) => (middle - at) / edge + 0.5;
    const lens = { fx: 1 / ix / edge, fy: 1 / iy / edge, cx: centre(cx, u * width), cy: centre(height - cy, v * height) };
    this.draw(target, level, { ...camera, lens }, 0, edge, picks);
    return target;
  }

  // Distance in world units along the ray through a point of the target (fractions from the upper left), or null.
  depthAt(target, u, v) {
    if (!target) return null;
    const { gl } = this;
    const x = Math.min(target.width - 1, Math.floor(u * target.width));
    const y = Math.min(target.height - 1, Math.floor((1 - v) * target.height));
    const out = this.hasFloatTargets ? new Float32Array(4) : new Uint8Array(4);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.blendedFrame);
    gl.readBuffer(gl.COLOR_ATTACHMENT2);
    gl.readPixels(x, y, 1, 1, gl.RGBA, this.hasFloatTargets ? gl.FLOAT : gl.UNSIGNED_BYTE, out);
    const depth = this.hasFloatTargets ? out[3] : out[3] / 255;
    return depth > 0 && depth < 0.999 ? depth / (1 - depth) : null;
  }

  // Waits for the GPU by reading one pixel back; only for benchmarks.
  finish(target) {
    const { gl } = this;
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.pixelFrame);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
  }

  // Means over the target of what the march has written with COUNT = 1.
  counts(target) {
    const { gl } = this;
    const out = new Float32Array(4 * target.width * target.height);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.blendedFrame);
    gl.readBuffer(gl.COLOR_ATTACHMENT0);
    gl.readPixels(0, 0, target.width, target.height, gl.RGBA, gl.FLOAT, out);
    const mean = (channel) => out.reduce((sum, value, i) => sum + (i % 4 === channel ? value : 0), 0) / (out.length / 4);
    return { iterations: mean(0), samples: mean(1), colourSamples: mean(2), fetches: mean(3) };
  }

  #free(target) {
    const { gl } = this;
    for (const texture of [...target.blended, target.pixel]) gl.deleteTexture(texture);
    gl.deleteFramebuffer(target.blendedFrame);
    gl.deleteFramebuffer(target.pixelFrame);
  }
}

function bits(/** @type {Uint8Array} */ mask) {
  const words = new Uint32Array(ID_WORDS);
  mask.forEach((isSet, id) => (words[id >> 5] |= isSet ? 1 << (id & 31) : 0));
  return words;
}

function bindNetwork(gl, program) {
  gl.uniformBlockBinding(program, gl.getUniformBlockIndex(program, "Network"), 0);
}
