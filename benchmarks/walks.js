// Random walks by the page's own walker, evaluated by walks.py in a page that has the viewer's modules beside it.
async ({ place, eye, step, steps, dt, walks }) => {
  const { Place, Walker, bodyOfEye } = await import(new URL("./walk.js", document.baseURI).href);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const grid = (given) => given && { cells: given.cells, data: bytes(given.data) };
  const ground = new Place(place.frame, grid(place.solid), grid(place.known), place.stands);
  const body = bodyOfEye(eye);
  const chest = 0.5 * (body.eye - body.step);

  // Mulberry32: the same walk for the same seed everywhere.
  const generator = (seed) => () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

  return walks.map(({ start, seed }) => {
    const random = generator(seed);
    const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const walker = new Walker(ground, body, start);
    walker.spawn();
    // How far a step gets.
    const go = (heading) => {
      const before = walker.position;
      walker.move(step * Math.cos(heading), step * Math.sin(heading), dt);
      return distance(walker.position, before);
    };
    const here = () => [walker.x, walker.y, walker.position[2] - chest];
    const way = [here()];
    let heading = 2 * Math.PI * random();
    let late = 0;
    for (let i = 0; i < steps; i++) {
      const went = go(heading);
      way.push(here());
      if (2 * i >= steps) late += went;
      heading += went > 0.5 * step ? 0.3 * normal() : 0.5 + (Math.PI - 0.5) * random();
    }
    const turns = Array.from({ length: 16 }, (_, turn) => (turn * Math.PI) / 8);
    return { way, late, canGo: turns.some((turn) => go(turn) > 0.5 * step) };
  });
}
