// @ts-check
// What people do with a scene beyond moving: settings, camera path, photos, measures, notes, objects, images, gamepads.

import { announce } from "./bridge.js";
import { add, column, commonTarget, fromColumns, position, scale } from "./camera.js";
import { Gamepads } from "./gamepad.js";
import { Marks } from "./marks.js";
import { Measure } from "./measure.js";
import { Notes } from "./notes.js";
import { PathPanel } from "./pathpanel.js";
import { Photos } from "./photos.js";
import { SceneObjects } from "./sceneobjects.js";
import { Settings } from "./settings.js";
import { connectFullScreen, saveImage, share } from "./sharing.js";
import { Stick } from "./stick.js";
import { $ } from "./ui.js";
import { viewAddress } from "./url.js";
import { Immersion } from "./xr.js";

const CAMERA_MS = 100;

export class Tools {
  /** The viewer must be open. @param {import("./viewer.js").Viewer} viewer @param {import("./ui.js").Page} page */
  constructor(viewer, page) {
    this.viewer = viewer;
    this.page = page;
    page.connect({
      mode: (mode) => viewer.setMode(mode),
      reset: () => viewer.home(),
      share: () => share(page, this.address),
      play: () => viewer.journey.play(!viewer.journey.isPlaying),
    });
    this.settings = new Settings(viewer, page);
    this.path = new PathPanel(viewer, page);
    this.photos = new Photos(viewer, page);
    this.marks = new Marks(viewer, page);
    this.measure = new Measure(viewer, page, this.marks);
    this.notes = new Notes(viewer, page, this.marks, this.measure);
    this.objects = new SceneObjects(viewer, page, this.marks, this.measure.units);
    this.immersion = new Immersion(viewer, page);
    new Stick(viewer.controls);
    new Gamepads(viewer.controls, {
      x: () => viewer.setMode(page.mode === "orbit" ? "fly" : "orbit"),
      y: () => viewer.home(),
      back: () => page.help.toggle(),
      start: () => viewer.journey.play(!viewer.journey.isPlaying),
      left: () => this.photos.step(-1),
      right: () => this.photos.step(1),
    });
    page.press("button-picture", () => saveImage(page, viewer), "KeyP");
    page.keys.KeyF = () => this.frame();
    for (const name of ["path", "photos", "measure", "notes", "objects"]) {
      for (const event of ["shown", "hidden"]) $(name).addEventListener(event, () => this.follow());
    }
    document.addEventListener("language", () => this.follow());
    connectFullScreen(page);
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

  // The address of this view, with what is selected and hidden.
  get address() {
    const { controls, fov } = this.viewer;
    const { matrix } = controls;
    const camera = { pos: position(matrix), look: controls.lookPoint, up: column(matrix, 1), fov };
    return viewAddress(location, camera, this.objects.state.words());
  }
}
