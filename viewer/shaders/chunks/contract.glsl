// The infinity-norm contraction of all space to [-2, 2]^3. Within each of its seven regions (the core cube and one slab
// per face) it maps straight lines to straight lines; slabs that touch in space do not touch in contracted space, so
// points on a border need to be told their region.

float max_component(vec3 v) {
  return max(v.x, max(v.y, v.z));
}

// One-hot axis of the slab that holds p; zero in the core cube.
vec3 slab_axis(vec3 p) {
  vec3 a = abs(p);
  float m = max_component(a);
  if (m <= 1.0) return vec3(0.0);
  if (a.x == m) return vec3(1.0, 0.0, 0.0);
  return a.y == m ? vec3(0.0, 1.0, 0.0) : vec3(0.0, 0.0, 1.0);
}

vec3 contract(vec3 p, vec3 axis) {
  float m = dot(abs(p), axis);
  if (m == 0.0) return p;
  return mix(p / m, sign(p) * (2.0 - 1.0 / m), axis);
}
