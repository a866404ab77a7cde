// @ts-check
// The settings panel: quality, field of view, speed, colours of the page, statistics.

import { LANGUAGES, language, number, setLanguage, t } from "./language.js";
import { $ } from "./ui.js";

const THEME_KEY = "smerf-theme";

// Colours of the controls: "auto" follows the system. The choice is kept in this browser where it allows that; the first
// script of index.html has read it, so that the page has its colours before anything is drawn.
export class Theme {
  constructor() {
    this.system = matchMedia("(prefers-color-scheme: dark)");
    this.system.addEventListener("change", () => this.#apply());
    this.name = document.documentElement.dataset.choice ?? "auto";
    this.#apply();
  }

  set(name) {
    this.name = name;
    try {
      localStorage.setItem(THEME_KEY, name);
    } catch {
      // Sandboxed frames have no storage.
    }
    this.#apply();
  }

  #apply() {
    document.documentElement.dataset.theme = this.name === "auto" ? (this.system.matches ? "dark" : "light") : this.name;
  }
}

/**
 * The part of a viewer that settings change; only walkable scenes have visitors.
 * @typedef {object} Adjustable
 * @property {Record<string, any>} settings
 * @property {number} fov
 * @property {string} automaticQuality
 * @property {(name: string) => void} setQuality
 * @property {(fovDegrees: number) => void} setFov
 * @property {any} controls
 * @property {{ isFree: boolean }} [visitor]
 */

export class Settings {
  /** @param {Adjustable} viewer @param {import("./ui.js").Page} page */
  constructor(viewer, page) {
    this.viewer = viewer;
    const theme = new Theme();
    for (const radio of /** @type {any} */ (document.getElementsByName("theme"))) {
      radio.checked = radio.value === theme.name;
      radio.addEventListener("change", () => theme.set(radio.value));
    }
    for (const each of [$("set-free"), $("set-free").labels[0]]) each.hidden = !viewer.visitor;
    this.#nameAutomatic();
    document.addEventListener("language", () => this.#nameAutomatic());
    const languages = Object.entries(LANGUAGES).map(([value, text]) => Object.assign(new Option(text, value), { lang: value }));
    $("set-language").replaceChildren(...languages);
    $("set-language").value = language();
    $("set-language").addEventListener("change", () => setLanguage($("set-language").value, true));
    $("set-quality").value = viewer.settings.quality;
    $("set-quality").addEventListener("change", () => viewer.setQuality($("set-quality").value));
    $("set-fov").addEventListener("input", () => viewer.setFov($("set-fov").valueAsNumber));
    $("set-speed").addEventListener("input", () => this.#setSpeed());
    $("set-free").checked = viewer.settings.free;
    $("set-free").addEventListener("change", () => (viewer.visitor.isFree = $("set-free").checked));
    $("set-statistics").addEventListener("change", () => page.toggleStatistics());
    page.keys.Minus = () => this.#widen(1.1);
    page.keys.Equal = () => this.#widen(1 / 1.1);
    this.follow();
  }

  #nameAutomatic() {
    const [automatic, ...named] = $("set-quality").options;
    const chosen = named.find(({ value }) => value === this.viewer.automaticQuality);
    automatic.textContent = t("Automatic ({name})", { name: chosen.textContent.toLocaleLowerCase(language()) });
  }

  // Shows the field of view, which paths and photos change as well.
  follow() {
    $("set-fov").value = this.viewer.fov;
    $("set-fov").nextElementSibling.textContent = `${Math.round(this.viewer.fov)}°`;
  }

  #setSpeed() {
    const speed = 2 ** $("set-speed").valueAsNumber;
    this.viewer.controls.speed = speed;
    const digits = Number.isInteger(speed) ? 0 : 2;
    $("set-speed").nextElementSibling.textContent = `${number(speed, digits)}×`;
    $("set-speed").setAttribute("aria-valuetext", t("{n} times", { n: number(speed, digits) }));
  }

  #widen(factor) {
    const half = Math.tan((this.viewer.fov * Math.PI) / 360) * factor;
    this.viewer.setFov(Math.min(150, Math.max(5, (Math.atan(half) * 360) / Math.PI)));
  }
}
