// The infinity-norm contraction of all space to [-2, 2]^3 and its inverse. Between the borders of the seven regions
// (the core cube and one slab per face) it maps straight lines to straight lines.

float max_component(vec3 v) {
  return max(v.x, max(v.y, v.z));
}

vec3 contract(vec3 p) {
  vec3 a = abs(p);
  float m = max_component(a);
  if (m <= 1.0) return p;
  vec3 q = p / m;
  float radius = 2.0 - 1.0 / m;
  if (a.x == m) q.x *= radius;
  else if (a.y == m) q.y *= radius;
  else q.z *= radius;
  return q;
}

vec3 uncontract(vec3 z) {
  vec3 a = abs(z);
  float m = max_component(a);
  if (m <= 1.0) return z;
  float s = 1.0 / max(1e-6, 2.0 - m);
  vec3 p = z * s;
  if (a.x == m) p.x = sign(z.x) * s;
  else if (a.y == m) p.y = sign(z.y) * s;
  else p.z = sign(z.z) * s;
  return p;
}
