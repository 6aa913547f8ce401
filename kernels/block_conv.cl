{% from "block.h" import again_in_float, column, declare_pool, enable_half, high, join_slices, multiply, narrowed, place, row, scalar, span, threads, wide, zero_sums with context %}
{% from "store.h" import store_four %}
{% include "common.h" %}
{% set taps = kh * kw %}
{% set stage = depth * (high + wide) // 4 %}
{% set per_item = high * depth // threads %}
{% set w_units = wide * depth // 4 %}
// Convolution {{ kh }}x{{ kw }}, stride {{ sh }}x{{ sw }}, dilation {{ dh }}x{{ dw }}, NCHW, for GPUs, as a product: rows are pixels,
// columns are output channels, steps are taps of input channels; CPUs have panel_conv.cl.
// W: RGBA texture, x = group * ceil(oc/4) + oc/4, y = (ic * KH + ky) * KW + kx.
// One work-group computes {{ high }} pixels x {{ wide }} channels of a group, {{ depth }} steps at a time{{ " of one tap" if by_tap }}.
{% if shares > 1 %}
// N = 1 in x; out[share,oc,oy,ox] is what the share's steps, one of {{ shares }} parts, sum up to.
{% endif %}
// global (ceil(OC/{{ wide }}) * {{ threads }}, ceil(OH*OW/{{ high }}), {{ shares if shares > 1 else "N*G" }}), local ({{ threads }},1,1).
// Taps outside the plane count 0; pixels past the last and channels past the group are not stored.
{{ defines }}
{{ enable_half() }}
__kernel __attribute__((reqd_work_group_size({{ threads }}, 1, 1)))
void block_conv(
    {{ arguments }}) {
{{ declare_pool(stage) }}
{{ place() }}
  const int left = get_group_id(0) * {{ wide }};
  const int top = get_group_id(1) * {{ high }};
{% if grouped %}
  const int n = get_global_id(2) / groups;
  const int group = get_global_id(2) % groups;
{% else %}
  const int n = get_global_id(2), group = 0;
{% endif %}
  const int quarters = (group_out + 3) / 4;
  // Where this item reads: one pixel, every {{ threads // high }}th step from the `first`.
  const int pixel = min(top + t % {{ high }}, out_pixels - 1);
  const int first = t / {{ high }};
  const int y0 = pixel / out_width * {{ sh }} - {{ ph }}, x0 = pixel % out_width * {{ sw }} - {{ pw }};
{% if by_tap %}
  const int chunks = {{ "group_in / %d" | format(depth) if whole else "(group_in + %d) / %d" | format(depth - 1, depth) }};
  const int tiles = chunks * {{ taps }};
{% else %}
  const int steps = group_in * {{ taps }};
  const int tiles = (steps + {{ depth - 1 }}) / {{ depth }};
{% endif %}
{% if shares > 1 %}
  const int share = n;
{% endif %}
{{ span() }}
{{ zero_sums() }}
{% macro read_ahead(tile) %}
{% if by_tap %}
    const int tap = {{ tile }} / chunks, base = {{ tile }} % chunks * {{ depth }};
    const int y = y0 + tap / {{ kw }} * {{ dh }}, x_ = x0 + tap % {{ kw }} * {{ dw }};
    const int inside = y >= 0 && y < in_height && x_ >= 0 && x_ < in_width;
{% for j in range(per_item) %}
    {
      const int ic = base + first + {{ j * (threads // high) }};
      next_x{{ j }} = inside{{ "" if whole else " && ic < group_in" }} ? X_AT(n, group * group_in + ic, y, x_) : 0.0f;
    }
{% endfor %}
{% else %}
    const int base = {{ tile }} * {{ depth }};
{% for j in range(per_item) %}
    {
      const int step = base + first + {{ j * (threads // high) }};
      const int ic = step / {{ taps }}, tap = step % {{ taps }};
      const int y = y0 + tap / {{ kw }} * {{ dh }}, x_ = x0 + tap % {{ kw }} * {{ dw }};
      next_x{{ j }} = step < steps && y >= 0 && y < in_height && x_ >= 0 && x_ < in_width
                     ? X_AT(n, group * group_in + ic, y, x_) : 0.0f;
    }
{% endfor %}
{% endif %}
{% for j in range((w_units + threads - 1) // threads) %}
  {{ "if (t + %d < %d) " | format(j * threads, w_units) if (j + 1) * threads > w_units }}{
    const int u = t + {{ j * threads }};
    const int k = base + u / {{ wide // 4 }};
    const int column = min(left / 4 + u % {{ wide // 4 }}, quarters - 1) + group * quarters;
{% if by_tap %}
    next_w{{ j }} = {{ "" if whole else "k >= group_in ? (float4)(0.0f) : " }}W_AT(column, k * {{ taps }} + tap);
{% else %}
    next_w{{ j }} = k >= steps ? (float4)(0.0f) : W_AT(column, k);
{% endif %}
  }
{% endfor %}
{% endmacro %}
{% macro keep(start) %}
{% for j in range(per_item) %}
    ((__local {{ scalar }}*)pool)[4 * ({{ start }}) + t + {{ j * threads }}] = {{ narrowed("next_x%d" | format(j), 1) }};
{% endfor %}
{% for j in range((w_units + threads - 1) // threads) %}
    {{ "if (t + %d < %d) " | format(j * threads, w_units) if (j + 1) * threads > w_units }}pool[{{ start }} + {{ depth * high // 4 + j * threads }} + t] = {{ narrowed("next_w%d" | format(j)) }};
{% endfor %}
{% endmacro %}
  float {% for j in range(per_item) %}next_x{{ j }} = 0.0f{{ ", " if not loop.last }}{% endfor %};
  float4 {% for j in range((w_units + threads - 1) // threads) %}next_w{{ j }} = 0.0f{{ ", " if not loop.last }}{% endfor %};
  if (start < end) {
{{ read_ahead("start") }}
{{ keep("0") }}
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int tile = start; tile < end; tile++) {
    const int here = (tile - start) % 2 * {{ stage }};
    if (tile + 1 < end) {
{{ read_ahead("(tile + 1)") }}
    }
{{ multiply("here", high // 4, "here + %d" | format(depth * high // 4), wide // 4) }}
    if (tile + 1 < end) {
{{ keep("%d - here" | format(stage)) }}
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }
{{ join_slices() }}
{% call again_in_float("int step = start * %d; step < end * %d; step++" | format(depth, depth)) %}
{% if by_tap %}
      const int tap = step / {{ depth }} / chunks, ic = step / {{ depth }} % chunks * {{ depth }} + step % {{ depth }};
      if (ic >= group_in) continue;
{% else %}
      const int ic = step / {{ taps }}, tap = step % {{ taps }};
      if (step >= steps) break;
{% endif %}
{% for r in range(rows) %}
      float x{{ r }} = 0.0f;
      {
        const int at = min({{ row(r) }}, out_pixels - 1);
        const int y = at / out_width * {{ sh }} - {{ ph }} + tap / {{ kw }} * {{ dh }};
        const int x_ = at % out_width * {{ sw }} - {{ pw }} + tap % {{ kw }} * {{ dw }};
        if (y >= 0 && y < in_height && x_ >= 0 && x_ < in_width) x{{ r }} = X_AT(n, group * group_in + ic, y, x_);
      }
{% endfor %}
{% for c in range(columns // 4) %}
      const float4 w{{ c }} = W_AT(min(({{ column(c) }}) / 4, quarters - 1) + group * quarters, ic * {{ taps }} + tap);
{% endfor %}
{% endcall %}
{% for r in range(rows) %}
  {
    const int at = {{ row(r) }};
    if (at < out_pixels) {
{% for c in range(columns // 4) %}
      const int oc{{ c }} = {{ column(c) }};
      if (oc{{ c }} < group_out) {
{{ store_four("n, %s, " ~ ("0, at" if flat else "at / out_width, at % out_width") | replace("%", "%%"), "group * group_out + oc%d" | format(c), "oc%d" | format(c), "group_out", "sum%d_%d" | format(r, c)) }}
      }
{% endfor %}
    }
  }
{% endfor %}
}
