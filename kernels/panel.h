{# Register blocking for processors whose work-items each own a core: one work-item computes a block
   of the result from a panel that it has packed, so a texel is read once for many rows.
   `tile` adds `steps` products of `rows` scalars and `lanes` vectors, the lines of a panel, to sums
   kept in memory between the blocks of a reduction. #}
{% macro tile(rows, lanes, steps, first, sums, scalar, line) %}
{% for r in range(rows) %}{% for v in range(lanes) %}
      float16 sum{{ r }}_{{ v }} = {{ first }} ? (float16)(0.0f) : {{ sums % r }}[{{ v }}];
{% endfor %}{% endfor %}
      for (int step = 0; step < {{ steps }}; step++) {
{% for v in range(lanes) %}
        const float16 line{{ v }} = {{ line % v }};
{% endfor %}
{% for r in range(rows) %}
        const float16 with{{ r }} = {{ scalar % r }};
{% for v in range(lanes) %}
        sum{{ r }}_{{ v }} = fma(with{{ r }}, line{{ v }}, sum{{ r }}_{{ v }});
{% endfor %}
{% endfor %}
      }
{% for r in range(rows) %}{% for v in range(lanes) %}
      {{ sums % r }}[{{ v }}] = sum{{ r }}_{{ v }};
{% endfor %}{% endfor %}
{% endmacro %}
