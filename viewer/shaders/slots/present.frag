// Puts a picture of slots on the screen: enlarged smoothly, with masks or one slot brought out.

uniform sampler2DArray u_picture;  // the four outputs of mixer.frag as layers: a pixel of each block of 2 x 2
uniform vec2 u_picture_size;  // in pixels
uniform vec2 u_corner;        // lower left corner of the picture on the target, in pixels
uniform vec2 u_size;          // its size there
uniform float u_masks;        // how much of the masks' colours is mixed in
uniform int u_highlight;      // index of the slot that stands out, or -1
uniform vec3 u_palette[SLOTS];

layout(location = 0) out vec4 o_pixel;

vec4 pixel(ivec2 at) {
  return texelFetch(u_picture, ivec3(at >> 1, (at.x & 1) + 2 * (at.y & 1)), 0);
}

void main() {
  ivec2 size = ivec2(u_picture_size);
  vec2 at = (gl_FragCoord.xy - u_corner) / u_size * vec2(size);
  int slot = int(pixel(min(ivec2(at), size - 1)).a * 255.0 + 0.5);
  vec2 corner = at - 0.5;
  ivec2 low = clamp(ivec2(floor(corner)), ivec2(0), size - 1);
  ivec2 high = min(low + 1, size - 1);
  vec2 t = clamp(corner - vec2(low), 0.0, 1.0);
  vec3 below = mix(pixel(low).rgb, pixel(ivec2(high.x, low.y)).rgb, t.x);
  vec3 above = mix(pixel(ivec2(low.x, high.y)).rgb, pixel(high).rgb, t.x);
  vec3 colour = mix(mix(below, above, t.y), u_palette[slot], u_masks);
  if (u_highlight >= 0 && slot != u_highlight) colour = mix(vec3(dot(colour, vec3(0.3, 0.59, 0.11))), colour, 0.25) * 0.45;
  o_pixel = vec4(colour, 1.0);
}
