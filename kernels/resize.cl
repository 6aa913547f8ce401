{% include "common.h" %}
// Separable resampling of planes with {{ ny }} x {{ nx }} taps from tables: *at = source index, *by = weight.
// global (OW rounded up, OH, N*C), local (L,1,1).
{{ defines }}

__kernel void resize(
    {{ arguments }}) {
  const int ox = get_global_id(0);
  if (ox >= out_width) return;
  const int oy = get_global_id(1);
  const int n = get_global_id(2) / channels;
  const int c = get_global_id(2) % channels;
  float sum = 0.0f;
  for (int ty = 0; ty < {{ ny }}; ty++) {
    const int iy = YAT_AT(oy, ty);
    float line = 0.0f;
    for (int tx = 0; tx < {{ nx }}; tx++)
      line += XBY_AT(ox, tx) * X_AT(n, c, iy, XAT_AT(ox, tx));
    sum += YBY_AT(oy, ty) * line;
  }
  STORE(n, c, oy, ox, sum);
}
