{% from "panel.h" import tile %}
{% include "common.h" %}
{% set taps = kh * kw %}
{% set lanes = 2 %}
// Convolution {{ kh }}x{{ kw }}, stride {{ sh }}x{{ sw }}, dilation {{ dh }}x{{ dw }}, NCHW, as a product: rows are output
// channels, columns are pixels, steps are taps of input channels.
// W: RGBA texture, x = ((ic * KH + ky) * KW + kx) * {{ columns // 4 }} + oc%{{ columns }}/4, y = oc/{{ columns }} in its group.
// One work-item computes block_channels (at most {{ channels }}) x block_pixels (at most {{ pixels }}),
// {{ inputs }} input channels at a time.
// global (ceil(OH*OW/block_pixels), G * ceil(group_out/block_channels), N), local (1,1,1).
// Taps outside the plane count 0; pixels past the last and channels past the group are not stored.
{{ defines }}
// From the first of the input channels at hand to channel c, in elements.
#define PLANE(c) (X_INDEX(0, base + (c), 0, 0) - X_INDEX(0, base, 0, 0))

__kernel void panel_conv(
    {{ arguments }}) {
  float16 panel[{{ inputs * taps * lanes }}];
  float weights[{{ inputs * taps * channels }}];
  float16 sums[{{ channels * pixels // 16 }}];
  const int start = get_global_id(0) * block_pixels;
  const int pixels = min(block_pixels, out_pixels - start);
  const int blocks = (group_out + block_channels - 1) / block_channels;
  const int group = get_global_id(1) / blocks;
  const int first = (get_global_id(1) % blocks) * block_channels;
  const int channels = min(block_channels, group_out - first);
  const int panels = (group_out + {{ columns - 1 }}) / {{ columns }};
  const int first_panel = group * panels + first / {{ columns }};
  const int n = get_global_id(2);
  const int16 count = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int ic = 0; ic < group_in; ic += {{ inputs }}) {
    const int inputs = min({{ inputs }}, group_in - ic);
    const int steps = inputs * {{ taps }};
    const int base = group * group_in + ic;
    for (int j = 0; j * {{ columns }} < channels; j++)
      for (int step = 0; step < steps; step++)
        for (int q = 0; q < {{ columns // 4 }}; q++)
          vstore4(W_AT(first_panel + j, q, ic * {{ taps }} + step), q,
                  weights + step * {{ channels }} + j * {{ columns }});
    for (int p = 0; p < pixels; p += {{ 16 * lanes }}) {
{% for v in range(lanes) %}
      const int16 pixel{{ v }} = min(start + p + {{ 16 * v }} + count, (int16)(out_pixels - 1));
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
          const int from = X_INDEX(n, base, 0, 0) + shift;
          const int last = from + PLANE(inputs - 1);  // below `from` where channels run backwards
          if (min(from, last) >= 0 && max(from, last) + {{ 16 * lanes }} <= x_size) {
            for (int c = 0; c < inputs; c++) {
{% for v in range(lanes) %}
              panel[(c * {{ taps }} + tap) * {{ lanes }} + {{ v }}] =
                  select((float16)(0.0f), vload16({{ v }}, x + from + PLANE(c)), inside{{ v }});
{% endfor %}
            }
            continue;
          }
{% endif %}
          int at[{{ 16 * lanes }}], within[{{ 16 * lanes }}];
{% for v in range(lanes) %}
          vstore16(select((int16)(0), (int16)(X_INDEX(n, base, y{{ v }} + ky * {{ dh }}, x{{ v }} + kx * {{ dw }})), inside{{ v }}), {{ v }}, at);
          vstore16(inside{{ v }}, {{ v }}, within);
{% endfor %}
          for (int c = 0; c < inputs; c++) {
            float* line = (float*)(panel + (c * {{ taps }} + tap) * {{ lanes }});
            for (int i = 0; i < {{ 16 * lanes }}; i++) line[i] = within[i] ? x[at[i] + PLANE(c)] : 0.0f;
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
