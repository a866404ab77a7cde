// A small matrix product for tiles that live in cache: C (rows, cols) = or += A (rows, depth) B (depth, cols).
//
// B and C are row-major with cols a multiple of 16; A is read one scalar at a time, so any strides will do and the
// same loop serves X W, dY W^T and X^T dY. The sums stay in registers.
#pragma once

#include "vectors.h"

namespace smerf {

constexpr int kLane = 16;  // rows are padded to this on every machine, so that results are laid out alike
constexpr int pad_to_lane(int n) { return (n + kLane - 1) / kLane * kLane; }

struct MatrixView {
  const float* data;
  int64_t row_stride, depth_stride;
};

template <int ROWS, int VECS>
static inline __attribute__((always_inline)) void gemm_block(const MatrixView& a, const float* b, int64_t ldb,
                                                             const float* bias, bool accumulate, float* c, int64_t ldc,
                                                             int depth) {
  Vec sum[ROWS][VECS];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECS; ++v) {
      if (accumulate)
        sum[r][v] = *(const Vec*)(c + r * ldc + v * kVec);
      else if (bias)
        sum[r][v] = *(const Vec*)(bias + v * kVec);
      else
        sum[r][v] = Vec{};
    }
  for (int k = 0; k < depth; ++k) {
    Vec row[VECS];
    for (int v = 0; v < VECS; ++v) row[v] = *(const Vec*)(b + k * ldb + v * kVec);
    for (int r = 0; r < ROWS; ++r) {
      const float scalar = a.data[r * a.row_stride + k * a.depth_stride];
      for (int v = 0; v < VECS; ++v) sum[r][v] += row[v] * scalar;
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECS; ++v) *(Vec*)(c + r * ldc + v * kVec) = sum[r][v];
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

// Columns of C in steps of `VECS` vectors, as long as they fit; returns the first column that is left.
template <int ROWS, int VECS>
static inline int gemm_wide(int column, const MatrixView& a, const float* b, int64_t ldb, const float* bias,
                            bool accumulate, float* c, int64_t ldc, int rows, int cols, int depth) {
  for (; column + VECS * kVec <= cols; column += VECS * kVec)
    gemm_columns<ROWS, VECS>(a, b + column, ldb, bias ? bias + column : nullptr, accumulate, c + column, ldc, rows,
                             depth);
  return column;
}

// Sums, a row of B and a scalar fit into 32 registers with AVX-512 and into 16 without.
static inline void gemm(const MatrixView& a, const float* b, int64_t ldb, const float* bias, bool accumulate, float* c,
                        int64_t ldc, int rows, int cols, int depth) {
  int column = 0;
#if defined(__AVX512F__)
  column = gemm_wide<5, 4>(column, a, b, ldb, bias, accumulate, c, ldc, rows, cols, depth);
  column = gemm_wide<8, 2>(column, a, b, ldb, bias, accumulate, c, ldc, rows, cols, depth);
  gemm_wide<12, 1>(column, a, b, ldb, bias, accumulate, c, ldc, rows, cols, depth);
#elif defined(__AVX2__)
  column = gemm_wide<3, 4>(column, a, b, ldb, bias, accumulate, c, ldc, rows, cols, depth);
  gemm_wide<6, 2>(column, a, b, ldb, bias, accumulate, c, ldc, rows, cols, depth);
#else
  gemm_wide<2, 4>(column, a, b, ldb, bias, accumulate, c, ldc, rows, cols, depth);
#endif
}

}  // namespace smerf
