// chunks/objects.glsl in WGSL: what is hidden, what is lit, and which object a pixel shows.

const HIGHLIGHT = vec3f(1.0, 0.72, 0.2);
const HIGHLIGHT_SHARE = 0.5;

// Object of a voxel of the atlas; 0 where nobody asks.
fn id_at(voxel: vec3f) -> u32 {
#if OBJECTS
  return textureLoad(u_atlas_ids, vec3i(voxel), 0).r;
#else
  return 0u;
#endif
}

fn is_among(words: array<vec4u, 2>, id: u32) -> bool {
  let four = select(words[1], words[0], id < 128u);
  return ((four[(id >> 5u) & 3u] >> (id & 31u)) & 1u) == 1u;
}

// Of the ids that a ray meets, at most four with the weights of their samples, and the weight of what has no id.
struct Owners {
  ids: vec4f,
  weights: vec4f,
  none: f32,
}

fn add_owner(owners: ptr<function, Owners>, id: u32, weight: f32) {
  if (id == 0u) {
    (*owners).none += weight;
    return;
  }
  var own = (*owners).ids == vec4f(f32(id));
  if (!any(own)) {
    // A free place weighs nothing. Where there is none, the lightest gives way.
    let w = (*owners).weights;
    let least = w <= vec4f(min(min(w.x, w.y), min(w.z, w.w)));
    own = vec4<bool>(
      least.x, least.y && !least.x, least.z && !least.x && !least.y, !least.x && !least.y && !least.z,
    );
    (*owners).ids = select((*owners).ids, vec4f(f32(id)), own);
    (*owners).weights = select(w, vec4f(0.0), own);
  }
  (*owners).weights += select(vec4f(0.0), vec4f(weight), own);
}

// The id with the greatest weight, the one met first of equals.
fn owner_of(owners: Owners) -> f32 {
  var best = vec2f(0.0, owners.none);
  for (var i = 0; i < 4; i++) {
    if (owners.weights[i] > best.y) { best = vec2f(owners.ids[i], owners.weights[i]); }
  }
  return best.x;
}
