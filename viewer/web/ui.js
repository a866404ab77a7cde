// @ts-check
// Everything on the page that is not the canvas: progress, messages, statistics, help, the dock and the keys.

const NOTICE_MS = 2500;
const WARNING_MS = 12000;

/** The element of the page with this id, of whatever kind it is there. @returns {any} */
export const $ = (id) => document.getElementById(id);

export class Page {
  constructor(isVisible) {
    this.isVisible = isVisible;
    /** @type {HTMLCanvasElement} */
    this.canvas = $("view");
    this.statisticsShown = false;
    this.lastStatistics = null;
    this.noticeTimer = 0;
    this.mode = "orbit";
    /** What keys do while the scene has the focus, by their codes. @type {Record<string, () => void>} */
    this.keys = {};
    /** @type {Map<string, string>} */
    this.messages = new Map();
    this.canvas.addEventListener("keydown", (event) => this.#press(event));
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.closePanels());
    $("help").addEventListener("close", () => this.canvas.focus());
    // A click beside the help closes it.
    $("help").addEventListener("click", (event) => event.target === $("help") && $("help").close());
    for (const button of document.querySelectorAll(".tray .close")) {
      button.addEventListener("click", () => this.showPanel(button.closest(".tray").id, false));
    }
  }

  // Connects buttons and keys; actions: mode, reset, share, play.
  connect(actions) {
    for (const id of ["dock", "bottom", "corner"]) $(id).hidden = !this.isVisible;
    this.press("button-orbit", () => actions.mode("orbit"), "Digit1");
    this.press("button-fly", () => actions.mode("fly"), "Digit2");
    this.press("button-walk", () => actions.mode("walk"), "Digit3");
    this.press("button-reset", actions.reset, "KeyR");
    this.press("button-share", actions.share, "KeyC");
    this.press("button-play", actions.play);
    this.press("path-play", actions.play, "Space");
    this.keys.KeyI = () => this.toggleStatistics();
    this.keys.KeyH = () => this.toggleHelp();
    this.keys.KeyU = () => this.toggleControls();
    $("button-help").addEventListener("click", () => this.toggleHelp());
    for (const [button, panel] of [["button-settings", "settings"], ["button-path", "path"], ["button-photos", "photos"]]) {
      this.press(button, () => this.showPanel(panel, $(panel).hidden));
    }
  }

  // A button's action; `code` names the key that does the same while the scene has the focus.
  press(id, action, code = null) {
    $(id).addEventListener("click", (event) => {
      action();
      // A click with the mouse gives the keyboard back to the scene.
      if (event.detail > 0) this.canvas.focus({ preventScroll: true });
    });
    if (code) this.keys[code] = () => $(id).disabled || action();
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !this.isVisible) return;
    const action = event.key === "?" ? this.keys.KeyH : this.keys[event.code];
    if (!action) return;
    event.preventDefault();
    action();
  }

  // Panels: settings, and one tray at a time above the dock.
  showPanel(name, isShown) {
    if (isShown && name !== "settings") {
      for (const tray of document.querySelectorAll(".tray")) this.#show(tray.id, tray.id === name);
    }
    else this.#show(name, isShown);
  }

  #show(name, isShown) {
    const hadFocus = $(name).contains(document.activeElement);
    $(name).hidden = !isShown;
    $(`button-${name}`).setAttribute("aria-expanded", String(isShown));
    if (!isShown && hadFocus) $(`button-${name}`).focus();
    $(name).dispatchEvent(new CustomEvent(isShown ? "shown" : "hidden"));
  }

  closePanels() {
    if ($("help").open) return;
    document.body.classList.remove("bare");
    for (const name of ["settings", "path", "photos"]) if (!$(name).hidden) this.showPanel(name, false);
  }

  toggleControls() {
    if (document.body.classList.toggle("bare")) this.notify("U brings the controls back");
  }

  setMode(mode) {
    this.mode = mode;
    for (const name of ["orbit", "fly", "walk"]) $(`button-${name}`).setAttribute("aria-pressed", String(mode === name));
  }

  setPlaying(isPlaying) {
    for (const id of ["button-play", "path-play"]) {
      $(id).setAttribute("aria-label", isPlaying ? "Pause" : "Play");
      $(id).querySelector("use").setAttribute("href", isPlaying ? "#i-pause" : "#i-play");
    }
  }

  toggleHelp() {
    if ($("help").open) $("help").close();
    else {
      $("help").showModal();
      $("help-title").focus();
    }
  }

  toggleStatistics() {
    this.statisticsShown = !this.statisticsShown;
    $("statistics").hidden = !this.statisticsShown;
    $("set-statistics").checked = this.statisticsShown;
    if (this.statisticsShown && this.lastStatistics) this.showStatistics(this.lastStatistics);
  }

  showProgress(progress) {
    const fraction = progress.total ? progress.loaded / progress.total : 0;
    const percent = Math.floor(100 * fraction);
    $("progress").setAttribute("aria-valuenow", String(percent));
    $("progress").firstElementChild.style.width = `${100 * fraction}%`;
    const text = `${megabytes(progress.loaded)} of ${progress.exact ? "" : "about "}${megabytes(progress.total)} MB`;
    $("progress").setAttribute("aria-valuetext", `${percent} %, ${text}`);
    $("progress-text").textContent = `Loading: ${text}`;
    $("loading").hidden = !this.isVisible;
  }

  hideProgress() {
    $("progress").setAttribute("aria-valuenow", "100");
    $("loading").hidden = true;
  }

  // A problem that the visitor must read; shown even where the controls are hidden. null takes it away.
  showMessage(text) {
    $("message").hidden = text === null;
    $("message").textContent = text ?? "";
    if (text !== null) $("loading").hidden = true;
  }

  // Shows the newest sentence of those that still hold; null takes the one of this kind away.
  tell(kind, text) {
    if (!this.messages.delete(kind) && text === null) return;
    if (text !== null) this.messages.set(kind, text);
    this.showMessage([...this.messages.values()].pop() ?? null);
  }

  notify(text, ms = NOTICE_MS) {
    $("notice").textContent = text;
    $("notice").hidden = !this.isVisible;
    clearTimeout(this.noticeTimer);
    this.noticeTimer = setTimeout(() => ($("notice").hidden = true), ms);
  }

  /** Tells of values in the address that were not taken. @param {string[]} problems */
  warn(problems) {
    if (!problems.length) return;
    console.warn(problems.join("\n"));
    this.notify(problems.join(" "), WARNING_MS);
  }

  showStatistics(stats) {
    this.lastStatistics = stats;
    if (!this.statisticsShown) return;
    const rows = {
      "Frame time": `${stats.frameMs.toFixed(1)} ms`,
      "Frames per second": stats.fps.toFixed(0),
      "Rendered": `${stats.renderWidth} × ${stats.renderHeight}`,
      "Canvas": `${stats.width} × ${stats.height}`,
      "Submodel": stats.submodel === null ? "none" : `${stats.submodel + 1} of ${stats.submodels}`,
      "Textures": `${megabytes(stats.textureBytes)} MB`,
      "Downloaded": `${megabytes(stats.loadedBytes)} MB`,
    };
    $("statistics").replaceChildren(
      ...Object.entries(rows).flatMap(([name, value]) => {
        const [term, detail] = [document.createElement("dt"), document.createElement("dd")];
        term.textContent = name;
        detail.textContent = value;
        return [term, detail];
      }),
    );
  }
}

/** Content of the page's meta tag of this name; null where there is none. @param {string} name */
export function metaContent(name) {
  return document.querySelector(`meta[name="${name}"]`)?.getAttribute("content") ?? null;
}

// Offers a blob to be kept as a file.
export function saveAs(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
}
