// @ts-check
// Source texts of the shaders of the page of slots; an exported page replaces this module by one that holds the texts.

import { loadTexts } from "../shaders.js";

const FILES = ["prologue_web.glsl", "screen.vert", "slots/mixer.frag", "slots/present.frag"];

export const loadSlotShaders = () => loadTexts(FILES);
