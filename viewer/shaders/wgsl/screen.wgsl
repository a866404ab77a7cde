// One triangle that covers the target, as screen.vert. What follows copies a target: `show` to a canvas of any size, `average`
// one of several rays a pixel (box.frag), `tell` single values, bit by bit, to one that can be read at once.

@group(0) @binding(0) var u_picture: texture_2d<f32>;
@group(0) @binding(1) var u_sampler: sampler;
// show: 1 / size of the canvas; average: rays along an edge, as its third; tell: first column and row, channel.
@group(0) @binding(2) var<uniform> u_place: vec4f;

@vertex
fn cover(@builtin(vertex_index) index: u32) -> @builtin(position) vec4f {
  let corner = vec2f(f32((index << 1u) & 2u), f32(index & 2u));
  return vec4f(corner * 2.0 - 1.0, 0.0, 1.0);
}

@fragment
fn show(@builtin(position) at: vec4f) -> @location(0) vec4f {
  return textureSampleLevel(u_picture, u_sampler, at.xy * u_place.xy, 0.0);
}

@fragment
fn average(@builtin(position) at: vec4f) -> @location(0) vec4f {
  let edge = u32(u_place.z);
  let corner = edge * vec2u(at.xy);
  var sum = vec4f(0.0);
  for (var i = 0u; i < edge * edge; i++) {
    sum += textureLoad(u_picture, corner + vec2u(i % edge, i / edge), 0);
  }
  return sum / f32(edge * edge);
}

// The lower three bytes of a number, and its highest one in the next column: a canvas without transparency keeps no alpha.
@fragment
fn tell(@builtin(position) at: vec4f) -> @location(0) vec4f {
  let column = u32(at.x);
  let texel = vec2u(u_place.xy) + vec2u(column / 2u, u32(at.y));
  let bits = bitcast<u32>(textureLoad(u_picture, texel, 0)[u32(u_place.z)]);
  let bytes = vec4f((vec4u(bits) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u)) / 255.0;
  return vec4f(select(bytes.xyz, vec3f(bytes.w, 0.0, 0.0), (column & 1u) == 1u), 1.0);
}
