// The Slot Mixer, one ray per pixel: ray code, allocation transformer, choice of slots, colour.
//
// Attention is linear in keys and in values, so what depends on the slots alone is folded into matrices once for a
// scene (smerf/objects/pack.py): a head's logits are one product with the ray's feature, its output one with the
// shares. Activations lie in one array, `a`, in vec4; every matrix has its outputs padded to groups of eight.

uniform sampler2D u_network;  // RGBA16F or RGBA32F: matrices of the decoder
uniform sampler2D u_scene;    // RGBA32F: matrices that depend on the slots
uniform vec3 u_position;      // camera in world units
uniform mat3 u_rotation;      // its right, up and back as columns
uniform vec4 u_lens;          // 1/fx, 1/fy, cx, cy in pixels from the lower left corner
uniform vec4 u_hidden[SLOTS_4];    // 0 for a slot that is drawn, -1e30 for one that is not
uniform ivec4 u_group[SLOTS_4];    // the ray group of each slot
uniform vec4 u_motion[3 * GROUPS]; // rows of the map from world rays to those of a group
uniform int u_groups[GROUPS];      // the groups that have a slot to draw
uniform int u_group_count;
// What to compute, two vectors a step: (kind, texture, first texel, activation), (from, inputs / 4, to, outputs / 8).
uniform ivec4 u_steps[2 * STEPS];

uniform int u_zero;  // 0: drivers that unroll loops would take minutes to compile

layout(location = 0) out vec4 o_pixel;  // colour, and the slot with the largest share as index / 255

const float GONE = -1e30;
const int SHARES = CODE_4;          // after the average ray feature: the shares of the slots
const int RAY = SHARES + 2 * MIX_8; // feature of one group's ray
const int X = RAY + CODE_4;         // what the allocation makes of it
const int NORMED = X + CODE_4;
const int WIDE = NORMED + CODE_4;   // hidden layers and logits

vec4 a[ACTIVATIONS];

vec4 activate(vec4 v, int kind) {
  if (kind == 1) return max(v, 0.0);
  if (kind == 2) {
    // GELU by the error function of Abramowitz and Stegun 7.1.26, within 1.5e-7.
    vec4 z = abs(v) * 0.70710678;
    vec4 t = 1.0 / (1.0 + 0.3275911 * z);
    vec4 tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return 0.5 * v * (1.0 + sign(v) * (1.0 - tail * exp(-z * z)));
  }
  if (kind == 3) return max(v, 0.01 * v);
  return v;
}

vec4 weight(sampler2D matrices, int i) {
  return texelFetch(matrices, ivec2(i & 1023, i >> 10), 0);
}

// a[to ..] = activation(matrix a[from ..] + bias), eight outputs at a time; from activation 8 on, a[to ..] is added.
void linear(sampler2D matrices, ivec4 what, ivec4 where) {
  int base = what.z;
  for (int o = 0; o < where.w; o++) {
    vec4 low = weight(matrices, base);
    vec4 high = weight(matrices, base + 1);
    base += 2;
    for (int i = 0; i < where.y; i++) {
      vec4 v = a[where.x + i];
      low += v.x * weight(matrices, base) + v.y * weight(matrices, base + 2) + v.z * weight(matrices, base + 4) + v.w * weight(matrices, base + 6);
      high += v.x * weight(matrices, base + 1) + v.y * weight(matrices, base + 3) + v.z * weight(matrices, base + 5) + v.w * weight(matrices, base + 7);
      base += 8;
    }
    int at = where.z + 2 * o;
    if (what.w >= 8) {
      low += a[at];
      high += a[at + 1];
    }
    a[at] = activate(low, what.w & 7);
    a[at + 1] = activate(high, what.w & 7);
  }
}

// a[NORMED ..] = a[X ..] with mean 0 and variance 1; gain and shift are in the matrix that follows. Padding is 0.
void standardise() {
  float sum = 0.0;
  for (int i = 0; i < CODE_4 + u_zero; i++) sum += dot(a[X + i], vec4(1.0));
  float mean = sum / float(CODE);
  float squares = 0.0;
  for (int i = 0; i < CODE_4 + u_zero; i++) {
    vec4 d = a[X + i] - mean;
    squares += dot(d, d);
  }
  squares -= float(4 * CODE_4 - CODE) * mean * mean;
  float s = inversesqrt(squares / float(CODE) + 1e-5);
  for (int i = 0; i < CODE_4 + u_zero; i++) a[NORMED + i] = (a[X + i] - mean) * s;
}

float power_of_two(int k) {
  return k >= 0 ? float(1 << k) : 1.0 / float(1 << -k);
}

// Sine or cosine number j of `count` coordinates: sin(2^k pi x), reduced to one turn before the sine.
float wave(vec4 x, int count, int octaves, int start, int j) {
  bool is_cosine = j >= count * octaves;
  if (is_cosine) j -= count * octaves;
  int axis = j / octaves;
  float value = axis == 0 ? x.x : axis == 1 ? x.y : axis == 2 ? x.z : x.w;
  float turns = value * power_of_two(start + j - axis * octaves - 1);
  float angle = 6.28318530718 * (turns - floor(turns));
  return is_cosine ? cos(angle) : sin(angle);
}

vec2 slab_point(vec3 origin, vec3 direction, float height) {
  float t = max((height - origin.z) / min(direction.z, -0.02), 0.0);
  vec2 point = origin.xy + t * direction.xy;
  return point / max(length(point) / 8.0, 1.0);
}

void encode(vec3 origin, vec3 direction) {
  vec4 slab = vec4(slab_point(origin, direction, SLAB_LOW), slab_point(origin, direction, SLAB_HIGH));
  for (int i = 0; i < CODE_4 + u_zero; i++) {
    vec4 v = vec4(0.0);
    for (int c = 0; c < 4 + u_zero; c++) {
      int j = 4 * i + c;
      float value = 0.0;
      if (j < 6 * ORIGIN_OCTAVES) value = wave(vec4(origin, 0.0), 3, ORIGIN_OCTAVES, ORIGIN_START, j);
      else if (j < 6 * (ORIGIN_OCTAVES + DIRECTION_OCTAVES)) {
        value = wave(vec4(direction, 0.0), 3, DIRECTION_OCTAVES, DIRECTION_START, j - 6 * ORIGIN_OCTAVES);
      }
#if SLAB_OCTAVES > 0
      else if (j < CODE) value = wave(slab, 4, SLAB_OCTAVES, SLAB_START, j - 6 * (ORIGIN_OCTAVES + DIRECTION_OCTAVES));
#endif
      if (c == 0) v.x = value;
      else if (c == 1) v.y = value;
      else if (c == 2) v.z = value;
      else v.w = value;
    }
    a[NORMED + i] = v;
  }
}

// Softmax over the slots of every head, in place.
void choose() {
  for (int h = 0; h < HEADS + u_zero; h++) {
    int at = WIDE + h * SLOTS_4;
    float most = GONE;
    for (int k = 0; k < SLOTS_4 + u_zero; k++) {
      vec4 v = a[at + k] + u_hidden[k];
      a[at + k] = v;
      most = max(most, max(max(v.x, v.y), max(v.z, v.w)));
    }
    float sum = 0.0;
    for (int k = 0; k < SLOTS_4 + u_zero; k++) {
      a[at + k] = exp(a[at + k] - most);
      sum += dot(a[at + k], vec4(1.0));
    }
    for (int k = 0; k < SLOTS_4 + u_zero; k++) a[at + k] /= sum;
  }
}

void run(int first, int last) {
  for (int n = first; n < last; n++) {
    ivec4 what = u_steps[2 * n];
    if (what.x == 0 && what.y == 0) linear(u_network, what, u_steps[2 * n + 1]);
    else if (what.x == 0) linear(u_scene, what, u_steps[2 * n + 1]);
    else if (what.x == 1) standardise();
    else if (what.x == 2) choose();
    else for (int i = 0; i < CODE_4 + u_zero; i++) a[X + i] = a[RAY + i];
  }
}

void main() {
  vec2 at = (gl_FragCoord.xy - u_lens.zw) * u_lens.xy;
  vec4 direction = vec4(normalize(u_rotation * vec3(at, -1.0)), 0.0);
  vec4 origin = vec4(u_position, 1.0);
  for (int i = 0; i < RAY + u_zero; i++) a[i] = vec4(0.0);
  float most = GONE;
  float sum = 0.0;
  // A slot that was moved sees rays moved the opposite way. One softmax over all groups, kept as it grows; after the
  // last group comes the colour.
  for (int n = 0; n <= u_group_count; n++) {
    bool is_colour = n == u_group_count;
    int g = u_groups[min(n, GROUPS - 1)];
    if (is_colour) for (int i = 0; i < RAY + u_zero; i++) a[i] /= sum;
    else {
      vec4 x = u_motion[3 * g];
      vec4 y = u_motion[3 * g + 1];
      vec4 z = u_motion[3 * g + 2];
      encode(vec3(dot(x, origin), dot(y, origin), dot(z, origin)), vec3(dot(x, direction), dot(y, direction), dot(z, direction)));
    }
    run(is_colour ? COLOUR_STEP : 0, is_colour ? STEPS : COLOUR_STEP);
    if (is_colour) break;
    float before = most;
    for (int k = 0; k < SLOTS_4 + u_zero; k++) {
      vec4 v = a[WIDE + k] + u_hidden[k] + GONE * vec4(notEqual(u_group[k], ivec4(g)));
      a[WIDE + k] = v;
      most = max(most, max(max(v.x, v.y), max(v.z, v.w)));
    }
    float old = exp(before - most);
    float gained = 0.0;
    for (int k = 0; k < SLOTS_4 + u_zero; k++) {
      vec4 e = exp(a[WIDE + k] - most);
      a[SHARES + k] = a[SHARES + k] * old + e;
      gained += dot(e, vec4(1.0));
    }
    sum = sum * old + gained;
    for (int i = 0; i < CODE_4 + u_zero; i++) a[i] = a[i] * old + gained * a[RAY + i];
  }
  int first = 0;
  float largest = -1.0;
  for (int k = 0; k < SLOTS_4 + u_zero; k++) {
    vec4 share = a[SHARES + k];
    for (int c = 0; c < 4 + u_zero; c++) {
      float value = c == 0 ? share.x : c == 1 ? share.y : c == 2 ? share.z : share.w;
      if (value > largest) {
        largest = value;
        first = 4 * k + c;
      }
    }
  }
  vec3 colour = 1.0 / (1.0 + exp(-a[COLOUR].xyz));
  o_pixel = vec4(colour, float(first) / 255.0);
}
