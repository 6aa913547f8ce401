{% include "common.h" %}
// Separable resampling of planes with {{ ny }} x {{ nx }} taps from tables: *at = source index, *by = weight.
{% if line %}
// One work-item computes a row of the output: the rows of the source that it lies between are
// blended first (at most {{ line }} elements), then its elements are taken from there.
// global (1, OH, N*C), local (1,1,1).
{% else %}
// global (OW rounded up, OH, N*C), local (L,1,1).
{% endif %}
{{ defines }}

__kernel void resize(
    {{ arguments }}) {
  const int oy = get_global_id(1);
  const int n = get_global_id(2) / channels;
  const int c = get_global_id(2) % channels;
{% if line %}
  float blended[{{ line }}];
  for (int i = 0; i < in3; i++) blended[i] = 0.0f;
  for (int ty = 0; ty < {{ ny }}; ty++) {
    const int iy = YAT_AT(oy, ty);
    const float by = YBY_AT(oy, ty);
    for (int i = 0; i < in3; i++) blended[i] += by * X_AT(n, c, iy, i);
  }
  for (int ox = 0; ox < out_width; ox++) {
    float sum = 0.0f;
{% for tx in range(nx) %}
    sum += XBY_AT(ox, {{ tx }}) * blended[XAT_AT(ox, {{ tx }})];
{% endfor %}
    STORE(n, c, oy, ox, sum);
  }
{% else %}
  const int ox = get_global_id(0);
  if (ox >= out_width) return;
  float sum = 0.0f;
  for (int ty = 0; ty < {{ ny }}; ty++) {
    const int iy = YAT_AT(oy, ty);
    float line = 0.0f;
    for (int tx = 0; tx < {{ nx }}; tx++)
      line += XBY_AT(ox, tx) * X_AT(n, c, iy, XAT_AT(ox, tx));
    sum += YBY_AT(oy, ty) * line;
  }
  STORE(n, c, oy, ox, sum);
{% endif %}
}
