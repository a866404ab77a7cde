// The known region: what photos support, and from which directions (smerf/scene/region.py, cuda/include/smerf/march.h).

uniform sampler3D u_known;  // mean direction of the photos' rays as (r + 1) / 2, support

const float KNOWN_MARGIN = 1.7;
const float KNOWN_RAMP = 5.0;

// How well photos support what a ray along the unit direction `view` meets; uvw: contracted space as [0, 1]^3.
float support_at(vec3 uvw, vec3 view) {
  vec4 cell = textureLod(u_known, uvw, 0.0);
  vec3 r = 2.0 * cell.rgb - 1.0;
  float spread = length(r);
  float facing = dot(r, view) + spread * (KNOWN_MARGIN - 2.0 * spread);
  return cell.a * clamp(facing * KNOWN_RAMP + 1.0, 0.0, 1.0);
}
