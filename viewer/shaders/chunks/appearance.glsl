// The appearance network: what a ray has blended and its direction to the display colour.

uniform vec3 u_background;
uniform float u_log_exposure;    // used with EXPOSURE only

// Software drivers need many seconds to compile the unrolled network, and gain little from it: a host may define
// ROLLED_LOOPS, which has one loop over the layers and keeps the compiler from knowing where loops end.
#ifdef ROLLED_LOOPS
uniform int u_zero;
#endif

// Three layers; per layer and group of four outputs: the bias, then one vec4 of outputs per input.
layout(std140) uniform Network {
  vec4 u_weights[WEIGHT_COUNT];
};

#if COARSE_SUM
const int COLOUR_INPUTS = 14;
#else
const int COLOUR_INPUTS = 7;
#endif
const int INPUT_QUADS = (COLOUR_INPUTS + 27 + 3) / 4;
const int LAYER_1 = (HIDDEN_1 / 4) * (1 + 4 * INPUT_QUADS);
const int LAYER_2 = LAYER_1 + (HIDDEN_2 / 4) * (1 + HIDDEN_1);

vec4 activate(vec4 x) {
#if ACTIVATION_ELU
  return mix(exp(min(x, 0.0)) - 1.0, x, vec4(greaterThanEqual(x, vec4(0.0))));
#else
  return max(x, 0.0);
#endif
}

// Four rows of weights times four inputs.
#define ROWS(k, v) \
  (u_weights[k] * (v).x + u_weights[(k) + 1] * (v).y + u_weights[(k) + 2] * (v).z + u_weights[(k) + 3] * (v).w)

#ifdef ROLLED_LOOPS
vec3 network(vec4 inputs[INPUT_QUADS]) {
  vec4 values[INPUT_QUADS + HIDDEN_1 / 4 + HIDDEN_2 / 4 + 1];
  for (int i = 0; i < INPUT_QUADS + u_zero; ++i) values[i] = inputs[i];
  const ivec3 INPUTS = ivec3(INPUT_QUADS, HIDDEN_1 / 4, HIDDEN_2 / 4);
  const ivec3 OUTPUTS = ivec3(HIDDEN_1 / 4, HIDDEN_2 / 4, 1);
  // Every layer reads the values behind those that the layer before has read.
  int first = 0, weight = 0;
  vec4 sum = vec4(0.0);
  for (int layer = 0; layer < 3 + u_zero; ++layer) {
    int end = first + INPUTS[layer];
    for (int j = 0; j < OUTPUTS[layer]; ++j) {
      sum = u_weights[weight++];
      for (int i = first; i < end; ++i, weight += 4) sum += ROWS(weight, values[i]);
      values[end + j] = activate(sum);
    }
    first = end;
  }
  return 1.0 / (1.0 + exp(-sum.xyz));
}
#else
vec3 network(vec4 inputs[INPUT_QUADS]) {
  vec4 hidden_1[HIDDEN_1 / 4];
  vec4 hidden_2[HIDDEN_2 / 4];
  for (int j = 0; j < HIDDEN_1 / 4; ++j) {
    int base = j * (1 + 4 * INPUT_QUADS);
    vec4 sum = u_weights[base];
    for (int i = 0; i < INPUT_QUADS; ++i) sum += ROWS(base + 1 + 4 * i, inputs[i]);
    hidden_1[j] = activate(sum);
  }
  for (int j = 0; j < HIDDEN_2 / 4; ++j) {
    int base = LAYER_1 + j * (1 + HIDDEN_1);
    vec4 sum = u_weights[base];
    for (int i = 0; i < HIDDEN_1 / 4; ++i) sum += ROWS(base + 1 + 4 * i, hidden_1[i]);
    hidden_2[j] = activate(sum);
  }
  vec4 sum = u_weights[LAYER_2];
  for (int i = 0; i < HIDDEN_2 / 4; ++i) sum += ROWS(LAYER_2 + 1 + 4 * i, hidden_2[i]);
  return 1.0 / (1.0 + exp(-sum.xyz));
}
#endif

vec4 expose(vec4 x) {
#if EXPOSURE
  x = clamp(x, 1e-7, 1.0 - 1e-7);
  return log(x) - log(1.0 - x) + u_log_exposure;
#else
  return x;
#endif
}

// colour.a is the visibility; d the unit direction in viewer axes.
vec3 appearance(vec4 colour, vec4 features, vec3 coarse_colour, vec4 coarse_features, vec3 d) {
  features = expose(features);
  vec3 first = colour.rgb;
#if !VFR
  first += colour.a * u_background;
#endif
  first = expose(vec4(first, 0.0)).rgb;
  d = vec3(-d.x, d.z, d.y);  // training axes
  // Sines and cosines of d, 2d, 4d and 8d: those of the doubled angle follow from the single one.
  vec3 s0 = sin(d), c0 = cos(d);
  vec3 s1 = 2.0 * s0 * c0, c1 = 1.0 - 2.0 * s0 * s0;
  vec3 s2 = 2.0 * s1 * c1, c2 = 1.0 - 2.0 * s1 * s1;
  vec3 s3 = 2.0 * s2 * c2, c3 = 1.0 - 2.0 * s2 * s2;

  vec4 inputs[INPUT_QUADS];
  inputs[0] = vec4(first, features.x);
#if COARSE_SUM
  coarse_colour = expose(vec4(coarse_colour, 0.0)).rgb;
  coarse_features = expose(coarse_features);
  inputs[1] = vec4(features.yzw, coarse_colour.x);
  inputs[2] = vec4(coarse_colour.yz, coarse_features.xy);
  inputs[3] = vec4(coarse_features.zw, d.xy);
  inputs[4] = vec4(d.z, s0);
  inputs[5] = vec4(s1, s2.x);
  inputs[6] = vec4(s2.yz, s3.xy);
  inputs[7] = vec4(s3.z, c0);
  inputs[8] = vec4(c1, c2.x);
  inputs[9] = vec4(c2.yz, c3.xy);
  inputs[10] = vec4(c3.z, 0.0, 0.0, 0.0);
#else
  inputs[1] = vec4(features.yzw, d.x);
  inputs[2] = vec4(d.yz, s0.xy);
  inputs[3] = vec4(s0.z, s1);
  inputs[4] = vec4(s2, s3.x);
  inputs[5] = vec4(s3.yz, c0.xy);
  inputs[6] = vec4(c0.z, c1);
  inputs[7] = vec4(c2, c3.x);
  inputs[8] = vec4(c3.yz, 0.0, 0.0);
#endif

  vec3 shaded = network(inputs);
#if VFR
  return shaded + colour.a * u_background;
#else
  return colour.rgb + shaded;
#endif
}
