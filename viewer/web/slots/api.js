// @ts-check
// What scripts and embedding pages may do with a scene of slots: the verbs of ../bridge.js. Slots go by their numbers.

import { publish } from "../bridge.js";

/** @param {import("./viewer.js").SlotViewer} viewer */
export function publishSlots(viewer) {
  const finished = async (/** @type {() => void} */ change) => {
    await viewer.loop.opened;
    change();
    await viewer.loop.whenFinished();
  };
  const verbs = {
    // cameraToWorld: 12 or 16 numbers, rows, OpenGL axes in world units; fovDegrees: vertical.
    setCamera: (cameraToWorld, fovDegrees) => finished(() => viewer.setCamera(cameraToWorld, fovDegrees)),
    getCamera: () => viewer.getCamera(),
    stats: () => viewer.stats(),
    // [{ number, colour, share, isBackground, isVisible }]; numbers from 1.
    slots: () => viewer.slots(),
    setVisible: (number, isVisible) => finished(() => viewer.setVisible(number, isVisible)),
    // null takes the highlight away.
    setHighlight: (number) => finished(() => viewer.setHighlight(number)),
    setMasks: (areShown) => finished(() => viewer.setMasks(areShown)),
  };
  publish(verbs, () => viewer.loop.whenFinished());
}
