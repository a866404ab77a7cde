// A small matrix product for tiles that live in cache: C (rows, cols) = or += A (rows, depth) B (depth, cols).
//
// B and C are row-major with cols a multiple of 16; A is read one scalar at a time, so any strides will do and the
// same loop serves X W, dY W^T and X^T dY. The vector type lowers to one zmm, two ymm or four xmm registers.
#pragma once

#include "smerf/common.h"

namespace smerf {

typedef float Vec16 __attribute__((vector_size(64), aligned(4)));

constexpr int kLane = 16;
constexpr int pad_to_lane(int n) { return (n + kLane - 1) / kLane * kLane; }

struct MatrixView {
  const float* data;
  int64_t row_stride, depth_stride;
};

template <int ROWS, int VECS>
static inline __attribute__((always_inline)) void gemm_block(const MatrixView& a, const float* b, int64_t ldb,
                                                             const float* bias, bool accumulate, float* c, int64_t ldc,
                                                             int depth) {
  Vec16 sum[ROWS][VECS];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECS; ++v) {
      if (accumulate)
        sum[r][v] = *(const Vec16*)(c + r * ldc + v * kLane);
      else if (bias)
        sum[r][v] = *(const Vec16*)(bias + v * kLane);
      else
        sum[r][v] = Vec16{};
    }
  for (int k = 0; k < depth; ++k) {
    Vec16 row[VECS];
    for (int v = 0; v < VECS; ++v) row[v] = *(const Vec16*)(b + k * ldb + v * kLane);
    for (int r = 0; r < ROWS; ++r) {
      const float scalar = a.data[r * a.row_stride + k * a.depth_stride];
      for (int v = 0; v < VECS; ++v) sum[r][v] += row[v] * scalar;
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECS; ++v) *(Vec16*)(c + r * ldc + v * kLane) = sum[r][v];
}

template <int ROWS, int VECS>
static void gemm_columns(const MatrixView& a, const float* b, int64_t ldb, const float* bias, bool accumulate, float* c,
                         int64_t ldc, int rows, int depth) {
  int r = 0;
  for (; r + ROWS <= rows; r += ROWS) {
    const MatrixView part = {a.data + r * a.row_stride, a.row_stride, a.depth_stride};
    gemm_block<ROWS, VECS>(part, b, ldb, bias, accumulate, c + r * ldc, ldc, depth);
  }
  for (; r < rows; ++r) {
    const MatrixView part = {a.data + r * a.row_stride, a.row_stride, a.depth_stride};
    gemm_block<1, VECS>(part, b, ldb, bias, accumulate, c + r * ldc, ldc, depth);
  }
}

// Register budget: 16 accumulators of 16 floats with AVX-512, 4 (eight ymm) below.
static inline void gemm(const MatrixView& a, const float* b, int64_t ldb, const float* bias, bool accumulate, float* c,
                        int64_t ldc, int rows, int cols, int depth) {
  int column = 0;
#if defined(__AVX512F__)
  for (; column + 4 * kLane <= cols; column += 4 * kLane)
    gemm_columns<5, 4>(a, b + column, ldb, bias ? bias + column : nullptr, accumulate, c + column, ldc, rows, depth);
  for (; column + 2 * kLane <= cols; column += 2 * kLane)
    gemm_columns<8, 2>(a, b + column, ldb, bias ? bias + column : nullptr, accumulate, c + column, ldc, rows, depth);
  for (; column < cols; column += kLane)
    gemm_columns<12, 1>(a, b + column, ldb, bias ? bias + column : nullptr, accumulate, c + column, ldc, rows, depth);
#else
  for (; column < cols; column += kLane)
    gemm_columns<5, 1>(a, b + column, ldb, bias ? bias + column : nullptr, accumulate, c + column, ldc, rows, depth);
#endif
}

}  // namespace smerf
