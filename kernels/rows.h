{# Walking a row. Where a work-group has one item, a row of at most 16 * `vectors` elements is copied
   to vectors of its own: ROW does that, PAD fills what is past the row. Else JOIN makes a function
   that combines what the items of a group found, of type `value`. #}
{% set type = value | default("float") %}
{% if vectors %}
#define ROW                                                                        \
  float16 row[{{ vectors }}];                                                      \
  const int used = (count + 15) / 16;                                              \
  for (int i = 0; i < count; i++) ((float*)row)[i] = X_AT(r0, r1, r2, i);
#define PAD(VALUE) for (int i = count; i < 16 * used; i++) ((float*)row)[i] = VALUE;
static float sum_of(float16 v) {
  const float8 a = v.lo + v.hi;
  const float4 b = a.lo + a.hi;
  return b.x + b.y + b.z + b.w;
}
static float max_of(float16 v) {
  const float8 a = fmax(v.lo, v.hi);
  const float4 b = fmax(a.lo, a.hi);
  return fmax(fmax(b.x, b.y), fmax(b.z, b.w));
}
{% elif group > 1 %}
#define JOIN(NAME, COMBINE)                                              \
  static {{ type }} NAME({{ type }} value, __local {{ type }}* scratch) { \
    const int lane = get_local_id(0);                                    \
    scratch[lane] = value;                                               \
    for (int width = {{ group }} / 2; width > 0; width /= 2) {           \
      barrier(CLK_LOCAL_MEM_FENCE);                                      \
      if (lane < width) {                                                \
        const {{ type }} acc = scratch[lane], v = scratch[lane + width];      \
        scratch[lane] = COMBINE;                                         \
      }                                                                  \
    }                                                                    \
    barrier(CLK_LOCAL_MEM_FENCE);                                        \
    const {{ type }} total = scratch[0];                                      \
    barrier(CLK_LOCAL_MEM_FENCE);                                        \
    return total;                                                        \
  }
#define SCRATCH __local {{ type }} scratch[{{ group }}];
#define FIRST get_local_id(0)
{% else %}
#define JOIN(NAME, COMBINE) \
  static {{ type }} NAME({{ type }} value, __local {{ type }}* scratch) { return value; }
#define SCRATCH __local {{ type }}* const scratch = 0;
#define FIRST 0
{% endif %}
