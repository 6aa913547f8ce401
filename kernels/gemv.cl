{% from "store.h" import store_four %}
{% include "common.h" %}
// out[b0,b1,m,n] = sum_k a[b0,b1,m,k] W[k,n] for {{ rows }} rows at most, for GPUs.
// W: RGBA texture, x = n/4, y = k; one texel = 4 consecutive n of step k.
// One work-group computes {{ 4 * across }} columns; each of its {{ slices }} teams takes every {{ slices }}th step, so that
// a texel is read once, and texels side by side by items side by side.
// global (ceil(N/{{ 4 * across }}) * {{ across * slices }}, 1, B0*B1), local ({{ across * slices }},1,1).
// Rows past M repeat row M-1, columns past N are padding; neither is stored.
{{ defines }}

__kernel __attribute__((reqd_work_group_size({{ across * slices }}, 1, 1)))
void gemv(
    {{ arguments }}) {
  __local float4 found[{{ rows * across * slices }}];
  const int t = get_local_id(0);
  const int columns = (n_size + 3) / 4;
  const int column = get_group_id(0) * {{ across }} + t % {{ across }};
  const int from = min(column, columns - 1);
  const int slice = t / {{ across }};
  const int b0 = get_global_id(2) / batch;
  const int b1 = get_global_id(2) % batch;
{% for r in range(rows) %}
  float4 sum{{ r }} = 0.0f;
  const int m{{ r }} = min({{ r }}, m_size - 1);
{% endfor %}
#pragma unroll 4
  for (int k = slice; k < k_size; k += {{ slices }}) {
    const float4 texel = W_AT(from, k);
{% for r in range(rows) %}
    sum{{ r }} = fma((float4)(A_AT(b0, b1, m{{ r }}, k)), texel, sum{{ r }});
{% endfor %}
  }
{% for r in range(rows) %}
  found[{{ r * across * slices }} + t] = sum{{ r }};
{% endfor %}
  for (int width = {{ slices // 2 }}; width > 0; width /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (slice < width) {
{% for r in range(rows) %}
      found[{{ r * across * slices }} + t] += found[{{ r * across * slices }} + t + width * {{ across }}];
{% endfor %}
    }
  }
  const int n = column * 4;
  if (slice || n >= n_size) return;
{% for r in range(rows) %}
  if ({{ r }} < m_size) {
    const float4 total{{ r }} = found[{{ r * across * slices }} + t];
{{ store_four("b0, b1, %d, %%s" | format(r), "n", "n", "n_size", "total" ~ r) }}
  }
{% endfor %}
}
