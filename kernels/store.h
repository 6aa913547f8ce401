{# Stores the four output channels of a sum; all but the first are guarded, being padding past `extent`.
   `place` has %s where the channel goes; `lane` counts channels within `extent`. #}
{% macro store_four(place, channel, lane, extent, sum) %}
{% for part in "xyzw" %}
    {{ "if (%s + %d < %s) " | format(lane, loop.index0, extent) if loop.index0 }}STORE({{ place | format("%s + %d" | format(channel, loop.index0)) }}, {{ sum }}.{{ part }});
{% endfor %}
{% endmacro %}
