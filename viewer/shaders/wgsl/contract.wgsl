// chunks/contract.glsl in WGSL: the infinity-norm contraction of all space to [-2, 2]^3.

fn max_component(v: vec3f) -> f32 {
  return max(v.x, max(v.y, v.z));
}

fn min_component(v: vec3f) -> f32 {
  return min(v.x, min(v.y, v.z));
}

// One-hot axis of the slab that holds p; zero in the core cube.
fn slab_axis(p: vec3f) -> vec3f {
  let a = abs(p);
  let m = max_component(a);
  if (m <= 1.0) { return vec3f(0.0); }
  if (a.x == m) { return vec3f(1.0, 0.0, 0.0); }
  return select(vec3f(0.0, 0.0, 1.0), vec3f(0.0, 1.0, 0.0), a.y == m);
}

fn contract(p: vec3f, axis: vec3f) -> vec3f {
  let m = dot(abs(p), axis);
  if (m == 0.0) { return p; }
  return mix(p / m, sign(p) * (2.0 - 1.0 / m), axis);
}
