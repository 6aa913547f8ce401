{% from "planes.h" import extents, gather, sweep with context %}
{% include "common.h" %}
// {{ "Maximum" if maximum else "Average" }} over windows {{ kh }}x{{ kw }}, stride {{ sh }}x{{ sw }}, NCHW, for CPUs; GPUs have pool.cl.
// One work-item computes block_height x block_width pixels of block_channels.
// global (ceil(OW/block_width), ceil(OH/block_height), N * ceil(C/block_channels)), local (1,1,1).
{{ defines }}
{% if not maximum %}

// What an average divides by, of a window from `start`, of `taps` that lie `apart`: those in the plane{{ " or its padding" if count_padding }}.
static int taken(int start, int taps, int apart, int extent{{ ", int padding" if count_padding }}) {
  int found = 0;
  for (int k = 0; k < taps; k++) {
    const int at = start + k * apart;
    found += {{ "at < extent + padding" if count_padding else "at >= 0 && at < extent" }};
  }
  return max(found, 1);
}
{% endif %}

__kernel void plane_pool(
    {{ arguments }}) {
{{ extents() }}
{% if not maximum %}
  float across[{{ most_width }}];
  for (int i = 0; i < columns; i++)
    across[i] = taken((left + i) * {{ sw }} - {{ pw }}, {{ kw }}, {{ dw }}, in_width{{ ", %d" | format(ew) if count_padding }});
{% endif %}
  for (int c = first; c < past; c++) {
{{ gather("-INFINITY" if maximum else "0.0f") }}
{% call(sum, value) sweep("-INFINITY" if maximum else "0.0f") %}
{{ sum }} = {{ "fmax(%s, %s)" | format(sum, value) if maximum else "%s + %s" | format(sum, value) }};
{%- endcall %}
    for (int j = 0; j < rows; j++) {
      const float* line = lines + j * pitch;
{% if not maximum %}
      const float along = taken((top + j) * {{ sh }} - {{ ph }}, {{ kh }}, {{ dh }}, in_height{{ ", %d" | format(eh) if count_padding }});
{% endif %}
      for (int i = 0; i < columns; i++) STORE(n, c, top + j, left + i, line[i]{{ " / (along * across[i])" if not maximum }});
    }
  }
}
