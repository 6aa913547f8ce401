{% include "common.h" %}
{% include "rows.h" %}
// Each row (r0, r1, r2, .) of `count` elements of type {{ value }} to one, starting from {{ start }}.
// global ({{ group }}, R2, R0*R1), local ({{ group }},1,1).
{{ defines }}
{% set join = step.replace("v * v", "v").replace("fabs(v)", "v") %}

__kernel void reduce(
    {{ arguments }}) {
  SCRATCH
  const int r2 = get_global_id(1);
  const int r0 = get_global_id(2) / middle;
  const int r1 = get_global_id(2) % middle;
  {{ value }} acc = {{ start }};
  for (int i = FIRST; i < count; i += {{ group }}) {
    const {{ value }} v = X_AT(r0, r1, r2, i);
    acc = {{ step }};
  }
  JOIN(acc, {{ join }})
  const {{ value }} n = count;
  if (get_local_id(0) == 0) STORE(r0, r1, r2, 0, {{ end }});
}
