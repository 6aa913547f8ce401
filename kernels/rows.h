{# Walking a row. Where a work-group has one item, a row of at most 16 * `vectors` elements is copied
   to vectors of its own: ROW does that, PAD fills what is past the row. Else JOIN
   combines what the items of a group found, of type `value`, and the items keep a row of at most
   group * `held` elements between them: OWN and EACH. #}
{% set type = value | default("float") %}
{% set held = held | default(0) %}
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
{% set few = [16, group] | min %}
// JOIN makes VALUE, of which every item has its own, what all of them COMBINE to: an expression of
// VALUE and v. Three barriers: {{ few }} items join what all found, then every item joins what those
// have. No function: PoCL 3.1 lets its threads share a local array that is passed to one.
#define JOIN(VALUE, COMBINE)                                                  \
  scratch[get_local_id(0)] = VALUE;                                           \
  barrier(CLK_LOCAL_MEM_FENCE);                                               \
  if (get_local_id(0) < {{ few }}) {                                          \
    for (int i = get_local_id(0) + {{ few }}; i < {{ group }}; i += {{ few }}) { \
      const {{ type }} v = scratch[i];                                        \
      VALUE = COMBINE;                                                        \
    }                                                                         \
    scratch[get_local_id(0)] = VALUE;                                         \
  }                                                                           \
  barrier(CLK_LOCAL_MEM_FENCE);                                               \
  VALUE = scratch[0];                                                         \
  for (int i = 1; i < {{ few }}; i++) {                                       \
    const {{ type }} v = scratch[i];                                          \
    VALUE = COMBINE;                                                          \
  }                                                                           \
  barrier(CLK_LOCAL_MEM_FENCE);
#define SCRATCH __local {{ type }} scratch[{{ group }}];
#define FIRST get_local_id(0)
{% if held %}
// A row is read once: every item keeps its share of it.
#define OWN(VALUE)                                                     \
  float own[{{ held }}];                                               \
  for (int j = 0; j < {{ held }}; j++) {                               \
    const int i = get_local_id(0) + j * {{ group }};                   \
    own[j] = i < count ? X_AT(r0, r1, r2, i) : VALUE;                  \
  }
#define EACH(J, I) \
  for (int J = 0, I = get_local_id(0); J < {{ held }}; J++, I += {{ group }}) if (I < count)
{% endif %}
{% else %}
#define JOIN(VALUE, COMBINE)
#define SCRATCH
#define FIRST 0
{% endif %}
