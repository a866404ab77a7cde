// @ts-check
// What one looks at: title, description, author, date and licence, which the export has put into the page's head.

import { language, t } from "./language.js";
import { $, metaContent } from "./ui.js";

const LICENCES = {
  "CC0": "https://creativecommons.org/publicdomain/zero/1.0/",
  "CC BY": "https://creativecommons.org/licenses/by/4.0/",
  "CC BY-SA": "https://creativecommons.org/licenses/by-sa/4.0/",
  "CC BY-NC": "https://creativecommons.org/licenses/by-nc/4.0/",
  "CC BY-NC-SA": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
  "CC BY-ND": "https://creativecommons.org/licenses/by-nd/4.0/",
  "CC BY-NC-ND": "https://creativecommons.org/licenses/by-nc-nd/4.0/",
};

// Fills the card; where the export named nothing there is none.
export function showAbout() {
  $("page-title").textContent = document.title;
  const title = metaContent("smerf-title");
  if (!title) return;
  $("button-about").hidden = false;
  $("button-about").firstElementChild.textContent = title;
  $("about-title").textContent = title;
  $("about-text").textContent = metaContent("description") ?? "";
  const facts = () => $("about-facts").replaceChildren(...factNodes());
  document.addEventListener("language", facts);
  facts();
}

function factNodes() {
  const [author, date, licence] = ["author", "date", "smerf-licence"].map(metaContent);
  const parts = [];
  if (author) parts.push(t("By {name}", { name: author }));
  if (date) parts.push(longDate(date));
  if (licence) parts.push(licenceNode(licence));
  return parts.flatMap((part, i) => (i ? [" · ", part] : [part]));
}

// A day as the language writes it; anything else, such as a year, stays as it is.
function longDate(/** @type {string} */ text) {
  const day = /^\d{4}-\d{2}-\d{2}$/.test(text) ? new Date(`${text}T00:00:00Z`) : null;
  if (!day || Number.isNaN(day.valueOf())) return text;
  return day.toLocaleDateString(language(), { dateStyle: "long", timeZone: "UTC" });
}

function licenceNode(/** @type {string} */ text) {
  const address = /^https?:\/\//.test(text) ? text : LICENCES[text.replace(/ \d\.\d$/, "")];
  if (!address) return text;
  const link = { href: address, target: "_blank", rel: "license noopener", textContent: text };
  return Object.assign(document.createElement("a"), link);
}
