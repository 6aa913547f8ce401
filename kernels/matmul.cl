{% from "store.h" import store_four %}
{% include "common.h" %}
// out[b0,b1,m,n] = sum_k a[b0,b1,m,k] b[b0,b1,k,n], both operands strided buffers.
// For GPUs; CPUs have panel_product.cl.
// Each work-item computes {{ rows }} rows (m) x 4 columns (n).
// global (ceil(N/4) rounded up, ceil(M/{{ rows }}), B0*B1), local (L,1,1).
// Rows past M and columns past N repeat the last one and are not stored.
{{ defines }}

__kernel void matmul(
    {{ arguments }}) {
  const int n = get_global_id(0) * 4;
  if (n >= n_size) return;
  const int m = get_global_id(1) * {{ rows }};
  const int b0 = get_global_id(2) / batch;
  const int b1 = get_global_id(2) % batch;
  const int n1 = min(n + 1, n_size - 1);
  const int n2 = min(n + 2, n_size - 1);
  const int n3 = min(n + 3, n_size - 1);
{% for r in range(rows) %}
  float4 sum{{ r }} = 0.0f;
  const int m{{ r }} = min(m + {{ r }}, m_size - 1);
{% endfor %}
  for (int k = 0; k < k_size; k++) {
    const float4 texel = (float4)(B_AT(b0, b1, k, n), B_AT(b0, b1, k, n1),
                              B_AT(b0, b1, k, n2), B_AT(b0, b1, k, n3));
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
