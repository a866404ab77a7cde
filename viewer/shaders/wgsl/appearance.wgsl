// chunks/appearance.glsl in WGSL: what a ray has blended and its direction to the display colour.

const COLOUR_INPUTS = 7 + 7 * COARSE_SUM;
const INPUT_QUADS = (COLOUR_INPUTS + 27 + 3) / 4;
const QUADS_1 = HIDDEN_1 / 4;
const QUADS_2 = HIDDEN_2 / 4;
const LAYER_1 = QUADS_1 * (1 + 4 * INPUT_QUADS);
const LAYER_2 = LAYER_1 + QUADS_2 * (1 + HIDDEN_1);

fn activate(x: vec4f) -> vec4f {
  if (ACTIVATION_ELU == 1) { return select(exp(min(x, vec4f(0.0))) - 1.0, x, x >= vec4f(0.0)); }
  return max(x, vec4f(0.0));
}

// Four rows of weights times four inputs.
fn rows(k: i32, v: vec4f) -> vec4f {
  return u_weights[k] * v.x + u_weights[k + 1] * v.y + u_weights[k + 2] * v.z + u_weights[k + 3] * v.w;
}

// Three layers; per layer and group of four outputs: the bias, then one vec4 of outputs per input.
fn network(inputs: ptr<function, array<vec4f, INPUT_QUADS>>) -> vec3f {
  var hidden_1: array<vec4f, QUADS_1>;
  var hidden_2: array<vec4f, QUADS_2>;
  for (var j = 0; j < QUADS_1; j++) {
    let base = j * (1 + 4 * INPUT_QUADS);
    var sum = u_weights[base];
    for (var i = 0; i < INPUT_QUADS; i++) { sum += rows(base + 1 + 4 * i, (*inputs)[i]); }
    hidden_1[j] = activate(sum);
  }
  for (var j = 0; j < QUADS_2; j++) {
    let base = LAYER_1 + j * (1 + HIDDEN_1);
    var sum = u_weights[base];
    for (var i = 0; i < QUADS_1; i++) { sum += rows(base + 1 + 4 * i, hidden_1[i]); }
    hidden_2[j] = activate(sum);
  }
  var sum = u_weights[LAYER_2];
  for (var i = 0; i < QUADS_2; i++) { sum += rows(LAYER_2 + 1 + 4 * i, hidden_2[i]); }
  return sigmoid(sum).xyz;
}

fn expose(x: vec4f) -> vec4f {
  if (EXPOSURE == 0) { return x; }
  let inside = clamp(x, vec4f(1e-7), vec4f(1.0 - 1e-7));
  return log(inside) - log(1.0 - inside) + frame.log_exposure;
}

// `d` is the unit direction in viewer axes.
fn appearance(seen: Blended, direction: vec3f) -> vec3f {
  let features = expose(seen.features);
  let behind = select(seen.visibility * frame.background, vec3f(0.0), VFR == 1);
  let first = expose(vec4f(seen.colour + behind, 0.0)).rgb;
  let d = vec3f(-direction.x, direction.z, direction.y);  // training axes
  // Sines and cosines of d, 2d, 4d and 8d: those of the doubled angle follow from the single one.
  let s0 = sin(d);
  let c0 = cos(d);
  let s1 = 2.0 * s0 * c0;
  let c1 = 1.0 - 2.0 * s0 * s0;
  let s2 = 2.0 * s1 * c1;
  let c2 = 1.0 - 2.0 * s1 * s1;
  let s3 = 2.0 * s2 * c2;
  let c3 = 1.0 - 2.0 * s2 * s2;

  var inputs: array<vec4f, INPUT_QUADS>;
  inputs[0] = vec4f(first, features.x);
#if COARSE_SUM
  let coarse_colour = expose(vec4f(seen.coarse_colour, 0.0)).rgb;
  let coarse_features = expose(seen.coarse_features);
  inputs[1] = vec4f(features.yzw, coarse_colour.x);
  inputs[2] = vec4f(coarse_colour.yz, coarse_features.xy);
  inputs[3] = vec4f(coarse_features.zw, d.xy);
  inputs[4] = vec4f(d.z, s0);
  inputs[5] = vec4f(s1, s2.x);
  inputs[6] = vec4f(s2.yz, s3.xy);
  inputs[7] = vec4f(s3.z, c0);
  inputs[8] = vec4f(c1, c2.x);
  inputs[9] = vec4f(c2.yz, c3.xy);
  inputs[10] = vec4f(c3.z, 0.0, 0.0, 0.0);
#else
  inputs[1] = vec4f(features.yzw, d.x);
  inputs[2] = vec4f(d.yz, s0.xy);
  inputs[3] = vec4f(s0.z, s1);
  inputs[4] = vec4f(s2, s3.x);
  inputs[5] = vec4f(s3.yz, c0.xy);
  inputs[6] = vec4f(c0.z, c1);
  inputs[7] = vec4f(c2, c3.x);
  inputs[8] = vec4f(c3.yz, 0.0, 0.0);
#endif

  let shaded = network(&inputs);
  return shaded + select(seen.colour, seen.visibility * frame.background, VFR == 1);
}
