// Source texts of the shaders. In the source tree they are fetched from viewer/shaders; an exported site replaces
// this module by one that holds the texts.

const FILES = [
  "prologue_web.glsl", "screen.vert", "march.frag", "shade.frag",
  "chunks/appearance.glsl", "chunks/contract.glsl", "chunks/regions.glsl",
];

export async function loadShaderSources() {
  const root = new URL("../shaders/", import.meta.url);
  const texts = await Promise.all(
    FILES.map(async (name) => {
      const response = await fetch(new URL(name, root));
      if (!response.ok) throw new Error(`The shader ${name} could not be loaded (HTTP ${response.status}).`);
      return response.text();
    }),
  );
  return Object.fromEntries(FILES.map((name, i) => [name, texts[i]]));
}
