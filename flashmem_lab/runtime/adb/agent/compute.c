/* The compute lane: launches enqueued as early as their memory and weights allow. */
#include <stdlib.h>
#include <string.h>

#include "carry.h"
#include "run.h"
#include "views.h"

/* --- launches ------------------------------------------------------------------------------ */

/* What follows a kernel's own arguments; what this run does not read moves nothing. */
static cl_int set_carried(Run *run, const Command *command, cl_kernel kernel) {
  Entry entries[CARRIED];
  cl_uint next = (cl_uint)command->argument_count;
  cl_int code = 0;
  carry_entries(&run->program, command, entries);
  for (int at = 0; at < CARRIED && !code; at++) {
    const Entry *entry = &entries[at];
    cl_mem slot = mover_slot(&run->mover, entry->upload);
    int object = run->program.commands[entry->upload].object;
    code = kernel_set_memory(kernel, next++, slot ? slot : run->mover.slot[0]);
    if (!code) code = kernel_set_memory(kernel, next++, objects_memory(&run->objects, object));
    if (!code) code = kernel_set_int(kernel, next++, slot ? entry->first : 0);
    if (!code) code = kernel_set_int(kernel, next++, slot ? entry->count : 0);
  }
  return code;
}

static cl_int launch(Run *run, const Command *command, cl_uint pending, cl_event *event) {
  cl_kernel kernel = run->kernels.kernels[command->kernel];
  cl_int code = 0;
  for (int at = 0; at < command->argument_count && !code; at++) {
    const Argument *argument = &command->arguments[at];
    if (argument->as == AS_OBJECT)
      code =
          kernel_set_memory(kernel, (cl_uint)at, objects_memory(&run->objects, argument->object));
    else /* of an int or a float: both are four bytes */
      code = kernel_set_int(kernel, (cl_uint)at, argument->integer);
  }
  if (!code && command->carry_count) code = set_carried(run, command, kernel);
  if (code) return code;
  return cl.EnqueueNDRangeKernel(run->device->compute, kernel, (cl_uint)command->dimensions, NULL,
                                 command->global, command->local[0] ? command->local : NULL,
                                 pending, pending ? run->waiting : NULL, event);
}

/* --- what the host does -------------------------------------------------------------------- */

static float from_half(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, bits = half & 0x3FF;
  float value;
  if (exponent == 31) {
    bits = sign | 0x7F800000 | bits << 13;
  } else if (exponent) {
    bits = sign | (exponent + 112) << 23 | bits << 13;
  } else {
    value = (float)bits * 0x1p-24f;
    return sign ? -value : value;
  }
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* Rows of a table, read from the file and written as float32. */
static bool fetch_rows(Run *run, int at, Failure *failure) {
  const Command *command = &run->program.commands[at];
  const View *view = command->views;
  uint64_t row_bytes = run->program.spans[command->table].row_bytes;
  uint8_t *rows = allocate(command->rows, row_bytes), *values = rows;
  bool sound = weights_take(&run->weights, command->table, (const int64_t *)run->given[at],
                            command->rows, rows, failure);
  if (sound && row_bytes * command->rows == 2 * (uint64_t)view->size) {
    values = allocate((size_t)view->size, sizeof(float));
    for (int64_t one = 0; one < view->size; one++) {
      uint16_t half;
      memcpy(&half, rows + 2 * one, sizeof half);
      float value = from_half(half);
      memcpy(values + 4 * one, &value, sizeof value);
    }
  }
  if (sound) {
    cl_mem memory = objects_memory(&run->objects, view->object);
    cl_event event = NULL;
    cl_int code = view_write(run->device->compute, memory, view, values, &event);
    if (!code) code = cl.WaitForEvents(1, &event);
    if (event) cl.ReleaseEvent(event);
    if (code) sound = opencl_fail(failure, code, "writing the rows of '%s'", command->name);
  }
  if (values != rows) free(values);
  free(rows);
  return sound;
}

static bool on_host(Run *run, int at, Failure *failure) {
  const Command *command = &run->program.commands[at];
  cl_int code = cl.Finish(run->device->compute); /* so that its time is its own */
  if (code) return opencl_fail(failure, code, "waiting for what '%s' reads", command->name);
  int64_t begun = now_ns();
  bool sound =
      command->kind == ROW_FETCH ? fetch_rows(run, at, failure) : host_call(run, command, failure);
  if (sound) signals_note(run->signals, at, begun, NULL);
  return sound;
}

static cl_int move_port(Run *run, int at, cl_event *event) {
  const Command *command = &run->program.commands[at];
  cl_mem memory = objects_memory(&run->objects, command->views->object);
  if (command->kind == WRITE_INPUT)
    return view_write(run->device->compute, memory, command->views, run->given[at], event);
  return view_read(run->device->compute, memory, command->views, run->read_back[at], event);
}

/* --- in order ------------------------------------------------------------------------------ */

static bool do_next(Run *run, Failure *failure) {
  int at = run->next;
  const Command *command = &run->program.commands[at];
  bool launches = command->kind == LAUNCH || command->kind == MOVE;
  cl_uint pending = signals_pending(run->signals, command, run->waiting);
  cl_event event = NULL;
  cl_int code = 0;
  int64_t begun = now_ns();
  if (!launches && pending) code = cl.WaitForEvents(pending, run->waiting);
  if (!code && (command->kind == ROW_FETCH || command->kind == HOST_CALL)) {
    if (!on_host(run, at, failure)) return false;
  } else {
    if (!code) code = launches ? launch(run, command, pending, &event) : move_port(run, at, &event);
    if (code) return opencl_fail(failure, code, "running '%s'", command->name);
    signals_note(run->signals, at, begun, event);
  }
  /* For this lane alone the queue's order would do; the disk waits for what empties a slot. */
  signals_publish(run->signals, at, launches);
  run->layer = command->layer + 1;
  run->next++;
  return true;
}

/* Leaves out what earlier runs did for good. */
static bool at_end(Run *run) {
  while (run->next < run->program.compute.end && run->signals->marks[run->next].published)
    run->next++;
  return run->next == run->program.compute.end;
}

bool compute_advance(Run *run, Failure *failure) {
  bool any = false;
  while (!at_end(run) && signals_ready(run->signals, &run->program.commands[run->next])) {
    if (!do_next(run, failure)) return false;
    any = true;
  }
  if (any) cl.Flush(run->device->compute);
  return true;
}

bool compute_through(Run *run, int command, Failure *failure) {
  while (!run->signals->marks[command].published && !at_end(run)) {
    const Command *next = &run->program.commands[run->next];
    if (!signals_ready(run->signals, next)) cl.Flush(run->device->compute); /* runs meanwhile */
    for (int one = 0; one < next->after_count; one++)
      if (!making_for(run, next->after[one], failure) ||
          !signals_wait(run->signals, MAIN, next->after[one]))
        return false;
    if (!do_next(run, failure)) return false;
  }
  cl.Flush(run->device->compute);
  return true;
}
