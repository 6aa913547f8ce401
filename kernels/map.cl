{% include "common.h" %}
// Element-wise: every element of the output is STOREd once.
// global (fastest dimension rounded up to the local size, next dimension, all others), local (L,1,1).
{{ defines }}

__kernel void map(
    {{ arguments }}) {
  const int e{{ rank - 1 }} = get_global_id(0);
  if (e{{ rank - 1 }} >= n{{ rank - 1 }}) return;
{% if rank > 1 %}
  const int e{{ rank - 2 }} = get_global_id(1);
{% endif %}
{% if rank > 2 %}
  int rest = get_global_id(2);
{% for axis in range(rank - 3, 0, -1) %}
  const int e{{ axis }} = rest % n{{ axis }};
  rest /= n{{ axis }};
{% endfor %}
  const int e0 = rest;
{% endif %}
  STORE({% for axis in range(rank) %}e{{ axis }}{{ ", " if not loop.last }}{% endfor %});
}
