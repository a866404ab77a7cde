// @ts-check
// The help: what mouse, keys, fingers and gamepad do, the device in use first; and a first-visit card with three of them.

/** @returns {any} */
const $ = (id) => document.getElementById(id);
// What ends the first steps: anything that is done outside their card.
const ENDS = ["click", "pointerdown", "wheel", "keydown"];
const SEEN_KEY = "smerf-coach";

export class Help {
  constructor(canvas) {
    this.canvas = canvas;
    this.dialog = $("help");
    this.device = matchMedia("(pointer: coarse)").matches ? "touch" : "mouse";
    this.dialog.addEventListener("close", () => canvas.focus());
    // A click beside the help closes it.
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    for (const radio of this.#radios) radio.addEventListener("change", () => this.#show(radio.value));
    addEventListener("gamepadconnected", () => (this.device = "gamepad"));
    canvas.addEventListener("pointerdown", ({ pointerType }) => (this.device = pointerType === "touch" ? "touch" : "mouse"));
    canvas.addEventListener("keydown", ({ key }) => key.length === 1 && key !== "?" && (this.device = "keyboard"));
  }

  /** @returns {any[]} */
  get #radios() {
    return [.../** @type {any} */ (document.getElementsByName("device"))];
  }

  get isOpen() {
    return this.dialog.open;
  }

  toggle() {
    if (this.isOpen) return this.dialog.close();
    this.#show(this.device);
    this.dialog.showModal();
    $("help-title").focus();
  }

  #show(device) {
    for (const radio of this.#radios) {
      radio.checked = radio.value === device;
      $(`help-${radio.value}`).hidden = radio.value !== device;
    }
  }

  // Three gestures for who is here for the first time; gone with the first move, and remembered.
  coach() {
    if (isSeen()) return;
    const card = $("coach");
    $("coach-touch").hidden = this.device !== "touch";
    $("coach-mouse").hidden = this.device === "touch";
    card.hidden = false;
    const end = (event) => {
      const isPressed = event.type === "click" && event.target === $("coach-end");
      if ((card.contains(event.target) && !isPressed) || (event.key === "Tab" && event.type === "keydown")) return;
      card.hidden = true;
      if (isPressed) this.canvas.focus({ preventScroll: true });
      remember();
      for (const name of ENDS) removeEventListener(name, end, true);
    };
    for (const name of ENDS) addEventListener(name, end, true);
  }
}

function isSeen() {
  try {
    return localStorage.getItem(SEEN_KEY) !== null;
  } catch {
    // Without storage the card would come back at every visit.
    return true;
  }
}

function remember() {
  try {
    localStorage.setItem(SEEN_KEY, "1");
  } catch {
    // It comes again.
  }
}
