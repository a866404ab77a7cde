// @ts-check
// What people do with a scene of slots beyond moving: the dock, and the panel of objects with its slots.

import { announce } from "../bridge.js";
import { column, position } from "../camera.js";
import { Gamepads } from "../gamepad.js";
import { number, t } from "../language.js";
import { Marks } from "../marks.js";
import { ObjectPanel } from "../objectpanel.js";
import { Settings } from "../settings.js";
import { connectFullScreen, saveImage, share } from "../sharing.js";
import { $ } from "../ui.js";
import { viewAddress } from "../url.js";

const WIDE = "(min-width: 601px)";

export class SlotTools {
  /** The viewer must be open. @param {import("./viewer.js").SlotViewer} viewer @param {import("../ui.js").Page} page */
  constructor(viewer, page) {
    this.viewer = viewer;
    this.page = page;
    /** @type {number | null} */
    this.told = null;
    const reset = () => viewer.reset();
    page.connect({ mode: () => {}, play: () => {}, reset, share: () => share(page, this.#address()) });
    page.keys.KeyF = reset;
    page.press("button-picture", () => saveImage(page, viewer), "KeyP");
    this.settings = new Settings(viewer, page);
    new Gamepads(viewer.controls, { y: reset, back: () => page.help.toggle() });
    connectFullScreen(page);
    const slot = (/** @type {number} */ id) => viewer.scene.slots.find((each) => each.number === id);
    this.panel = new ObjectPanel(page, new Marks(viewer, page), {
      state: viewer.state,
      name: (id) => (slot(id).is_background ? t("Background ({n})", { n: id }) : t("Slot {n}", { n: id })),
      colour: (id) => `rgb(${slot(id).colour.join(" ")})`,
      detail: (id) => `${number(100 * slot(id).share)} %`,
      size: () => "",
      goTo: () => {},
      prepare: () => {},
      at: (u, v) => viewer.slotAt(u, v),
    });
    $("objects-masks").hidden = false;
    page.press("objects-masks", () => viewer.setMasks(!viewer.areMasksShown));
    viewer.loop.onChange = () => this.settings.follow();
    addEventListener("hashchange", () => viewer.goToAddress());
    if (page.isVisible) page.showPanel("objects", matchMedia(WIDE).matches);
    /** What the address names and the scene does not have. */
    this.problems = viewer.state.follow(viewer.settings);
    this.show();
  }

  // What has changed of the slots.
  show() {
    const { state, areMasksShown } = this.viewer;
    this.panel.follow();
    $("objects-masks").setAttribute("aria-pressed", String(areMasksShown));
    if (state.selected === this.told) return;
    this.told = state.selected;
    announce("object", { id: this.told });
  }

  #address() {
    const { controls, fov, state } = this.viewer;
    const { matrix } = controls;
    const camera = { pos: position(matrix), look: controls.lookPoint, up: column(matrix, 1), fov };
    return viewAddress(location, camera, state.words());
  }
}
