/* What must hold of a program before its first command, beside what reading it verified: sizes
 * agree, every weight is read whole and is there before its use, objects live as long as they are
 * used, and the memory order keeps the budget. Lanes that wait for each other are met at run time
 * (signals.c). Where program/check.py refuses more than this, it is not for the agent's safety. */
#include <stdlib.h>

#include "program.h"

/* What is known of each object while the lanes are walked. */
typedef struct Life {
  int made, freed; /* its commands, NONE before they are met */
  uint64_t rows;   /* read so far */
  int uploads;     /* to come before it is on the device */
  int last_use;    /* place in the compute lane */
} Life;

typedef struct Check {
  const Program *program;
  Life *lives;
  int *carrier; /* of each command: the one that carries it, or NONE */
  bool *waited; /* commands that the compute lane waited for so far */
  Failure *failure;
} Check;

static bool refuse(Check *check, const char *what, const char *name) {
  return fail(check->failure, PLAN, "the program is not sound: '%s' %s", name, what);
}

static bool waits_for(const Command *command, int other) {
  for (int at = 0; at < command->after_count; at++)
    if (command->after[at] == other) return true;
  return false;
}

static bool check_objects(Check *check) {
  const Program *program = check->program;
  for (int at = 0; at < program->object_count; at++) {
    const Object *object = &program->objects[at];
    if (object->image && object->width * object->height * (object->half ? 8 : 16) != object->bytes)
      return refuse(check, "does not have the bytes of its texels", object->name);
    if (object->pool != TEXTURE) continue;
    const Span *span = object->span == NONE ? NULL : &program->spans[object->span];
    if (!span || span->bytes != object->bytes || (object->image && span->rows != object->height))
      return refuse(check, "is packed in other bytes than it has on the device", object->name);
  }
  bool ring = program->transport != MAP && program->slot_bytes;
  if (program->transport == MAP && (program->staging_bytes || program->slot_bytes))
    return refuse(check, "maps weights, yet has a staging ring", program->model);
  if (ring && program->staging_bytes / program->slot_bytes < 1)
    return refuse(check, "has a staging ring without a slot", program->model);
  return true;
}

static bool check_memory(Check *check) {
  const Program *program = check->program;
  uint64_t held = program->staging_bytes, peak = held;
  bool start = true;
  for (int at = program->memory.first; at < program->memory.end; at++) {
    const Command *command = &program->commands[at];
    const Object *object = &program->objects[command->object];
    Life *life = &check->lives[command->object];
    if (command->kind == ALLOC) {
      if (life->made != NONE) return refuse(check, "is made twice", object->name);
      if (command->once && (!start || object->pool != TEXTURE))
        return refuse(check, "is to be kept but is not made at the start", object->name);
      start = command->once;
      life->made = at;
      held += object->bytes;
      if (held > peak) peak = held;
      if (held > program->budget_bytes)
        return refuse(check, "does not fit the budget when its turn comes", object->name);
    } else {
      if (life->made == NONE || life->freed != NONE)
        return refuse(check, "is freed without having been made", object->name);
      if (program->commands[life->made].once)
        return refuse(check, "is to be kept, and freed", object->name);
      for (int one = 0; one < command->after_count; one++)
        if (command->after[one] < program->compute.first)
          return refuse(check, "is freed by what computes nothing", object->name);
      start = false;
      life->freed = at;
      held -= object->bytes;
    }
  }
  for (int at = 0; at < program->object_count; at++) {
    const Life *life = &check->lives[at];
    if (life->made == NONE) return refuse(check, "is never made", program->objects[at].name);
    if (life->freed == NONE && !program->commands[life->made].once)
      return refuse(check, "is never freed", program->objects[at].name);
  }
  return peak == program->peak_bytes
             ? true
             : refuse(check, "has another peak than it states", program->model);
}

static bool check_disk(Check *check) {
  const Program *program = check->program;
  for (int at = program->disk.first; at < program->disk.end; at++) {
    const Command *read = &program->commands[at];
    const Object *object = &program->objects[read->object];
    Life *life = &check->lives[read->object];
    if (object->pool != TEXTURE) return refuse(check, "is read but is no weight", object->name);
    const Span *span = &program->spans[object->span];
    bool within =
        read->rows && read->first_row == life->rows && read->rows <= span->rows - life->rows;
    if (!within || read->first_row % span->block_rows ||
        read->bytes != read->rows * span->row_bytes)
      return refuse(check, "is read in chunks that are not its own", object->name);
    life->rows += read->rows;
    if (life->rows % span->block_rows && life->rows != span->rows)
      return refuse(check, "is read up to the middle of a block", object->name);
    if (read->once != program->commands[life->made].once || !waits_for(read, life->made))
      return refuse(check, "is read without waiting for its object", object->name);
    if (program->transport != MAP && read->bytes > program->slot_bytes)
      return refuse(check, "has a chunk that does not fit a staging slot", object->name);
  }
  for (int at = 0; at < program->object_count; at++) {
    const Object *object = &program->objects[at];
    if (object->pool == TEXTURE && check->lives[at].rows != program->spans[object->span].rows)
      return refuse(check, "is not read to its end", object->name);
  }
  return true;
}

/* Copied or carried: an upload for each read, in its place. */
static bool check_moved(Check *check) {
  const Program *program = check->program;
  int reads = program->disk.end - program->disk.first;
  if (program->transfer.end - program->transfer.first != reads)
    return refuse(check, "does not upload what it reads", program->model);
  for (int at = 0; at < reads; at++) {
    const Command *read = &program->commands[program->disk.first + at];
    const Command *upload = &program->commands[program->transfer.first + at];
    bool same = upload->object == read->object && upload->first_row == read->first_row &&
                upload->rows == read->rows && upload->bytes == read->bytes &&
                upload->once == read->once;
    if (!same || !waits_for(upload, program->disk.first + at))
      return refuse(check, "is not uploaded as it is read", program->objects[upload->object].name);
    check->lives[upload->object].uploads++;
  }
  return true;
}

/* Mapped: an upload for each weight, which waits for all of its reads. */
static bool check_mapped(Check *check) {
  const Program *program = check->program;
  int *uploads = allocate((size_t)program->object_count, sizeof *uploads);
  bool sound = true;
  for (int at = program->transfer.first; sound && at < program->transfer.end; at++) {
    const Command *upload = &program->commands[at];
    const Object *object = &program->objects[upload->object];
    Life *life = &check->lives[upload->object];
    if (object->pool != TEXTURE || life->uploads++ || upload->first_row ||
        upload->once != program->commands[life->made].once ||
        upload->rows != program->spans[object->span].rows)
      sound = refuse(check, "is not unmapped once and whole", object->name);
    uploads[upload->object] = at;
  }
  for (int at = program->disk.first; sound && at < program->disk.end; at++) {
    int object = program->commands[at].object;
    if (!check->lives[object].uploads || !waits_for(&program->commands[uploads[object]], at))
      sound = refuse(check, "is unmapped before it is read", program->objects[object].name);
  }
  free(uploads);
  return sound;
}

/* What kernels carry: each chunk once, in the order of the reads. */
static bool check_carries(Check *check) {
  const Program *program = check->program;
  int next = program->transfer.first;
  for (int at = program->compute.first; at < program->compute.end; at++) {
    const Command *command = &program->commands[at];
    if (command->carry_count > CARRIED || (command->carry_count && program->transport != INLINE) ||
        (command->kind == MOVE && command->carry_count != 1))
      return refuse(check, "carries what it cannot", command->name);
    int first = next;
    for (int one = 0; one < command->carry_count; one++, next++) {
      int upload = command->carries[one]; /* any order: entries are sorted by unit */
      if (upload < first || upload >= first + command->carry_count ||
          upload >= program->transfer.end || check->carrier[upload] != NONE ||
          !waits_for(command, upload) ||
          (command->kind == MOVE && command->once != program->commands[upload].once))
        return refuse(check, "carries chunks out of turn", command->name);
      check->carrier[upload] = at;
    }
  }
  return program->transport != INLINE || next == program->transfer.end
             ? true
             : refuse(check, "has chunks that nothing carries", program->model);
}

static bool check_use(Check *check, const Command *command, int place, int newest, int object) {
  const Program *program = check->program;
  Life *life = &check->lives[object];
  life->last_use = place;
  if (!is_weight(program, object))
    return life->made <= newest ? true : refuse(check, "uses what is not made yet", command->name);
  return life->uploads == 0 ? true
                            : refuse(check, "uses a weight before it is there", command->name);
}

static bool check_compute(Check *check) {
  const Program *program = check->program;
  int newest = NONE; /* memory command waited for */
  for (int at = program->compute.first; at < program->compute.end; at++) {
    const Command *command = &program->commands[at];
    for (int one = 0; one < command->after_count; one++) {
      int awaited = command->after[one];
      bool moved = awaited >= program->transfer.first && awaited < program->transfer.end;
      if (moved && !check->waited[awaited] && program->transport != INLINE)
        check->lives[program->commands[awaited].object].uploads--;
      check->waited[awaited] = true;
      if (awaited < program->memory.end && awaited > newest) newest = awaited;
    }
    for (int one = 0; one < command->argument_count; one++)
      if (command->arguments[one].as == AS_OBJECT &&
          !check_use(check, command, at, newest, command->arguments[one].object))
        return false;
    int views = command->kind == HOST_CALL ? command->input_count + command->output_count
                                           : command->views != NULL;
    for (int one = 0; one < views; one++)
      if (!check_use(check, command, at, newest, command->views[one].object)) return false;
    for (int one = 0; one < command->carry_count; one++) {
      Life *life = &check->lives[program->commands[command->carries[one]].object];
      life->uploads--;
      life->last_use = at;
    }
  }
  for (int at = program->memory.first; at < program->memory.end; at++) {
    const Command *command = &program->commands[at];
    int behind = NONE;
    for (int one = 0; one < command->after_count; one++)
      if (command->after[one] > behind) behind = command->after[one];
    if (command->kind == FREE && behind < check->lives[command->object].last_use)
      return refuse(check, "is freed while it may be in use",
                    program->objects[command->object].name);
  }
  return true;
}

bool program_check(const Program *program, Failure *failure) {
  Check check = {
      .program = program,
      .lives = allocate((size_t)program->object_count, sizeof(Life)),
      .carrier = allocate((size_t)program->command_count, sizeof(int)),
      .waited = allocate((size_t)program->command_count, sizeof(bool)),
      .failure = failure,
  };
  for (int at = 0; at < program->object_count; at++)
    check.lives[at] = (Life){.made = NONE, .freed = NONE, .last_use = NONE};
  for (int at = 0; at < program->command_count; at++) check.carrier[at] = NONE;
  bool sound = check_objects(&check) && check_memory(&check) && check_disk(&check) &&
               (program->transport == MAP ? check_mapped(&check) : check_moved(&check)) &&
               check_carries(&check) && check_compute(&check);
  free(check.lives);
  free(check.carrier);
  free(check.waited);
  return sound;
}
