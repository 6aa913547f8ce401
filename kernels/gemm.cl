{% from "store.h" import store_four %}
{% include "common.h" %}
// out[b0,b1,m,n] = sum_k a[b0,b1,m,k] W[k,n], for GPUs; CPUs have panel_product.cl.
// W: RGBA texture, x = n/4, y = k; one texel = 4 consecutive n of step k.
// Each work-item computes {{ rows }} rows (m) x 4 columns (n).
// global (ceil(N/4) rounded up, ceil(M/{{ rows }}), B0*B1), local (L,1,1).
// Rows past M repeat row M-1 and are not stored; columns past N are padding and are not stored.
{{ defines }}

__kernel void gemm(
    {{ arguments }}) {
  const int column = get_global_id(0);
  const int n = column * 4;
  if (n >= n_size) return;
  const int m = get_global_id(1) * {{ rows }};
  const int b0 = get_global_id(2) / batch;
  const int b1 = get_global_id(2) % batch;
{% for r in range(rows) %}
  float4 sum{{ r }} = 0.0f;
  const int m{{ r }} = min(m + {{ r }}, m_size - 1);
{% endfor %}
  for (int k = 0; k < k_size; k++) {
    const float4 texel = W_AT(column, k);
{% for r in range(rows) %}
    sum{{ r }} += A_AT(b0, b1, m{{ r }}, k) * texel;
{% endfor %}
  }
{% for r in range(rows) %}
  if (m + {{ r }} < m_size) {
{{ store_four("b0, b1, m + " ~ r ~ ", %s", "n", "n", "n_size", "sum" ~ r) }}
  }
{% endfor %}
}
