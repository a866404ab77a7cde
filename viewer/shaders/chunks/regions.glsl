// Where a ray leaves the regions of the contraction. Every region is convex, so a ray visits each at most once and
// the sorted exits name the pieces on which the contracted ray is straight. t counts near-plane distances.

const float FAR_LIMIT = 1e4;
const float NO_EXIT = 1e30;

// All exits of a ray, unsorted; NO_EXIT where there is none.
struct Exits {
  vec3 sums;         // where two components are opposite: xy, yz, zx
  vec3 differences;  // where they are equal
  vec3 cubes;        // into the core cube, out of it, out of all that is drawn
};

// Keeps a crossing of two components only where no third one is larger, and outside the core cube.
float crossing(vec3 o, vec3 d, float t, vec3 pair) {
  vec3 a = abs(o + t * d);
  float m = max_component(a);
  return m > 1.0 && dot(a, pair) >= 2.0 * m * 0.99999 ? t : NO_EXIT;
}

vec3 away_from_zero(vec3 v) {
  return mix(v, vec3(1e-20), lessThan(abs(v), vec3(1e-20)));
}

Exits find_exits(vec3 o, vec3 d) {
  vec3 s = -(o + o.yzx) / away_from_zero(d + d.yzx);
  vec3 e = (o.yzx - o) / away_from_zero(d - d.yzx);
  const vec3 XY = vec3(1.0, 1.0, 0.0), YZ = vec3(0.0, 1.0, 1.0), ZX = vec3(1.0, 0.0, 1.0);
  Exits exits;
  exits.sums = vec3(crossing(o, d, s.x, XY), crossing(o, d, s.y, YZ), crossing(o, d, s.z, ZX));
  exits.differences = vec3(crossing(o, d, e.x, XY), crossing(o, d, e.y, YZ), crossing(o, d, e.z, ZX));
  vec3 inverse = 1.0 / away_from_zero(d);
  vec3 side = sign(inverse);
  vec3 enter = (-side - o) * inverse, leave = (side - o) * inverse, far = (FAR_LIMIT * side - o) * inverse;
  float core_enter = max_component(enter), core_leave = min(leave.x, min(leave.y, leave.z));
  exits.cubes = vec3(core_enter, core_leave, min(far.x, min(far.y, far.z)));
  if (core_enter >= core_leave) exits.cubes.xy = vec2(NO_EXIT);
  return exits;
}

float nearest_above(vec3 exits, float t) {
  vec3 later = mix(vec3(NO_EXIT), exits, greaterThan(exits, vec3(t)));
  return min(later.x, min(later.y, later.z));
}

// The nearest exit behind t, NO_EXIT if there is none.
float next_exit(Exits exits, float t) {
  t *= 1.000001;
  float crossed = min(nearest_above(exits.sums, t), nearest_above(exits.differences, t));
  return min(crossed, nearest_above(exits.cubes, t));
}
