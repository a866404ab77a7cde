// @ts-check
// Notes in the scene: numbered marks, the card of the one that is read, and the editor with undo, files and views.

import { announce } from "./bridge.js";
import { annotationsJson, parseAnnotations, safeLink } from "./annotations.js";
import { t } from "./language.js";
import { parseJson } from "./pathpanel.js";
import { $, metaContent, saveAs, siteJson } from "./ui.js";

const MAX_UNDO = 100;
const FIELDS = /** @type {const} */ (["title", "text", "link"]);

export class Notes {
  /**
   * @param {import("./viewer.js").Viewer} viewer @param {import("./ui.js").Page} page
   * @param {import("./marks.js").Marks} marks @param {import("./measure.js").Measure} measure
   */
  constructor(viewer, page, marks, measure) {
    this.viewer = viewer;
    this.page = page;
    this.marks = marks;
    this.measure = measure;
    /** @type {readonly import("./annotations.js").Note[]} */
    this.notes = [];
    /** What was before, and what was undone. @type {{ past: any[], future: any[] }} */
    this.history = { past: [], future: [] };
    this.chosen = -1;
    /** @type {Set<number>} */
    this.hidden = new Set();
    this.tool = { take: (point) => this.#add(point), end: () => this.#stop() };
    marks.layers.push(this);
    this.#listen();
    this.#load();
  }

  async #load() {
    const address = metaContent("smerf-annotations");
    const file = address ? await siteJson(address) : null;
    if (!file) return;
    try {
      this.take(file, address);
    } catch (error) {
      this.page.notify(error.message);
    }
  }

  // Takes the notes and distances of a file.
  take(file, name) {
    const { notes, distances, metres } = parseAnnotations(file, name);
    this.measure.take(distances, metres);
    this.#change(notes, -1);
    this.history = { past: [], future: [] };
    this.#draw();
  }

  json() {
    return annotationsJson(this.notes, this.measure.distances, this.measure.units.metres);
  }

  // Shows a note: its card, and its view.
  open(index) {
    const note = this.notes[index];
    if (!note) throw new Error(`There is no annotation ${index}.`);
    this.chosen = index;
    this.#draw();
    this.#drawCard();
    if (note.camera) this.viewer.flyTo({ ...note.camera, target: note.position });
    announce("annotation", { index, title: note.title });
  }

  close() {
    this.chosen = -1;
    this.#draw();
  }

  #listen() {
    const { page } = this;
    page.keys.KeyN = () => page.showPanel("notes", $("notes").hidden);
    page.press("notes-add", () => (this.marks.tool === this.tool ? this.marks.use(null) : this.#begin()));
    page.press("notes-undo", () => this.#travel("past", "future"));
    page.press("notes-redo", () => this.#travel("future", "past"));
    page.press("notes-save", () => this.#save());
    page.press("note-view", () => this.#edit({ camera: this.#camera() }));
    page.press("note-remove", () => this.#change(this.notes.filter((_, i) => i !== this.chosen), -1));
    page.press("note-close", () => this.close());
    page.press("note-edit", () => page.showPanel("notes", true));
    page.press("note-back", () => this.#step(-1));
    page.press("note-next", () => this.#step(1));
    $("notes-open").addEventListener("click", () => $("notes-file").click());
    $("notes-file").addEventListener("change", () => this.#read());
    $("note-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.chosen = -1;
      this.#draw();
      $("notes-add").focus();
    });
    for (const name of FIELDS) {
      $(`note-${name}`).addEventListener("change", () => this.#edit({ [name]: $(`note-${name}`).value }));
    }
    $("notes").addEventListener("shown", () => this.#draw());
    $("notes").addEventListener("hidden", () => {
      if (this.marks.tool === this.tool) this.marks.use(null);
      this.close();
    });
    document.addEventListener("language", () => this.#draw());
    $("notes").addEventListener("keydown", (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.target.matches("input, textarea")) return;
      const [from, to] = event.code === "KeyZ" && !event.shiftKey ? ["past", "future"] : ["future", "past"];
      if (event.code !== "KeyZ" && event.code !== "KeyY") return;
      event.preventDefault();
      this.#travel(from, to);
    });
  }

  // Editing --------------------------------------------------------------------------------------------------------

  #begin() {
    this.marks.use(this.tool);
    this.page.canvas.focus({ preventScroll: true });
    this.chosen = -1;
    this.#draw();
  }

  #stop() {
    $("notes-add").setAttribute("aria-pressed", "false");
  }

  #camera() {
    return { matrix: this.viewer.controls.matrix.slice(), fov: this.viewer.fov };
  }

  #add(position) {
    const note = { title: "", text: "", link: "", position, camera: this.#camera() };
    this.#change([...this.notes, note], this.notes.length);
    this.marks.use(null);
    this.#draw();
    $("note-title").focus();
  }

  #edit(fields) {
    if (this.chosen < 0) return;
    const made = { ...this.notes[this.chosen], ...fields };
    this.#change(this.notes.map((note, i) => (i === this.chosen ? made : note)), this.chosen);
    if (fields.camera) this.page.notify(t("The note opens at this view"));
  }

  #change(notes, chosen) {
    const { past } = this.history;
    this.history = { past: [...past.slice(-MAX_UNDO), this.notes], future: [] };
    this.#set(notes, chosen);
  }

  #travel(from, to) {
    const notes = this.history[from].pop();
    if (!notes) return;
    this.history[to].push(this.notes);
    this.#set(notes, Math.min(this.chosen, notes.length - 1));
  }

  #set(notes, chosen) {
    this.notes = notes;
    this.chosen = chosen;
    this.hidden.clear();
    this.#draw();
  }

  #save() {
    const name = "annotations.json";
    saveAs(new Blob([JSON.stringify(this.json(), null, 1)], { type: "application/json" }), name);
    this.page.notify(t("Saved {name}", { name }));
  }

  async #read() {
    const [file] = $("notes-file").files;
    $("notes-file").value = "";
    if (!file) return;
    try {
      this.take(parseJson(await file.text()), file.name);
      this.page.notify(`${file.name}: ${t("Notes: {n}", { n: this.notes.length })}`);
    } catch (error) {
      this.page.notify(error.message);
    }
  }

  #step(by) {
    const count = this.notes.length;
    this.open((this.chosen + by + count) % count);
  }

  // What is shown --------------------------------------------------------------------------------------------------

  #draw() {
    const isTaking = this.marks.tool === this.tool;
    const isEmpty = !this.notes.length;
    const count = isEmpty ? t("No notes yet") : t("Notes: {n}", { n: this.notes.length });
    $("notes-text").textContent = isTaking ? t("Click where the note belongs") : count;
    $("notes-add").setAttribute("aria-pressed", String(isTaking));
    $("notes-undo").disabled = !this.history.past.length;
    $("notes-redo").disabled = !this.history.future.length;
    $("notes-save").disabled = isEmpty && !this.measure.distances.length;
    const focused = [...$("notes-list").children].findIndex((item) => item.contains(document.activeElement));
    $("notes-list").replaceChildren(...this.notes.map((note, index) => this.#entry(note, index)));
    if (focused >= 0) $("notes-list").children[Math.min(focused, this.notes.length - 1)]?.firstElementChild.focus();
    this.#drawForm();
    this.#drawCard();
    this.#makeMarks();
    this.marks.follow();
  }

  #entry(note, index) {
    const [item, button] = [document.createElement("li"), document.createElement("button")];
    Object.assign(button, { type: "button", textContent: `${index + 1} ${note.title || t("Untitled")}` });
    button.setAttribute("aria-current", String(index === this.chosen));
    button.addEventListener("click", () => this.open(index));
    item.append(button);
    return item;
  }

  #drawForm() {
    const note = this.notes[this.chosen];
    $("note-form").hidden = !note;
    for (const name of note ? FIELDS : []) {
      if ($(`note-${name}`).value !== note[name]) $(`note-${name}`).value = note[name];
    }
  }

  #drawCard() {
    const note = this.notes[this.chosen];
    // The editor shows the same.
    $("note-card").hidden = !note || !$("notes").hidden;
    if (!note) return;
    const link = safeLink(note.link);
    $("note-number").textContent = t("{n} of {count}", { n: this.chosen + 1, count: this.notes.length });
    $("note-name").textContent = note.title || t("Untitled");
    $("note-words").textContent = note.text;
    $("note-words").hidden = !note.text;
    $("note-address").hidden = !link;
    if (link) Object.assign($("note-address"), { href: link, textContent: link.replace(/^https?:\/\/(www\.)?|\/$/g, "") });
    $("note-back").disabled = $("note-next").disabled = this.notes.length < 2;
  }

  #makeMarks() {
    const { root } = this.marks;
    root.querySelectorAll(".mark").forEach((old) => old.remove());
    root.append(
      ...this.notes.map((note, index) => {
        const mark = document.createElement("button");
        Object.assign(mark, { type: "button", className: "mark", textContent: String(index + 1) });
        mark.setAttribute("aria-label", `${t("Note {n}", { n: index + 1 })}: ${note.title || t("Untitled")}`);
        mark.setAttribute("aria-current", String(index === this.chosen));
        mark.addEventListener("click", () => this.open(index));
        return mark;
      }),
    );
  }

  // Puts the marks where their points are now.
  draw(marks) {
    marks.root.querySelectorAll(".mark").forEach((/** @type {HTMLElement} */ mark, index) => {
      const place = marks.place(this.notes[index].position);
      mark.hidden = !place;
      mark.classList.toggle("behind", this.hidden.has(index));
      if (place) mark.style.transform = `translate(-50%, -50%) translate(${place.x}px, ${place.y}px)`;
    });
  }

  // The image stands still: which marks are behind something?
  settle() {
    this.hidden.clear();
    this.notes.forEach(({ position }, index) => {
      const place = this.marks.place(position);
      if (place && this.marks.isHidden(place)) this.hidden.add(index);
    });
    this.draw(this.marks);
  }
}
