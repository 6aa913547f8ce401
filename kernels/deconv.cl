{% from "store.h" import store_four %}
{% include "common.h" %}
// Transposed convolution {{ kh }}x{{ kw }}, stride {{ sh }}x{{ sw }}, dilation {{ dh }}x{{ dw }}, NCHW,
// as a gather: each output pixel sums the taps that reach it.
// W: RGBA texture, x = group * ceil(oc/4) + oc/4, y = (ic * KH + ky) * KW + kx.
// Each work-item computes one pixel of 4 output channels.
// global (OW rounded up, OH, N * quarters), local (L,1,1).
{{ defines }}

__kernel void deconv(
    {{ arguments }}) {
  const int ox = get_global_id(0);
  if (ox >= out_width) return;
  const int oy = get_global_id(1);
  const int n = get_global_id(2) / quarters;
  const int column = get_global_id(2) % quarters;
  const int per_group = (group_out + 3) / 4;
  const int group = column / per_group;
  const int first = (column % per_group) * 4;
  const int out_first = group * group_out + first;
  float4 sum = 0.0f;
  for (int ky = 0; ky < {{ kh }}; ky++) {
    const int ty = oy + {{ ph }} - ky * {{ dh }};
    if (ty < 0 || ty % {{ sh }} != 0 || ty / {{ sh }} >= in_height) continue;
    for (int kx = 0; kx < {{ kw }}; kx++) {
      const int tx = ox + {{ pw }} - kx * {{ dw }};
      if (tx < 0 || tx % {{ sw }} != 0 || tx / {{ sw }} >= in_width) continue;
      for (int ic = 0; ic < group_in; ic++)
        sum += X_AT(n, group * group_in + ic, ty / {{ sh }}, tx / {{ sw }}) *
               W_AT(column, (ic * {{ kh }} + ky) * {{ kw }} + kx);
    }
  }
{{ store_four("n, %s, oy, ox", "out_first", "first", "group_out", "sum") }}
}
