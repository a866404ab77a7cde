// The appearance network: what a ray has blended and its direction to the display colour.

uniform vec3 u_background;
uniform float u_log_exposure;    // used with EXPOSURE only

// Software drivers need many seconds to compile the unrolled network, and gain nothing from it: a host may define
// ROLLED_LOOPS, which keeps the compiler from knowing where the loops end.
#ifdef ROLLED_LOOPS
uniform int u_zero;
#define END(count) ((count) + u_zero)
#else
#define END(count) (count)
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

vec3 network(vec4 inputs[INPUT_QUADS]) {
  vec4 hidden_1[HIDDEN_1 / 4];
  vec4 hidden_2[HIDDEN_2 / 4];
  for (int j = 0; j < END(HIDDEN_1 / 4); ++j) {
    int base = j * (1 + 4 * INPUT_QUADS);
    vec4 sum = u_weights[base];
    for (int i = 0; i < END(INPUT_QUADS); ++i) sum += ROWS(base + 1 + 4 * i, inputs[i]);
    hidden_1[j] = activate(sum);
  }
  for (int j = 0; j < END(HIDDEN_2 / 4); ++j) {
    int base = LAYER_1 + j * (1 + HIDDEN_1);
    vec4 sum = u_weights[base];
    for (int i = 0; i < END(HIDDEN_1 / 4); ++i) sum += ROWS(base + 1 + 4 * i, hidden_1[i]);
    hidden_2[j] = activate(sum);
  }
  vec4 sum = u_weights[LAYER_2];
  for (int i = 0; i < END(HIDDEN_2 / 4); ++i) sum += ROWS(LAYER_2 + 1 + 4 * i, hidden_2[i]);
  return 1.0 / (1.0 + exp(-sum.xyz));
}

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
  const float QUARTER = 1.57079632679;
  vec3 s0 = sin(d), s1 = sin(2.0 * d), s2 = sin(4.0 * d), s3 = sin(8.0 * d);
  vec3 c0 = sin(d + QUARTER), c1 = sin(2.0 * d + QUARTER), c2 = sin(4.0 * d + QUARTER), c3 = sin(8.0 * d + QUARTER);

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
