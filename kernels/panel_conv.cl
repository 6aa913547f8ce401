{% from "panel.h" import tile %}
{% include "common.h" %}
{% set taps = kh * kw %}
{% set lanes = 2 %}
// Convolution {{ kh }}x{{ kw }}, stride {{ sh }}x{{ sw }}, dilation {{ dh }}x{{ dw }}, NCHW, as a product: rows are output
// channels, columns are pixels, steps are taps of input channels.
// W: RGBA texture, x = group * ceil(oc/4) + oc/4, y = (ic * KH + ky) * KW + kx.
// One work-item computes {{ channels }} channels x {{ pixels }} pixels; {{ inputs }} input channels at a time.
// global (ceil(OH*OW/{{ pixels }}), G * ceil(group_out/{{ channels }}), N), local (1,1,1).
// Taps outside the plane count 0; pixels past the last and channels past the group are not stored.
{{ defines }}

__kernel void panel_conv(
    {{ arguments }}) {
  float16 panel[{{ inputs * taps * lanes }}];
  float weights[{{ inputs * taps * channels }}];
  float16 sums[{{ channels * pixels // 16 }}];
  const int start = get_global_id(0) * {{ pixels }};
  const int pixels = min({{ pixels }}, out_pixels - start);
  const int blocks = (group_out + {{ channels - 1 }}) / {{ channels }};
  const int group = get_global_id(1) / blocks;
  const int first = (get_global_id(1) % blocks) * {{ channels }};
  const int channels = min({{ channels }}, group_out - first);
  const int quarters = (group_out + 3) / 4;
  const int n = get_global_id(2);
  const int plane = X_INDEX(0, 1, 0, 0) - X_INDEX(0, 0, 0, 0);
  const int16 count = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int ic = 0; ic < group_in; ic += {{ inputs }}) {
    const int inputs = min({{ inputs }}, group_in - ic);
    const int steps = inputs * {{ taps }};
    for (int step = 0; step < steps; step++)
      for (int q = 0; q < (channels + {{ tile_rows - 1 }}) / {{ tile_rows }} * {{ tile_rows // 4 }}; q++)
        vstore4(W_AT(group * quarters + min(first / 4 + q, quarters - 1), ic * {{ taps }} + step),
                step * {{ channels // 4 }} + q, weights);
    for (int p = 0; p < pixels; p += {{ 16 * lanes }}) {
{% for v in range(lanes) %}
      const int16 pixel{{ v }} = min(start + p + {{ 16 * v }} + count, out_pixels - 1);
      const int16 y{{ v }} = pixel{{ v }} / out_width * {{ sh }} - {{ ph }};
      const int16 x{{ v }} = pixel{{ v }} % out_width * {{ sw }} - {{ pw }};
{% endfor %}
      for (int ky = 0; ky < {{ kh }}; ky++) {
        for (int kx = 0; kx < {{ kw }}; kx++) {
          const int tap = ky * {{ kw }} + kx;
{% for v in range(lanes) %}
          const int16 inside{{ v }} = y{{ v }} + ky * {{ dh }} >= 0 && y{{ v }} + ky * {{ dh }} < in_height &&
                                x{{ v }} + kx * {{ dw }} >= 0 && x{{ v }} + kx * {{ dw }} < in_width;
{% endfor %}
{% if shifted %}
          // Rows of input and output are equally long: neighbours stay neighbours.
          const int shift = start + p + (ky * {{ dh }} - {{ ph }}) * in_width + kx * {{ dw }} - {{ pw }};
          const int from = X_INDEX(n, group * group_in + ic, 0, 0) + shift;
          if (from >= 0 && from + (inputs - 1) * plane + {{ 16 * lanes }} <= x_size) {
            for (int c = 0; c < inputs; c++) {
{% for v in range(lanes) %}
              panel[(c * {{ taps }} + tap) * {{ lanes }} + {{ v }}] =
                  select((float16)(0.0f), vload16({{ v }}, x + from + c * plane), inside{{ v }});
{% endfor %}
            }
            continue;
          }
{% endif %}
          int at[{{ 16 * lanes }}], within[{{ 16 * lanes }}];
{% for v in range(lanes) %}
          vstore16(select((int16)(0), (int16)(X_INDEX(n, group * group_in + ic, y{{ v }} + ky * {{ dh }}, x{{ v }} + kx * {{ dw }})), inside{{ v }}), {{ v }}, at);
          vstore16(inside{{ v }}, {{ v }}, within);
{% endfor %}
          for (int c = 0; c < inputs; c++) {
            float* line = (float*)(panel + (c * {{ taps }} + tap) * {{ lanes }});
            for (int i = 0; i < {{ 16 * lanes }}; i++) line[i] = within[i] ? x[at[i] + c * plane] : 0.0f;
          }
        }
      }
      for (int c = 0; c < channels; c += {{ tile_rows }}) {
{{ tile(tile_rows, lanes, "steps", "ic == 0",
        "(sums + (c + %s) * " ~ (pixels // 16) ~ " + p / 16)",
        "weights[step * " ~ channels ~ " + c + %s]", "panel") }}
      }
    }
  }
  for (int c = 0; c < channels; c++) {
    const float* line = (const float*)(sums + c * {{ pixels // 16 }});
    for (int i = 0; i < pixels; i++)
      STORE(n, group * group_out + first + c, {{ "0, start + i" if flat else "(start + i) / out_width, (start + i) % out_width" }}, line[i]);
  }
}
