// @ts-check
// Puts the page of a scene of slots together and publishes window.smerf.

import { announce } from "../bridge.js";
import { publishSlots } from "./api.js";
import { openSlots } from "./data.js";
import { SlotPage } from "./page.js";
import { loadSlotShaders } from "./shaders.js";
import { readSlotSettings } from "./settings.js";
import { SlotViewer } from "./viewer.js";

const WARNING_MS = 12000;

async function start() {
  const page = new SlotPage(!/[?&]ui=(0|false)\b/.test(location.search));
  const viewer = new SlotViewer(page);
  publishSlots(viewer);
  try {
    const settings = readSlotSettings(location);
    const address = settings.dir ?? document.querySelector("meta[name=smerf-scene]")?.getAttribute("content");
    if (!address) throw new Error("No scene is named: add ?dir=FOLDER to the address of this page.");
    const [scene, sources] = await Promise.all([openSlots(address), loadSlotShaders()]);
    viewer.open(scene, sources, settings);
    if (settings.problems.length) page.notify(settings.problems.join(" "), WARNING_MS);
    announce("opened");
  } catch (error) {
    viewer.loop.fail(error);
  }
}

start();
