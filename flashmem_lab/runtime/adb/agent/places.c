#include "places.h"

#include <stdlib.h>

typedef struct Life {
  int object, begin, end; /* memory commands */
  uint64_t bytes, offset;
} Life;

static int larger_first(const void *left, const void *right) {
  const Life *a = left, *b = right;
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
  return a->begin - b->begin;
}

static int lower_first(const void *left, const void *right) {
  const Life *a = *(const Life *const *)left, *b = *(const Life *const *)right;
  return (a->offset > b->offset) - (a->offset < b->offset);
}

static int find_lives(const Program *program, Life *lives) {
  int *begins = allocate((size_t)program->object_count, sizeof *begins), count = 0;
  for (int at = program->memory.first; at < program->memory.end; at++) {
    const Command *command = &program->commands[at];
    if (is_weight(program, command->object)) continue;
    if (command->kind == ALLOC)
      begins[command->object] = at;
    else
      lives[count++] = (Life){command->object, begins[command->object], at,
                              program->objects[command->object].bytes, 0};
  }
  free(begins);
  return count;
}

/* Largest first, each at the lowest place that is free for as long as it lives. */
static uint64_t place(Life *lives, int count, uint64_t alignment) {
  const Life **beside = allocate((size_t)count, sizeof *beside);
  uint64_t whole = 0;
  qsort(lives, (size_t)count, sizeof *lives, larger_first);
  for (int at = 0; at < count; at++) {
    Life *life = &lives[at];
    int others = 0;
    for (int one = 0; one < at; one++)
      if (lives[one].begin < life->end && life->begin < lives[one].end)
        beside[others++] = &lives[one];
    qsort(beside, (size_t)others, sizeof *beside, lower_first);
    for (int one = 0; one < others; one++) {
      if (life->offset + life->bytes <= beside[one]->offset) break;
      uint64_t behind = beside[one]->offset + beside[one]->bytes;
      behind = (behind + alignment - 1) / alignment * alignment;
      if (behind > life->offset) life->offset = behind;
    }
    if (life->offset + life->bytes > whole) whole = life->offset + life->bytes;
  }
  free(beside);
  return whole;
}

/* Weights are made in the order of their Allocs and read in that of the disk lane: one can be read
 * when it, those read before it and those made before any of these are made. */
static int order_weights(const Program *program, Places *places) {
  int made = 0, count = 0;
  for (int at = 0; at < program->object_count; at++) places->made_at[at] = NONE;
  for (int at = program->memory.first; at < program->memory.end; at++) {
    const Command *command = &program->commands[at];
    if (command->kind == ALLOC && is_weight(program, command->object))
      places->made_at[command->object] = made++;
  }
  for (int at = program->disk.first; at < program->disk.end; at++) {
    int object = program->commands[at].object;
    if (places->made_with[object]) continue;
    if (places->made_at[object] + 1 > count) count = places->made_at[object] + 1;
    places->made_with[object] = count;
  }
  return made;
}

/* Most bytes of weights that have to be there at one time, if none is loaded ahead. */
static uint64_t most_needed(const Program *program, const Places *places, int weights) {
  uint64_t *sizes = allocate((size_t)weights, sizeof *sizes);
  uint64_t *ends = allocate((size_t)program->command_count, sizeof *ends);
  int made = 0;
  for (int at = program->memory.first; at < program->memory.end; at++) {
    const Command *command = &program->commands[at];
    if (!is_weight(program, command->object)) continue;
    uint64_t bytes = program->objects[command->object].bytes;
    if (command->kind == ALLOC) {
      sizes[places->made_at[command->object]] = bytes;
      made += command->once; /* they come first */
    } else {
      int last = program->compute.first;
      for (int one = 0; one < command->after_count; one++)
        if (command->after[one] > last) last = command->after[one];
      ends[last] += bytes;
    }
  }
  uint64_t held = 0, most;
  for (int at = 0; at < made; at++) held += sizes[at];
  most = held;
  for (int at = program->compute.first; at < program->compute.end; at++) {
    const Command *step = &program->commands[at];
    for (int one = 0; one < step->after_count; one++) {
      const Command *awaited = &program->commands[step->after[one]];
      int needed = awaited->kind == UPLOAD ? places->made_with[awaited->object] : 0;
      while (made < needed) held += sizes[made++];
    }
    if (held > most) most = held;
    held -= ends[at];
  }
  free(sizes);
  free(ends);
  return most;
}

Places places_of(Program *program, uint64_t alignment) {
  size_t objects = (size_t)program->object_count;
  Places places = {.offsets = store_take(&program->store, objects, sizeof(uint64_t)),
                   .made_at = store_take(&program->store, objects, sizeof(int)),
                   .made_with = store_take(&program->store, objects, sizeof(int))};
  Life *lives = allocate(objects, sizeof *lives);
  int count = find_lives(program, lives);
  places.bytes = place(lives, count, alignment);
  for (int at = 0; at < count; at++) places.offsets[lives[at].object] = lives[at].offset;
  free(lives);
  int weights = order_weights(program, &places);
  uint64_t beside = program->staging_bytes + places.bytes;
  places.arena = count && beside <= program->peak_bytes &&
                 most_needed(program, &places, weights) <= program->peak_bytes - beside;
  return places;
}
