// Evaluates the appearance network once per pixel on what march.frag blended and writes the display colour.

uniform sampler2D u_colour;
uniform sampler2D u_features;
uniform sampler2D u_coarse_colour;
#if COARSE_SUM
uniform sampler2D u_coarse_features;
#endif

uniform mat3 u_camera_rotation;  // viewer axes from camera axes
uniform vec4 u_lens;             // 1/fx, 1/fy, cx, cy in pixels of the target, from its lower left corner
uniform vec3 u_background;
uniform float u_log_exposure;    // used with EXPOSURE only

// Three layers; per layer and group of four outputs: the bias, then one vec4 of outputs per input.
layout(std140) uniform Network {
  vec4 u_weights[WEIGHT_COUNT];
};

layout(location = 0) out vec4 o_pixel;

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

vec3 network(float inputs[4 * INPUT_QUADS]) {
  vec4 hidden_1[HIDDEN_1 / 4];
  for (int j = 0; j < HIDDEN_1 / 4; ++j) {
    int base = j * (1 + 4 * INPUT_QUADS);
    vec4 sum = u_weights[base];
    for (int i = 0; i < 4 * INPUT_QUADS; ++i) sum += u_weights[base + 1 + i] * inputs[i];
    hidden_1[j] = activate(sum);
  }
  vec4 hidden_2[HIDDEN_2 / 4];
  for (int j = 0; j < HIDDEN_2 / 4; ++j) {
    int base = LAYER_1 + j * (1 + HIDDEN_1);
    vec4 sum = u_weights[base];
    for (int i = 0; i < HIDDEN_1 / 4; ++i) {
      int k = base + 1 + 4 * i;
      sum += mat4(u_weights[k], u_weights[k + 1], u_weights[k + 2], u_weights[k + 3]) * hidden_1[i];
    }
    hidden_2[j] = activate(sum);
  }
  vec4 sum = u_weights[LAYER_2];
  for (int i = 0; i < HIDDEN_2 / 4; ++i) {
    int k = LAYER_2 + 1 + 4 * i;
    sum += mat4(u_weights[k], u_weights[k + 1], u_weights[k + 2], u_weights[k + 3]) * hidden_2[i];
  }
  return 1.0 / (1.0 + exp(-sum.xyz));
}

void main() {
  ivec2 pixel = ivec2(gl_FragCoord.xy);
  vec4 colour = texelFetch(u_colour, pixel, 0);
  vec4 features = texelFetch(u_features, pixel, 0);

  vec3 first = colour.rgb;
#if !VFR
  first += colour.a * u_background;
#endif

  float inputs[4 * INPUT_QUADS];
  for (int i = 0; i < 3; ++i) inputs[i] = first[i];
  for (int i = 0; i < 4; ++i) inputs[3 + i] = features[i];
#if COARSE_SUM
  vec4 coarse_colour = texelFetch(u_coarse_colour, pixel, 0);
  vec4 coarse_features = texelFetch(u_coarse_features, pixel, 0);
  for (int i = 0; i < 3; ++i) inputs[7 + i] = coarse_colour[i];
  for (int i = 0; i < 4; ++i) inputs[10 + i] = coarse_features[i];
#endif
#if EXPOSURE
  for (int i = 0; i < COLOUR_INPUTS; ++i) {
    float x = clamp(inputs[i], 1e-7, 1.0 - 1e-7);
    inputs[i] = log(x) - log(1.0 - x) + u_log_exposure;
  }
#endif

  vec2 offset = (gl_FragCoord.xy - u_lens.zw) * u_lens.xy;
  vec3 d = normalize(u_camera_rotation * vec3(offset, -1.0));
  d = vec3(-d.x, d.z, d.y);  // training axes
  for (int i = 0; i < 3; ++i) inputs[COLOUR_INPUTS + i] = d[i];
  float frequency = 1.0;
  for (int k = 0; k < 4; ++k) {
    for (int i = 0; i < 3; ++i) {
      inputs[COLOUR_INPUTS + 3 + 3 * k + i] = sin(frequency * d[i]);
      inputs[COLOUR_INPUTS + 15 + 3 * k + i] = sin(frequency * d[i] + 1.57079632679);
    }
    frequency *= 2.0;
  }
  for (int i = COLOUR_INPUTS + 27; i < 4 * INPUT_QUADS; ++i) inputs[i] = 0.0;

  vec3 shaded = network(inputs);
#if VFR
  vec3 result = shaded + colour.a * u_background;
#else
  vec3 result = colour.rgb + shaded;
#endif
  o_pixel = vec4(result, 1.0);
}
