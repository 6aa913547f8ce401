{% include "common.h" %}
// out[0,o,j,i] = x[o, index[j], i]; negative indices count from the end, others are clamped.
// global (I rounded up, J, O), local (L,1,1).
{{ defines }}

__kernel void gather(
    {{ arguments }}) {
  const int i = get_global_id(0);
  if (i >= inner) return;
  const int j = get_global_id(1);
  const int o = get_global_id(2);
  const int row = INDEX_AT(j);
  const int at = clamp(row < 0 ? row + extent : row, 0, extent - 1);
  STORE(0, o, j, i, X_AT(o, at, i));
}
