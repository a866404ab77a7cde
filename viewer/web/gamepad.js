// @ts-check
// Gamepads in the standard layout: the left stick moves, the right one looks, the shoulders go down and up, the triggers
// slow down and speed up. Buttons act once when pressed.

const DEAD_ZONE = 0.1;
const SLOW = 0.25;
const FAST = 4;
// Buttons of the standard layout.
const BUTTONS = {
  x: 2, y: 3, leftShoulder: 4, rightShoulder: 5, leftTrigger: 6, rightTrigger: 7, back: 8, start: 9, left: 14, right: 15,
};

export class Gamepads {
  // actions: functions by the names in BUTTONS.
  constructor(controls, actions) {
    this.controls = controls;
    this.actions = actions;
    this.held = new Set();
    this.isRunning = false;
    this.last = 0;
    addEventListener("gamepadconnected", () => this.#run());
    if (this.#pad()) this.#run();
  }

  #pad() {
    return navigator.getGamepads?.().find((pad) => pad?.connected && pad.mapping === "standard") ?? null;
  }

  #run() {
    if (this.isRunning) return;
    this.isRunning = true;
    this.last = performance.now();
    const step = (now) => {
      const pad = this.#pad();
      this.isRunning = !!pad;
      if (!pad) return;
      this.#read(pad, Math.min(0.1, Math.max(0, (now - this.last) / 1000)));
      this.last = now;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  #read(pad, dt) {
    const value = (name) => pad.buttons[BUTTONS[name]]?.value ?? 0;
    const [right, back, yaw, pitch] = pad.axes.map(withoutDeadZone);
    const rise = value("rightShoulder") - value("leftShoulder");
    const factor = SLOW ** value("leftTrigger") * FAST ** value("rightTrigger");
    if (right || back || rise) this.controls.walk([right, rise, -back], factor, dt);
    if (yaw || pitch) this.controls.look(yaw, pitch, dt);
    for (const [name, action] of Object.entries(this.actions)) {
      const isHeld = value(name) > 0.5;
      if (isHeld && !this.held.has(name)) action();
      this.held[isHeld ? "add" : "delete"](name);
    }
  }
}

function withoutDeadZone(value) {
  if (Math.abs(value) <= DEAD_ZONE) return 0;
  return (Math.sign(value) * (Math.abs(value) - DEAD_ZONE)) / (1 - DEAD_ZONE);
}
