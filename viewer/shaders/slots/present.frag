// Puts a picture of slots on the screen: enlarged smoothly, with masks or one slot brought out.

uniform sampler2D u_picture;  // RGBA8 from mixer.frag
uniform vec2 u_corner;        // lower left corner of the picture on the target, in pixels
uniform vec2 u_size;          // its size there
uniform float u_masks;        // how much of the masks' colours is mixed in
uniform int u_highlight;      // index of the slot that stands out, or -1
uniform vec3 u_palette[4 * SLOTS_4];

layout(location = 0) out vec4 o_pixel;

int owner(ivec2 at) {
  return int(texelFetch(u_picture, at, 0).a * 255.0 + 0.5);
}

void main() {
  ivec2 size = textureSize(u_picture, 0);
  vec2 at = (gl_FragCoord.xy - u_corner) / u_size * vec2(size);
  ivec2 nearest = min(ivec2(at), size - 1);
  vec2 corner = at - 0.5;
  ivec2 low = clamp(ivec2(floor(corner)), ivec2(0), size - 1);
  ivec2 high = min(low + 1, size - 1);
  vec2 t = clamp(corner - vec2(low), 0.0, 1.0);
  vec3 below = mix(texelFetch(u_picture, low, 0).rgb, texelFetch(u_picture, ivec2(high.x, low.y), 0).rgb, t.x);
  vec3 above = mix(texelFetch(u_picture, ivec2(low.x, high.y), 0).rgb, texelFetch(u_picture, high, 0).rgb, t.x);
  vec3 colour = mix(below, above, t.y);
  int slot = owner(nearest);
  colour = mix(colour, u_palette[slot], u_masks);
  if (u_highlight >= 0 && slot != u_highlight) colour = mix(vec3(dot(colour, vec3(0.3, 0.59, 0.11))), colour, 0.25) * 0.45;
  o_pixel = vec4(colour, 1.0);
}
