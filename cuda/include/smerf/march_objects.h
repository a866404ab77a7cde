// The objects of a baked scene on the way of a ray: what is hidden, what is lit, and which object a pixel shows.
// Mirrors smerf/render/objects.py and viewer/shaders/chunks/objects.glsl.
#pragma once

#include "smerf/march_assets.h"

namespace smerf {

// Bits of MarchScene::object_states.
constexpr int kHidden = 1, kLit = 2;
constexpr float kHighlightShare = 0.5f;

// A channel of the colour that lit objects are mixed with: HIGHLIGHT of smerf/scene/view.py.
SMERF_FN float highlight(int channel) { return channel == 0 ? 1.0f : (channel == 1 ? 0.72f : 0.2f); }

// One axis of the voxel of the atlas that is nearest to a contracted point.
SMERF_FN int nearest_voxel(const MarchScene& m, float z, int slot) {
  float weight;
  const int low = atlas_corner(m, z, slot, weight);
  return low + (weight >= 0.5f);
}

// The object at a contracted point, in the macroblock that has this slot of the atlas.
SMERF_FN int object_at(const MarchScene& m, const Vec3& z, const uint8_t* slot) {
  const int x = nearest_voxel(m, z.x, slot[0]), y = nearest_voxel(m, z.y, slot[1]);
  return m.object_ids[((size_t)x * m.atlas_y + y) * m.atlas_z + nearest_voxel(m, z.z, slot[2])];
}

// Of the ids that a ray meets, at most four with the weights of their samples, and the weight of what has no id.
struct Owners {
  float weights[4], none;
  int32_t ids[4];
};

SMERF_FN Owners no_owners() { return {{0.0f, 0.0f, 0.0f, 0.0f}, 0.0f, {0, 0, 0, 0}}; }

SMERF_FN void add_owner(Owners& owners, int id, float weight) {
  if (!id) {
    owners.none += weight;
    return;
  }
  int place = 0;
  // A free place weighs nothing. Where there is none, the lightest gives way.
  for (int i = 1; i < 4; ++i) place = owners.weights[i] < owners.weights[place] ? i : place;
  bool is_met = false;
  for (int i = 0; i < 4; ++i)
    if (owners.ids[i] == id) place = i, is_met = true;
  owners.ids[place] = id;
  owners.weights[place] = (is_met ? owners.weights[place] : 0.0f) + weight;
}

// The id with the greatest weight, the one met first of equals; what is left of the ray has none.
SMERF_FN int owner_of(const Owners& owners, float visibility) {
  float most = owners.none + visibility;
  int id = 0;
  for (int i = 0; i < 4; ++i)
    if (owners.weights[i] > most) most = owners.weights[i], id = owners.ids[i];
  return id;
}

// Mixes the highlight into a colour.
SMERF_FN float light_up(float colour, int channel, float lit) { return colour + lit * (highlight(channel) - colour); }

}  // namespace smerf
