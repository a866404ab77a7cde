// Where a ray leaves the regions of the contraction. Every region is convex, so a ray visits each at most once and
// the sorted exits name the pieces on which the contracted ray is straight. t counts near-plane distances.

const float FAR_LIMIT = 1e4;
const float NO_EXIT = 1e30;

// Keeps the part of `span` where origin + t * direction <= limit.
void clip_span(inout vec2 span, float origin, float direction, float limit) {
  if (direction > 0.0) span.y = min(span.y, (limit - origin) / direction);
  else if (direction < 0.0) span.x = max(span.x, (limit - origin) / direction);
  else if (origin > limit) span = vec2(1.0, 0.0);
}

float exit_after(vec2 span, float t) {
  return (span.x < span.y && span.y > t * 1.000001) ? span.y : NO_EXIT;
}

// One outer slab: `a` is the component along the slab's outward axis, b and c are the others.
float slab_exit(float oa, float da, float ob, float db, float oc, float dc, float t) {
  vec2 span = vec2(-NO_EXIT, NO_EXIT);
  clip_span(span, -oa, -da, -1.0);
  clip_span(span, oa, da, FAR_LIMIT);
  clip_span(span, ob - oa, db - da, 0.0);
  clip_span(span, -ob - oa, -db - da, 0.0);
  clip_span(span, oc - oa, dc - da, 0.0);
  clip_span(span, -oc - oa, -dc - da, 0.0);
  return exit_after(span, t);
}

// The nearest exit behind t of any region that the ray crosses, NO_EXIT if there is none.
float next_exit(vec3 o, vec3 d, float t) {
  vec2 span = vec2(-NO_EXIT, NO_EXIT);
  clip_span(span, o.x, d.x, 1.0);
  clip_span(span, -o.x, -d.x, 1.0);
  clip_span(span, o.y, d.y, 1.0);
  clip_span(span, -o.y, -d.y, 1.0);
  clip_span(span, o.z, d.z, 1.0);
  clip_span(span, -o.z, -d.z, 1.0);
  float nearest = exit_after(span, t);
  nearest = min(nearest, slab_exit(o.x, d.x, o.y, d.y, o.z, d.z, t));
  nearest = min(nearest, slab_exit(-o.x, -d.x, o.y, d.y, o.z, d.z, t));
  nearest = min(nearest, slab_exit(o.y, d.y, o.x, d.x, o.z, d.z, t));
  nearest = min(nearest, slab_exit(-o.y, -d.y, o.x, d.x, o.z, d.z, t));
  nearest = min(nearest, slab_exit(o.z, d.z, o.x, d.x, o.y, d.y, t));
  nearest = min(nearest, slab_exit(-o.z, -d.z, o.x, d.x, o.y, d.y, t));
  return nearest;
}
