{% from "panel.h" import tile %}
{% include "common.h" %}
{% set direct = by_channels and columns == 32 and "W_LINE(" in defines %}  {# the texture's lines are a panel #}
{% set chunk = 16 * lanes // tile_rows * tile_rows if by_channels else 16 * lanes %}
// {{ "Transposed convolution" if transposed else "Convolution" }} {{ kh }}x{{ kw }}, stride {{ sh }}x{{ sw }}, dilation {{ dh }}x{{ dw }}, NCHW, as a product: rows are output
// channels, columns are pixels, steps are taps of input channels.
{% if transposed %}
// Output pixels a stride apart are reached by the same taps: each of the SH x SW sets of them is the
// output of a convolution of stride 1, and a work-item has pixels of one set.
{% endif %}
// W: RGBA texture, x = ((ic * KH + ky) * KW + kx) * {{ columns // 4 }} + oc%{{ columns }}/4, y = oc/{{ columns }} in its group.
// One work-item computes block_channels (at most {{ channels }}) x block_pixels (at most {{ pixels }}),
// {{ inputs }} input channels at a time, and of these {{ chunk }} pixels.
{% if by_channels %}
// A register tile is {{ tile_rows }} pixels x 32 channels: small planes would leave lanes of vectors idle.
{% else %}
// A register tile is {{ tile_rows }} channels x {{ chunk }} pixels.
{% endif %}
// global (ceil(pixels of {{ "a set" if transposed else "a plane" }}/block_pixels), G * ceil(group_out/block_channels), N{{ " * SH * SW" if transposed }}), local (1,1,1).
// Taps outside the plane count 0; pixels past the last and channels past the group are not stored.
{{ defines }}
// From the first of the input channels at hand to channel c, in elements.
#define PLANE(c) (X_INDEX(0, base + (c), 0, 0) - X_INDEX(0, base, 0, 0))

__kernel void panel_conv(
    {{ arguments }}) {
  float16 panel[{{ inputs * most_taps * lanes }}];
{% if not direct %}
  float16 weights[{{ inputs * most_taps * channels // 16 }}];
{% endif %}
  float16 sums[{{ channels // 16 * (pixels + tile_rows) if by_channels else channels * pixels // 16 }}];
  int tap_at[{{ most_taps }}], tap_y[{{ most_taps }}], tap_x[{{ most_taps }}];
  int taps = 0;
{% if transposed %}
  const int n = get_global_id(2) / {{ sh * sw }};
  const int top = get_global_id(2) / {{ sw }} % {{ sh }}, left = get_global_id(2) % {{ sw }};
  const int width = (out_width - left + {{ sw - 1 }}) / {{ sw }};
  const int all = (out_height - top + {{ sh - 1 }}) / {{ sh }} * width;
  for (int tap = 0; tap < {{ kh * kw }}; tap++) {
    const int down = top + {{ ph }} - tap / {{ kw }} * {{ dh }}, right = left + {{ pw }} - tap % {{ kw }} * {{ dw }};
    if (down % {{ sh }} || right % {{ sw }}) continue;
    tap_at[taps] = tap;
    tap_y[taps] = down / {{ sh }};
    tap_x[taps++] = right / {{ sw }};
  }
{% else %}
  const int n = get_global_id(2), width = out_width, all = out_height * out_width;
  for (; taps < {{ kh * kw }}; taps++) {
    tap_at[taps] = taps;
    tap_y[taps] = taps / {{ kw }} * {{ dh }} - {{ ph }};
    tap_x[taps] = taps % {{ kw }} * {{ dw }} - {{ pw }};
  }
{% endif %}
  const int start = get_global_id(0) * block_pixels;
  const int pixels = min(block_pixels, all - start);
  const int blocks = (group_out + block_channels - 1) / block_channels;
  const int group = get_global_id(1) / blocks;
  const int first = (get_global_id(1) % blocks) * block_channels;
  const int channels = min(block_channels, group_out - first);
  const int panels = (group_out + {{ columns - 1 }}) / {{ columns }};
  const int first_panel = group * panels + first / {{ columns }};
  const int16 count = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int ic = 0; ic < group_in; ic += {{ inputs }}) {
    const int inputs = min({{ inputs }}, group_in - ic);
    const int steps = inputs * taps;
    const int base = group * group_in + ic;
{% if not direct %}
    for (int j = 0; j * {{ columns }} < channels; j++)
      for (int c = 0; c < inputs; c++)
        for (int tap = 0; tap < taps; tap++)
          for (int q = 0; q < {{ columns // 4 }}; q++)
            vstore4(W_AT(first_panel + j, q, (ic + c) * {{ kh * kw }} + tap_at[tap]), q,
                    (float*)weights + (c * taps + tap) * {{ channels }} + j * {{ columns }});
{% endif %}
    for (int p = 0; p < pixels; p += {{ chunk }}) {
{% for v in range(lanes) %}
      const int16 pixel{{ v }} = min(start + p + {{ 16 * v }} + count, (int16)(all - 1));
      const int16 y{{ v }} = pixel{{ v }} / width{{ " * %d" | format(sh) if not transposed }};
      const int16 x{{ v }} = pixel{{ v }} % width{{ " * %d" | format(sw) if not transposed }};
{% endfor %}
      for (int tap = 0; tap < taps; tap++) {
{% for v in range(lanes) %}
        const int16 at_y{{ v }} = y{{ v }} + tap_y[tap], at_x{{ v }} = x{{ v }} + tap_x[tap];
        const int16 inside{{ v }} = at_y{{ v }} >= 0 && at_y{{ v }} < in_height && at_x{{ v }} >= 0 && at_x{{ v }} < in_width;
{% endfor %}
{% if shifted %}
        // Rows of pixels and of the input are equally long: neighbours stay neighbours.
        const int shift = start + p + tap_y[tap] * in_width + tap_x[tap];
        const int from = X_INDEX(n, base, 0, 0) + shift;
        const int last = from + PLANE(inputs - 1);  // below `from` where channels run backwards
        if (min(from, last) >= 0 && max(from, last) + {{ 16 * lanes }} <= x_size) {
          for (int c = 0; c < inputs; c++) {
{% for v in range(lanes) %}
            panel[(c * taps + tap) * {{ lanes }} + {{ v }}] =
                select((float16)(0.0f), vload16({{ v }}, x + from + PLANE(c)), inside{{ v }});
{% endfor %}
          }
          continue;
        }
{% endif %}
        int at[{{ 16 * lanes }}], within[{{ 16 * lanes }}];
{% for v in range(lanes) %}
        vstore16(select((int16)(0), (int16)(X_INDEX(n, base, at_y{{ v }}, at_x{{ v }})), inside{{ v }}), {{ v }}, at);
        vstore16(inside{{ v }}, {{ v }}, within);
{% endfor %}
        for (int c = 0; c < inputs; c++) {
          float* line = (float*)(panel + (c * taps + tap) * {{ lanes }});
          for (int i = 0; i < {{ 16 * lanes }}; i++) line[i] = within[i] ? x[at[i] + PLANE(c)] : 0.0f;
        }
      }
{% if by_channels %}
      for (int c = 0; c < channels; c += 32)
        for (int row = 0; row < min({{ chunk }}, pixels - p); row += {{ tile_rows }}) {
{{ tile(tile_rows, 2, "steps", "ic == 0",
        "(sums + (p + row + %s) * " ~ channels // 16 ~ " + c / 16)",
        "((const float*)panel)[step * " ~ 16 * lanes ~ " + row + %s]",
        "W_LINE(first_panel + c / 32, %s, ic * taps + step)" if direct
        else "weights[step * " ~ channels // 16 ~ " + c / 16 + %s]") }}
        }
{% else %}
      for (int c = 0; c < channels; c += {{ tile_rows }}) {
{{ tile(tile_rows, lanes, "steps", "ic == 0",
        "(sums + (c + %s) * " ~ (pixels // 16) ~ " + p / 16)",
        "((const float*)weights)[step * " ~ channels ~ " + c + %s]", "panel[step * " ~ lanes ~ " + %s]") }}
      }
{% endif %}
    }
  }
{% set at_i = "i * %d" | format(channels) if by_channels else "i" %}
  for (int c = 0; c < channels; c++) {
{% if by_channels %}
    const float* line = (const float*)sums + c;
{% else %}
    const float* line = (const float*)(sums + c * {{ pixels // 16 }});
{% endif %}
    const int oc = group * group_out + first + c;
{% if flat %}
    for (int i = 0; i < pixels; i++) STORE(n, oc, 0, start + i, line[{{ at_i }}]);
{% else %}
    for (int i = 0, y = start / width, x_ = start % width; i < pixels; y++, x_ = 0)
      for (; x_ < width && i < pixels; x_++, i++)
        STORE(n, oc, {{ "top + y * %d, left + x_ * %d" | format(sh, sw) if transposed else "y, x_" }}, line[{{ at_i }}]);
{% endif %}
  }
}
