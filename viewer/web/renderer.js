// @ts-check
// WebGL2: two full-screen passes (march, shade) into an off-screen target, then a copy to the canvas.

import { Backend, raysOf } from "./backend.js";
import { t } from "./language.js";
import { beginProgram, createContext, finishProgram, mark } from "./program.js";
import { GlTextures } from "./textures.js";

const BLENDED = ["colour", "features", "coarse_colour", "coarse_features"];

/** @typedef {import("./backend.js").Drawing} Drawing */

/** @implements {Drawing} */
export class GlRenderer extends Backend {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    super(canvas);
    this.name = "WebGL2";
    this.gl = createContext(canvas);
    this.textures = new GlTextures(this.gl);
  }

  // Compiles the programs for a scene; call again after a restored context.
  prepare(scene, sources, settings) {
    const { gl } = this;
    // Few devices draw to four targets only: nothing fades there, and nobody can tell whose a pixel is.
    const hasRoom = gl.getParameter(gl.MAX_DRAW_BUFFERS) > BLENDED.length;
    this.take(scene, settings, hasRoom);
    this.hasFloatTargets = !!gl.getExtension("EXT_color_buffer_float");
    this.blended = scene.hasCoarseSum ? BLENDED : BLENDED.slice(0, 3);
    if (this.unknownColours || this.hasObjects) this.blended = [...this.blended, "unknown"];
    const size = 16 * scene.widths.weightCount;
    if (size > gl.getParameter(gl.MAX_UNIFORM_BLOCK_SIZE)) throw new Error(t("This device cannot draw the scene."));
    this.parallel = gl.getExtension("KHR_parallel_shader_compile");
    this.sources = sources;
    this.marches = new Map();
    this.shades = new Map();
    /** @type {import("./program.js").Program | null} */
    this.box = null;
    this.#shade(false);
    this.network = gl.createBuffer();
    gl.bindBuffer(gl.UNIFORM_BUFFER, this.network);
    gl.bufferData(gl.UNIFORM_BUFFER, size, gl.DYNAMIC_DRAW);
    gl.bindVertexArray(gl.createVertexArray());
    gl.disable(gl.BLEND);
    gl.disable(gl.DITHER);
  }

  #march(params, looks = false) {
    const key = this.key(params, looks);
    if (!this.marches.has(key)) {
      const begun = beginProgram(this.gl, this.sources, "march.frag", this.defines(params, looks));
      this.marches.set(key, { begun, samplers: this.samplers(looks) });
    }
    return this.marches.get(key);
  }

  #shade(looks) {
    const { gl } = this;
    const made = this.shades.get(looks);
    if (made) return made;
    const shade = finishProgram(gl, beginProgram(gl, this.sources, "shade.frag", this.defines(this.scene.params, looks)));
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
    const march = this.#march(params, this.hasObjects && this.areObjectsMarked);
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

  // Off-screen images of one role ("full" or "preview"), re-created when the size changes.
  target(role, width, height, isExact = false) {
    const { gl } = this;
    const old = this.targets[role];
    if (old && old.width === width && old.height === height) return old;
    if (old) this.#free(old);
    const format = this.hasFloatTargets ? (isExact ? gl.RGBA32F : gl.RGBA16F) : gl.RGBA8;
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
    const { gl } = this;
    const { lens, rotation, position, near, scale, weights } = this.view(target, level, camera);
    gl.viewport(0, 0, target.width, target.height);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(0, low, target.width, high - low);

    const isFused = !!this.extra.FUSED_APPEARANCE;
    gl.bindFramebuffer(gl.FRAMEBUFFER, isFused ? target.pixelFrame : target.blendedFrame);
    const looks = this.looksAt(level, picks);
    // Drawing to what the shader does not write is an error.
    const isWritten = (/** @type {string} */ name) => name !== "unknown" || looks || this.unknownColours !== null;
    if (!isFused) gl.drawBuffers(this.blended.map((name, i) => (isWritten(name) ? gl.COLOR_ATTACHMENT0 + i : gl.NONE)));
    const marches = this.#march(level.params, looks);
    const march = this.#finishMarch(marches);
    gl.useProgram(march.program);
    marches.samplers.forEach((name, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(level.textures[name].target, level.textures[name].texture);
    });
    gl.uniform3fv(march.at("u_atlas_size"), level.atlasSize);
    gl.uniformMatrix3fv(march.at("u_camera_rotation"), false, rotation);
    gl.uniform3fv(march.at("u_camera_position"), position);
    gl.uniform4fv(march.at("u_lens"), lens);
    gl.uniform1f(march.at("u_near"), near);
    gl.uniform1f(march.at("u_submodel_scale"), scale);
    gl.uniform1f(march.at("u_occlusion_delay"), this.occlusionDelay);
    if (looks) {
      gl.uniform4uiv(march.at("u_hidden"), this.objects.hidden);
      gl.uniform4uiv(march.at("u_lit"), this.objects.lit);
    }
    gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, this.network);
    gl.bufferSubData(gl.UNIFORM_BUFFER, 0, weights);
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
    if (this.unknownColours) {
      gl.uniform3fv(program.at("u_unknown_colours[0]"), this.unknownColours.flatMap((each) => (isSeeThrough ? black : each)));
    }
    gl.uniform1f(program.at("u_see_through"), isSeeThrough ? 1 : 0);
    if (this.exposure) this.gl.uniform1f(program.at("u_log_exposure"), Math.log(this.exposure));
  }

  // Copies a target to the canvas, which keeps its own size; only rows [low, high) where not all are rendered yet.
  present(target, low = 0, high = target.height) {
    const { gl, canvas } = this;
    const rays = raysOf(target, canvas);
    if (rays > 1) return this.#average(target, rays, low / rays, high / rays);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.pixelFrame);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, null);
    const same = target.width === canvas.width && target.height === canvas.height;
    const [from, to] = [low, high].map((row) => Math.round((row * canvas.height) / target.height));
    gl.blitFramebuffer(0, low, target.width, high, 0, from, canvas.width, to, gl.COLOR_BUFFER_BIT, same ? gl.NEAREST : gl.LINEAR);
  }

  // Averages a target of several rays a pixel into rows [low, high) of the canvas.
  #average(target, rays, low, high) {
    const { gl, canvas } = this;
    const box = (this.box ??= finishProgram(gl, beginProgram(gl, this.sources, "box.frag", {})));
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(0, low, canvas.width, high - low);
    gl.useProgram(box.program);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, target.pixel);
    gl.uniform1i(box.at("u_picture"), 0);
    gl.uniform1i(box.at("u_edge"), rays);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.disable(gl.SCISSOR_TEST);
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

  readOwner(target) {
    return 255 * this.#read(target, this.blended.indexOf("unknown"), 0, 0)[2];
  }

  readDepth(target, x, y) {
    return this.#read(target, 2, x, y)[3];
  }

  // A pixel of a target's blended image.
  #read(target, image, x, y) {
    const { gl } = this;
    const out = this.hasFloatTargets ? new Float32Array(4) : new Uint8Array(4);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.blendedFrame);
    gl.readBuffer(gl.COLOR_ATTACHMENT0 + image);
    gl.readPixels(x, y, 1, 1, gl.RGBA, this.hasFloatTargets ? gl.FLOAT : gl.UNSIGNED_BYTE, out);
    return this.hasFloatTargets ? out : Array.from(out, (byte) => byte / 255);
  }

  // The context keeps what it shows.
  keep() {}

  mark() {
    return mark(this.gl);
  }

  // Waits for the GPU by reading one pixel back.
  async finish(target) {
    const { gl } = this;
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.pixelFrame);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
  }

  async counts(target) {
    const { gl } = this;
    const out = new Float32Array(4 * target.width * target.height);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.blendedFrame);
    gl.readBuffer(gl.COLOR_ATTACHMENT0);
    gl.readPixels(0, 0, target.width, target.height, gl.RGBA, gl.FLOAT, out);
    return out;
  }

  #free(target) {
    const { gl } = this;
    for (const texture of [...target.blended, target.pixel]) gl.deleteTexture(texture);
    gl.deleteFramebuffer(target.blendedFrame);
    gl.deleteFramebuffer(target.pixelFrame);
  }
}

function bindNetwork(gl, program) {
  gl.uniformBlockBinding(program, gl.getUniformBlockIndex(program, "Network"), 0);
}
