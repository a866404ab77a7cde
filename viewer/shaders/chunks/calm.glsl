// What unknown places fade into, by how far up a unit direction points (cuda/include/smerf/march_shade.h).

uniform vec3 u_unknown_colours[3];  // ahead, above, below

vec3 calm_colour(float up) {
  float steep = abs(up) * (2.0 - abs(up));
  return mix(u_unknown_colours[0], up > 0.0 ? u_unknown_colours[1] : u_unknown_colours[2], steep);
}
