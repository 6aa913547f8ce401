{% from "block.h" import beyond_half, enable_half, high, narrowed, put, quad, scalar, threads, wide with context %}
{% include "common.h" %}
{% set parts = (depth + across - 1) // across %}
{% set spread = across * parts %}
{% set q_pitch = high // 4 + (1 if q_fast == "step" else 0) %}
{% set k_pitch = wide // 4 + (1 if k_fast == "step" else 0) %}
// out[b0,b1,m,d] = sum_n softmax_n(SCORE(sum_k query[b0,b1,m,k] key[b0,b1,k,n])) value[b0,b1,n,d],
// for GPUs; CPUs, and GPUs whose local memory is too small, have attention.cl.
// One work-group keeps {{ high }} queries and walks all keys, {{ wide }} at a time: those keys, then their values,
// lie in local memory, and so do the weights between both products. The softmax is the online one
// (Milakov and Gimelshein, 2018): `high` is the largest score so far, and what was summed is scaled
// down whenever that grows. A work-item has 4 queries; of these 4 keys, or {{ parts }} elements of the output.
// global (ceil(M/{{ high }}) * {{ threads }}, B0*B1), local ({{ threads }},1).
// Rows past M repeat the last and are not stored; keys past N have the score -inf.
{% if half %}
// Products are in half precision, {{ score_steps }} and {{ value_steps }} steps at a time; scores, softmax and sums in float.
// What half precision does not hold is computed again in float, from global memory.
{% endif %}
{{ defines }}
{{ enable_half() }}
__kernel __attribute__((reqd_work_group_size({{ threads }}, 1, 1)))
void block_attention(
    {{ arguments }}) {
  __local {{ scalar }}4 queries[{{ head * q_pitch }}];
  __local {{ scalar }}4 pool[{{ [head * k_pitch, (wide * spread + 3) // 4] | max }}];  // keys, then values
  __local {{ scalar }}4 weights[{{ wide * (high // 4) }}];
  __local float4 found[{{ across * down }}];
  const int t = get_local_id(0);
  const int down = t % {{ down }}, across = t / {{ down }};
  const int top = get_group_id(0) * {{ high }};
  const int b0 = get_global_id(1) / batch;
  const int b1 = get_global_id(1) % batch;
  for (int u = t; u < {{ high * head // 4 }}; u += {{ threads }}) {
{{ quad(high, head, q_fast, q_vector, 1, "QUERY_AT(b0, b1, %(o)s, %(k)s)", "query + QUERY_INDEX(b0, b1, %(o)s, %(k)s)", "top", "m_size", "0", head) }}
{{ put(high, head, q_fast, "0", "found") | replace("pool", "queries") }}
  }
  float4 high = -INFINITY, total = 0.0f;
{% for d in range(parts) %}
  float4 sum{{ d }} = 0.0f;
{% endfor %}
  for (int first = 0; first < n_size; first += {{ wide }}) {
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int u = t; u < {{ wide * head // 4 }}; u += {{ threads }}) {
{{ quad(wide, head, k_fast, k_vector, 1, "KEY_AT(b0, b1, %(k)s, %(o)s)", "key + KEY_INDEX(b0, b1, %(k)s, %(o)s)", "first", "n_size", "0", head) }}
{{ put(wide, head, k_fast, "0", "found") }}
    }
    barrier(CLK_LOCAL_MEM_FENCE);
{% for c in range(4) %}
    float4 score{{ c }} = 0.0f;
{% endfor %}
{% macro meet(sums, type) %}
      const {{ type }}4 row = queries[k * {{ q_pitch }} + down];
      const {{ type }}4 column = pool[k * {{ k_pitch }} + across];
{% for c in range(4) %}
      {{ sums }}{{ c }} = fma(row, ({{ type }}4)(column.{{ "xyzw"[c] }}), {{ sums }}{{ c }});
{% endfor %}
{% endmacro %}
{% if half %}
    for (int from = 0; from < {{ head }}; from += {{ score_steps }}) {
{% for c in range(4) %}
      half4 part{{ c }} = (half4)(0.0f);
{% endfor %}
#pragma unroll
      for (int k = from; k < from + {{ score_steps }}; k++) {
{{ meet("part", "half") }}
      }
{% for c in range(4) %}
      score{{ c }} += convert_float4(part{{ c }});
{% endfor %}
    }
    if ({% call beyond_half() %}score0 + score1 + score2 + score3{% endcall %}) {
{% for c in range(4) %}
      score{{ c }} = 0.0f;
{% endfor %}
      for (int k = 0; k < {{ head }}; k++) {
{% for r in range(4) %}
        const float row{{ r }} = QUERY_AT(b0, b1, min(top + down * 4 + {{ r }}, m_size - 1), k);
{% endfor %}
{% for c in range(4) %}
        score{{ c }} += (float4)(row0, row1, row2, row3) * KEY_AT(b0, b1, k, min(first + across * 4 + {{ c }}, n_size - 1));
{% endfor %}
      }
    }
{% else %}
#pragma unroll 8
    for (int k = 0; k < {{ head }}; k++) {
{{ meet("score", "float") }}
    }
{% endif %}
{% for c in range(4) %}
    {
      const int n = first + across * 4 + {{ c }}, inside = min(n, n_size - 1);
{% for r in range(4) %}
      SCORE(b0, b1, min(top + down * 4 + {{ r }}, m_size - 1), inside, score{{ c }}.{{ "xyzw"[r] }});
{% endfor %}
      if (n >= n_size) score{{ c }} = -INFINITY;
    }
{% endfor %}
    found[t] = fmax(fmax(score0, score1), fmax(score2, score3));
    barrier(CLK_LOCAL_MEM_FENCE);
    float4 top_score = high;
{% for c in range(across) %}
    top_score = fmax(top_score, found[{{ c * down }} + down]);
{% endfor %}
    // A row that has met only -inf so far has nothing to scale and no weight but 0.
    const float4 base = select(top_score, (float4)(0.0f), top_score == -INFINITY);
    const float4 shrink = exp(high - base);
    high = top_score;
    total *= shrink;
{% for c in range(4) %}
    score{{ c }} = exp(score{{ c }} - base);
    total += score{{ c }};
    weights[(across * 4 + {{ c }}) * {{ down }} + down] = {{ narrowed("score%d" | format(c)) }};
{% endfor %}
    for (int u = t; u < {{ wide * spread }}; u += {{ threads }}) {
      const int n = first + u / {{ spread }}, d = min(u % {{ spread }}, {{ depth - 1 }});
      ((__local {{ scalar }}*)pool)[u] = {{ narrowed("n < n_size ? VALUE_AT(b0, b1, n, d) : 0.0f", 1) }};
    }
    barrier(CLK_LOCAL_MEM_FENCE);
{% for d in range(parts) %}
    sum{{ d }} *= shrink;
{% endfor %}
{% macro weigh(sums, type) %}
      const {{ type }}4 weight = weights[n * {{ down }} + down];
{% for d in range(parts) %}
      {{ sums }}{{ d }} = fma(weight, ({{ type }}4)(((__local const {{ type }}*)pool)[n * {{ spread }} + {{ d * across }} + across]), {{ sums }}{{ d }});
{% endfor %}
{% endmacro %}
{% if half %}
{% for d in range(parts) %}
    float4 found{{ d }} = 0.0f;
{% endfor %}
    for (int from = 0; from < {{ wide }}; from += {{ value_steps }}) {
{% for d in range(parts) %}
      half4 part{{ d }} = (half4)(0.0f);
{% endfor %}
#pragma unroll 4
      for (int n = from; n < from + {{ value_steps }}; n++) {
{{ weigh("part", "half") }}
      }
{% for d in range(parts) %}
      found{{ d }} += convert_float4(part{{ d }});
{% endfor %}
    }
    if ({% call beyond_half() %}{% for d in range(parts) %}{{ " + " if d }}found{{ d }}{% endfor %}{% endcall %}) {
{% for d in range(parts) %}
      found{{ d }} = 0.0f;
{% endfor %}
      for (int n = 0; n < min({{ wide }}, n_size - first); n++) {
        const float4 weight = convert_float4(weights[n * {{ down }} + down]);
{% for d in range(parts) %}
        found{{ d }} = fma(weight, (float4)(VALUE_AT(b0, b1, first + n, min(across + {{ d * across }}, {{ depth - 1 }}))), found{{ d }});
{% endfor %}
      }
    }
{% for d in range(parts) %}
    sum{{ d }} += found{{ d }};
{% endfor %}
{% else %}
#pragma unroll 4
    for (int n = 0; n < {{ wide }}; n++) {
{{ weigh("sum", "float") }}
    }
{% endif %}
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  found[t] = total;
  barrier(CLK_LOCAL_MEM_FENCE);
  total = 0.0f;
{% for c in range(across) %}
  total += found[{{ c * down }} + down];
{% endfor %}
{% if guarded %}
  // Rows without a weight (all scores -inf) are 0, and so are those with a NaN.
  const float4 scale = select((float4)(0.0f), 1.0f / total, total > 0.0f);
{% else %}
  const float4 scale = 1.0f / total;
{% endif %}
{% for d in range(parts) %}
  {
    const int d = across + {{ d * across }};
{% for r in range(4) %}
    if (top + down * 4 + {{ r }} < m_size && d < {{ depth }})
      STORE(b0, b1, top + down * 4 + {{ r }}, d, sum{{ d }}.{{ "xyzw"[r] }} * scale.{{ "xyzw"[r] }});
{% endfor %}
  }
{% endfor %}
}
