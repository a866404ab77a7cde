// Everything on the page that is not the canvas: progress, messages, statistics, help, buttons.

const $ = (id) => document.getElementById(id);

export class Page {
  constructor(isVisible) {
    this.isVisible = isVisible;
    this.canvas = $("view");
    this.statisticsShown = false;
  }

  // Connects buttons and keys; actions: mode, reset, share, statistics, play.
  connect(actions) {
    $("toolbar").hidden = !this.isVisible;
    const press = (id, action) =>
      $(id).addEventListener("click", (event) => {
        action();
        // A click with the mouse gives the keyboard back to the scene.
        if (event.detail > 0) this.canvas.focus();
      });
    press("button-mode", () => actions.mode(this.mode === "orbit" ? "fly" : "orbit"));
    press("button-play", actions.play);
    press("button-reset", actions.reset);
    press("button-share", actions.share);
    press("button-statistics", () => this.toggleStatistics());
    $("button-help").addEventListener("click", () => this.toggleHelp());
    $("help").addEventListener("close", () => this.canvas.focus());
    const keys = {
      Digit1: () => actions.mode("orbit"),
      Digit2: () => actions.mode("fly"),
      KeyR: actions.reset,
      KeyC: actions.share,
      KeyI: () => this.toggleStatistics(),
      KeyH: () => this.toggleHelp(),
      Space: actions.play,
    };
    this.canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      const action = event.key === "?" ? keys.KeyH : keys[event.code];
      if (!action || !this.isVisible) return;
      event.preventDefault();
      action();
    });
  }

  setMode(mode) {
    this.mode = mode;
    const [name, other] = mode === "orbit" ? ["Orbit", "fly"] : ["Fly", "orbit"];
    $("button-mode").textContent = name;
    $("button-mode").setAttribute("aria-label", `Camera mode: ${mode}. Switch to ${other}`);
  }

  setPlaying(isPlaying) {
    $("button-play").hidden = false;
    $("button-play").textContent = isPlaying ? "Pause" : "Play";
    $("button-play").setAttribute("aria-pressed", String(isPlaying));
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
    $("button-statistics").setAttribute("aria-pressed", String(this.statisticsShown));
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

  notify(text) {
    $("notice").textContent = text;
    $("notice").hidden = !this.isVisible;
    clearTimeout(this.noticeTimer);
    this.noticeTimer = setTimeout(() => ($("notice").hidden = true), 2500);
  }

  showStatistics(stats) {
    if (!this.statisticsShown) return;
    const rows = {
      "Frame time": `${stats.frameMs.toFixed(1)} ms`,
      "Frames per second": stats.fps.toFixed(1),
      "Rendered size": `${stats.renderWidth} x ${stats.renderHeight}`,
      "Canvas": `${stats.width} x ${stats.height}`,
      "Submodel": `${stats.submodel} of ${stats.submodels}`,
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

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
}
