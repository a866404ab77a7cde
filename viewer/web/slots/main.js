// @ts-check
// Puts the page of a scene of slots together and publishes window.smerf.

import { showAbout } from "../about.js";
import { announce } from "../bridge.js";
import { language, setLanguage, t } from "../language.js";
import { Page, metaContent } from "../ui.js";
import { readSettings } from "../url.js";
import { publishSlots } from "./api.js";
import { openSlots } from "./data.js";
import { loadSlotShaders } from "./shaders.js";
import { SlotTools } from "./tools.js";
import { SlotViewer } from "./viewer.js";

async function start() {
  const page = new Page(!/[?&]ui=(0|false)\b/.test(location.search));
  const viewer = new SlotViewer(page);
  publishSlots(viewer);
  await setLanguage(language());
  try {
    const settings = readSettings(location);
    const address = settings.dir ?? metaContent("smerf-scene");
    if (!address) throw new Error(t("No scene is named: add ?dir=FOLDER to the address of this page."));
    const [scene, sources] = await Promise.all([openSlots(address), loadSlotShaders()]);
    viewer.open(scene, sources, settings);
    viewer.tools = new SlotTools(viewer, page);
    showAbout();
    page.warn([...settings.problems, ...viewer.tools.problems]);
    announce("opened");
    if (page.isVisible) page.help.coach();
  } catch (error) {
    announce("failed", { error: error.message });
    viewer.loop.fail(error);
  }
}

start();
