{# Blocking for GPUs: a work-group of `threads` items computes `high` x `wide` sums. Tiles of both
   operands lie in local memory, `depth` steps of the reduction at a time, and are read ahead into
   registers while the ones before are multiplied. A work-item keeps `rows` x `columns` sums;
   `slices` teams of items share the steps of a tile, which gives small results enough items.
   With `half`, tiles lie there in half precision and the sums of one tile's steps are in half
   precision too, 8 to 32 of them, before they are added to the sums. What is beyond 65504 becomes
   infinite or NaN on the way; who finds that in his sums computes them again, in float. #}
{% set half = half | default(0) %}
{% set scalar = "half" if half else "float" %}
{% set team = down * across %}
{% set threads = team * slices %}
{% set high = rows * down %}
{% set wide = columns * across %}

{# Kernels that compute in half precision have to say so. #}
{% macro enable_half() %}
{% if half %}
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
{% endif %}
{% endmacro %}

{# True where half precision did not hold one of the float4s that the caller adds up. #}
{% macro beyond_half() %}!all(isfinite({{ caller() }})){% endmacro %}

{# Where item `t` stands; neighbours in memory are neighbours in `lane`. #}
{% macro place() %}
  const int t = get_local_id(0);
{% if slices > 1 %}
  const int slice = t / {{ team }}, lane = t % {{ team }};
{% else %}
  const int lane = t;
{% endif %}
{% if down_first %}
  const int down = lane % {{ down }}, across = lane / {{ down }};
{% else %}
  const int down = lane / {{ across }}, across = lane % {{ across }};
{% endif %}
{% endmacro %}

{# Float4s between two steps of a tile; transposed ones are padded against bank conflicts. #}
{% macro pitch(size, fast) %}{{ size // 4 + (1 if fast == "step" else 0) }}{% endmacro %}

{# Four neighbours of an operand for unit `u` of a tile of `size` x `steps`. `fast` says which of its
   coordinates are neighbours in memory: those of the "step", or those "along" the result. `at` and
   `from` give an element and its address by along (o) and step (k). What is past the result repeats
   the last, what is past the reduction is 0. #}
{% macro quad(size, steps, fast, vector, whole, at, from, first, extent, base, step_extent) %}
{% if fast == "step" %}
    const int o = min({{ first }} + u / {{ steps // 4 }}, {{ extent }} - 1), k = {{ base }} + u % {{ steps // 4 }} * 4;
{% if vector %}
    const float4 found = {{ "" if whole else "k >= %s ? (float4)(0.0f) : " | format(step_extent) }}*(__global const float4*)({{ from | format(o="o", k="k") }});
{% else %}
    const float4 found = (float4)({% for i in range(4) %}{{ "" if whole else "k + %d >= %s ? 0.0f : " | format(i, step_extent) }}{{ at | format(o="o", k="k + %d" | format(i)) }}{{ ", " if not loop.last }}{% endfor %});
{% endif %}
{% else %}
    const int k = {{ base }} + u / {{ size // 4 }}, o = {{ first }} + u % {{ size // 4 }} * 4;
{% if vector %}
    const int inside = min(o, max({{ extent }} - 4, 0));
    const float4 found = {{ "" if whole else "k >= %s ? (float4)(0.0f) : " | format(step_extent) }}*(__global const float4*)({{ from | format(o="inside", k="k") }});
{% else %}
    const float4 found = {{ "" if whole else "k >= %s ? (float4)(0.0f) : " | format(step_extent) }}(float4)({% for i in range(4) %}{{ at | format(o="min(o + %d, %s - 1)" | format(i, extent), k="k") }}{{ ", " if not loop.last }}{% endfor %});
{% endif %}
{% endif %}
{% endmacro %}

{# A float4, or a float, as tiles hold it. #}
{% macro narrowed(value, count=4) %}{{ "convert_half%s(%s)" | format(count if count > 1 else "", value) if half else value }}{% endmacro %}

{# The tiles, twice, in local memory; the teams' sums lie there afterwards. #}
{% macro declare_pool(stage) %}
{% set joined = high * wide // 4 if slices > 1 else 0 %}
  __local {{ scalar }}4 pool[{{ [2 * stage, joined * (2 if half else 1)] | max }}]{{ " __attribute__((aligned(16)))" if half }};
{% endmacro %}

{# Puts what `quad` found for unit `u` into the tile that starts at float4 `start`. #}
{% macro put(size, steps, fast, start, value) %}
{% if fast == "step" %}
{% set wide_pitch = 4 * (size // 4 + 1) %}
    const int to = 4 * ({{ start }}) + u % {{ steps // 4 }} * {{ 4 * wide_pitch }} + u / {{ steps // 4 }};
{% for i in range(4) %}
    ((__local {{ scalar }}*)pool)[to + {{ i * wide_pitch }}] = {{ narrowed("%s.%s" | format(value, "xyzw"[i]), 1) }};
{% endfor %}
{% else %}
    pool[{{ start }} + u] = {{ narrowed(value) }};
{% endif %}
{% endmacro %}

{# Adds the products of one stage to the sums: its tiles start at float4s `a` and `w`. #}
{% macro multiply(a, a_pitch, w, w_pitch) %}
{% set sum = "part" if half else "sum" %}
{% if half %}
{% for r in range(rows) %}{% for c in range(columns // 4) %}
    half4 part{{ r }}_{{ c }} = (half4)(0.0f);
{% endfor %}{% endfor %}
{% endif %}
#pragma unroll
    for (int step = 0; step < {{ depth // slices }}; step++) {
      const int at = {{ "slice * %d + step" | format(depth // slices) if slices > 1 else "step" }};
{% for i in range(rows // 4) %}
      const {{ scalar }}4 a{{ i }} = pool[{{ a }} + at * {{ a_pitch }} + {{ i * down }} + down];
{% endfor %}
{% for c in range(columns // 4) %}
      const {{ scalar }}4 w{{ c }} = pool[{{ w }} + at * {{ w_pitch }} + {{ c * across }} + across];
{% endfor %}
{% for r in range(rows) %}{% for c in range(columns // 4) %}
      {{ sum }}{{ r }}_{{ c }} = fma(({{ scalar }}4)(a{{ r // 4 }}.{{ "xyzw"[r % 4] }}), w{{ c }}, {{ sum }}{{ r }}_{{ c }});
{% endfor %}{% endfor %}
    }
{% if half %}
{% for r in range(rows) %}{% for c in range(columns // 4) %}
    sum{{ r }}_{{ c }} += convert_float4(part{{ r }}_{{ c }});
{% endfor %}{% endfor %}
{% endif %}
{% endmacro %}

{# Which of the tiles are this work-group's. #}
{% macro span() %}
{% if shares > 1 %}
  const int per_share = (tiles + {{ shares - 1 }}) / {{ shares }};
  const int start = share * per_share, end = min(tiles, start + per_share);
{% else %}
  const int start = 0, end = tiles;
{% endif %}
{% endmacro %}

{% macro zero_sums(declared="float4 ") %}
{% for r in range(rows) %}{% for c in range(columns // 4) %}
  {{ declared }}sum{{ r }}_{{ c }} = 0.0f;
{% endfor %}{% endfor %}
{% endmacro %}

{# The row of the result that an item's row `r` is, and the first column of its float4 `c`. #}
{% macro row(r) %}top + down * 4 + {{ r // 4 * down * 4 + r % 4 }}{% endmacro %}
{% macro column(c) %}left + across * 4 + {{ c * across * 4 }}{% endmacro %}

{# The first team takes over what the others summed, by way of local memory; they are done. #}
{% macro join_slices() %}
{% for s in range(1, slices) %}
  barrier(CLK_LOCAL_MEM_FENCE);
  if (slice == {{ s }}) {
{% for r in range(rows) %}{% for c in range(columns // 4) %}
    ((__local float4*)pool)[{{ (r * (columns // 4) + c) * team }} + lane] = sum{{ r }}_{{ c }};
{% endfor %}{% endfor %}
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if (slice == 0) {
{% for r in range(rows) %}{% for c in range(columns // 4) %}
    sum{{ r }}_{{ c }} += ((__local float4*)pool)[{{ (r * (columns // 4) + c) * team }} + lane];
{% endfor %}{% endfor %}
  }
{% endfor %}
{% if slices > 1 %}
  if (slice) return;
{% endif %}
{% endmacro %}

{# An item that has sums beyond half precision computes them again, in float and past the tiles: `steps`
   is the head of a loop, and its body (the caller) declares what the item's rows and columns have at a
   step, x0.. and w0... #}
{% macro again_in_float(steps) %}
{% if half %}
  if ({% call beyond_half() %}{% for r in range(rows) %}{% for c in range(columns // 4) %}{{ " + " if r + c }}sum{{ r }}_{{ c }}{% endfor %}{% endfor %}{% endcall %}) {
{{ zero_sums("") }}
    for ({{ steps }}) {
{{ caller() }}
{% for r in range(rows) %}{% for c in range(columns // 4) %}
      sum{{ r }}_{{ c }} = fma((float4)(x{{ r }}), w{{ c }}, sum{{ r }}_{{ c }});
{% endfor %}{% endfor %}
    }
  }
{% endif %}
{% endmacro %}
