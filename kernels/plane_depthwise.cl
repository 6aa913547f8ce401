{% from "planes.h" import extents, gather, sweep, taps with context %}
{% include "common.h" %}
// Depthwise convolution {{ kh }}x{{ kw }}, stride {{ sh }}x{{ sw }}, dilation {{ dh }}x{{ dw }}, NCHW, for CPUs; GPUs have depthwise.cl.
// W: RGBA texture, x = c/4, y = ky * KW + kx; one texel = the tap of 4 channels.
// One work-item computes block_height x block_width pixels of block_channels (a multiple of 4).
// global (ceil(OW/block_width), ceil(OH/block_height), N * ceil(C/block_channels)), local (1,1,1).
{{ defines }}

__kernel void plane_depthwise(
    {{ arguments }}) {
{{ extents() }}
  float texels[{{ 4 * taps }}];
  for (int c = first; c < past; c++) {
    const int lane = c % 4;
    if (lane == 0)
      for (int tap = 0; tap < {{ taps }}; tap++) vstore4(W_AT(c / 4, tap), tap, texels);
{{ gather("0.0f") }}
{% call(sum, value) sweep("0.0f") %}
{{ sum }} = fma((float16)(texels[4 * tap + lane]), {{ value }}, {{ sum }});
{%- endcall %}
    for (int j = 0; j < rows; j++) {
      const float* line = lines + j * pitch;
      for (int i = 0; i < columns; i++) STORE(n, c, top + j, left + i, line[i]);
    }
  }
}
