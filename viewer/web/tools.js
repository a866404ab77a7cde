// @ts-check
// What people do with a scene beyond moving: settings, camera path, photos, images, full screen, gamepads.

import { announce } from "./bridge.js";
import { add, column, commonTarget, fromColumns, position, scale } from "./camera.js";
import { Gamepads } from "./gamepad.js";
import { t } from "./language.js";
import { Marks } from "./marks.js";
import { Measure } from "./measure.js";
import { Notes } from "./notes.js";
import { PathPanel } from "./pathpanel.js";
import { Photos } from "./photos.js";
import { Settings } from "./settings.js";
import { $, saveAs } from "./ui.js";
import { viewAddress } from "./url.js";

const CAMERA_MS = 100;

export class Tools {
  /** The viewer must be open. @param {import("./viewer.js").Viewer} viewer @param {import("./ui.js").Page} page */
  constructor(viewer, page) {
    this.viewer = viewer;
    this.page = page;
    page.connect({
      mode: (mode) => viewer.setMode(mode),
      reset: () => viewer.home(),
      share: () => this.#share(),
      play: () => viewer.journey.play(!viewer.journey.isPlaying),
    });
    this.settings = new Settings(viewer, page);
    this.path = new PathPanel(viewer, page);
    this.photos = new Photos(viewer, page);
    this.marks = new Marks(viewer, page);
    this.measure = new Measure(viewer, page, this.marks);
    this.notes = new Notes(viewer, page, this.marks, this.measure);
    new Gamepads(viewer.controls, {
      x: () => viewer.setMode(page.mode === "orbit" ? "fly" : "orbit"),
      y: () => viewer.home(),
      back: () => page.help.toggle(),
      start: () => viewer.journey.play(!viewer.journey.isPlaying),
      left: () => this.photos.step(-1),
      right: () => this.photos.step(1),
    });
    page.press("button-picture", () => this.#saveImage(), "KeyP");
    page.keys.KeyF = () => this.frame();
    for (const name of ["path", "photos", "measure", "notes"]) {
      for (const event of ["shown", "hidden"]) $(name).addEventListener(event, () => this.follow());
    }
    document.addEventListener("language", () => this.follow());
    this.#listenToFullScreen();
    viewer.loop.onChange = () => this.follow();
    this.toldAt = -Infinity;
    addEventListener("hashchange", () => viewer.goToAddress());
    this.follow();
  }

  follow() {
    this.settings.follow();
    this.path.follow();
    this.photos.follow();
    this.marks.follow();
    this.#tellCamera();
  }

  // Pages around this one follow the camera, a few times a second and where it comes to rest.
  #tellCamera() {
    const now = performance.now();
    if (now - this.toldAt < CAMERA_MS) return;
    this.toldAt = now;
    announce("camera", this.viewer.getCamera());
  }

  // The image stands still.
  settle() {
    this.toldAt = -Infinity;
    this.#tellCamera();
    this.notes.settle();
  }

  // Steps back until all that the photos look at is in the image.
  frame() {
    const { viewer } = this;
    const cameras = (viewer.scene.assets.manifest?.cameras ?? []).map((entry) => entry.world_from_cam.flat());
    const { point, distance } = commonTarget(cameras) ?? { point: [0, 0, 0], distance: 2.5 };
    const m = viewer.controls.matrix;
    const axes = [0, 1, 2].map((i) => column(m, i));
    viewer.flyTo({ matrix: fromColumns(...axes, add(point, scale(axes[2], distance))), fov: viewer.fov, target: point });
  }

  async picture() {
    await this.viewer.whenFinished();
    return new Promise((resolve) => this.viewer.canvas.toBlob(resolve, "image/png"));
  }

  async #saveImage() {
    try {
      const name = `${document.title.replace(/[^\p{L}\p{N}._-]+/gu, "_") || "view"}.png`;
      saveAs(await this.picture(), name);
      this.page.notify(t("Saved {name}", { name }));
    } catch (error) {
      this.page.notify(error.message);
    }
  }

  async #share() {
    const { controls, fov } = this.viewer;
    const { matrix } = controls;
    const href = viewAddress(location, { pos: position(matrix), look: controls.lookPoint, up: column(matrix, 1), fov });
    history.replaceState(null, "", href);
    // Where fingers are, people know the system's own sheet better than a clipboard.
    if (navigator.share && matchMedia("(pointer: coarse)").matches) {
      await navigator.share({ title: document.title, url: href }).catch(() => {});
      return;
    }
    try {
      await navigator.clipboard.writeText(href);
      this.page.notify(t("Link to this view copied"));
    } catch {
      this.page.notify(t("The address bar now holds a link to this view"));
    }
  }

  #listenToFullScreen() {
    const button = $("button-full");
    button.hidden = !document.fullscreenEnabled;
    this.page.press("button-full", () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else document.documentElement.requestFullscreen().catch(() => this.page.notify(t("Full screen is not allowed here")));
    });
    document.addEventListener("fullscreenchange", () => {
      button.setAttribute("aria-pressed", String(!!document.fullscreenElement));
    });
  }
}
