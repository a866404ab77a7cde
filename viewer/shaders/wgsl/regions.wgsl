// chunks/regions.glsl in WGSL: where a ray leaves the regions of the contraction. t counts near-plane distances.

const FAR_LIMIT = 1e4;
const NO_EXIT = 1e30;

// All exits of a ray, unsorted; NO_EXIT where there is none.
struct Exits {
  sums: vec3f,         // where two components are opposite: xy, yz, zx
  differences: vec3f,  // where they are equal
  cubes: vec3f,        // into the core cube, out of it, out of all that is drawn
}

// Keeps a crossing of two components only where no third one is larger, and outside the core cube.
fn crossing(o: vec3f, d: vec3f, t: f32, pair: vec3f) -> f32 {
  let a = abs(o + t * d);
  let m = max_component(a);
  return select(NO_EXIT, t, m > 1.0 && dot(a, pair) >= 2.0 * m * 0.99999);
}

fn crossings(o: vec3f, d: vec3f, t: vec3f) -> vec3f {
  return vec3f(
    crossing(o, d, t.x, vec3f(1.0, 1.0, 0.0)), crossing(o, d, t.y, vec3f(0.0, 1.0, 1.0)),
    crossing(o, d, t.z, vec3f(1.0, 0.0, 1.0)),
  );
}

fn away_from_zero(v: vec3f) -> vec3f {
  return select(v, vec3f(1e-20), abs(v) < vec3f(1e-20));
}

fn find_exits(o: vec3f, d: vec3f) -> Exits {
  let sums = crossings(o, d, -(o + o.yzx) / away_from_zero(d + d.yzx));
  let differences = crossings(o, d, (o.yzx - o) / away_from_zero(d - d.yzx));
  let inverse = 1.0 / away_from_zero(d);
  let side = sign(inverse);
  let enter = max_component((-side - o) * inverse);
  let leave = min_component((side - o) * inverse);
  let far = min_component((FAR_LIMIT * side - o) * inverse);
  let core = select(vec2f(enter, leave), vec2f(NO_EXIT), enter >= leave);
  return Exits(sums, differences, vec3f(core, far));
}

fn nearest_above(exits: vec3f, t: f32) -> f32 {
  return min_component(select(vec3f(NO_EXIT), exits, exits > vec3f(t)));
}

// The nearest exit behind t, NO_EXIT if there is none.
fn next_exit(exits: Exits, t: f32) -> f32 {
  let behind = t * 1.000001;
  let crossed = min(nearest_above(exits.sums, behind), nearest_above(exits.differences, behind));
  return min(crossed, nearest_above(exits.cubes, behind));
}
