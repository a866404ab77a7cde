// @ts-check
// Keeps an exported page for visits without a connection, where its export asked for that (sw.js does the work).

import { t } from "./language.js";
import { metaContent } from "./ui.js";

/** @param {import("./viewer.js").Viewer} viewer */
export async function keepOffline(viewer) {
  const { serviceWorker } = navigator;
  if (metaContent("smerf-offline") !== "1" || !serviceWorker) return;
  serviceWorker.addEventListener("message", ({ data }) => {
    if (data === "kept") viewer.page.notify(t("From now on this place also opens without a connection"));
  });
  try {
    await serviceWorker.register("sw.js");
    const { active } = await serviceWorker.ready;
    // The image has the line for itself.
    await viewer.whenFinished();
    active.postMessage("keep");
  } catch {
    // Not where storage or workers are forbidden; the page works without.
  }
}
