// The Slot Mixer for a block of 2 x 2 pixels: ray code, allocation transformer, choice of slots, colour.
//
// Attention is linear in keys and in values, so what depends on the slots alone is folded into matrices once for a
// scene (smerf/objects/pack.py): a head's logits are one product with the ray's feature, its output one with the
// shares. A vec4 holds one feature of the block's four rays, so every fetched weight serves all four. Activations lie
// in one array, `a`; matrices are padded to groups of four inputs and eight outputs.

uniform sampler2D u_network;  // RGBA16F (or 32F): matrices of the decoder
uniform sampler2D u_scene;    // RGBA32F: matrices that depend on the slots
uniform vec3 u_position;      // camera in world units
uniform mat3 u_rotation;      // its right, up and back as columns
uniform vec4 u_lens;          // 1/fx, 1/fy, cx, cy in pixels from the lower left corner
// 0 for a slot that is drawn and -1e30 for one that is not, which gets no share but is seen by the attention, so that
// rays of which it had no share do not change; its ray group.
uniform vec2 u_slots[SLOTS];
uniform int u_group_count;
uniform vec4 u_motion[3 * SLOTS];  // rows of the map from world rays to those of a group
// What to compute, two vectors a step: (kind, texture, first texel, activation), (from, inputs / 4, to, outputs / 8).
uniform ivec4 u_steps[2 * STEPS];
uniform int u_zero;  // 0: drivers that unroll loops would take minutes to compile

// Colour, and the slot with the largest share as index / 255, of the lower left, lower right, upper left, upper right.
layout(location = 0) out vec4 o_0;
layout(location = 1) out vec4 o_1;
layout(location = 2) out vec4 o_2;
layout(location = 3) out vec4 o_3;

const float GONE = -1e30;
// SHARES, RAY, X, NORMED, WIDE are defined by the host: where in `a` the shares of the slots lie, the feature of one
// group's ray, what the allocation makes of it, that standardised (in the end the logits of the slots), and hidden
// layers. The average ray feature is at 0.
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

#define ADD_PRODUCTS r0 += low.x * v; r1 += low.y * v; r2 += low.z * v; r3 += low.w * v; \
  r4 += high.x * v; r5 += high.y * v; r6 += high.z * v; r7 += high.w * v;

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
    int at = where.z + 8 * o;
    vec4 r0 = vec4(low.x), r1 = vec4(low.y), r2 = vec4(low.z), r3 = vec4(low.w);
    vec4 r4 = vec4(high.x), r5 = vec4(high.y), r6 = vec4(high.z), r7 = vec4(high.w);
    if (what.w >= 8) {
      r0 += a[at];
      r1 += a[at + 1];
      r2 += a[at + 2];
      r3 += a[at + 3];
      r4 += a[at + 4];
      r5 += a[at + 5];
      r6 += a[at + 6];
      r7 += a[at + 7];
    }
    for (int i = 0; i < where.y; i++) {
      vec4 v;
      v = a[where.x + 4 * i + 0];
      low = weight(matrices, base + 0);
      high = weight(matrices, base + 1);
      ADD_PRODUCTS
      v = a[where.x + 4 * i + 1];
      low = weight(matrices, base + 2);
      high = weight(matrices, base + 3);
      ADD_PRODUCTS
      v = a[where.x + 4 * i + 2];
      low = weight(matrices, base + 4);
      high = weight(matrices, base + 5);
      ADD_PRODUCTS
      v = a[where.x + 4 * i + 3];
      low = weight(matrices, base + 6);
      high = weight(matrices, base + 7);
      ADD_PRODUCTS
      base += 8;
    }
    a[at] = r0;
    a[at + 1] = r1;
    a[at + 2] = r2;
    a[at + 3] = r3;
    a[at + 4] = r4;
    a[at + 5] = r5;
    a[at + 6] = r6;
    a[at + 7] = r7;
  }
  if ((what.w & 7) != 0) for (int i = where.z; i < where.z + 8 * where.w; i++) a[i] = activate(a[i], what.w & 7);
}

// a[NORMED ..] = a[X ..] with mean 0 and variance 1; gain and shift are in the matrix that follows.
void standardise() {
  vec4 mean = vec4(0.0);
  for (int i = 0; i < CODE + u_zero; i++) mean += a[X + i];
  mean /= float(CODE);
  vec4 squares = vec4(0.0);
  for (int i = 0; i < CODE + u_zero; i++) {
    vec4 d = a[X + i] - mean;
    squares += d * d;
  }
  vec4 s = inversesqrt(squares / float(CODE) + 1e-5);
  for (int i = 0; i < CODE + u_zero; i++) a[NORMED + i] = (a[X + i] - mean) * s;
}

// Softmax over the slots of every head, in place.
void choose() {
  for (int h = 0; h < HEADS + u_zero; h++) {
    int at = WIDE + h * SLOTS;
    vec4 most = vec4(GONE);
    for (int k = 0; k < SLOTS + u_zero; k++) most = max(most, a[at + k]);
    vec4 sum = vec4(0.0);
    for (int k = 0; k < SLOTS + u_zero; k++) {
      vec4 e = exp(a[at + k] - most);
      a[at + k] = e;
      sum += e;
    }
    for (int k = 0; k < SLOTS + u_zero; k++) a[at + k] /= sum;
  }
}

// Where rays meet a level plane, within 8 units of the axis: a[at] and a[at + 1].
void meet_plane(int at, vec3 o, vec4 dx, vec4 dy, vec4 dz, float height) {
  vec4 t = max((height - o.z) / min(dz, -0.02), 0.0);
  vec4 x = o.x + t * dx;
  vec4 y = o.y + t * dy;
  vec4 shrink = max(sqrt(x * x + y * y) / 8.0, 1.0);
  a[at] = x / shrink;
  a[at + 1] = y / shrink;
}

// Sines, then cosines, of 2^k pi x for every coordinate of origin, direction and the points on two planes.
void encode(vec3 o, vec4 dx, vec4 dy, vec4 dz) {
  a[WIDE] = vec4(o.x);
  a[WIDE + 1] = vec4(o.y);
  a[WIDE + 2] = vec4(o.z);
  a[WIDE + 3] = dx;
  a[WIDE + 4] = dy;
  a[WIDE + 5] = dz;
  meet_plane(WIDE + 6, o, dx, dy, dz, SLAB_LOW);
  meet_plane(WIDE + 8, o, dx, dy, dz, SLAB_HIGH);
  for (int i = 0; i < CODE + u_zero; i++) {
    int j = i;
    ivec4 part = ivec4(3, ORIGIN_OCTAVES, ORIGIN_START, WIDE);
    if (j >= 6 * ORIGIN_OCTAVES) {
      j -= 6 * ORIGIN_OCTAVES;
      part = ivec4(3, DIRECTION_OCTAVES, DIRECTION_START, WIDE + 3);
      if (j >= 6 * DIRECTION_OCTAVES) {
        j -= 6 * DIRECTION_OCTAVES;
        part = ivec4(4, SLAB_OCTAVES, SLAB_START, WIDE + 6);
      }
    }
    bool is_cosine = j >= part.x * part.y;
    if (is_cosine) j -= part.x * part.y;
    int axis = j / part.y;
    int k = part.z + j - axis * part.y - 1;
    // In turns, reduced to one before the sine: exact, as factors are powers of two.
    vec4 turns = a[part.w + axis] * (k >= 0 ? float(1 << k) : 1.0 / float(1 << -k));
    vec4 angle = 6.28318530718 * (turns - floor(turns));
    a[NORMED + i] = is_cosine ? cos(angle) : sin(angle);
  }
}

void run(int first, int last) {
  for (int n = first; n < last; n++) {
    ivec4 what = u_steps[2 * n];
    if (what.x == 0 && what.y == 0) linear(u_network, what, u_steps[2 * n + 1]);
    else if (what.x == 0) linear(u_scene, what, u_steps[2 * n + 1]);
    else if (what.x == 1) standardise();
    else if (what.x == 2) choose();
    else for (int i = 0; i < CODE + u_zero; i++) a[X + i] = a[RAY + i];
  }
}

void main() {
  vec2 corner = 2.0 * floor(gl_FragCoord.xy) + 0.5;
  vec4 u = (corner.x + vec4(0.0, 1.0, 0.0, 1.0) - u_lens.z) * u_lens.x;
  vec4 v = (corner.y + vec4(0.0, 0.0, 1.0, 1.0) - u_lens.w) * u_lens.y;
  vec4 inverse = inversesqrt(u * u + v * v + 1.0);
  vec4 dx = (u_rotation[0].x * u + u_rotation[1].x * v - u_rotation[2].x) * inverse;
  vec4 dy = (u_rotation[0].y * u + u_rotation[1].y * v - u_rotation[2].y) * inverse;
  vec4 dz = (u_rotation[0].z * u + u_rotation[1].z * v - u_rotation[2].z) * inverse;
  vec4 origin = vec4(u_position, 1.0);
  for (int i = 0; i < ACTIVATIONS + u_zero; i++) a[i] = vec4(0.0);
  vec4 most = vec4(GONE);
  vec4 sum = vec4(0.0);
  // A slot that was moved sees rays moved the opposite way. One softmax over all groups, kept as it grows; after the
  // last group comes the colour.
  for (int g = 0; g <= u_group_count; g++) {
    bool is_colour = g == u_group_count;
    if (is_colour) for (int i = 0; i < RAY + u_zero; i++) a[i] /= sum;
    else {
      vec4 x = u_motion[3 * g];
      vec4 y = u_motion[3 * g + 1];
      vec4 z = u_motion[3 * g + 2];
      encode(
        vec3(dot(x, origin), dot(y, origin), dot(z, origin)),
        x.x * dx + x.y * dy + x.z * dz, y.x * dx + y.y * dy + y.z * dz, z.x * dx + z.y * dy + z.z * dz
      );
    }
    run(is_colour ? COLOUR_STEP : 0, is_colour ? STEPS : COLOUR_STEP);
    if (is_colour) break;
    vec4 before = most;
    for (int k = 0; k < SLOTS + u_zero; k++) {
      a[NORMED + k] += u_slots[k].x + (int(u_slots[k].y) == g ? 0.0 : GONE);
      most = max(most, a[NORMED + k]);
    }
    vec4 old = exp(before - most);
    vec4 gained = vec4(0.0);
    for (int k = 0; k < SLOTS + u_zero; k++) {
      vec4 e = exp(a[NORMED + k] - most);
      a[SHARES + k] = a[SHARES + k] * old + e;
      gained += e;
    }
    sum = sum * old + gained;
    for (int i = 0; i < CODE + u_zero; i++) a[i] = a[i] * old + gained * a[RAY + i];
  }
  vec4 owner = vec4(0.0);
  vec4 largest = vec4(-1.0);
  for (int k = 0; k < SLOTS + u_zero; k++) {
    owner = mix(owner, vec4(float(k)), vec4(greaterThan(a[SHARES + k], largest)));
    largest = max(largest, a[SHARES + k]);
  }
  vec4 red = 1.0 / (1.0 + exp(-a[COLOUR]));
  vec4 green = 1.0 / (1.0 + exp(-a[COLOUR + 1]));
  vec4 blue = 1.0 / (1.0 + exp(-a[COLOUR + 2]));
  owner /= 255.0;
  o_0 = vec4(red.x, green.x, blue.x, owner.x);
  o_1 = vec4(red.y, green.y, blue.y, owner.y);
  o_2 = vec4(red.z, green.z, blue.z, owner.z);
  o_3 = vec4(red.w, green.w, blue.w, owner.w);
}
