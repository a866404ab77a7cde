// A tile rasteriser of Gaussian splats on GPUs, in three launches between which the caller sorts: splats are projected,
// one thread each; listed by the tiles that they touch; and blended, one block a tile and one thread a pixel.
#include "launch.h"
#include "smerf/splat_project.h"

namespace {

using namespace smerf;

constexpr int kPixels = kSplatTile * kSplatTile;

__global__ void __launch_bounds__(kThreads)
    project_kernel(const __grid_constant__ SplatTree tree, const __grid_constant__ SplatCamera camera,
                   SplatOnImage* __restrict__ projected, int64_t* __restrict__ keys, int64_t* __restrict__ touched) {
  const int64_t n = thread_number();
  if (n >= 8 * (int64_t)tree.leaf_count) return;
  SplatOnImage p = {};
  const float key = splat_project(tree, camera, (int32_t)n, p);
  uint32_t bits;
  memcpy(&bits, &key, sizeof(bits));
  projected[n] = p;
  keys[n] = (int64_t)((uint64_t)bits << 32 | (uint32_t)n);
  const int columns = p.tiles[1] - p.tiles[0] + 1, rows = p.tiles[3] - p.tiles[2] + 1;
  touched[n] = columns > 0 && rows > 0 ? columns * rows : 0;
}

__global__ void __launch_bounds__(kThreads)
    list_kernel(const SplatOnImage* __restrict__ projected, const int64_t* __restrict__ order,
                const int64_t* __restrict__ starts, int64_t count, int columns, int32_t* __restrict__ tiles,
                int32_t* __restrict__ splats) {
  const int64_t i = thread_number();
  if (i >= count) return;
  const int32_t n = (int32_t)order[i];
  const SplatOnImage& p = projected[n];
  if (p.tiles[0] > p.tiles[1]) return;
  int64_t place = starts[i];
  for (int y = p.tiles[2]; y <= p.tiles[3]; ++y)
    for (int x = p.tiles[0]; x <= p.tiles[1]; ++x, ++place) tiles[place] = y * columns + x, splats[place] = n;
}

__global__ void __launch_bounds__(kPixels)
    blend_kernel(const SplatOnImage* __restrict__ projected, const int32_t* __restrict__ splats,
                 const int64_t* __restrict__ first, int columns, int width, int height, float* __restrict__ image) {
  __shared__ SplatOnImage batch[kPixels];
  __shared__ int open;
  const int tile = blockIdx.x, self = threadIdx.x;
  const int x = tile % columns * kSplatTile + self % kSplatTile, y = tile / columns * kSplatTile + self / kSplatTile;
  float light = 1.0f, rgb[3] = {};
  bool is_done = x >= width || y >= height;
  for (int64_t start = first[tile]; start < first[tile + 1]; start += kPixels) {
    if (self == 0) open = 0;
    __syncthreads();
    if (!is_done) atomicAdd(&open, 1);
    if (start + self < first[tile + 1]) batch[self] = projected[splats[start + self]];
    __syncthreads();
    if (!open) break;
    const int count = (int)smaller((float)(first[tile + 1] - start), (float)kPixels);
    for (int k = 0; k < count && !is_done; ++k) {
      const SplatOnImage& p = batch[k];
      const float dx = x + 0.5f - p.x, dy = y + 0.5f - p.y;
      const float q = dx * (p.a * dx + 2.0f * p.b * dy) + p.c * dy * dy;
      if (!(q <= p.cut && q >= 0.0f)) continue;
      const float alpha = smaller(p.opacity * fast_exp(-0.5f * q), kSplatAlphaMax), rest = light * (1.0f - alpha);
      is_done = !(rest >= kSplatStop);
      if (is_done) break;
      for (int c = 0; c < 3; ++c) rgb[c] += p.rgb[c] * light * alpha;
      light = rest;
    }
    __syncthreads();
  }
  if (x >= width || y >= height) return;
  float* pixel = image + ((int64_t)y * width + x) * 4;
  for (int c = 0; c < 3; ++c) pixel[c] = rgb[c];
  pixel[3] = light;
}

bool is_supported(const SplatTree& tree, const SplatCamera& camera) {
  return tree.coefficients <= 16 && camera.width <= 4096 * kSplatTile && camera.height <= 4096 * kSplatTile;
}

}  // namespace

// Sets, for every splat, what blending reads of it (48 bytes), its key in the order of the picture, and how many tiles
// it touches. Structures are in host memory and hold device pointers.
SMERF_API int smerf_splat_project(const void* tree, const void* camera, void* projected, int64_t* keys,
                                  int64_t* touched, void* stream) {
  const SplatTree& splats = *(const SplatTree*)tree;
  const SplatCamera& view = *(const SplatCamera*)camera;
  static_assert(sizeof(SplatOnImage) == 48, "the caller's rows");
  if (!is_supported(splats, view)) return kUnsupported;
  if (splats.leaf_count == 0) return 0;
  SMERF_LAUNCH(project_kernel, block_count(8 * (int64_t)splats.leaf_count, kThreads), kThreads, 0, stream, splats, view,
               (SplatOnImage*)projected, keys, touched);
  return launch_result();
}

// Lists the tiles that splats touch, in the given order, each splat from its start on.
SMERF_API int smerf_splat_list(const void* projected, const int64_t* order, const int64_t* starts, int64_t count,
                               int columns, int32_t* tiles, int32_t* splats, void* stream) {
  if (count == 0) return 0;
  SMERF_LAUNCH(list_kernel, block_count(count, kThreads), kThreads, 0, stream, (const SplatOnImage*)projected, order,
               starts, count, columns, tiles, splats);
  return launch_result();
}

// As in cuda/cpu/splat_image.cpp. splats: those of each tile in the order of the picture, tile after tile; first
// (tiles + 1): where each tile's begin.
SMERF_API int smerf_splat_image(const void* tree, const void* camera, float* image, const void* projected,
                                const int32_t* splats, const int64_t* first, void* stream) {
  const SplatCamera& view = *(const SplatCamera*)camera;
  if (!is_supported(*(const SplatTree*)tree, view)) return kUnsupported;
  const int columns = (view.width + kSplatTile - 1) / kSplatTile, rows = (view.height + kSplatTile - 1) / kSplatTile;
  if (columns * rows == 0) return 0;
  SMERF_LAUNCH(blend_kernel, (unsigned)(columns * rows), kPixels, 0, stream, (const SplatOnImage*)projected, splats,
               first, columns, view.width, view.height, image);
  return launch_result();
}
