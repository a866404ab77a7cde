// A Gaussian splat on the image of a pinhole, and the tiles that its ellipse touches (Zwicker et al., EWA splatting,
// 2001, as Kerbl et al., arXiv 2308.04079, linearise it).
#pragma once

#include "smerf/splat.h"

namespace smerf {

constexpr int kSplatTile = 16;

// What blending reads of a splat: centre, inverse covariance, opacity, 2 ln(255 opacity), colour, half height.
struct SplatOnImage {
  float x, y, a, b, c, opacity, cut, rgb[3];
  int16_t tiles[4];  // first and last column, first and last row; none if the first is beyond the last
};

// Projects splat number n, and returns its key in the order of the picture.
SMERF_FN float splat_project(const SplatTree& tree, const SplatCamera& camera, int32_t n, SplatOnImage& p) {
  const float* rows = tree.leaves + (int64_t)(n >> 3) * kSplatRows * 8 + (n & 7);
  float s[kSplatRows];
  for (int i = 0; i < kSplatRows; ++i) s[i] = rows[8 * i];
  p.tiles[0] = 1, p.tiles[1] = 0;
  const float world[3] = {s[0] - camera.eye[0], s[1] - camera.eye[1], s[2] - camera.eye[2]};
  const float* r = camera.rotation;
  float v[3];
  for (int i = 0; i < 3; ++i) v[i] = r[3 * i] * world[0] + r[3 * i + 1] * world[1] + r[3 * i + 2] * world[2];
  const float z = v[2];
  if (!(z > camera.near) || s[10] <= 0.0f) return 0.0f;
  const float inverse_z = 1.0f / z;
  // The linearisation is clamped a little outside the image (Kerbl et al.'s guard band).
  const float margin_x = 0.15f * camera.width / camera.fx, margin_y = 0.15f * camera.height / camera.fy;
  const float tx = clampf(v[0] * inverse_z, -camera.cx / camera.fx - margin_x,
                          (camera.width - camera.cx) / camera.fx + margin_x),
              ty = clampf(v[1] * inverse_z, -camera.cy / camera.fy - margin_y,
                          (camera.height - camera.cy) / camera.fy + margin_y);
  float j[2][3];
  for (int i = 0; i < 3; ++i) {
    j[0][i] = camera.fx * inverse_z * (r[i] - tx * r[6 + i]);
    j[1][i] = camera.fy * inverse_z * (r[3 + i] - ty * r[6 + i]);
  }
  float m[2][3];
  for (int k = 0; k < 2; ++k) {
    m[k][0] = s[3] * j[k][0] + s[4] * j[k][1] + s[5] * j[k][2];
    m[k][1] = s[4] * j[k][0] + s[6] * j[k][1] + s[7] * j[k][2];
    m[k][2] = s[5] * j[k][0] + s[7] * j[k][1] + s[8] * j[k][2];
  }
  const float xx0 = m[0][0] * j[0][0] + m[0][1] * j[0][1] + m[0][2] * j[0][2],
              xy = m[0][0] * j[1][0] + m[0][1] * j[1][1] + m[0][2] * j[1][2],
              yy0 = m[1][0] * j[1][0] + m[1][1] * j[1][1] + m[1][2] * j[1][2];
  const float xx = xx0 + camera.dilation, yy = yy0 + camera.dilation, full = xx * yy - xy * xy;
  const float det = larger(full, xx * yy * 1e-7f + 1e-30f);
  p.opacity = s[9], p.cut = s[10];
  if (tree.is_antialiased) {
    const float factor = sqrtf(larger((xx0 * yy0 - xy * xy) / det, kSplatMinFactor));
    p.opacity *= factor, p.cut += 2.0f * logf(factor);
    if (p.cut <= 0.0f) return 0.0f;
  }
  p.a = yy / det, p.b = -xy / det, p.c = xx / det;
  p.x = camera.fx * v[0] * inverse_z + camera.cx, p.y = camera.fy * v[1] * inverse_z + camera.cy;
  const float wide = sqrtf(p.cut * xx), high = sqrtf(p.cut * yy);
  const float x0 = p.x - wide, x1 = p.x + wide, y0 = p.y - high, y1 = p.y + high;
  if (!(x1 > 0.0f && y1 > 0.0f && x0 < camera.width && y0 < camera.height)) return 0.0f;
  p.tiles[0] = (int16_t)(larger(x0, 0.0f) / kSplatTile),
  p.tiles[1] = (int16_t)(smaller(x1, camera.width - 1.0f) / kSplatTile);
  p.tiles[2] = (int16_t)(larger(y0, 0.0f) / kSplatTile),
  p.tiles[3] = (int16_t)(smaller(y1, camera.height - 1.0f) / kSplatTile);
  splat_colour(tree, n, world[0], world[1], world[2], p.rgb);
  return camera.is_by_depth ? z : world[0] * world[0] + world[1] * world[1] + world[2] * world[2];
}

}  // namespace smerf
