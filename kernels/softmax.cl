{% include "common.h" %}
{% include "rows.h" %}
// Softmax over rows (r0, r1, r2, .) of `count` elements; one work-group of {{ group }} a row.
// global ({{ group }}, R2, R0*R1), local ({{ group }},1,1).
{{ defines }}

__kernel void softmax(
    {{ arguments }}) {
  const int r2 = get_global_id(1);
  const int r0 = get_global_id(2) / middle;
  const int r1 = get_global_id(2) % middle;
{% if vectors %}
  ROW
  PAD(-INFINITY)
  float16 highs = row[0];
  for (int j = 1; j < used; j++) highs = fmax(highs, row[j]);
  const float high = max_of(highs);
  float16 sums = 0.0f;
{% if log %}
  for (int j = 0; j < used; j++) sums += exp(row[j] - high);
  const float shift = high + log(sum_of(sums));
  for (int i = 0; i < count; i++) STORE(r0, r1, r2, i, ((const float*)row)[i] - shift);
{% else %}
  for (int j = 0; j < used; j++) {
    row[j] = exp(row[j] - high);
    sums += row[j];
  }
  const float scale = 1.0f / sum_of(sums);
  for (int i = 0; i < count; i++) STORE(r0, r1, r2, i, ((const float*)row)[i] * scale);
{% endif %}
{% elif held %}
  SCRATCH
  OWN(-INFINITY)
  float high = own[0];
  for (int j = 1; j < {{ held }}; j++) high = fmax(high, own[j]);
  JOIN(high, fmax(high, v))
  float sum = 0.0f;
{% if log %}
  EACH(j, i) sum += exp(own[j] - high);
  JOIN(sum, sum + v)
  const float shift = high + log(sum);
  EACH(j, i) STORE(r0, r1, r2, i, own[j] - shift);
{% else %}
  EACH(j, i) {
    own[j] = exp(own[j] - high);
    sum += own[j];
  }
  JOIN(sum, sum + v)
  const float scale = 1.0f / sum;
  EACH(j, i) STORE(r0, r1, r2, i, own[j] * scale);
{% endif %}
{% else %}
  SCRATCH
  float high = -INFINITY;
  for (int i = FIRST; i < count; i += {{ group }}) high = fmax(high, X_AT(r0, r1, r2, i));
  JOIN(high, fmax(high, v))
  float sum = 0.0f;
  for (int i = FIRST; i < count; i += {{ group }}) sum += exp(X_AT(r0, r1, r2, i) - high);
  JOIN(sum, sum + v)
{% if log %}
  const float shift = high + log(sum);
  for (int i = FIRST; i < count; i += {{ group }})
    STORE(r0, r1, r2, i, X_AT(r0, r1, r2, i) - shift);
{% else %}
  const float scale = 1.0f / sum;
  for (int i = FIRST; i < count; i += {{ group }})
    STORE(r0, r1, r2, i, exp(X_AT(r0, r1, r2, i) - high) * scale);
{% endif %}
{% endif %}
}
