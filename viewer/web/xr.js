// @ts-check
// The scene in a headset (VR) or among the things of one's own room (AR), where the browser and a device can do that.
//
// Both eyes are rendered by the shaders of the page: around the centre of an eye with every second pixel in both
// directions. Trigger, or thumb stick forward: aim, and go there where it is let go. Thumb stick aside: turn.

import { add, column, position, scale } from "./camera.js";
import { t } from "./language.js";
import { GlRenderer } from "./renderer.js";
import { $ } from "./ui.js";
import { Walker, bodyOfEye } from "./walk.js";
import { CENTRE, Resolution, Space, centreOf } from "./xrspace.js";

const KINDS = ["vr", "ar"];
const TURN = Math.PI / 6;
const PUSHED = 0.7;
const RELEASED = 0.3;
const FRAME_MS = 1000 / 72;
const EYE_METRES = 1.6;
// How far away a scene of unknown size is that one looks at from around, in metres.
const ARM_METRES = 1.2;
// A narrow view along a controller's ray finds where it ends.
const AIM = { fov: 2, size: { width: 8, height: 8 } };
const AIM_MS = 100;
const MARK_PIXELS = 10;

export class Immersion {
  /** @param {import("./viewer.js").Viewer} viewer @param {import("./ui.js").Page} page */
  constructor(viewer, page) {
    this.viewer = viewer;
    this.page = page;
    /** @type {any} */
    this.session = null;
    for (const kind of KINDS) {
      page.press(`button-${kind}`, () => this.toggle(kind));
      this.#offer(kind);
    }
  }

  // A headset is drawn to by WebGL2; null where the page draws otherwise.
  get renderer() {
    const { renderer } = this.viewer;
    return renderer instanceof GlRenderer ? renderer : null;
  }

  async #offer(/** @type {string} */ kind) {
    const { xr } = this.renderer ? /** @type {any} */ (navigator) : {};
    $(`button-${kind}`).hidden = !(await xr?.isSessionSupported(`immersive-${kind}`).catch(() => false));
  }

  /** Begins a session, or ends the one that runs. @param {string} kind `vr` or `ar` */
  async toggle(kind) {
    if (this.session) return this.session.end();
    const { xr } = /** @type {any} */ (navigator);
    try {
      const session = await xr.requestSession(`immersive-${kind}`, { optionalFeatures: ["local-floor"] });
      try {
        await this.#begin(session, kind);
      } catch (error) {
        session.end();
        throw error;
      }
    } catch (error) {
      this.page.notify(`${t("The headset could not be started.")} (${error.message})`);
    }
  }

  async #begin(session, /** @type {string} */ kind) {
    const { viewer } = this;
    /** @type {any} */
    const gl = this.renderer.gl;
    await gl.makeXRCompatible();
    const Layer = /** @type {any} */ (globalThis).XRWebGLLayer;
    this.layer = new Layer(session, gl, { antialias: false, depth: false, stencil: false });
    session.updateRenderState({ baseLayer: this.layer });
    this.room = await session.requestReferenceSpace("local-floor").catch(() => session.requestReferenceSpace("local"));
    this.space = new Space(this.#unitsPerMetre());
    this.resolution = new Resolution();
    this.isPlaced = false;
    this.last = NaN;
    /** @type {Map<any, { isAiming: boolean, isTurning: boolean }>} */
    this.hands = new Map();
    /** @type {{ source: any, point: number[] | null, at: number } | null} */
    this.aim = null;
    this.session = session;
    viewer.isAway = true;
    viewer.renderer.isSeeThrough = kind === "ar";
    session.addEventListener("end", () => this.#end(kind));
    session.addEventListener("selectstart", ({ inputSource }) => this.#aimWith(inputSource));
    session.addEventListener("selectend", () => this.#go());
    $(`button-${kind}`).setAttribute("aria-pressed", "true");
    session.requestAnimationFrame((now, frame) => this.#frame(now, frame));
  }

  #end(/** @type {string} */ kind) {
    const { viewer } = this;
    this.session = this.aim = null;
    viewer.isAway = false;
    viewer.renderer.isSeeThrough = false;
    $(`button-${kind}`).setAttribute("aria-pressed", "false");
    viewer.redraw();
  }

  // A known scale; else that of the photographer's eyes above the floor; else things are an arm's length away.
  #unitsPerMetre() {
    const { scene, tools, controls } = this.viewer;
    const metres = tools?.measure.units.metres;
    if (metres) return 1 / metres;
    if (scene.region?.eye) return bodyOfEye(scene.region.eye).metre;
    return Math.max(1e-3, controls.distance) / ARM_METRES;
  }

  #frame(/** @type {number} */ now, frame) {
    const { session, viewer, room } = this;
    if (!session) return;
    session.requestAnimationFrame((later, next) => this.#frame(later, next));
    const pose = frame.getViewerPose(room);
    if (!pose || viewer.loop.isLost) return;
    if (!this.isPlaced) this.space.align(pose.transform.matrix, viewer.controls.matrix);
    this.isPlaced = true;
    this.resolution.count(now - this.last, 1000 / session.frameRate || FRAME_MS);
    this.last = now;
    const { x, y, z } = pose.transform.position;
    this.head = [x, y, z];
    this.#readHands(now, frame);
    const level = viewer.submodels.choose(this.space.point(this.head), false);
    if (level) pose.views.forEach((view, eye) => this.#drawEye(view, eye, level));
  }

  #drawEye(view, /** @type {number} */ eye, level) {
    const { layer, resolution, viewer, renderer } = this;
    const port = layer.getViewport(view);
    const near = viewer.visitor.nearPlane(viewer.near);
    const camera = { ...this.space.camera(view), near };
    // The middle is drawn with as many pixels as the whole.
    const part = CENTRE * resolution.share;
    const [width, height] = [port.width, port.height].map((pixels) => Math.max(8, Math.round(pixels * part)));
    const draw = (/** @type {string} */ role, /** @type {any} */ lens, /** @type {any} */ place) => {
      const target = renderer.target(`eye/${eye}/${role}`, width, height);
      renderer.draw(target, level, lens);
      renderer.copy(target, layer.framebuffer, place);
    };
    draw("around", camera, port);
    const { camera: inner, left, top } = centreOf(camera);
    draw("centre", { ...inner, near }, {
      x: port.x + Math.round(left * port.width), y: port.y + Math.round((1 - CENTRE - top) * port.height),
      width: Math.round(CENTRE * port.width), height: Math.round(CENTRE * port.height),
    });
    if (this.aim?.point) this.#mark(camera, port, this.aim.point);
  }

  // A square where the visitor would go.
  #mark({ matrix: m, lens }, port, /** @type {number[]} */ point) {
    const way = point.map((value, i) => value - m[4 * i + 3]);
    const [x, y, back] = [0, 1, 2].map((i) => way.reduce((sum, value, row) => sum + value * m[4 * row + i], 0));
    if (back >= 0) return;
    const u = lens.cx - (x / back) * lens.fx;
    const v = lens.cy + (y / back) * lens.fy;
    if (Math.min(u, v) < 0 || Math.max(u, v) > 1) return;
    const half = MARK_PIXELS / 2;
    const [left, low] = [port.x + u * port.width - half, port.y + (1 - v) * port.height - half].map(Math.round);
    this.renderer.fill(this.layer.framebuffer, { x: left, y: low, width: MARK_PIXELS, height: MARK_PIXELS });
  }

  // Controllers ---------------------------------------------------------------------------------------------------

  #readHands(/** @type {number} */ now, frame) {
    for (const source of this.session.inputSources) {
      const axes = source.gamepad?.axes ?? [];
      const [aside, back] = axes.length > 2 ? [axes[2], axes[3]] : [axes[0] ?? 0, axes[1] ?? 0];
      const hand = this.hands.get(source) ?? { isAiming: false, isTurning: false };
      this.hands.set(source, hand);
      if (Math.abs(aside) > PUSHED && !hand.isTurning) this.space.turn(-Math.sign(aside) * TURN, this.head);
      hand.isTurning = Math.abs(aside) > (hand.isTurning ? RELEASED : PUSHED);
      if (back < -PUSHED && !hand.isAiming) this.#aimWith(source);
      if (hand.isAiming && back > -RELEASED) this.#go();
      hand.isAiming = back < -(hand.isAiming ? RELEASED : PUSHED);
    }
    const { aim } = this;
    if (!aim || now - aim.at < AIM_MS) return;
    const pose = frame.getPose(aim.source.targetRaySpace, this.room);
    if (!pose) return;
    aim.at = now;
    aim.point = this.#endOf(pose.transform.matrix);
  }

  #aimWith(source) {
    this.aim = { source, point: null, at: -Infinity };
  }

  // Where a controller's ray meets the scene; null where it meets nothing.
  #endOf(/** @type {Float32Array} */ pose) {
    const { viewer, space } = this;
    const level = viewer.submodels.shown;
    if (!level) return null;
    const camera = { matrix: space.matrix(pose), fov: AIM.fov, near: viewer.near, lens: null };
    const depth = viewer.renderer.probe(level, camera, AIM.size, 0.5, 0.5);
    return depth === null ? null : add(position(camera.matrix), scale(column(camera.matrix, 2), -depth));
  }

  #go() {
    const point = this.aim?.point;
    this.aim = null;
    if (!point) return;
    this.space.stand(this.head, this.#standingAt(point));
  }

  // Where the eyes are of who stands there: on the floor beside what is in the way.
  #standingAt(/** @type {number[]} */ point) {
    const { place } = this.viewer.visitor;
    const eye = EYE_METRES * this.space.scale;
    const above = add(point, [0, 0, eye]);
    if (!place) return above;
    const walker = new Walker(place, bodyOfEye(eye), above);
    return walker.spawn() ? walker.position : position(this.viewer.controls.matrix);
  }
}
