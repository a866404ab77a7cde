// @ts-check
// The list of slots with its buttons, and messages.

/** @returns {any} */
const $ = (id) => document.getElementById(id);

export class SlotPage {
  constructor(isVisible) {
    this.isVisible = isVisible;
    /** @type {HTMLCanvasElement} */
    this.canvas = $("view");
    /** @type {Map<number, { row: HTMLElement, box: HTMLInputElement, light: HTMLElement }> | null} */
    this.rows = null;
    this.timer = 0;
  }

  // actions: visible(number, isVisible) -> whether it was done, highlight(number or null), masks(), reset()
  connect(slots, actions) {
    this.actions = actions;
    $("panel").hidden = !this.isVisible;
    this.rows = new Map();
    slots.forEach((slot, index) => {
      const row = document.createElement("li");
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
      const chip = Object.assign(document.createElement("span"), { className: "chip" });
      chip.style.background = `rgb(${slot.colour.join(" ")})`;
      const text = slot.is_background ? `Background (${slot.number})` : `Slot ${slot.number}`;
      const name = Object.assign(document.createElement("span"), { className: "name", textContent: text });
      const textContent = `${(100 * slot.share).toFixed(0)} %`;
      const share = Object.assign(document.createElement("span"), { className: "share", textContent });
      const light = Object.assign(document.createElement("button"), { type: "button", textContent: "Highlight" });
      light.setAttribute("aria-pressed", "false");
      light.setAttribute("aria-label", `Highlight slot ${slot.number}`);
      box.setAttribute("aria-label", `Slot ${slot.number} visible`);
      if (index < 9) box.setAttribute("aria-keyshortcuts", String(index + 1));
      box.addEventListener("change", () => {
        if (!actions.visible(slot.number, box.checked)) box.checked = !box.checked;
      });
      light.addEventListener("click", () => {
        actions.highlight(light.getAttribute("aria-pressed") === "true" ? null : slot.number);
      });
      label.append(box, chip, name, share);
      row.append(label, light);
      $("slots").append(row);
      this.rows.set(slot.number, { row, box, light });
    });
    $("button-masks").addEventListener("click", actions.masks);
    $("button-reset").addEventListener("click", actions.reset);
    this.canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      const digit = /^Digit([1-9])$/.exec(event.code);
      const slot = digit && slots[Number(digit[1]) - 1];
      if (slot) actions.visible(slot.number, !this.rows.get(slot.number).box.checked);
      else if (event.code === "KeyM") actions.masks();
      else if (event.code === "KeyR") actions.reset();
      else return;
      event.preventDefault();
    });
  }

  show(slots, highlight, areMasksShown) {
    if (!this.rows) return;
    for (const { number, isVisible } of slots) {
      const { row, box, light } = this.rows.get(number);
      box.checked = isVisible;
      row.classList.toggle("hidden-slot", !isVisible);
      row.classList.toggle("lit", number === highlight);
      light.setAttribute("aria-pressed", String(number === highlight));
    }
    $("button-masks").setAttribute("aria-pressed", String(areMasksShown));
  }

  showStatistics({ frameMs, renderWidth, renderHeight }) {
    $("statistics-line").textContent = `${renderWidth} × ${renderHeight} in ${frameMs.toFixed(0)} ms`;
  }

  notify(text, ms = 2500) {
    $("notice").textContent = text;
    $("notice").hidden = !this.isVisible;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => ($("notice").hidden = true), ms);
  }

  showMessage(text) {
    $("message").hidden = text === null;
    $("message").textContent = text ?? "";
  }
}
