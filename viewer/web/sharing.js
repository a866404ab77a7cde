// @ts-check
// What every page offers: a link to its view, its image as a file, full screen.

import { t } from "./language.js";
import { $, saveAs } from "./ui.js";

/** Hands out an address, which the address bar then holds. @param {import("./ui.js").Page} page @param {string} href */
export async function share(page, href) {
  history.replaceState(null, "", href);
  // Where fingers are, people know the system's own sheet better than a clipboard.
  if (navigator.share && matchMedia("(pointer: coarse)").matches) {
    await navigator.share({ title: document.title, url: href }).catch(() => {});
    return;
  }
  try {
    await navigator.clipboard.writeText(href);
    page.notify(t("Link to this view copied"));
  } catch {
    page.notify(t("The address bar now holds a link to this view"));
  }
}

/**
 * What has a canvas with images; `keep` lets it be read.
 * @typedef {{ canvas: HTMLCanvasElement, whenFinished: () => Promise<void>, keep?: () => void }} Shown
 */

/** @param {Shown} viewer @returns {Promise<Blob>} a PNG */
export async function picture(viewer) {
  await viewer.whenFinished();
  viewer.keep?.();
  return new Promise((resolve) => viewer.canvas.toBlob(resolve, "image/png"));
}

/** @param {import("./ui.js").Page} page @param {Shown} viewer */
export async function saveImage(page, viewer) {
  try {
    const name = `${document.title.replace(/[^\p{L}\p{N}._-]+/gu, "_") || "view"}.png`;
    saveAs(await picture(viewer), name);
    page.notify(t("Saved {name}", { name }));
  } catch (error) {
    page.notify(error.message);
  }
}

/** @param {import("./ui.js").Page} page */
export function connectFullScreen(page) {
  const button = $("button-full");
  button.hidden = !document.fullscreenEnabled;
  page.press("button-full", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen().catch(() => page.notify(t("Full screen is not allowed here")));
  });
  document.addEventListener("fullscreenchange", () => {
    button.setAttribute("aria-pressed", String(!!document.fullscreenElement));
  });
}
