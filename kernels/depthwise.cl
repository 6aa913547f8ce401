{% from "store.h" import store_four %}
{% include "common.h" %}
// Depthwise convolution {{ kh }}x{{ kw }}, stride {{ sh }}x{{ sw }}, dilation {{ dh }}x{{ dw }}, NCHW.
// W: RGBA texture, x = c/4, y = ky * KW + kx; one texel = the tap of 4 channels.
// Each work-item computes {{ columns }} neighbouring pixels of 4 channels.
// global (ceil(OW/{{ columns }}) rounded up, OH, N * quarters), local (L,1,1).
// Channels past C repeat the last one and are not stored.
{{ defines }}

__kernel void depthwise(
    {{ arguments }}) {
  const int ox = get_global_id(0) * {{ columns }};
  if (ox >= out_width) return;
  const int oy = get_global_id(1);
  const int n = get_global_id(2) / quarters;
  const int column = get_global_id(2) % quarters;
  const int c0 = column * 4;
  const int c1 = min(c0 + 1, channels - 1);
  const int c2 = min(c0 + 2, channels - 1);
  const int c3 = min(c0 + 3, channels - 1);
{% for t in range(columns) %}
  float4 sum{{ t }} = 0.0f;
{% endfor %}
  for (int ky = 0; ky < {{ kh }}; ky++) {
    const int iy = oy * {{ sh }} - {{ ph }} + ky * {{ dh }};
    if (iy < 0 || iy >= in_height) continue;
    for (int kx = 0; kx < {{ kw }}; kx++) {
      const float4 texel = W_AT(column, ky * {{ kw }} + kx);
      const int ix = ox * {{ sw }} - {{ pw }} + kx * {{ dw }};
{% for t in range(columns) %}
      if (ix + {{ t * sw }} >= 0 && ix + {{ t * sw }} < in_width)
        sum{{ t }} += texel * (float4)(X_AT(n, c0, iy, ix + {{ t * sw }}),
                                   X_AT(n, c1, iy, ix + {{ t * sw }}),
                                   X_AT(n, c2, iy, ix + {{ t * sw }}),
                                   X_AT(n, c3, iy, ix + {{ t * sw }}));
{% endfor %}
    }
  }
{% for t in range(columns) %}
  if (ox + {{ t }} < out_width) {
{{ store_four("n, %s, oy, ox + " ~ t, "c0", "c0", "channels", "sum" ~ t) }}
  }
{% endfor %}
}
