// The objects of a scene: what is hidden, what is lit, and which object a pixel shows (smerf/scene/objects.py,
// cuda/include/smerf/march_objects.h).

uniform usampler3D u_atlas_ids;
// 256 bits: that of id i is bit (i & 31) of word i >> 5.
uniform uvec4 u_hidden[2];
uniform uvec4 u_lit[2];

const vec3 HIGHLIGHT = vec3(1.0, 0.72, 0.2);
const float HIGHLIGHT_SHARE = 0.5;

bool is_among(uvec4 first, uvec4 second, uint id) {
  uvec4 words = id < 128u ? first : second;
  return ((words[int(id >> 5u) & 3] >> (id & 31u)) & 1u) == 1u;
}

// Of the ids that a ray meets, at most four with the weights of their samples, and the weight of what has no id.
struct Owners {
  vec4 ids;
  vec4 weights;
  float none;
};

void add_owner(inout Owners owners, uint id, float weight) {
  if (id == 0u) {
    owners.none += weight;
    return;
  }
  bvec4 own = equal(owners.ids, vec4(float(id)));
  if (!any(own)) {
    // A free place weighs nothing. Where there is none, the lightest gives way.
    vec4 w = owners.weights;
    bvec4 least = lessThanEqual(w, vec4(min(min(w.x, w.y), min(w.z, w.w))));
    own = bvec4(
      least.x, least.y && !least.x, least.z && !least.x && !least.y, !least.x && !least.y && !least.z
    );
    owners.ids = mix(owners.ids, vec4(float(id)), own);
    owners.weights = mix(w, vec4(0.0), own);
  }
  owners.weights += mix(vec4(0.0), vec4(weight), own);
}

// The id with the greatest weight, the one met first of equals.
float owner_of(Owners owners) {
  vec2 best = vec2(0.0, owners.none);
  for (int i = 0; i < 4; ++i) {
    if (owners.weights[i] > best.y) best = vec2(owners.ids[i], owners.weights[i]);
  }
  return best.x;
}
