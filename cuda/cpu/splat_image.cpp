// A tile rasteriser of Gaussian splats: splats are projected once, listed by the tiles that their ellipses touch in
// the order of the picture, and blended eight pixels at a time.
#include <algorithm>
#include <vector>

#include "smerf/splat_project.h"

namespace smerf {
namespace {

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
  Lanes8 light[2 * kSplatTile], rgb[3][2 * kSplatTile];
  bool is_done[2 * kSplatTile];
};

// Blends a splat into the rows of a tile that its ellipse reaches; returns how many groups of eight it finished.
int blend(const SplatOnImage& p, float left, float top, TilePixels& tile) {
  const Lanes8 steps = {0.5f, 1.5f, 2.5f, 3.5f, 4.5f, 5.5f, 6.5f, 7.5f};
  const float high = sqrtf(p.cut * p.a / larger(p.a * p.c - p.b * p.b, 1e-30f));
  const int first = clamp_whole(p.y - high - top - 0.5f, 0, kSplatTile),
            last = clamp_whole(p.y + high - top + 0.5f, 0, kSplatTile - 1);
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
  const int columns = (camera->width + kSplatTile - 1) / kSplatTile,
            rows = (camera->height + kSplatTile - 1) / kSplatTile;
  if (tree->coefficients > 16 || columns > 4096 || rows > 4096) return -1;
  std::vector<SplatOnImage> projected(count);
  std::vector<uint64_t> order(count);
#pragma omp parallel for schedule(static)
  for (int32_t n = 0; n < count; ++n) {
    const float key = splat_project(*tree, *camera, n, projected[n]);
    uint32_t bits;
    memcpy(&bits, &key, sizeof(bits));
    order[n] = (uint64_t)bits << 32 | (uint32_t)n;
  }
  const auto is_out = [&](uint64_t key) {
    const SplatOnImage& p = projected[(uint32_t)key];
    return p.tiles[0] > p.tiles[1];
  };
  order.erase(std::remove_if(order.begin(), order.end(), is_out), order.end());
  std::sort(order.begin(), order.end());
  std::vector<int64_t> first((size_t)columns * rows + 1, 0);
  const auto each_tile = [&](auto&& use) {
    for (const uint64_t key : order) {
      const SplatOnImage& p = projected[(uint32_t)key];
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
    const int left = t % columns * kSplatTile, top = t / columns * kSplatTile;
    TilePixels tile;
    for (int g = 0; g < 2 * kSplatTile; ++g) {
      tile.light[g] = 1.0f - Lanes8{}, tile.is_done[g] = false;
      for (int c = 0; c < 3; ++c) tile.rgb[c][g] = Lanes8{};
    }
    int open = 2 * kSplatTile;
    for (int64_t i = first[t]; i < first[t + 1] && open; ++i) open -= blend(projected[list[i]], left, top, tile);
    for (int row = 0; row < kSplatTile && top + row < camera->height; ++row)
      for (int x = 0; x < kSplatTile && left + x < camera->width; ++x) {
        float* pixel = image + (((int64_t)(top + row) * camera->width) + left + x) * 4;
        for (int c = 0; c < 3; ++c) pixel[c] = tile.rgb[c][2 * row + x / 8][x & 7];
        pixel[3] = fabsf(tile.light[2 * row + x / 8][x & 7]);
      }
  }
  return 0;
}
