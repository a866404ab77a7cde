// Colours of the sixteen rays of a packet: the network of march_shade.h, across rays.
#pragma once

#include "gemm.h"
#include "march_packet.h"
#include "smerf/march_shade.h"

namespace smerf {

class ShadePacket {
 public:
  explicit ShadePacket(const MarchScene& scene) : m_(scene) {}

  // Shades the rays of a packet whose march is over; a ray's colour is then red[i], green[i], blue[i] of `rgb`.
  const Floats* shade(const MarchPacket& packet) {
    Floats backdrop[3];
    const int features = gather(packet);
    for (int c = 0; c < 3; ++c)
      for (int i = 0; i < kPacket; ++i) {
        backdrop[c][i] = packet.visibility(i) * m_.background[c];
        shown_[c][i] = m_.is_vfr ? backdrop[c][i] : input_[c][i];
        input_[c][i] += m_.is_vfr ? 0.0f : backdrop[c][i];
      }
    if (m_.is_exposed)
      for (int k = 0; k < features; ++k)
        for (int i = 0; i < kPacket; ++i) input_[k][i] = expose(input_[k][i], m_.log_exposure);
    encode_views(packet, input_ + features);
    dense(0, input_, features + kViewInputs, m_.hidden[0], first_);
    activate(first_->v, m_.hidden[0] * kPacket, m_.is_relu);
    dense(1, first_, m_.hidden[0], m_.hidden[1], second_);
    activate(second_->v, m_.hidden[1] * kPacket, m_.is_relu);
    dense(2, second_, m_.hidden[1], 3, rgb_);
    for (int c = 0; c < 3; ++c)
      for (int i = 0; i < kPacket; ++i) rgb_[c][i] = shown_[c][i] + 1.0f / (1.0f + fast_exp(-rgb_[c][i]));
    if (m_.object_ids)
      for (int c = 0; c < 3; ++c)
        for (int i = 0; i < kPacket; ++i) rgb_[c][i] = light_up(rgb_[c][i], c, packet.lit(i));
    if (m_.known)
      for (int c = 0; c < 3; ++c)
        for (int i = 0; i < kPacket; ++i)
          rgb_[c][i] += packet.unknown(i) * (calm_colour(m_, c, view_direction(packet.direction(i)).z) - rgb_[c][i]);
    return rgb_;
  }

 private:
  int gather(const MarchPacket& packet) {
    const int count = m_.has_coarse ? 14 : 7;
    for (int i = 0; i < kPacket; ++i)
      for (int c = 0; c < count; ++c) input_[c][i] = packet.channel(i, c);
    return count;
  }

  // As encode_view.
  static void encode_views(const MarchPacket& packet, Floats* x) {
    for (int i = 0; i < kPacket; ++i) {
      const Vec3 view = view_direction(packet.direction(i));
      x[0][i] = view.x, x[1][i] = view.y, x[2][i] = view.z;
    }
    for (int c = 0; c < 3; ++c) {
      Floats sine, cosine;
      for (int i = 0; i < kPacket; ++i) sine_cosine(x[c][i], sine[i], cosine[i]);
      for (int k = 0; k < 4; ++k) {
        x[3 + 3 * k + c] = sine;
        x[15 + 3 * k + c] = cosine;
        for (int i = 0; i < kPacket; ++i) double_angle(sine[i], cosine[i]);
      }
    }
  }

  void dense(int layer, const Floats* x, int in, int out, Floats* y) const {
    for (int j = 0; j < out; ++j)
      for (int i = 0; i < kPacket; ++i) y[j][i] = m_.biases[layer][j];
    gemm({m_.kernels[layer], 1, out}, x->v, kPacket, nullptr, true, y->v, kPacket, out, kPacket, in);
  }

  const MarchScene m_;
  Floats input_[kAppearanceInputs], first_[kMarchMaxHidden], second_[kMarchMaxHidden], shown_[3], rgb_[3];
};

}  // namespace smerf
