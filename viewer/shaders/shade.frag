// Evaluates the appearance network once per pixel on what march.frag blended and writes the display colour.

#include "chunks/appearance.glsl"

uniform sampler2D u_colour;
uniform sampler2D u_features;
uniform sampler2D u_coarse_colour;
#if COARSE_SUM
uniform sampler2D u_coarse_features;
#endif

#ifndef KNOWN_REGION
#define KNOWN_REGION 0
#endif
#ifndef OBJECTS
#define OBJECTS 0
#endif
#if OBJECTS
#include "chunks/objects.glsl"
#endif
#if KNOWN_REGION || OBJECTS
uniform sampler2D u_unknown;
#endif
#if KNOWN_REGION
#include "chunks/calm.glsl"
#endif
uniform float u_see_through;     // 1: alpha says how much of the pixel the scene covers, and the rest is black
uniform mat3 u_camera_rotation;  // viewer axes from camera axes
uniform vec4 u_lens;             // 1/fx, 1/fy, cx, cy in pixels of the target, from its lower left corner

layout(location = 0) out vec4 o_pixel;

void main() {
  ivec2 pixel = ivec2(gl_FragCoord.xy);
  vec4 colour = texelFetch(u_colour, pixel, 0);
  vec4 features = texelFetch(u_features, pixel, 0);
  vec4 coarse_features = vec4(0.0);
#if COARSE_SUM
  coarse_features = texelFetch(u_coarse_features, pixel, 0);
#endif
  vec3 coarse_colour = texelFetch(u_coarse_colour, pixel, 0).rgb;
  vec2 offset = (gl_FragCoord.xy - u_lens.zw) * u_lens.xy;
  vec3 d = normalize(u_camera_rotation * vec3(offset, -1.0));
  vec3 shown = appearance(colour, features, coarse_colour, coarse_features, d);
#if OBJECTS
  shown = mix(shown, HIGHLIGHT, texelFetch(u_unknown, pixel, 0).g);
#endif
#if KNOWN_REGION
  shown = mix(shown, calm_colour(d.y), texelFetch(u_unknown, pixel, 0).r);
#endif
  float cover = 1.0 - colour.a;
#if KNOWN_REGION
  cover *= 1.0 - texelFetch(u_unknown, pixel, 0).r;
#endif
  o_pixel = vec4(shown, mix(1.0, cover, u_see_through));
}
