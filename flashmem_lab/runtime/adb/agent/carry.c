#include "carry.h"

enum { UNITS = 5 };

/* In what steps an object is filled: which come first among the entries of one kernel, and how
 * many bytes a step moves. */
static int unit_of(const Program *program, int object, uint64_t *bytes) {
  const Object *spec = &program->objects[object];
  uint64_t row = program->spans[spec->span].row_bytes;
  if (spec->image) {
    *bytes = spec->half ? 8 : 16;
    return spec->half;
  }
  *bytes = row % 4 == 0 ? 4 : row % 2 == 0 ? 2 : 1;
  return *bytes == 4 ? 2 : *bytes == 2 ? 3 : 4;
}

void carry_entries(const Program *program, const Command *command, Entry entries[CARRIED]) {
  int count = 0;
  for (int unit = 0; unit < UNITS; unit++)
    for (int at = 0; at < command->carry_count; at++) {
      const Command *upload = &program->commands[command->carries[at]];
      uint64_t bytes, row = program->spans[program->objects[upload->object].span].row_bytes;
      if (unit_of(program, upload->object, &bytes) != unit) continue;
      entries[count++] = (Entry){command->carries[at], (int32_t)(upload->first_row * row / bytes),
                                 (int32_t)(upload->bytes / bytes)};
    }
  for (; count < CARRIED; count++) {
    entries[count] = entries[count - 1];
    entries[count].count = 0;
  }
}
