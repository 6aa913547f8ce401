{% from "block.h" import again_in_float, column, declare_pool, enable_half, high, join_slices, multiply, place, put, quad, row, span, threads, wide, zero_sums with context %}
{% from "store.h" import store_four %}
{% include "common.h" %}
{% set a_pitch = high // 4 + (1 if a_fast == "step" else 0) %}
{% set w_fast = b_fast | default("along") %}
{% set w_pitch = wide // 4 + (1 if w_fast == "step" else 0) %}
{% set stage = depth * (a_pitch + w_pitch) %}
{% set a_units = high * depth // 4 %}
{% set w_units = wide * depth // 4 %}
// out[b0,b1,m,n] = sum_k a[b0,b1,m,k] w[k,n], for GPUs; CPUs have panel_product.cl.
{% if textured %}
// W: RGBA texture, x = n/4, y = k; one texel = 4 consecutive n of step k.
{% else %}
// w = b[b0,b1,k,n], a strided buffer.
{% endif %}
// One work-group computes {{ high }} rows (m) x {{ wide }} columns (n), {{ depth }} steps of k at a time; it reads
// each texel of its columns once.
{% if shares > 1 %}
// B0*B1 = 1 in `a`; out[share,0,m,n] is what the share's steps, one of {{ shares }} parts, sum up to.
{% endif %}
// global (ceil(N/{{ wide }}) * {{ threads }}, ceil(M/{{ high }}), {{ shares if shares > 1 else "B0*B1" }}), local ({{ threads }},1,1).
// Rows past M repeat row M-1, columns past N the last; neither is stored.
{{ defines }}
{{ enable_half() }}
__kernel __attribute__((reqd_work_group_size({{ threads }}, 1, 1)))
void block_product(
    {{ arguments }}) {
{{ declare_pool(stage) }}
{{ place() }}
  const int left = get_group_id(0) * {{ wide }};
  const int top = get_group_id(1) * {{ high }};
{% if shares > 1 %}
  const int b0 = get_global_id(2), b1 = 0, share = b0;
{% else %}
  const int b0 = get_global_id(2) / batch;
  const int b1 = get_global_id(2) % batch;
{% endif %}
  const int tiles = {{ "k_size / %d" | format(depth) if whole else "(k_size + %d) / %d" | format(depth - 1, depth) }};
{{ span() }}
{{ zero_sums() }}
{% macro read_ahead(base) %}
{% for j in range((a_units + threads - 1) // threads) %}
  {{ "if (t + %d < %d) " | format(j * threads, a_units) if (j + 1) * threads > a_units }}{
    const int u = t + {{ j * threads }};
{{ quad(high, depth, a_fast, a_vector, whole, "A_AT(b0, b1, %(o)s, %(k)s)", "a + A_INDEX(b0, b1, %(o)s, %(k)s)",
        "top", "m_size", base, "k_size") }}
    next_a{{ j }} = found;
  }
{% endfor %}
{% for j in range((w_units + threads - 1) // threads) %}
  {{ "if (t + %d < %d) " | format(j * threads, w_units) if (j + 1) * threads > w_units }}{
    const int u = t + {{ j * threads }};
{% if textured %}
    const int k = {{ base }} + u / {{ wide // 4 }};
    const int column = min(left / 4 + u % {{ wide // 4 }}, (n_size + 3) / 4 - 1);
    const float4 found = {{ "" if whole else "k >= k_size ? (float4)(0.0f) : " }}W_AT(column, k);
{% else %}
{{ quad(wide, depth, w_fast, b_vector, whole, "B_AT(b0, b1, %(k)s, %(o)s)", "b + B_INDEX(b0, b1, %(k)s, %(o)s)",
        "left", "n_size", base, "k_size") }}
{% endif %}
    next_w{{ j }} = found;
  }
{% endfor %}
{% endmacro %}
{% macro keep(start) %}
{% for j in range((a_units + threads - 1) // threads) %}
  {{ "if (t + %d < %d) " | format(j * threads, a_units) if (j + 1) * threads > a_units }}{
    const int u = t + {{ j * threads }};
{{ put(high, depth, a_fast, start, "next_a%d" | format(j)) }}
  }
{% endfor %}
{% for j in range((w_units + threads - 1) // threads) %}
  {{ "if (t + %d < %d) " | format(j * threads, w_units) if (j + 1) * threads > w_units }}{
    const int u = t + {{ j * threads }};
{{ put(wide, depth, w_fast, "%s + %d" | format(start, depth * a_pitch), "next_w%d" | format(j)) }}
  }
{% endfor %}
{% endmacro %}
  float4 {% for j in range((a_units + threads - 1) // threads) %}next_a{{ j }} = 0.0f, {% endfor %}
{% for j in range((w_units + threads - 1) // threads) %}next_w{{ j }} = 0.0f{{ ", " if not loop.last }}{% endfor %};
  if (start < end) {
{{ read_ahead("start * %d" | format(depth)) }}
{{ keep("0") }}
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int tile = start; tile < end; tile++) {
    const int here = (tile - start) % 2 * {{ stage }};
    if (tile + 1 < end) {
{{ read_ahead("(tile + 1) * %d" | format(depth)) }}
    }
{{ multiply("here", a_pitch, "here + %d" | format(depth * a_pitch), w_pitch) }}
    if (tile + 1 < end) {
{{ keep("%d - here" | format(stage)) }}
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }
{{ join_slices() }}
{% call again_in_float("int k = start * %d; k < min(end * %d, k_size); k++" | format(depth, depth)) %}
{% for r in range(rows) %}
      const float x{{ r }} = A_AT(b0, b1, min({{ row(r) }}, m_size - 1), k);
{% endfor %}
{% for c in range(columns // 4) %}
      const float4 w{{ c }} = W_AT(min(({{ column(c) }}) / 4, (n_size + 3) / 4 - 1), k);
{% endfor %}
{% endcall %}
{% for r in range(rows) %}
  {
    const int m = {{ row(r) }};
    if (m < m_size) {
{% for c in range(columns // 4) %}
      const int n{{ c }} = {{ column(c) }};
      if (n{{ c }} < n_size) {
{{ store_four("b0, b1, m, %s", "n%d" | format(c), "n%d" | format(c), "n_size", "sum%d_%d" | format(r, c)) }}
      }
{% endfor %}
    }
  }
{% endfor %}
}
