// A tile rasteriser of Gaussian splats: splats are projected once, listed by the tiles that their ellipses touch in
// the order of the picture, and blended eight pixels at a time.
#include <algorithm>
#include <vector>

#include "smerf/splat.h"

namespace smerf {
namespace {

constexpr int kTile = 16;

// What blending reads of a splat: centre, inverse covariance, opacity, 2 ln(255 opacity), colour, half height.
struct Projected {
  float x, y, a, b, c, opacity, cut, rgb[3];
  int16_t tiles[4];  // first and last column, first and last row; none if the first is beyond the last
};

// Projects splat number n, and returns its key in the order of the picture.
float project(const SplatTree& tree, const SplatCamera& camera, int32_t n, Projected& p) {
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
  p.tiles[0] = (int16_t)(larger(x0, 0.0f) / kTile), p.tiles[1] = (int16_t)(smaller(x1, camera.width - 1.0f) / kTile);
  p.tiles[2] = (int16_t)(larger(y0, 0.0f) / kTile), p.tiles[3] = (int16_t)(smaller(y1, camera.height - 1.0f) / kTile);
  splat_colour(tree.sh + (int64_t)n * tree.coefficients * 3, tree.coefficients, tree.sh_rotation, world[0], world[1],
               world[2], p.rgb);
  return camera.is_by_depth ? z : world[0] * world[0] + world[1] * world[1] + world[2] * world[2];
}

SMERF_FN Lanes8 exp8(const Lanes8& x) {
  const Lanes8 limit = -80.0f - Lanes8{};
  const Lanes8 y = (x < limit ? limit : x) * 1.44269504089f;
  const IntLanes8 whole = __builtin_convertvector(y - 0.5f, IntLanes8);
  const Lanes8 f = (y - __builtin_convertvector(whole, Lanes8)) * 0.69314718056f;
  const Lanes8 p =
      1.0f + f * (1.0f + f * (0.5f + f * (0.16666667f + f * (0.041666668f + f * (0.008333334f + f * 0.0013888889f)))));
  const IntLanes8 bits = (whole + 127) << 23;
  Lanes8 scale;
  memcpy(&scale, &bits, sizeof(scale));
  return p * scale;
}

struct TilePixels {
  Lanes8 light[2 * kTile], rgb[3][2 * kTile];
  bool is_done[2 * kTile];
};

// Blends a splat into the rows of a tile that its ellipse reaches; returns how many groups of eight it finished.
int blend(const Projected& p, float left, float top, TilePixels& tile) {
  const Lanes8 steps = {0.5f, 1.5f, 2.5f, 3.5f, 4.5f, 5.5f, 6.5f, 7.5f};
  const float high = sqrtf(p.cut * p.a / larger(p.a * p.c - p.b * p.b, 1e-30f));
  const int first = clampi((int)(p.y - high - top - 0.5f), 0, kTile),
            last = clampi((int)(p.y + high - top + 0.5f), 0, kTile - 1);
  int finished = 0;
  for (int row = first; row <= last; ++row) {
    const float dy = top + row + 0.5f - p.y;
    for (int half = 0; half < 2; ++half) {
      const int g = 2 * row + half;
      if (tile.is_done[g]) continue;
      const Lanes8 dx = steps + (left + 8 * half - p.x);
      const Lanes8 q = dx * (p.a * dx + 2.0f * p.b * dy) + p.c * dy * dy;
      const IntLanes8 inside = (q <= p.cut) & (q >= 0.0f);
      int32_t any = 0;
      for (int i = 0; i < 8; ++i) any |= inside[i];
      if (!any) continue;
      Lanes8 alpha = p.opacity * exp8(-0.5f * q);
      alpha = alpha > kSplatAlphaMax ? kSplatAlphaMax - Lanes8{} : alpha;
      alpha = inside ? alpha : Lanes8{};
      // A pixel that would go dark is finished: its light turns negative.
      const Lanes8 light = tile.light[g], rest = light * (1.0f - alpha);
      const IntLanes8 goes_on = rest >= kSplatStop, was_on = light > 0.0f;
      const Lanes8 weight = (goes_on & was_on) ? light * alpha : Lanes8{};
      for (int c = 0; c < 3; ++c) tile.rgb[c][g] += p.rgb[c] * weight;
      const Lanes8 ended = light > 0.0f ? -light : light;
      tile.light[g] = (goes_on & was_on) ? rest : ended;
      int32_t lit = 0;
      for (int i = 0; i < 8; ++i) lit |= tile.light[g][i] > 0.0f;
      tile.is_done[g] = !lit;
      finished += !lit;
    }
  }
  return finished;
}

}  // namespace
}  // namespace smerf

// Sets image (height, width, 4): colour over black, and the light that passes all splats.
SMERF_API int smerf_splat_image(const smerf::SplatTree* tree, const smerf::SplatCamera* camera, float* image) {
  using namespace smerf;
  const int32_t count = tree->leaf_count * 8;
  const int columns = (camera->width + kTile - 1) / kTile, rows = (camera->height + kTile - 1) / kTile;
  if (tree->coefficients > 16 || columns > 4096 || rows > 4096) return -1;
  std::vector<Projected> projected(count);
  std::vector<uint64_t> order(count);
#pragma omp parallel for schedule(static)
  for (int32_t n = 0; n < count; ++n) {
    const float key = project(*tree, *camera, n, projected[n]);
    uint32_t bits;
    memcpy(&bits, &key, sizeof(bits));
    order[n] = (uint64_t)bits << 32 | (uint32_t)n;
  }
  const auto is_out = [&](uint64_t key) {
    const Projected& p = projected[(uint32_t)key];
    return p.tiles[0] > p.tiles[1];
  };
  order.erase(std::remove_if(order.begin(), order.end(), is_out), order.end());
  std::sort(order.begin(), order.end());
  std::vector<int64_t> first((size_t)columns * rows + 1, 0);
  const auto each_tile = [&](auto&& use) {
    for (const uint64_t key : order) {
      const Projected& p = projected[(uint32_t)key];
      for (int y = p.tiles[2]; y <= p.tiles[3]; ++y)
        for (int x = p.tiles[0]; x <= p.tiles[1]; ++x) use((size_t)y * columns + x, (uint32_t)key);
    }
  };
  each_tile([&](size_t tile, uint32_t) { ++first[tile + 1]; });
  for (size_t t = 1; t < first.size(); ++t) first[t] += first[t - 1];
  std::vector<uint32_t> list(first.back());
  std::vector<int64_t> next(first.begin(), first.end() - 1);
  each_tile([&](size_t tile, uint32_t n) { list[next[tile]++] = n; });
#pragma omp parallel for schedule(dynamic, 4)
  for (int t = 0; t < columns * rows; ++t) {
    const int left = t % columns * kTile, top = t / columns * kTile;
    TilePixels tile;
    for (int g = 0; g < 2 * kTile; ++g) {
      tile.light[g] = 1.0f - Lanes8{}, tile.is_done[g] = false;
      for (int c = 0; c < 3; ++c) tile.rgb[c][g] = Lanes8{};
    }
    int open = 2 * kTile;
    for (int64_t i = first[t]; i < first[t + 1] && open; ++i) open -= blend(projected[list[i]], left, top, tile);
    for (int row = 0; row < kTile && top + row < camera->height; ++row)
      for (int x = 0; x < kTile && left + x < camera->width; ++x) {
        float* pixel = image + (((int64_t)(top + row) * camera->width) + left + x) * 4;
        for (int c = 0; c < 3; ++c) pixel[c] = tile.rgb[c][2 * row + x / 8][x & 7];
        pixel[3] = fabsf(tile.light[2 * row + x / 8][x & 7]);
      }
  }
  return 0;
}
