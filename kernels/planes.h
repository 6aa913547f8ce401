{# Windows over planes, for CPUs, whose work-items each own a core. A block of a plane lies in private
   memory with its padding, once for each residue of the strides that a tap has (its phase), so that
   every tap is a shift, and neighbours along x are lanes: 16 * `vectors` pixels at a time, of as many
   rows as they reach over, without a test. The gaps between rows are computed too and not stored.
   A template calls `extents`; then `gather` and `sweep` for each channel c; and stores `lines`. #}
{% set taps = kh * kw %}
{% set phases = phases_high * phases_wide %}
{% set below = (kh - 1) * dh // sh %}
{% set right = (kw - 1) * dw // sw %}
{# The block's place and extents, in pixels; its channels; and where its first pixel finds each tap. #}
{% macro extents() %}
  const int left = get_global_id(0) * block_width, columns = min(block_width, out_width - left);
  const int top = get_global_id(1) * block_height, rows = min(block_height, out_height - top);
  const int blocks = (channels + block_channels - 1) / block_channels;
  const int n = get_global_id(2) / blocks;
  const int first = get_global_id(2) % blocks * block_channels;
  const int past = min(first + block_channels, channels);
  const int pitch = columns + {{ right }}, plane = (rows + {{ below }}) * pitch;
  float lines[{{ room + right + 16 * vectors }}];  // vectors reach past the last phase
  int from[{{ taps }}];
  for (int ky = 0; ky < {{ kh }}; ky++)
    for (int kx = 0; kx < {{ kw }}; kx++)
      from[ky * {{ kw }} + kx] = (ky % {{ phases_high }} * {{ phases_wide }} + kx % {{ phases_wide }}) * plane +
                   ky * {{ dh }} / {{ sh }} * pitch + kx * {{ dw }} / {{ sw }};
  const int16 count = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
{% endmacro %}
{# Fills `lines` from channel c of x, with `fill` as padding. Writes whole vectors in order: what is
   past an end is overwritten by what follows. #}
{% macro gather(fill) %}
    for (int phase = 0; phase < {{ phases }}; phase++) {
      float* block = lines + phase * plane;
      const int y0 = top * {{ sh }} - {{ ph }} + phase / {{ phases_wide }} * {{ dh }} % {{ sh }};
      const int x0 = left * {{ sw }} - {{ pw }} + phase % {{ phases_wide }} * {{ dw }} % {{ sw }};
      // Rows and columns of the block that lie in the plane: from the first to before the last.
      const int upper = clamp(({{ sh - 1 }} - y0) / {{ sh }}, 0, rows + {{ below }});
      const int lower = clamp((in_height + {{ sh - 1 }} - y0) / {{ sh }}, upper, rows + {{ below }});
      const int begin = clamp(({{ sw - 1 }} - x0) / {{ sw }}, 0, pitch);
      const int end = clamp((in_width + {{ sw - 1 }} - x0) / {{ sw }}, begin, pitch);
      for (int i = 0; i < upper * pitch; i += 16) vstore16((float16)({{ fill }}), 0, block + i);
      for (int j = upper; j < lower; j++) {
        const int iy = y0 + j * {{ sh }};
        float* line = block + j * pitch;
{% if neighbours and sw <= 2 %}
        const int start = X_INDEX(n, c, iy, x0);
        if (start >= 0 && start + (pitch + 15) * {{ sw }} <= x_size) {
          for (int i = 0; i < pitch; i += 16) {
            const int16 inside = i + count >= begin && i + count < end;
{% if sw == 1 %}
            const float16 v = vload16(0, x + start + i);
{% else %}
            const float16 v = (float16)(vload16(0, x + start + i * 2).even, vload16(1, x + start + i * 2).even);
{% endif %}
            vstore16(select((float16)({{ fill }}), v, inside), 0, line + i);
          }
          continue;
        }
{% endif %}
        for (int i = 0; i < pitch; i++)
          line[i] = i >= begin && i < end ? X_AT(n, c, iy, x0 + i * {{ sw }}) : {{ fill }};
      }
      for (int i = lower * pitch; i < plane; i += 16) vstore16((float16)({{ fill }}), 0, block + i);
    }
{% endmacro %}
{# Overwrites `lines` with what `caller(sum, value)`, a statement, makes of each pixel's taps, from
   `initial`: no pixel has a tap that lies before it. Few taps are unrolled, their weights then stay
   in registers. #}
{% macro sweep(initial) %}
    for (int at = 0; at < rows * pitch; at += {{ 16 * vectors }}) {
{% for v in range(vectors) %}
      float16 sum{{ v }} = {{ initial }};
{% endfor %}
{% if taps <= 25 %}
#pragma unroll
{% endif %}
      for (int tap = 0; tap < {{ taps }}; tap++) {
        const float* line = lines + from[tap] + at;
{% for v in range(vectors) %}
        {{ caller("sum%d" | format(v), "vload16(%d, line)" | format(v)) }}
{% endfor %}
      }
{% for v in range(vectors) %}
      vstore16(sum{{ v }}, {{ v }}, lines + at);
{% endfor %}
    }
{% endmacro %}
