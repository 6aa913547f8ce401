{% from "store.h" import store_four %}
{% include "common.h" %}
// Direct convolution {{ kh }}x{{ kw }}, stride {{ sh }}x{{ sw }}, dilation {{ dh }}x{{ dw }}, NCHW: for GPUs,
// and for CPUs where the window is too large for panel_conv.cl.
// W: RGBA texture, x = group * ceil(oc/4) + oc/4, y = (ic * KH + ky) * KW + kx.
// Each work-item computes {{ columns }} neighbouring pixels of 4 output channels.
// global (ceil(OW/{{ columns }}) rounded up, OH, N * quarters), local (L,1,1).
// Taps outside the plane add nothing; pixels past OW and channels past the group are not stored.
{{ defines }}

__kernel void conv(
    {{ arguments }}) {
  const int ox = get_global_id(0) * {{ columns }};
  if (ox >= out_width) return;
  const int oy = get_global_id(1);
  const int n = get_global_id(2) / quarters;
  const int column = get_global_id(2) % quarters;
{% if grouped %}
  const int per_group = (group_out + 3) / 4;
  const int group = column / per_group;
  const int first = (column % per_group) * 4;
  const int in_first = group * group_in;
  const int out_first = group * group_out + first;
{% else %}
  const int first = column * 4;
  const int in_first = 0;
  const int out_first = first;
{% endif %}
{% for t in range(columns) %}
  float4 sum{{ t }} = 0.0f;
{% endfor %}
  for (int ic = 0; ic < group_in; ic++) {
    for (int ky = 0; ky < {{ kh }}; ky++) {
      const int iy = oy * {{ sh }} - {{ ph }} + ky * {{ dh }};
      if (iy < 0 || iy >= in_height) continue;
      for (int kx = 0; kx < {{ kw }}; kx++) {
        const float4 texel = W_AT(column, (ic * {{ kh }} + ky) * {{ kw }} + kx);
        const int ix = ox * {{ sw }} - {{ pw }} + kx * {{ dw }};
        if (ix >= 0 && ix + {{ (columns - 1) * sw }} < in_width) {
{% for t in range(columns) %}
          sum{{ t }} += X_AT(n, in_first + ic, iy, ix + {{ t * sw }}) * texel;
{% endfor %}
        } else {
{% for t in range(columns) %}
          if (ix + {{ t * sw }} >= 0 && ix + {{ t * sw }} < in_width)
            sum{{ t }} += X_AT(n, in_first + ic, iy, ix + {{ t * sw }}) * texel;
{% endfor %}
        }
      }
    }
  }
{% for t in range(columns) %}
  if (ox + {{ t }} < out_width) {
{{ store_four("n, %s, oy, ox + " ~ t, "out_first", "first", "group_out", "sum" ~ t) }}
  }
{% endfor %}
}
