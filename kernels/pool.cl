{% include "common.h" %}
// {{ "Maximum" if maximum else "Average" }} over windows {{ kh }}x{{ kw }}, stride {{ sh }}x{{ sw }}, NCHW; one work-item an output.
// global (OW rounded up, OH, N*C), local (L,1,1).
{{ defines }}

__kernel void pool(
    {{ arguments }}) {
  const int ox = get_global_id(0);
  if (ox >= out_width) return;
  const int oy = get_global_id(1);
  const int n = get_global_id(2) / channels;
  const int c = get_global_id(2) % channels;
  float acc = {{ "-INFINITY" if maximum else "0.0f" }};
  int taken = 0;
  for (int ky = 0; ky < {{ kh }}; ky++) {
    const int iy = oy * {{ sh }} - {{ ph }} + ky * {{ dh }};
    for (int kx = 0; kx < {{ kw }}; kx++) {
      const int ix = ox * {{ sw }} - {{ pw }} + kx * {{ dw }};
      if (iy >= 0 && iy < in2 && ix >= 0 && ix < in3) {
        const float v = X_AT(n, c, iy, ix);
        acc = {{ "fmax(acc, v)" if maximum else "acc + v" }};
        taken++;
      }
{% if count_padding and not maximum %}
      else if (iy < in2 + {{ eh }} && ix < in3 + {{ ew }}) taken++;
{% endif %}
    }
  }
  STORE(n, c, oy, ox, {{ "acc" if maximum else "acc / max(taken, 1)" }});
}
