// @ts-check
// The editor of the camera path: keyframes with small images, play, scrub, loop, duration, import and export.

import { CameraPath, parsePath, pathJson, SECONDS_PER_KEYFRAME } from "./path.js";
import { number, t } from "./language.js";
import { $, saveAs } from "./ui.js";

const IMAGE = { width: 184, height: 124 };

export class PathPanel {
  /** @param {import("./viewer.js").Viewer} viewer @param {import("./ui.js").Page} page */
  constructor(viewer, page) {
    this.viewer = viewer;
    this.page = page;
    this.journey = viewer.journey;
    /** @type {{ matrix: number[], fov: number, image: string | null }[]} */
    this.keys = [];
    this.chosen = -1;
    /** @type {number | null} */
    this.seconds = null;
    this.isCycle = false;
    page.press("path-add", () => this.add(), "KeyK");
    page.press("path-earlier", () => this.#shift(-1));
    page.press("path-later", () => this.#shift(1));
    page.press("path-update", () => this.#update());
    page.press("path-remove", () => this.#remove());
    page.press("path-loop", () => this.#setCycle(!this.isCycle));
    page.press("path-export", () => this.#save());
    $("path-import").addEventListener("click", () => $("path-file").click());
    $("path-file").addEventListener("change", () => this.#open());
    $("path-seconds").addEventListener("change", () => this.#setSeconds());
    $("path-time").addEventListener("input", () => this.journey.seek($("path-time").valueAsNumber * this.journey.path.seconds));
    this.take(viewer.journey.path ?? null);
  }

  // Takes a whole path, such as one from a file; null begins again.
  take(path) {
    this.keys = (path?.keyframes ?? []).map(({ matrix, fov }) => ({ matrix, fov, image: null }));
    this.seconds = path?.seconds ?? null;
    this.isCycle = path?.isCycle ?? false;
    this.chosen = -1;
    if (path !== this.journey.path) this.journey.setPath(path);
    this.#draw();
  }

  // Adds the view of the moment behind the chosen keyframe, or at the end.
  add() {
    const at = this.chosen >= 0 ? this.chosen + 1 : this.keys.length;
    this.keys.splice(at, 0, this.#keyframe());
    this.chosen = at;
    this.#remake();
    this.page.showPanel("path", true);
    const isPath = this.keys.length > 1;
    const place = t("Keyframe {n} of {count}", { n: at + 1, count: this.keys.length });
    this.page.notify(isPath ? place : t("First keyframe; one more makes a path"));
    this.#entry(at)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  // Follows the camera: the slider while the path plays.
  follow() {
    const { path, time: pathTime } = this.journey;
    if (!path || $("path").hidden) return;
    const time = path.isCycle ? pathTime % path.seconds : Math.min(pathTime, path.seconds);
    if (document.activeElement !== $("path-time") || this.journey.isPlaying) $("path-time").value = time / path.seconds;
    $("path-time").setAttribute("aria-valuetext", t("{n} seconds", { n: number(time, 1) }));
    $("path-clock").textContent = `${number(time, 1)} / ${number(path.seconds, 1)} s`;
  }

  #keyframe() {
    return { matrix: this.viewer.controls.matrix.slice(), fov: this.viewer.fov, image: this.#image() };
  }

  // What the canvas shows, cut to the keyframe's shape.
  #image() {
    const { canvas } = this.viewer;
    const small = Object.assign(document.createElement("canvas"), IMAGE);
    const scale = Math.min(canvas.width / IMAGE.width, canvas.height / IMAGE.height);
    const [width, height] = [IMAGE.width * scale, IMAGE.height * scale];
    const [x, y] = [(canvas.width - width) / 2, (canvas.height - height) / 2];
    this.viewer.keep();
    small.getContext("2d").drawImage(canvas, x, y, width, height, 0, 0, IMAGE.width, IMAGE.height);
    return `url("${small.toDataURL("image/jpeg", 0.8)}")`;
  }

  #entry(index) {
    return $("path-keys").children[index]?.firstElementChild;
  }

  #choose(index) {
    this.chosen = index;
    const key = this.keys[index];
    this.#draw();
    this.viewer.flyTo(key);
    if (key.image) return;
    const arrived = () => {
      if (this.keys[index] !== key || this.viewer.controls.matrix.some((x, i) => Math.abs(x - key.matrix[i]) > 1e-6)) return;
      key.image = this.#image();
      this.#draw();
    };
    this.viewer.whenFinished().then(arrived, () => {});
  }

  #shift(step) {
    const [key] = this.keys.splice(this.chosen, 1);
    this.chosen += step;
    this.keys.splice(this.chosen, 0, key);
    this.#remake();
  }

  #update() {
    this.keys[this.chosen] = this.#keyframe();
    this.#remake();
  }

  #remove() {
    this.keys.splice(this.chosen, 1);
    this.chosen = Math.min(this.chosen, this.keys.length - 1);
    this.#remake();
  }

  #setCycle(isCycle) {
    this.isCycle = isCycle;
    if (this.keys.length) this.#remake();
    else if (this.journey.path) {
      this.journey.path.isCycle = isCycle;
      this.#draw();
    }
  }

  #setSeconds() {
    const seconds = $("path-seconds").valueAsNumber;
    if (seconds >= 0.1) this.seconds = Math.min(600, seconds);
    if (this.keys.length > 1) this.#remake();
    else {
      if (this.journey.path) this.journey.path.seconds = this.seconds;
      this.#draw();
    }
  }

  #remake() {
    // Without a duration of its own the path grows with its keyframes.
    this.journey.setPath(this.keys.length > 1 ? CameraPath.through(this.keys, this.seconds, this.isCycle) : null);
    this.#draw();
  }

  #draw() {
    const { path } = this.journey;
    const focused = [...$("path-keys").children].findIndex((item) => item.contains(document.activeElement));
    $("path-keys").replaceChildren(
      ...this.keys.map((key, index) => {
        const item = document.createElement("li");
        const button = document.createElement("button");
        const number = document.createElement("span");
        button.type = "button";
        button.setAttribute("aria-label", t("Keyframe {n}", { n: index + 1 }));
        button.setAttribute("aria-current", String(index === this.chosen));
        if (key.image) button.style.backgroundImage = key.image;
        number.className = "number";
        number.textContent = String(index + 1);
        button.append(number);
        button.addEventListener("click", () => this.#choose(index));
        item.append(button);
        return item;
      }),
    );
    if (focused >= 0) this.#entry(Math.min(focused, this.keys.length - 1))?.focus();
    const isChosen = this.chosen >= 0;
    $("path-earlier").disabled = this.chosen < 1;
    $("path-later").disabled = !isChosen || this.chosen === this.keys.length - 1;
    $("path-update").disabled = $("path-remove").disabled = !isChosen;
    for (const id of ["path-play", "path-time", "path-export"]) $(id).disabled = !path;
    $("button-play").hidden = !path;
    $("path-loop").setAttribute("aria-pressed", String(this.isCycle));
    const natural = SECONDS_PER_KEYFRAME * Math.max(1, this.keys.length - (this.isCycle ? 0 : 1));
    $("path-seconds").value = +(path?.seconds ?? this.seconds ?? natural).toFixed(2);
    if (!path) $("path-clock").textContent = t(this.keys.length ? "one more" : "no path yet");
    this.follow();
  }

  #save() {
    const { width, height } = this.viewer.canvas;
    // Videos need even sides.
    const json = pathJson(this.journey.path, width - (width % 2), height - (height % 2));
    saveAs(new Blob([JSON.stringify(json, null, 1)], { type: "application/json" }), "camera_path.json");
    this.page.notify(t("Saved {name}", { name: "camera_path.json" }));
  }

  async #open() {
    const [file] = $("path-file").files;
    $("path-file").value = "";
    if (!file) return;
    try {
      const text = await file.text();
      this.take(parsePath(parseJson(text), file.name));
      const keys = this.keys.length;
      const what = keys ? t("{n} keyframes", { n: keys }) : t("{n} frames", { n: this.journey.path.frames.length });
      this.page.notify(`${file.name}: ${what}`);
    } catch (error) {
      this.page.notify(error.message);
    }
  }
}

/** @param {string} text */
export function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
