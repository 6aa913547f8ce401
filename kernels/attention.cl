{% include "common.h" %}
// out[b0,b1,m,d] = sum_n softmax_n(SCORE(sum_k query[b0,b1,m,k] key[b0,b1,k,n])) value[b0,b1,n,d].
// Each work-item keeps {{ lanes }} query rows, one a vector lane, and walks all keys in blocks of {{ block }}: scores
// stay in private memory. The softmax is the online one (Milakov and Gimelshein, 2018): `high` is
// the largest score so far, and what was summed is scaled down whenever that grows.
// global (ceil(M/{{ lanes }}) rounded up, B0*B1), local (L,1). Rows past M repeat the last and are not stored;
// keys past N repeat the last and have the score -inf.
{{ defines }}
{% set F = "float" ~ (lanes if lanes > 1 else "") %}
{% set hex = "0123456789abcdef" %}
{# Lane r of a vector; a vector of one lane is a scalar. #}
{% macro lane(name, r) %}{{ name }}{{ ".s" ~ hex[r] if lanes > 1 }}{% endmacro %}

__kernel void attention(
    {{ arguments }}) {
  const int m = get_global_id(0) * {{ lanes }};
  if (m >= m_size) return;
  const int b0 = get_global_id(1) / batch;
  const int b1 = get_global_id(1) % batch;
{% for r in range(lanes) %}
  const int m{{ r }} = min(m + {{ r }}, m_size - 1);
{% endfor %}
  {{ F }} q_rows[{{ head }}], sums[{{ depth }}], scores[{{ block }}];
  for (int k = 0; k < {{ head }}; k++) {
{% for r in range(lanes) %}
    {{ lane("q_rows[k]", r) }} = QUERY_AT(b0, b1, m{{ r }}, k);
{% endfor %}
  }
  for (int d = 0; d < {{ depth }}; d++) sums[d] = 0.0f;
  {{ F }} high = -INFINITY, total = 0.0f;
  for (int first = 0; first < n_size; first += {{ block }}) {
    {{ F }} top = high;
    const int count = min({{ block }}, n_size - first);
    for (int j = 0; j < count; j += {{ keys }}) {
{% for c in range(keys) %}
      const int n{{ c }} = min(first + j + {{ c }}, n_size - 1);
      {{ F }} score{{ c }} = 0.0f;
{% endfor %}
      for (int k = 0; k < {{ head }}; k++) {
        const {{ F }} row = q_rows[k];
{% for c in range(keys) %}
        score{{ c }} += row * KEY_AT(b0, b1, k, n{{ c }});
{% endfor %}
      }
{% for c in range(keys) %}
{% for r in range(lanes) %}
      SCORE(b0, b1, m{{ r }}, n{{ c }}, {{ lane("score" ~ c, r) }});
{% endfor %}
{% if c %}
      if (j + {{ c }} >= count) score{{ c }} = -INFINITY;
{% endif %}
      top = fmax(top, score{{ c }});
      scores[j + {{ c }}] = score{{ c }};
{% endfor %}
    }
    // A row that has met only -inf so far has nothing to scale and no weight but 0.
    const {{ F }} base = top == -INFINITY ? ({{ F }})0.0f : top;
    const {{ F }} shrink = exp(high - base);
    high = top;
    total *= shrink;
    for (int d = 0; d < {{ depth }}; d++) sums[d] *= shrink;
    for (int j = 0; j < count; j += {{ keys }}) {
{% for c in range(keys) %}
      const int n{{ c }} = min(first + j + {{ c }}, n_size - 1);
      const {{ F }} weight{{ c }} = exp(scores[j + {{ c }}] - base);
      total += weight{{ c }};
{% endfor %}
      for (int d = 0; d < {{ depth }}; d++) {
        {{ F }} sum = sums[d];
{% for c in range(keys) %}
        sum += weight{{ c }} * VALUE_AT(b0, b1, n{{ c }}, d);
{% endfor %}
        sums[d] = sum;
      }
    }
  }
{% if guarded %}
  // Rows without a weight (all scores -inf) are 0, and so are those with a NaN.
  const {{ F }} scale = total > 0.0f ? 1.0f / total : ({{ F }})0.0f;
{% else %}
  const {{ F }} scale = 1.0f / total;
{% endif %}
{% for r in range(lanes) %}
  if (m + {{ r }} < m_size)
    for (int d = 0; d < {{ depth }}; d++)
      STORE(b0, b1, m + {{ r }}, d, {{ lane("sums[d]", r) }} * {{ lane("scale", r) }});
{% endfor %}
}
