// @ts-check
// The cameras that the scene was made from: a strip of photos to jump to, and the photo over the image.
//
// cameras.json of an exported site names the cameras, with small photos where they were exported; without it the cameras
// of the scene's manifest serve, without photos. Photos are free of lens distortion, so that they lie over the image.

import { parseMatrix } from "./camera.js";
import { t } from "./language.js";
import { $, metaContent, siteJson } from "./ui.js";

export class Photos {
  /** @param {import("./viewer.js").Viewer} viewer @param {import("./ui.js").Page} page */
  constructor(viewer, page) {
    this.viewer = viewer;
    this.page = page;
    /** @type {{ name: string, matrix: number[], lens: any, photo: string | null }[]} */
    this.cameras = [];
    this.at = -1;
    this.opacity = 0.5;
    this.isShown = false;
    page.press("photo-previous", () => this.step(-1), "BracketLeft");
    page.press("photo-next", () => this.step(1), "BracketRight");
    page.keys.KeyG = () => this.toggle();
    $("photo-opacity").addEventListener("input", () => {
      this.opacity = $("photo-opacity").valueAsNumber / 100;
      this.follow();
    });
    addEventListener("resize", () => this.follow());
    this.#load();
  }

  async #load() {
    const address = metaContent("smerf-cameras");
    const found = address ? ((await siteJson(address))?.cameras ?? null) : null;
    try {
      this.cameras = (found ?? this.viewer.scene.assets.manifest?.cameras ?? []).map((entry) => ({
        name: String(entry.name),
        matrix: parseMatrix(entry.world_from_cam),
        lens: entry.intrinsics,
        photo: entry.photo ? photoAddress(entry.photo) : null,
      }));
    } catch {
      this.cameras = [];
    }
    $("photo-name").textContent = t("Choose a photo to see what its camera saw");
    $("button-photos").hidden = this.cameras.length === 0;
    $("photo-mix").hidden = !this.cameras.some(({ photo }) => photo);
    $("photo-list").replaceChildren(...this.cameras.map((camera, index) => this.#entry(camera, index)));
  }

  #entry(camera, index) {
    const [item, button] = [document.createElement("li"), document.createElement("button")];
    button.type = "button";
    button.setAttribute("aria-label", camera.name);
    button.addEventListener("click", () => this.show(index));
    if (camera.photo) {
      const image = document.createElement("img");
      Object.assign(image, { loading: "lazy", decoding: "async", alt: "", src: camera.photo });
      button.append(image);
    } else {
      const number = document.createElement("span");
      number.className = "number";
      number.textContent = String(index + 1);
      button.append(number);
    }
    item.append(button);
    return item;
  }

  step(by) {
    const count = this.cameras.length;
    if (!count) return this.page.notify(t("This scene names no photos"));
    this.show(this.at < 0 ? (by > 0 ? 0 : count - 1) : (this.at + by + count) % count);
  }

  // Goes where the photo was taken, with a field of view that shows all of it.
  show(index) {
    const { clientWidth, clientHeight } = this.viewer.canvas;
    const camera = this.cameras[index];
    const { lens } = camera;
    const focal = Math.min((clientWidth / lens.width) * lens.fx, (clientHeight / lens.height) * lens.fy);
    this.at = index;
    this.isShown = true;
    this.page.showPanel("photos", true);
    this.viewer.flyTo({ matrix: camera.matrix, fov: (Math.atan((0.5 * clientHeight) / focal) * 360) / Math.PI });
    $("photo-name").textContent = `${t("{n} of {count}", { n: index + 1, count: this.cameras.length })} · ${camera.name}`;
    [...$("photo-list").children].forEach((item, i) => item.firstElementChild.setAttribute("aria-current", String(i === index)));
    $("photo-list").children[index].scrollIntoView({ block: "nearest", inline: "center" });
    this.follow();
  }

  toggle() {
    if (this.at < 0) return this.step(1);
    const isThere = this.#isThere();
    this.isShown = !isThere || !this.isShown;
    if (!isThere) this.show(this.at);
    this.follow();
  }

  #isThere() {
    return this.at >= 0 && this.viewer.controls.exact === this.cameras[this.at].matrix;
  }

  // Puts the photo where its camera saw it, or takes it away where the camera has left.
  follow() {
    const image = $("photo");
    const camera = this.cameras[this.at];
    const isVisible = this.isShown && !!camera?.photo && !$("photos").hidden && this.#isThere();
    image.hidden = !isVisible;
    if (!isVisible) return;
    if (image.getAttribute("src") !== camera.photo) image.src = camera.photo;
    image.alt = t("Photo {name}", { name: camera.name });
    const { clientWidth, clientHeight } = this.viewer.canvas;
    const { lens } = camera;
    const focal = clientHeight / 2 / Math.tan((this.viewer.fov * Math.PI) / 360);
    const [x, y] = [focal / lens.fx, focal / lens.fy];
    Object.assign(image.style, {
      left: `${clientWidth / 2 - lens.cx * x}px`,
      top: `${clientHeight / 2 - lens.cy * y}px`,
      width: `${lens.width * x}px`,
      height: `${lens.height * y}px`,
      opacity: this.opacity,
    });
  }
}

function photoAddress(path) {
  const embedded = globalThis.smerfEmbeddedFiles?.[path];
  return embedded ? `data:image/jpeg;base64,${embedded}` : new URL(path, document.baseURI).href;
}
