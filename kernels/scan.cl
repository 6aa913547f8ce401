{% include "common.h" %}
// Running sums{{ " from the end" if backwards }}{{ ", each without its own element" if exclusive }} of rows (r0, r1, r2, .) of `count` elements of type {{ value }}.
// One work-item a row. global (R2 rounded up, R1, R0), local (L,1,1).
{{ defines }}

__kernel void scan(
    {{ arguments }}) {
  const int r2 = get_global_id(0);
  if (r2 >= rows) return;
  const int r1 = get_global_id(1);
  const int r0 = get_global_id(2);
  {{ value }} sum = 0;
  for (int step = 0; step < count; step++) {
    const int i = {{ "count - 1 - step" if backwards else "step" }};
    const {{ value }} v = X_AT(r0, r1, r2, i);
{% if exclusive %}
    STORE(r0, r1, r2, i, sum);
    sum += v;
{% else %}
    sum += v;
    STORE(r0, r1, r2, i, sum);
{% endif %}
  }
}
