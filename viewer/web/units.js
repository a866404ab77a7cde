// @ts-check
// Lengths in units that people know. A scene has its own unit; metres come from the capture, or from one known length.

import { language, number } from "./language.js";
import { metaContent } from "./ui.js";

const METRES = { m: 1, cm: 0.01, ft: 0.3048, in: 0.0254 };
const FEET = /^(en-US|en-LR|my)\b/;
const UNIT_KEY = "smerf-unit";

export class Units {
  // `scene` names what the known length belongs to.
  constructor(scene) {
    this.key = `smerf-metres ${scene}`;
    this.name = read(UNIT_KEY) ?? (FEET.test(navigator.language) ? "ft" : "m");
    if (!(this.name in METRES)) this.name = "m";
    /** Metres of one unit of the scene; null while nobody knows. @type {number | null} */
    this.metres = positive(metaContent("smerf-metres")) ?? positive(read(this.key));
  }

  get isKnown() {
    return this.metres !== null;
  }

  choose(name) {
    this.name = name;
    keep(UNIT_KEY, name);
  }

  // So many units of the scene are `value` in the chosen unit.
  know(length, value) {
    this.setMetres((value * METRES[this.name]) / length);
  }

  setMetres(metres) {
    this.metres = positive(metres);
    if (this.metres) keep(this.key, String(this.metres));
  }

  // The length as people read it.
  say(length) {
    if (!this.isKnown) return number(length, 3);
    const value = (length * this.metres) / METRES[this.name];
    const digits = this.name === "cm" || this.name === "in" ? 1 : 2;
    const shown = value >= 100 ? value.toLocaleString(language(), { maximumFractionDigits: 1 }) : number(value, digits);
    return `${shown} ${this.name}`;
  }
}

function positive(value) {
  const given = Number(value ?? NaN);
  return given > 0 && Number.isFinite(given) ? given : null;
}

function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // It holds for this visit.
  }
}
