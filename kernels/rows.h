{# Walking a row with one work-group: JOIN makes a function that combines what its items found,
   of type `value`. #}
{% set type = value | default("float") %}
{% if group > 1 %}
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
