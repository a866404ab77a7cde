// @ts-check
// The parameters of the page's address; they are a part of those of a baked scene's page, spelt and checked alike.

import { readSettings } from "../url.js";

export function readSlotSettings(location) {
  const { dir, fov, pos, look, dpr, quality, size, problems } = readSettings(location);
  return { dir, fov, pos, look, dpr, quality, size, problems };
}
