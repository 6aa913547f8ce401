#include "run.h"

#include <stdlib.h>

#include "views.h"

bool run_open(Run *run, const Device *device, Signals *signals, const char *program,
              const char *const *paths, int count, const char *kernels, BuildProgress progress,
              Failure *failure) {
  *run = (Run){.device = device, .signals = signals};
  if (!program_read(program, &run->program, failure)) return false;
  size_t commands = (size_t)run->program.command_count, most = 1;
  for (size_t at = 0; at < commands; at++)
    if ((size_t)run->program.commands[at].after_count > most)
      most = (size_t)run->program.commands[at].after_count;
  run->given = allocate(commands, sizeof(uint8_t *));
  run->read_back = allocate(commands, sizeof(uint8_t *));
  run->made = allocate(commands, sizeof(int64_t));
  run->put_off = allocate(commands, sizeof(int));
  run->waiting = allocate(most, sizeof(cl_event));
  run->places = places_of(&run->program, device->alignment);
  signals_open(signals, &run->program);
  if (!kernels_build(&run->kernels, device, &run->program, kernels, progress, failure) ||
      !kernels_first_launches(&run->kernels, device, &run->program, failure))
    return false;
  if (count == NONE) return true;
  if (!weights_open(&run->weights, &run->program, count ? paths : &program, count ? count : 1,
                    failure))
    return false;
  run->can_run = true;
  objects_open(&run->objects, &run->program, device, &run->places);
  run->mover = (Mover){.program = &run->program,
                       .device = device,
                       .weights = &run->weights,
                       .objects = &run->objects,
                       .signals = signals};
  return mover_open(&run->mover, failure);
}

void run_close(Run *run) {
  cl.Finish(run->device->transfer);
  cl.Finish(run->device->compute);
  if (run->can_run) {
    mover_close(&run->mover);
    objects_close(&run->objects);
    weights_close(&run->weights);
  }
  kernels_close(&run->kernels);
  signals_close(run->signals);
  for (int at = 0; at < run->program.command_count; at++) {
    free(run->given[at]);
    free(run->read_back[at]);
  }
  free(run->given);
  free(run->read_back);
  free(run->made);
  free(run->put_off);
  free(run->waiting);
  program_release(&run->program);
}

uint64_t run_wants(const Run *run, int command) {
  const Command *wanting = &run->program.commands[command];
  if (wanting->kind == WRITE_INPUT) return view_bytes(wanting->views);
  return wanting->kind == ROW_FETCH ? wanting->rows * sizeof(int64_t) : 0;
}

/* Memory commands in their order; in between, as much of the compute lane as can go. */
static bool walk(Run *run, Failure *failure) {
  const Program *program = &run->program;
  for (int at = program->memory.first; at < program->memory.end; at++) {
    const Command *command = &program->commands[at];
    if (signals_stopped(run->signals)) return false;
    if (command->kind == ALLOC) {
      if (command->once && !run->first) continue;
      /* Layers whose weights have come run while others are made. */
      if (!making_add(run, at, failure) || !compute_advance(run, failure)) return false;
      continue;
    }
    cl_uint count = 0;
    for (int one = 0; one < command->after_count; one++)
      if (!compute_through(run, command->after[one], failure)) return false;
    for (int one = 0; one < command->after_count; one++) {
      const Mark *mark = &run->signals->marks[command->after[one]];
      if (mark->event) run->waiting[count++] = mark->event;
    }
    objects_end(&run->objects, command->object, run->waiting, count);
    signals_publish(run->signals, at, false);
    if (!making_what_fits(run, failure)) return false;
  }
  return program->compute.first == program->compute.end ||
         compute_through(run, program->compute.end - 1, failure);
}

static void prepare_outputs(Run *run) {
  for (int at = run->program.compute.first; at < run->program.compute.end; at++) {
    const Command *command = &run->program.commands[at];
    if (command->kind == READ_OUTPUT && !run->read_back[at])
      run->read_back[at] = allocate(1, view_extent_bytes(command->views));
  }
}

/* Waits for the device; times of what ran on it take the place of those of the host. */
static bool finish(Run *run, Failure *failure) {
  cl_int code = cl.Finish(run->device->compute);
  run->ended = now_ns();
  if (!code) code = cl.Finish(run->device->transfer);
  if (code) return opencl_fail(failure, code, "finishing the run");
  clock_read(&run->clock, run->device);
  objects_idle(&run->objects);
  return true;
}

bool run_once(Run *run, bool first, Failure *failure) {
  pthread_t disk;
  for (int at = run->program.compute.first; at < run->program.compute.end; at++)
    if (run_wants(run, at) && !run->given[at])
      return fail(failure, INPUT, "nothing was given for '%s'", run->program.commands[at].name);
  clock_read(&run->clock, run->device);
  prepare_outputs(run);
  run->first = first;
  run->next = run->program.compute.first;
  run->put_off_first = run->put_off_end = 0;
  run->layer = 0;
  for (int at = 0; at < run->program.memory.end; at++) run->made[at] = 0;
  run->begun = now_ns();
  signals_begin(run->signals, first);
  mover_begin(&run->mover, first);
  if (!objects_make_arena(&run->objects, failure)) return false;
  if (pthread_create(&disk, NULL, disk_serve, run))
    return fail(failure, FILES, "no thread for the disk");
  if (!walk(run, failure) && failure->kind) signals_fail(run->signals, failure);
  signals_end(run->signals, MAIN);
  pthread_join(disk, NULL);
  mover_abandon(&run->mover);
  if (signals_stopped(run->signals)) {
    *failure = run->signals->failure;
    return false;
  }
  return finish(run, failure);
}
