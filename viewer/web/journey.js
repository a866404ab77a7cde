// @ts-check
// Motion that the page makes by itself: short flights to a view, and the camera path. Any move of the user ends it.

import { CameraPath } from "./path.js";

const FLIGHT_SECONDS = 0.7;

export class Journey {
  // show({ matrix, fov, target }, isResting): renders a view; wake(): asks for a frame; ended(isPlaying): play or pause.
  constructor({ show, wake, begin, onPlay, reducedMotion }) {
    this.show = show;
    this.wake = wake;
    this.begin = begin;
    this.onPlay = onPlay;
    this.reducedMotion = reducedMotion;
    /** @type {CameraPath | null} */
    this.path = null;
    this.time = 0;
    this.isPlaying = false;
    this.flight = null;
  }

  // Flies from a view to another, or jumps where motion is unwelcome.
  flyTo(from, { matrix, fov, target = null }) {
    this.begin();
    const isNear = Math.abs(fov - from.fov) < 1e-3 && matrix.every((x, i) => Math.abs(x - from.matrix[i]) < 1e-6);
    const view = { matrix, fov, target };
    if (this.reducedMotion() || isNear) this.show(view, true);
    else this.flight = { path: CameraPath.through([from, view], FLIGHT_SECONDS), time: 0, view };
    this.wake();
  }

  setPath(path) {
    this.play(false);
    this.path = path;
    this.time = 0;
  }

  play(isPlaying) {
    if (!this.path || isPlaying === this.isPlaying) return;
    if (isPlaying) this.begin();
    if (isPlaying && !this.path.isCycle && this.time >= this.path.seconds) this.time = 0;
    this.isPlaying = isPlaying;
    this.onPlay(isPlaying);
    this.wake();
  }

  // Shows the path at a time in seconds.
  seek(time) {
    if (!this.path) return;
    this.begin();
    this.time = time;
    this.show(this.path.at(time), false);
  }

  cancel() {
    this.flight = null;
    this.play(false);
  }

  update(dt) {
    if (this.flight) this.#fly(dt);
    if (!this.isPlaying) return;
    this.time += dt;
    const isOver = !this.path.isCycle && this.time >= this.path.seconds;
    this.show(this.path.at(this.time), isOver);
    if (isOver) this.play(false);
  }

  #fly(dt) {
    const { flight } = this;
    flight.time += dt;
    const fraction = flight.time / FLIGHT_SECONDS;
    if (fraction >= 1) this.flight = null;
    if (fraction >= 1) this.show(flight.view, true);
    else this.show(flight.path.at(FLIGHT_SECONDS * fraction * fraction * (3 - 2 * fraction)), false);
  }
}
