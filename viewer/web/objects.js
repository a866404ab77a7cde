// @ts-check
// The objects of a scene: what manifest.json says of them, and which of them are hidden, lit and selected.

import { t } from "./language.js";

const MAX_ID = 255;
const MAX_NAME = 200;
const UNNAMED_COLOUR = [0.6, 0.6, 0.6];

/**
 * @typedef {object} SceneObject
 * @property {number} id 1 to 255; 0 is everything that belongs to no object
 * @property {string} name
 * @property {number[]} colour red, green, blue in [0, 1]
 * @property {{ centre: number[], half: number[] } | null} box in training space
 * @property {number | null} score
 */

/**
 * Reads the manifest's entry; what is wrong in it is left out and told.
 * @param {any} value @returns {{ list: SceneObject[], problems: string[] }}
 */
export function readObjects(value) {
  if (value === undefined || value === null) return { list: [], problems: [] };
  const entries = Array.isArray(value.list) ? value.list : null;
  if (!entries) return { list: [], problems: [t("manifest.json: the list of objects is damaged and left out.")] };
  /** @type {Map<number, SceneObject>} */
  const found = new Map();
  let damaged = 0;
  for (const entry of entries) {
    const object = readObject(entry);
    if (object && !found.has(object.id)) found.set(object.id, object);
    else damaged++;
  }
  const problems = damaged ? [t("manifest.json: objects that are damaged and left out: {n}.", { n: damaged })] : [];
  return { list: [...found.values()], problems };
}

/** @param {any} entry @returns {SceneObject | null} */
function readObject(entry) {
  const { id, name, colour = UNNAMED_COLOUR, box = null, score = null } = entry ?? {};
  const isId = Number.isInteger(id) && id > 0 && id <= MAX_ID;
  const isColour = isVector(colour) && colour.every((part) => part >= 0 && part <= 1);
  const isBox = box === null || (isVector(box.centre) && isVector(box.half) && box.half.every((side) => side >= 0));
  if (!isId || typeof name !== "string" || !isColour || !isBox || (score !== null && !Number.isFinite(score))) return null;
  return { id, name: name.trim().slice(0, MAX_NAME), colour, box, score };
}

function isVector(/** @type {any} */ value) {
  return Array.isArray(value) && value.length === 3 && value.every(Number.isFinite);
}

/**
 * What is hidden, lit and selected. changed() is called after each change of any of them.
 * @template {{ id: number, name: string }} T
 */
export class ObjectState {
  /** @param {T[]} list @param {() => void} changed */
  constructor(list, changed) {
    this.list = list;
    this.changed = changed;
    /** Ids; 0 for what belongs to no object. @type {Set<number>} */
    this.hidden = new Set();
    /** Ids that scripts light, beside the selected one. @type {Set<number>} */
    this.lit = new Set();
    /** @type {number | null} */
    this.selected = null;
  }

  /** @param {number | null} id */
  find(id) {
    return this.list.find((object) => object.id === id) ?? null;
  }

  /**
   * The id that a number or a name stands for, as links and scripts write it; null where there is none. Digits are an
   * id before they are a name.
   * @param {any} given
   */
  idOf(given) {
    if (given === null || given === undefined) return null;
    const text = String(given).trim();
    if (/^\d{1,3}$/.test(text) && this.find(Number(text))) return Number(text);
    const lower = text.toLowerCase();
    const named = this.list.find(({ name }) => name === text) ?? this.list.find(({ name }) => name.toLowerCase() === lower);
    return named?.id ?? null;
  }

  /** How links name an object: by its name where that says enough. @param {number} id */
  wordOf(id) {
    const name = this.find(id)?.name ?? "";
    return name && !name.includes(",") && this.idOf(name) === id ? name : String(id);
  }

  /** How links name what is selected and hidden. */
  words() {
    const hidden = [...this.hidden].sort((a, b) => a - b).map((id) => this.wordOf(id));
    return { object: this.selected === null ? null : this.wordOf(this.selected), hidden };
  }

  /**
   * Takes what links name.
   * @param {{ object?: string | null, hidden?: string[] }} words
   * @returns {string[]} a sentence for each that is not there
   */
  follow({ object = null, hidden = [] }) {
    const ids = hidden.map((word) => this.idOf(word)).filter((id) => id !== null);
    const unknown = [object, ...hidden].filter((word) => word !== null && this.idOf(word) === null);
    this.hidden = new Set(ids);
    this.select(this.idOf(object));
    return unknown.map((text) => t("The address names the object {text}, which this scene does not have.", { text }));
  }

  /** @param {number | null} id */
  select(id) {
    this.selected = id;
    this.changed();
  }

  /** @param {number} id @param {boolean} [isHidden] */
  hide(id, isHidden = true) {
    if (isHidden) this.hidden.add(id);
    else this.hidden.delete(id);
    this.changed();
  }

  /** All others go; asked again, they come back. @param {number} id */
  isolate(id) {
    this.hidden = new Set(this.isIsolated(id) ? [] : this.#others(id));
    this.changed();
  }

  /** @param {number} id */
  isIsolated(id) {
    return !this.hidden.has(id) && this.#others(id).every((other) => this.hidden.has(other));
  }

  #others(/** @type {number} */ id) {
    return this.list.map((object) => object.id).filter((other) => other !== id);
  }

  showAll() {
    this.hidden.clear();
    this.changed();
  }

  /** @param {Iterable<number>} hidden @param {Iterable<number>} lit */
  set(hidden, lit) {
    this.hidden = new Set(hidden);
    this.lit = new Set(lit);
    this.changed();
  }

  /** What the renderer takes: entry i is 1 where id i is hidden, or lit. */
  masks() {
    const of = (/** @type {Iterable<number>} */ ids) => {
      const mask = new Uint8Array(MAX_ID + 1);
      for (const id of ids) mask[id] = 1;
      return mask;
    };
    const lit = new Set(this.lit);
    // What belongs to no object is most of the picture: lit it would say nothing.
    if (this.selected) lit.add(this.selected);
    return { hidden: of(this.hidden), lit: of(lit) };
  }
}
