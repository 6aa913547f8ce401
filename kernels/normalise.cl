{% include "common.h" %}
{% include "rows.h" %}
// Rows (r0, r1, r2, .) of `count` elements to mean 0 and variance 1{{ "" if centred else " (mean kept: RMS)" }}, epsilon {{ epsilon }}.
// Two passes for the moments: the variance of x - mean, since E[x^2] - E[x]^2 cancels.
// global ({{ group }}, R2, R0*R1), local ({{ group }},1,1).
{{ defines }}

__kernel void normalise(
    {{ arguments }}) {
  const int r2 = get_global_id(1);
  const int r0 = get_global_id(2) / middle;
  const int r1 = get_global_id(2) % middle;
{% if vectors %}
  ROW
{% if centred %}
  PAD(0.0f)
  float16 sums = 0.0f;
  for (int j = 0; j < used; j++) sums += row[j];
  const float mean = sum_of(sums) / count;
{% else %}
  const float mean = 0.0f;
{% endif %}
  PAD(mean)
  float16 squares = 0.0f;
  for (int j = 0; j < used; j++) {
    row[j] -= mean;
    squares = fma(row[j], row[j], squares);
  }
  const float scale = 1.0f / sqrt(sum_of(squares) / count + {{ epsilon }});
  for (int i = 0; i < count; i++) STORE(r0, r1, r2, i, ((const float*)row)[i] * scale);
{% elif held %}
  SCRATCH
  OWN(0.0f)
{% if centred %}
  float sum = 0.0f;
  for (int j = 0; j < {{ held }}; j++) sum += own[j];
  JOIN(sum, sum + v)
  const float mean = sum / count;
{% else %}
  const float mean = 0.0f;
{% endif %}
  float squares = 0.0f;
  EACH(j, i) {
    own[j] -= mean;
    squares += own[j] * own[j];
  }
  JOIN(squares, squares + v)
  const float scale = 1.0f / sqrt(squares / count + {{ epsilon }});
  EACH(j, i) STORE(r0, r1, r2, i, own[j] * scale);
{% else %}
  SCRATCH
{% if centred %}
  float sum = 0.0f;
  for (int i = FIRST; i < count; i += {{ group }}) sum += X_AT(r0, r1, r2, i);
  JOIN(sum, sum + v)
  const float mean = sum / count;
{% else %}
  const float mean = 0.0f;
{% endif %}
  float squares = 0.0f, rest = 0.0f;
  for (int i = FIRST; i < count; i += {{ group }}) {
    const float d = X_AT(r0, r1, r2, i) - mean;
    squares += d * d;
    rest += d;
  }
{% if centred %}
  // A sum of thousands rounds: what the mean missed is left in the differences, and counts there.
  JOIN(rest, rest + v)
  const float missed = rest / count;
{% else %}
  const float missed = 0.0f;
{% endif %}
  JOIN(squares, squares + v)
  const float scale = 1.0f / sqrt(squares / count - missed * missed + {{ epsilon }});
  for (int i = FIRST; i < count; i += {{ group }})
    STORE(r0, r1, r2, i, (X_AT(r0, r1, r2, i) - mean - missed) * scale);
{% endif %}
}
