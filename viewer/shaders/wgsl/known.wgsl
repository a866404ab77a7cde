// chunks/known.glsl in WGSL: what photos support, and from which directions.

const KNOWN_MARGIN = 1.7;
const KNOWN_RAMP = 5.0;

// How well photos support what a ray along the unit direction `view` meets; uvw: contracted space as [0, 1]^3.
fn support_at(uvw: vec3f, view: vec3f) -> f32 {
#if KNOWN_REGION
  let cell = textureSampleLevel(u_known, u_linear, uvw, 0.0);
  let r = 2.0 * cell.rgb - 1.0;
  let spread = length(r);
  let facing = dot(r, view) + spread * (KNOWN_MARGIN - 2.0 * spread);
  return cell.a * clamp(facing * KNOWN_RAMP + 1.0, 0.0, 1.0);
#else
  return 1.0;
#endif
}
