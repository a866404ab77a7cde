// Averages squares of u_edge x u_edge pixels: a picture that was drawn with as many rays a pixel.

uniform sampler2D u_picture;
uniform int u_edge;

layout(location = 0) out vec4 o_pixel;

void main() {
  ivec2 corner = u_edge * ivec2(gl_FragCoord.xy);
  vec4 sum = vec4(0.0);
  for (int i = 0; i < u_edge * u_edge; ++i) sum += texelFetch(u_picture, corner + ivec2(i % u_edge, i / u_edge), 0);
  o_pixel = sum / float(u_edge * u_edge);
}
