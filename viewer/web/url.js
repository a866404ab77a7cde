// @ts-check
// The page's address as settings: names, spellings and checks. A wrong value is told and its default taken.

import { length, subtract } from "./camera.js";
import { LANGUAGES, t } from "./language.js";
import { BACKENDS, QUALITIES } from "./quality.js";

const MAX_DPR = 4;
const MAX_SIDE = 8192;

const number = (low, high) => (text) => {
  const value = Number(text);
  const isThere = text.trim() !== "" && Number.isFinite(value) && value >= low && value <= high;
  if (!isThere) throw t("a number from {low} to {high}", { low, high });
  return value;
};
const choice = (names) => (text) => {
  if (!(text in names)) throw t("one of {names}", { names: Object.keys(names).join(", ") });
  return names[text];
};
const same = (...names) => choice(Object.fromEntries(names.map((name) => [name, name])));
const flag = choice({ 1: true, 0: false, true: true, false: false });
// Beyond its limits a number is replaced by the nearest that is possible.
const limited = (low, high) => (text) => {
  const value = number(-Infinity, Infinity)(text);
  const instead = Math.min(high, Math.max(low, value));
  if (instead !== value) throw { expected: t("a number from {low} to {high}", { low, high }), instead };
  return value;
};
const vector = (text) => {
  const values = text.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
  if (values.length !== 3 || !values.every(Number.isFinite)) throw t("3 numbers with commas between");
  return values;
};
const direction = (text) => {
  const values = vector(text);
  if (length(values) < 1e-6) throw t("3 numbers that are not all 0");
  return values;
};
const sides = (text) => {
  const values = text.split(",").map(Number);
  if (values.length !== 2 || !values.every((side) => side >= 1 && side <= MAX_SIDE)) {
    throw t("a width and a height from 1 to {max}", { max: MAX_SIDE });
  }
  return values;
};
const colour = (text) => {
  const parsed = parseColour(text);
  if (!parsed) throw t("six hexadecimal digits, such as 808080");
  return parsed;
};
// The first script of the page has chosen by it; zh-CN and zh are zh-Hans.
const spoken = (text) => {
  const main = (name) => name.split("-")[0];
  const names = Object.keys(LANGUAGES);
  if (!names.some((name) => main(name) === main(text))) throw t("one of {names}", { names: names.join(", ") });
  return text;
};
const address = (text) => {
  if (!text) throw t("an address");
  return text;
};
const MAX_WORDS = 256;
// Names or numbers of objects; the scene knows which there are.
const words = (text) => {
  const found = text.split(",").map((word) => word.trim()).filter(Boolean);
  if (!found.length || found.length > MAX_WORDS) throw t("names or numbers of objects with commas between");
  return found;
};
const word = (text) => {
  if (!text.trim()) throw t("a name or a number of an object");
  return text.trim();
};

/**
 * Each entry: the setting's name, its parser, and another spelling of the parameter.
 * @type {[string, (text: string) => any, string?][]}
 */
const PARAMETERS = [
  ["dir", address, "url"],
  ["quality", same(...QUALITIES)],
  ["backend", same(...BACKENDS)],
  ["mode", choice({ orbit: "orbit", walk: "walk", fly: "fly", fps: "fly", map: "orbit" }), "mouseMode"],
  ["free", flag],
  ["fov", number(1, 170), "vfovy"],
  ["pos", vector],
  ["look", vector],
  ["up", direction],
  ["near", number(1e-4, 100)],
  ["object", word],
  ["hidden", words],
  ["path", address],
  ["autoplay", flag],
  ["ui", flag],
  ["embed", flag],
  ["theme", same("auto", "light", "dark")],
  ["lang", spoken],
  ["bg", colour, "backgroundColor"],
  ["exposure", number(1e-9, 1e9)],
  ["dpr", limited(0.1, MAX_DPR)],
  ["memory", number(0.1, 65536)],
  ["benchmark", choice({ time: "time", quality: "quality", 1: "time", true: "time" })],
  ["occlusion", number(0, 1)],
  ["size", sides, "s"],
  ["combineMode", choice({ concat_and_sum: "coarse_sum", coarse_sum: "coarse_sum", sum: "sum" })],
  ["deferredMode", same("snerg", "vfr")],
  ["activation", same("elu", "relu")],
  ["featureGating", flag],
  ["legacyGrids", flag],
];

// Settings that the scene's own parameters take over.
const OVERRIDES = {
  combineMode: "merge_features_combine_op",
  deferredMode: "deferred_rendering_mode",
  activation: "activation",
  featureGating: "feature_gating",
  legacyGrids: "legacyGrids",
};

const DEFAULTS = { quality: "auto", backend: "auto", free: false, ui: true, embed: false };

/**
 * Reads the query and the hash of `location`; the hash (the shared view) wins. `problems` holds a sentence for each
 * value that is not possible. `up` of the query is also the axis that the camera turns about, `up` of the hash only
 * belongs to that view.
 * @returns {Record<string, any>}
 */
export function readSettings(location) {
  /** @type {string[]} */
  const problems = [];
  const query = parse(location.search, problems);
  /** @type {Record<string, any>} */
  const settings = { ...DEFAULTS, ...query, ...parse(location.hash.slice(1), problems), axis: query.up, problems };
  const { pos, look } = settings;
  if (pos && look && length(subtract(pos, look)) < 1e-6) {
    delete settings.look;
    problems.push(t("The address has look at the place of pos, but they must be two points: look is left out."));
  }
  settings.overrides = Object.fromEntries(
    Object.entries(OVERRIDES).filter(([name]) => name in settings).map(([name, key]) => [key, settings[name]]),
  );
  return settings;
}

// Red, green and blue in [0, 1] of six hexadecimal digits; null for anything else.
export function parseColour(text) {
  const match = /^#?([0-9a-f]{6})$/i.exec(text ?? "");
  return match && [0, 2, 4].map((i) => Number.parseInt(match[1].slice(i, i + 2), 16) / 255);
}

function parse(query, problems) {
  /** @type {Record<string, any>} */
  const settings = {};
  for (const [name, text] of new URLSearchParams(query)) {
    const entry = PARAMETERS.find(([canonical, , alias]) => name === canonical || name === alias);
    if (!entry) continue;
    try {
      settings[entry[0]] = entry[1](text);
    } catch (problem) {
      const { expected = problem, instead } = problem;
      if (instead !== undefined) settings[entry[0]] = instead;
      problems.push(
        t("The address has {name}={text}, but {name} must be {expected}: {instead} is used.", {
          name, text, expected, instead: instead ?? t("the default"),
        }),
      );
    }
  }
  return settings;
}

/**
 * The address that opens the page at this camera; the view sits in the hash and is never sent to a server.
 * @param {Location} location
 * @param {{ pos: number[], look: number[], up: number[], fov: number }} camera
 * @param {{ object: string | null, hidden: string[] }} [words] of the objects that are selected and hidden
 */
export function viewAddress(location, camera, { object, hidden } = { object: null, hidden: [] }) {
  const round = (/** @type {number[]} */ values) => values.map((x) => +x.toFixed(5)).join(",");
  const url = new URL(location.href);
  const { pos, look, up, fov } = camera;
  const parts = [`pos=${round(pos)}`, `look=${round(look)}`, `up=${round(up)}`, `fov=${+fov.toFixed(3)}`];
  if (object !== null) parts.push(`object=${encodeURIComponent(object)}`);
  if (hidden.length) parts.push(`hidden=${hidden.map(encodeURIComponent).join(",")}`);
  url.hash = parts.join("&");
  return url.href;
}
