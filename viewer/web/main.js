// @ts-check
// Puts the page together and publishes window.smerf.

import { showAbout } from "./about.js";
import { publishScene } from "./api.js";
import { Progress } from "./assets.js";
import { announce } from "./bridge.js";
import { Embedding } from "./embedded.js";
import { language, setLanguage, t } from "./language.js";
import { keepOffline } from "./offline.js";
import { openScene } from "./scene.js";
import { loadShaderSources } from "./shaders.js";
import { Tools } from "./tools.js";
import { Page, metaContent } from "./ui.js";
import { readSettings } from "./url.js";
import { Viewer } from "./viewer.js";

const isOn = (name) => new RegExp(`[?&]${name}=(1|true)\\b`).test(location.search);
const isOff = (name) => new RegExp(`[?&]${name}=(0|false)\\b`).test(location.search);

async function start() {
  const page = new Page(!isOff("ui"));
  const viewer = new Viewer(page);
  publishScene(viewer);
  await setLanguage(language());
  try {
    viewer.embedding = isOn("embed") ? new Embedding(page) : null;
    await viewer.embedding?.begin();
    const settings = readSettings(location);
    const address = settings.dir ?? metaContent("smerf-scene");
    if (!address) throw new Error(t("No scene is named: add ?dir=FOLDER to the address of this page."));
    await open(page, viewer, settings, address);
    announce("opened");
    if (!settings.embed && page.isVisible) page.help.coach();
    keepOffline(viewer);
  } catch (error) {
    announce("failed", { error: error.message });
    viewer.loop.fail(error);
    if (error.isPassing) addEventListener("online", () => location.reload());
  }
}

/** @param {Page} page @param {Viewer} viewer @param {Record<string, any>} settings @param {string} address */
async function open(page, viewer, settings, address) {
  const changed = (/** @type {Progress} */ state) => {
    page.loading.show(state);
    announce("progress", { loaded: state.loaded, total: state.total });
  };
  const progress = new Progress(changed, (text) => page.tell("network", text));
  page.loading.show(progress);
  const fetched = Promise.all([openScene(address, progress, settings.overrides), loadShaderSources()]);
  // Drivers may take a second to start, during which the first files arrive.
  fetched.catch(() => {});
  await viewer.chooseBackend(settings, fetched);
  await viewer.open(progress);
  viewer.tools = new Tools(viewer, page);
  showAbout();
  page.warn([...settings.problems, ...viewer.scene.problems, ...viewer.tools.objects.problems]);
  viewer.loop.open();
}

start();
