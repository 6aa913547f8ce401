{% include "common.h" %}
// Padding, mode {{ mode }}, in four dimensions; one work-item an output element.
// global (E3 rounded up, E2, E0*E1), local (L,1,1).
{{ defines }}

__kernel void pad(
    {{ arguments }}) {
  const int e3 = get_global_id(0);
  if (e3 >= out_width) return;
  const int e2 = get_global_id(1);
  const int e0 = get_global_id(2) / channels;
  const int e1 = get_global_id(2) % channels;
{% for axis in range(4) %}
  int i{{ axis }} = e{{ axis }} - {{ {0: before0, 1: before1, 2: before2, 3: before3}[axis] }};
{% endfor %}
{% if mode == "constant" %}
  const int inside = i0 >= 0 && i0 < in0 && i1 >= 0 && i1 < in1 &&
                     i2 >= 0 && i2 < in2 && i3 >= 0 && i3 < in3;
{% else %}
  const int inside = 1;
{% for axis in range(4) %}
{% if mode == "reflect" %}
  i{{ axis }} = abs(i{{ axis }});
  if (i{{ axis }} >= in{{ axis }}) i{{ axis }} = 2 * (in{{ axis }} - 1) - i{{ axis }};
{% elif mode == "wrap" %}
  i{{ axis }} = (i{{ axis }} % in{{ axis }} + in{{ axis }}) % in{{ axis }};
{% endif %}
  i{{ axis }} = clamp(i{{ axis }}, 0, in{{ axis }} - 1);
{% endfor %}
{% endif %}
  STORE(e0, e1, e2, e3, inside ? X_AT(i0, i1, i2, i3) : {{ value }});
}
