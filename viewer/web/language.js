// @ts-check
// What the page says: English stands in the page and in the code, strings/LANGUAGE.json holds its translations.
// The first script of index.html has chosen the language: of the address, of the settings, or of the browser.

import { loadTable } from "./tables.js";

/** Languages by their own names. @type {Record<string, string>} */
export const LANGUAGES = {
  en: "English", de: "Deutsch", fr: "Français", es: "Español", pt: "Português", it: "Italiano", ja: "日本語",
  "zh-Hans": "简体中文", ko: "한국어",
};
const LANGUAGE_KEY = "smerf-language";
const ATTRIBUTES = ["aria-label", "title", "alt", "data-label", "placeholder"];

/** @type {Record<string, string>} */
let table = {};
/** English of what stands in the page, by node and attribute. @type {Map<Node, Record<string, string>>} */
const originals = new Map();

/**
 * A sentence in the page's language.
 * @param {string} english key of the tables; {name} stands for a value
 * @param {Record<string, any>} [values]
 */
export function t(english, values = {}) {
  return (table[english] ?? english).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

export function language() {
  return document.documentElement.lang || "en";
}

/** A number as the language writes it. @param {number} value @param {number} [digits] after the point */
export function number(value, digits = 0) {
  return value.toLocaleString(language(), { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

// Says everything in another language; one that cannot be loaded leaves English.
export async function setLanguage(name, isKept = false) {
  const isKnown = Object.hasOwn(LANGUAGES, name) && name !== "en";
  const loaded = isKnown ? await loadTable(name).catch(() => null) : {};
  table = loaded ?? {};
  document.documentElement.lang = isKnown && loaded ? name : "en";
  if (isKept) keep(name);
  translate(document.body);
  document.dispatchEvent(new CustomEvent("language"));
}

function keep(name) {
  try {
    localStorage.setItem(LANGUAGE_KEY, name);
  } catch {
    // Sandboxed frames have no storage.
  }
}

// Texts and names that stand in the page, except what data-own marks: names of people, places and photos.
function translate(/** @type {Element} */ root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT, (node) => {
    const isCode = node instanceof Element && node.matches("script, style");
    return isCode || node.parentElement?.closest("[data-own]") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT;
  });
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node instanceof Element) {
      for (const name of node.closest("[data-said]") ? [] : ATTRIBUTES) {
        if (node.hasAttribute(name)) node.setAttribute(name, t(original(node, name, node.getAttribute(name))));
      }
    } else if (node.nodeValue.trim() && isStatic(node)) {
      const english = original(node, "text", node.nodeValue);
      node.nodeValue = english.replace(english.trim(), () => t(english.trim()));
    }
  }
}

// What a script has put there is said again by that script.
function isStatic(/** @type {Node} */ node) {
  return !node.parentElement.closest("output, [data-said]");
}

function original(node, name, found) {
  if (!originals.has(node)) originals.set(node, {});
  return (originals.get(node)[name] ??= found);
}
