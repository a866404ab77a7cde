// Sixteen neighbouring rays on their way through a baked scene, in step: the march of march.h for CPUs.
//
// Everything but the reading of features runs across the rays, in loops that compilers turn into vector instructions;
// reads of one step do not wait for one another. A ray takes the same steps as by itself.
#pragma once

#include "smerf/march.h"
#include "smerf/march_objects.h"

namespace smerf {

constexpr int kPacket = 16;

struct alignas(64) Floats {
  float v[kPacket];
  float& operator[](int i) { return v[i]; }
  float operator[](int i) const { return v[i]; }
};

struct alignas(64) Ints {
  int32_t v[kPacket];
  int32_t& operator[](int i) { return v[i]; }
  int32_t operator[](int i) const { return v[i]; }
};

struct Points {
  Floats x, y, z;
  Vec3 operator[](int i) const { return {x[i], y[i], z[i]}; }
};

class MarchPacket {
 public:
  explicit MarchPacket(const MarchScene& scene) : m_(scene) {}

  // Takes in rays; lanes whose number is negative stay idle.
  void start(const float* origins, bool is_shared_origin, const float* directions, const int64_t* numbers) {
    for (int i = 0; i < kPacket; ++i) {
      const int64_t ray = numbers[i] < 0 ? 0 : numbers[i];
      const float *o = origins + (is_shared_origin ? 0 : 3 * ray), *d = directions + 3 * ray;
      set(origin_, i, {o[0], o[1], o[2]});
      set(direction_, i, {d[0], d[1], d[2]});
      active_[i] = numbers[i] >= 0;
    }
    for (int i = 0; i < kPacket; ++i) {
      const RegionExits exits = region_exits(origin_[i], direction_[i], m_.near);
      for (int r = 0; r < 7; ++r) exits_[r][i] = exits.t[r];
      exit_[i] = next_exit(exits, -INFINITY);
    }
    for (int i = 0; i < kPacket; ++i) active_[i] = exit_[i] < INFINITY ? active_[i] : 0;
    for (int i = 0; i < kPacket; ++i)
      set_piece(i, first_piece(m_, origin_[i], direction_[i], active_[i] ? exit_[i] : m_.near + 1.0f), 0.0f);
    for (int i = 0; i < kPacket; ++i) visibility_[i] = average_[i] = 1.0f;
    for (int i = 0; i < kPacket; ++i) total_[i] = zero_pair();
    for (int i = 0; i < kPacket; ++i) unknown_[i] = lit_[i] = 0.0f;
    for (int k = 0; k < m_.spent_count; ++k)
      for (int i = 0; i < kPacket; ++i) depth_[k][i] = 0.0f;
    if (m_.object_ids)
      for (int i = 0; i < kPacket; ++i) owners_[i] = no_owners();
  }

  void march() {
    for (int step = 0; step < m_.max_steps; ++step) {
      measure_steps();
      if (!any(active_)) break;
      skip_by_distance();
      skip_by_occupancy();
      if (!any(reads_)) continue;
      find_assets();
      if (m_.object_ids) find_objects();
      read_assets();
      blend();
    }
    if (m_.known) add_void();
  }

  // Channel c of ray i: 0 to 6 are r, g, b, f0 .. f3, and 7 to 13 the same of the sparse grid alone.
  float channel(int i, int c) const { return pair_lane(total_[i], c < 7 ? c + 1 : c + 2); }
  float visibility(int i) const { return visibility_[i]; }
  float unknown(int i) const { return unknown_[i]; }
  // World distance at which the visibility has fallen to the k-th of `spent`, 0 if it never does.
  float depth(int i, int k) const { return depth_[k][i]; }
  // How much of the highlight the pixel gets.
  float lit(int i) const { return lit_[i]; }
  // The object that the pixel shows.
  int object(int i) const { return m_.object_ids ? owner_of(owners_[i], visibility_[i]) : 0; }
  Vec3 direction(int i) const { return direction_[i]; }

 private:
  static void set(Points& p, int i, const Vec3& value) { p.x[i] = value.x, p.y[i] = value.y, p.z[i] = value.z; }

  static bool any(const Ints& flags) {
    int32_t all = 0;
    for (int i = 0; i < kPacket; ++i) all |= flags[i];
    return all;
  }

  MarchPiece piece(int i) const { return {start_[i], along_[i], inverse_[i], 0.0f, leave_[i]}; }

  void set_piece(int i, const MarchPiece& p, float s) {
    set(start_, i, p.start);
    set(along_, i, p.along);
    set(inverse_, i, p.inverse);
    leave_[i] = p.leave;
    s_[i] = s;
    cell_end_[i] = -INFINITY;
  }

  // Retires opaque rays, measures the next step, and takes rays that have left a region to the next.
  void measure_steps() {
    Ints leaves;
    for (int i = 0; i < kPacket; ++i) {
      active_[i] = visibility_[i] > kVisibilityMin ? active_[i] : 0;
      leaves[i] = s_[i] > leave_[i] ? active_[i] : 0;
    }
    if (m_.is_enlarging)
      for (int i = 0; i < kPacket; ++i) stride_[i] = enlarged_step(m_, visibility_[i], average_[i]);
    else
      for (int i = 0; i < kPacket; ++i) stride_[i] = m_.step;
    if (!any(leaves)) return;
    for (int i = 0; i < kPacket; ++i)
      if (leaves[i]) enter_next(i);
  }

  void enter_next(int i) {
    RegionExits exits;
    for (int r = 0; r < 7; ++r) exits.t[r] = exits_[r][i];
    MarchPiece p = piece(i);
    active_[i] = next_region(m_, origin_[i], direction_[i], exits, stride_[i], exit_[i], p);
    if (active_[i]) set_piece(i, p, p.enter + 0.5f * stride_[i]);
  }

  void skip_by_distance() {
    Ints skip;
    for (int i = 0; i < kPacket; ++i) {
      const Vec3 z = along_ray(start_[i], along_[i], s_[i]);
      set(z_, i, z);
      cell_[i] = cell_number(m_, z);
    }
    for (int i = 0; i < kPacket; ++i) skip[i] = m_.distance[cell_[i]];
    const float size = 8.0f * m_.voxel;
    for (int i = 0; i < kPacket; ++i) {
      s_[i] += (float)skip[i] * size;
      reads_[i] = skip[i] ? 0 : active_[i];
    }
  }

  // Moves rays past empty cells; a full cell's answer holds until the ray leaves it.
  void skip_by_occupancy() {
    Ints enters, bytes;
    for (int i = 0; i < kPacket; ++i) enters[i] = s_[i] > cell_end_[i] ? reads_[i] : 0;
    if (!any(enters)) return;
    for (int i = 0; i < kPacket; ++i) bytes[i] = m_.occupancy[cell_[i]];
    for (int i = 0; i < kPacket; ++i) {
      float end;
      const int empty = test_occupancy(m_, piece(i), z_[i], bytes[i], end) ? 0 : enters[i];
      cell_end_[i] = enters[i] ? end : cell_end_[i];
      s_[i] = empty ? larger(s_[i], end) + 0.5f * stride_[i] : s_[i];
      reads_[i] = empty ? 0 : reads_[i];
    }
  }

  void find_assets() {
    Ints block, slot[3];
    for (int i = 0; i < kPacket; ++i) block[i] = block_number(m_, z_[i]);
    for (int i = 0; i < kPacket; ++i)
      for (int axis = 0; axis < 3; ++axis) slot[axis][i] = m_.blocks[(size_t)block[i] * 3 + axis];
    for (int i = 0; i < kPacket; ++i) {
      const AssetSpot spot = locate(m_, z_[i], slot[0][i], slot[1][i], slot[2][i]);
      voxel_[i] = spot.voxel;
      for (int axis = 0; axis < 3; ++axis) texel_[axis][i] = spot.texel[axis];
      for (int k = 0; k < 4; ++k) column_[k][i] = spot.column[k];
      upper_voxel_[i] = spot.upper_voxel;
      set(upper_, i, spot.upper);
      set(lower_, i, spot.lower);
      has_data_[i] = slot[0][i] != 255 ? reads_[i] : 0;
    }
  }

  // Samples of hidden objects have no data.
  void find_objects() {
    for (int i = 0; i < kPacket; ++i) {
      if (!has_data_[i]) continue;
      id_[i] = object_at(m_, z_[i], m_.blocks + (size_t)block_number(m_, z_[i]) * 3);
      has_data_[i] = m_.object_states[id_[i]] & kHidden ? 0 : 1;
    }
  }

  void blend_objects(const Floats& weight) {
    for (int k = 0; k < count_; ++k) {
      const int i = list_[k];
      if (!(weight[i] > 0.0f)) continue;
      add_owner(owners_[i], id_[i], weight[i]);
      if (m_.object_states[id_[i]] & kLit) lit_[i] += kHighlightShare * weight[i];
    }
  }

  AssetSpot spot(int i) const {
    return {voxel_[i],
            {texel_[0][i], texel_[1][i], texel_[2][i]},
            {column_[0][i], column_[1][i], column_[2][i], column_[3][i]},
            upper_voxel_[i],
            upper_[i],
            lower_[i]};
  }

  void read_assets() {
    count_ = 0;
    for (int i = 0; i < kPacket; ++i) {
      list_[count_] = i;
      count_ += has_data_[i];
    }
    for (int k = 0; k < count_; ++k) {
      const int i = list_[k];
      Lanes8 fine, coarse;
      smerf::read_assets(m_, spot(i), fine, coarse);
      values_[i] = join_lanes(fine, coarse);
      density_[i] = lane(fine, 0);
    }
  }

  void blend() {
    Floats weight, before = visibility_;
    for (int i = 0; i < kPacket; ++i) {
      const Vec3 after = along_ray(start_[i], along_[i], smaller(s_[i] + stride_[i], leave_[i]));
      const float full = alpha_of(density_[i], step_length(m_, z_[i], after)), alpha = has_data_[i] ? full : 0.0f;
      weight[i] = alpha > kAlphaMin ? visibility_[i] * alpha : 0.0f;
      visibility_[i] *= 1.0f - alpha;
      s_[i] = reads_[i] ? s_[i] + stride_[i] : s_[i];
    }
    for (int k = 0; k < count_; ++k) {
      const int i = list_[k];
      if (weight[i] > 0.0f) add_sigmoid(total_[i], values_[i], weight[i]);
      for (int s = 0; s < m_.spent_count; ++s)
        if (before[i] > m_.spent[s] && visibility_[i] <= m_.spent[s])
          depth_[s][i] = distance_from(m_, origin_[i], z_[i]);
    }
    if (m_.object_ids) blend_objects(weight);
    if (!m_.known) return;
    for (int k = 0; k < count_; ++k) {
      const int i = list_[k];
      if (weight[i] > 0.0f) unknown_[i] += weight[i] * (1.0f - support_at(m_, z_[i], unit_of(direction_[i])));
    }
  }

  // What is left of a ray shows what lies behind everything.
  void add_void() {
    for (int i = 0; i < kPacket; ++i) {
      const Vec3 end = along_ray(start_[i], along_[i], leave_[i]);
      unknown_[i] += visibility_[i] * (1.0f - support_at(m_, end, unit_of(direction_[i])));
    }
  }

  const MarchScene m_;
  Points origin_, direction_, start_, along_, inverse_, z_, upper_, lower_;
  Floats exits_[7], exit_, leave_, s_, cell_end_, stride_, visibility_, average_, unknown_, lit_, depth_[kMaxSpent],
      density_ = {}, column_[4], upper_voxel_;
  Ints active_, reads_, has_data_, cell_, voxel_, texel_[3], id_;
  Owners owners_[kPacket];
  LanePair total_[kPacket], values_[kPacket];  // fine, coarse
  int list_[kPacket + 1], count_ = 0;
};

}  // namespace smerf
