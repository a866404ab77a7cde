// @ts-check
// Puts the page together and publishes window.smerf.

import { Progress } from "./assets.js";
import { openScene } from "./scene.js";
import { loadShaderSources } from "./shaders.js";
import { readSettings } from "./url.js";
import { Page, metaContent } from "./ui.js";
import { Viewer } from "./viewer.js";
import { publishScene } from "./api.js";
import { announce } from "./bridge.js";
import { Tools } from "./tools.js";

async function start() {
  const page = new Page(!/[?&]ui=(0|false)\b/.test(location.search));
  const viewer = new Viewer(page);
  publishScene(viewer);
  try {
    const settings = readSettings(location);
    const address = settings.dir ?? metaContent("smerf-scene");
    if (!address) throw new Error("No scene is named: add ?dir=FOLDER to the address of this page.");
    const progress = new Progress((state) => page.showProgress(state), (text) => page.tell("network", text));
    const fetched = Promise.all([openScene(address, progress, settings.overrides), loadShaderSources()]);
    // Drivers may take a second to start, during which the first files arrive.
    fetched.catch(() => {});
    viewer.createContext();
    const [scene, sources] = await fetched;
    await viewer.open(scene, sources, settings, progress);
    viewer.tools = new Tools(viewer, page);
    page.warn(settings.problems);
    viewer.loop.open();
    announce();
  } catch (error) {
    viewer.loop.fail(error);
  }
}

start();
