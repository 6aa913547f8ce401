{% from "panel.h" import tile %}
{% include "common.h" %}
{% set direct = "W_LINE(" in defines and columns == 16 * lanes %}  {# the texture's lines are a panel #}
// out[b0,b1,m,n] = sum_k a[b0,b1,m,k] w[k,n], one work-item a block of
// `block` rows (at most {{ most_rows }}) x {{ columns }} columns.
{% if textured %}
// W: RGBA texture, x = k * {{ columns // 4 }} + n%{{ columns }}/4, y = n/{{ columns }}; one texel = 4 consecutive n of step k.
{% else %}
// w = b[b0,b1,k,n], a strided buffer.
{% endif %}
{% if direct %}
// {{ depth }} steps of the reduction at a time; the texture's own lines are their panel.
{% else %}
// {{ depth }} steps of the reduction at a time are packed into a panel, which all rows then use.
{% endif %}
// global (ceil(N/{{ columns }}), ceil(M/block), B0*B1), local (1,1,1).
// Rows past M repeat row M-1, columns past N the last one; neither is stored.
{{ defines }}

__kernel void panel_product(
    {{ arguments }}) {
{% if not direct %}
  float16 panel[{{ depth * lanes }}];
{% endif %}
  float16 sums[{{ most_rows * lanes }}];
  const int n = get_global_id(0) * {{ columns }};
  const int top = get_global_id(1) * block;
  const int b0 = get_global_id(2) / batch;
  const int b1 = get_global_id(2) % batch;
  const int rows = min(block, m_size - top);
  for (int k = 0; k < k_size; k += {{ depth }}) {
    const int steps = min({{ depth }}, k_size - k);
{% if not direct %}
    for (int step = 0; step < steps; step++) {
{% if textured %}
      for (int q = 0; q < {{ columns // 4 }}; q++)
        vstore4(W_AT(get_global_id(0), q, k + step), step * {{ 4 * lanes }} + q, (float*)panel);
{% else %}
      for (int i = 0; i < {{ 16 * lanes }}; i++)
        ((float*)panel)[step * {{ 16 * lanes }} + i] =
            B_AT(b0, b1, k + step, min(n + i, n_size - 1));
{% endif %}
    }
{% endif %}
    for (int row = 0; row < rows; row += {{ tile_rows }}) {
      const int m = top + row;
{% for r in range(tile_rows) %}
      const int m{{ r }} = min(m + {{ r }}, m_size - 1);
{% endfor %}
{{ tile(tile_rows, lanes, "steps", "k == 0", "(sums + (row + %s) * " ~ lanes ~ ")",
        "A_AT(b0, b1, m%s, k + step)",
        "W_LINE(get_global_id(0), %s, k + step)" if direct else "panel[step * " ~ lanes ~ " + %s]") }}
    }
  }
  const int columns = min({{ columns }}, n_size - n);
{% if down_first %}
  // Rows are neighbours in memory: to store by columns touches a page of it once, not once a row.
  for (int i = 0; i < columns; i++) {
    const float* line = (const float*)sums + i;
    for (int row = 0; row < rows; row++) STORE(b0, b1, top + row, n + i, line[row * {{ 16 * lanes }}]);
  }
{% else %}
  for (int row = 0; row < rows; row++) {
    const float* line = (const float*)(sums + row * {{ lanes }});
    for (int i = 0; i < columns; i++) STORE(b0, b1, top + row, n + i, line[i]);
  }
{% endif %}
}
