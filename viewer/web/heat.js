// @ts-check
// Spares a device that gets hot: where the browser reports pressure, and on phones after long motion without a rest.

const LONG_MS = 60000;
const REST_MS = 3000;
const COOL_MS = 20000;
const PRESSURE_INTERVAL_MS = 5000;
const SHARE = 0.5;

export class Heat {
  constructor() {
    this.isHandheld = matchMedia("(pointer: coarse)").matches;
    this.since = 0;
    this.last = -Infinity;
    this.hotUntil = -Infinity;
    this.#observe();
  }

  // What part of its time the device may spend on images now.
  get share() {
    return performance.now() < this.hotUntil ? SHARE : 1;
  }

  // An image was drawn.
  note(now = performance.now()) {
    if (now - this.last > REST_MS) this.since = now;
    this.last = now;
    if (this.isHandheld && now - this.since > LONG_MS) this.hotUntil = now + COOL_MS;
  }

  #observe() {
    const Observer = globalThis["PressureObserver"];
    if (!Observer) return;
    const observer = new Observer((records) => {
      const { state } = records[records.length - 1];
      if (state === "serious" || state === "critical") this.hotUntil = performance.now() + COOL_MS;
    });
    observer.observe("cpu", { sampleInterval: PRESSURE_INTERVAL_MS })?.catch(() => {});
  }
}
