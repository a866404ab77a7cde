// @ts-check
// Which hosts a page loads scenes and camera paths from: its own, and those that whoever runs the page has added to
// connect-src of the page's Content-Security-Policy. A link alone cannot widen that.

import { t } from "./language.js";

const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** Throws an Error with a sentence to show where the page may not load from `url`. @param {URL} url */
export function checkHost(url) {
  if (url.origin === location.origin && url.origin !== "null") return;
  if (url.protocol === location.protocol && url.protocol === "file:") return;
  if (isLoopback(url) && isLoopback(location)) return;
  const policy = document.querySelector('meta[http-equiv="Content-Security-Policy"]')?.getAttribute("content") ?? "";
  const sources = /(?:^|;)\s*connect-src\s([^;]*)/.exec(policy)?.[1].trim().split(/\s+/) ?? [];
  if (!isLoopback(url) && sources.some((source) => covers(source, url))) return;
  throw new Error(
    `${t("This page shows nothing from {host}: it loads from its own host only.", { host: url.origin })} ` +
      t("Whoever runs the page can allow that host by adding it to connect-src in index.html."),
  );
}

/** @param {{ hostname: string }} place */
function isLoopback({ hostname }) {
  return LOOPBACK.has(hostname);
}

// Whether a source expression such as https://scenes.example.org or https://*.example.org covers an address.
function covers(/** @type {string} */ source, /** @type {URL} */ url) {
  const [, scheme, any, host, port] = /^(https?):\/\/(\*\.)?([^/:*]+)(?::(\d+))?\/?$/.exec(source) ?? [];
  if (`${scheme}:` !== url.protocol) return false;
  if (port !== undefined ? port !== (url.port || (scheme === "https" ? "443" : "80")) : url.port !== "") return false;
  return any ? url.hostname.endsWith(`.${host}`) : url.hostname === host;
}
