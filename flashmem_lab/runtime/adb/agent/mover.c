#include "mover.h"

#include <stdlib.h>

static const Span *span_of(const Mover *mover, const Command *command) {
  return &mover->program->spans[mover->program->objects[command->object].span];
}

static bool make_ring(Mover *mover, Failure *failure) {
  const Program *program = mover->program;
  uint64_t size = program->staging_bytes, slot = program->slot_bytes;
  cl_int code = 0;
  if (!ledger_take(&mover->objects->ledger, STAGING, size, "staging ring", failure)) return false;
  mover->slots = size / slot;
  if (program->transport == COPY) {
    mover->ring = cl.CreateBuffer(mover->device->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR,
                                  size, NULL, &code);
    if (!code)
      mover->ring_rows =
          cl.EnqueueMapBuffer(mover->device->transfer, mover->ring, CL_TRUE,
                              CL_MAP_READ | CL_MAP_WRITE, 0, size, 0, NULL, NULL, &code);
  } else {
    mover->slot = allocate(mover->slots, sizeof(cl_mem));
    for (uint64_t at = 0; at < mover->slots && !code; at++)
      mover->slot[at] = cl.CreateBuffer(
          mover->device->context, CL_MEM_READ_ONLY | CL_MEM_ALLOC_HOST_PTR, slot, NULL, &code);
  }
  return code ? opencl_fail(failure, code, "creating the staging ring of %llu bytes",
                            (unsigned long long)size)
              : true;
}

bool mover_open(Mover *mover, Failure *failure) {
  const Program *program = mover->program;
  size_t commands = (size_t)program->command_count;
  bool ring = program->transport != MAP && program->slot_bytes;
  uint64_t most =
      ring ? program->staging_bytes / program->slot_bytes : (uint64_t)program->object_count;
  mover->mapped = allocate(most, sizeof(Mapped));
  mover->carrier = allocate(commands, sizeof(int));
  mover->order = allocate(commands, sizeof(int));
  mover->place = allocate(commands, sizeof(int));
  for (int at = program->compute.first; at < program->compute.end; at++)
    for (int one = 0; one < program->commands[at].carry_count; one++)
      mover->carrier[program->commands[at].carries[one]] = at;
  return !ring || make_ring(mover, failure);
}

void mover_close(Mover *mover) {
  if (mover->ring) {
    if (mover->ring_rows)
      cl.EnqueueUnmapMemObject(mover->device->transfer, mover->ring, mover->ring_rows, 0, NULL,
                               NULL);
    cl.Finish(mover->device->transfer);
    cl.ReleaseMemObject(mover->ring);
  }
  for (uint64_t at = 0; mover->slot && at < mover->slots; at++)
    if (mover->slot[at]) cl.ReleaseMemObject(mover->slot[at]);
  if (mover->slots) ledger_give(&mover->objects->ledger, STAGING, mover->program->staging_bytes);
  free(mover->slot);
  free(mover->mapped);
  free(mover->carrier);
  free(mover->order);
  free(mover->place);
  *mover = (Mover){0};
}

void mover_begin(Mover *mover, bool first) {
  const Program *program = mover->program;
  int reads = 0, uploads = 0;
  for (int at = program->disk.first; at < program->disk.end; at++)
    mover->place[at] = first || !program->commands[at].once ? reads++ : NONE;
  for (int at = program->transfer.first; at < program->transfer.end; at++) {
    mover->place[at] = first || !program->commands[at].once ? uploads : NONE;
    if (mover->place[at] != NONE) mover->order[uploads++] = at;
  }
}

/* --- mapping ------------------------------------------------------------------------------- */

static bool map_object(Mover *mover, int object, Failure *failure) {
  const Object *spec = &mover->program->objects[object];
  Mapped *mapped = &mover->mapped[object];
  cl_mem memory = objects_memory(mover->objects, object);
  cl_uint count;
  const cl_event *used = objects_used(mover->objects, object, &count);
  cl_command_queue queue = mover->device->transfer;
  cl_int code;
  mapped->pitch = mover->program->spans[spec->span].row_bytes;
  if (spec->image) {
    size_t origin[3] = {0}, region[3] = {spec->width, spec->height, 1}, slice;
    mapped->rows =
        cl.EnqueueMapImage(queue, memory, CL_FALSE, CL_MAP_WRITE_INVALIDATE_REGION, origin, region,
                           &mapped->pitch, &slice, count, used, &mapped->ready, &code);
  } else {
    mapped->rows = cl.EnqueueMapBuffer(queue, memory, CL_FALSE, CL_MAP_WRITE_INVALIDATE_REGION, 0,
                                       spec->bytes, count, used, &mapped->ready, &code);
  }
  if (code) {
    mapped->rows = NULL;
    return opencl_fail(failure, code, "mapping '%s'", spec->name);
  }
  cl.Flush(queue);
  return true;
}

/* Waits for the mapping; its event is over then. */
static bool wait_mapped(Mapped *mapped, const char *name, Failure *failure) {
  if (!mapped->ready) return true;
  cl_int code = cl.WaitForEvents(1, &mapped->ready);
  cl.ReleaseEvent(mapped->ready);
  mapped->ready = NULL;
  return code ? opencl_fail(failure, code, "mapping '%s'", name) : true;
}

static bool unmap(Mover *mover, cl_mem memory, Mapped *mapped, cl_event *event, Failure *failure) {
  cl_int code =
      cl.EnqueueUnmapMemObject(mover->device->transfer, memory, mapped->rows, 0, NULL, event);
  if (mapped->ready) cl.ReleaseEvent(mapped->ready);
  *mapped = (Mapped){0};
  return code ? opencl_fail(failure, code, "unmapping weights") : true;
}

bool mover_created(Mover *mover, int object, Failure *failure) {
  return mover->program->transport == MAP ? map_object(mover, object, failure) : true;
}

static bool read_mapped(Mover *mover, const Command *read, int64_t *begun, Failure *failure) {
  Mapped *mapped = &mover->mapped[read->object];
  const Object *object = &mover->program->objects[read->object];
  if (!wait_mapped(mapped, object->name, failure)) return false;
  *begun = now_ns();
  return weights_read(mover->weights, object->span, read->first_row, read->rows,
                      mapped->rows + read->first_row * mapped->pitch, mapped->pitch, failure);
}

/* --- copying ------------------------------------------------------------------------------- */

static uint8_t *rows_of(const Mover *mover, int command) {
  return mover->ring_rows +
         (uint64_t)mover->place[command] % mover->slots * mover->program->slot_bytes;
}

static bool read_copied(Mover *mover, int command, int64_t *begun, Failure *failure) {
  const Command *read = &mover->program->commands[command];
  int place = mover->place[command];
  if ((uint64_t)place >= mover->slots) {
    int last = mover->order[(uint64_t)place - mover->slots]; /* that was in the slot before */
    const Mark *mark = &mover->signals->marks[last];
    if (!mark->event)
      return fail(failure, PLAN, "the program fills a slot of the ring before it was uploaded");
    cl_int code = cl.WaitForEvents(1, &mark->event);
    if (code) return opencl_fail(failure, code, "waiting for a slot of the ring");
  }
  *begun = now_ns();
  return weights_read(mover->weights, mover->program->objects[read->object].span, read->first_row,
                      read->rows, rows_of(mover, command), span_of(mover, read)->row_bytes,
                      failure);
}

static bool upload_copied(Mover *mover, int command, cl_event *event, Failure *failure) {
  const Command *upload = &mover->program->commands[command];
  const Object *object = &mover->program->objects[upload->object];
  cl_mem memory = objects_memory(mover->objects, upload->object);
  cl_uint count;
  const cl_event *used = objects_used(mover->objects, upload->object, &count);
  const uint8_t *rows = rows_of(mover, command);
  cl_command_queue queue = mover->device->transfer;
  cl_int code;
  if (object->image) {
    size_t origin[3] = {0, upload->first_row, 0}, region[3] = {object->width, upload->rows, 1};
    code = cl.EnqueueWriteImage(queue, memory, CL_FALSE, origin, region, 0, 0, rows, count, used,
                                event);
  } else {
    uint64_t offset = upload->first_row * span_of(mover, upload)->row_bytes;
    code = cl.EnqueueWriteBuffer(queue, memory, CL_FALSE, offset, upload->bytes, rows, count, used,
                                 event);
  }
  return code ? opencl_fail(failure, code, "uploading '%s'", object->name) : true;
}

/* --- carried by kernels -------------------------------------------------------------------- */

static bool read_carried(Mover *mover, int command, int64_t *begun, Failure *failure) {
  const Command *read = &mover->program->commands[command];
  uint64_t place = (uint64_t)mover->place[command], slot = place % mover->slots;
  Mapped *mapped = &mover->mapped[slot];
  const cl_event *emptied = NULL;
  if (place >= mover->slots) {
    int carrier = mover->carrier[mover->order[place - mover->slots]];
    if (!signals_wait(mover->signals, DISK, carrier)) return false;
    if (mover->signals->marks[carrier].event) emptied = &mover->signals->marks[carrier].event;
  }
  cl_int code;
  mapped->pitch = span_of(mover, read)->row_bytes;
  mapped->rows = cl.EnqueueMapBuffer(mover->device->transfer, mover->slot[slot], CL_FALSE,
                                     CL_MAP_WRITE_INVALIDATE_REGION, 0, read->bytes,
                                     emptied ? 1 : 0, emptied, &mapped->ready, &code);
  if (code) {
    mapped->rows = NULL;
    return opencl_fail(failure, code, "mapping a slot of the ring");
  }
  if (!wait_mapped(mapped, "a slot of the ring", failure)) return false;
  *begun = now_ns();
  return weights_read(mover->weights, mover->program->objects[read->object].span, read->first_row,
                      read->rows, mapped->rows, mapped->pitch, failure);
}

cl_mem mover_slot(const Mover *mover, int upload) {
  int place = mover->place[upload];
  return place == NONE ? NULL : mover->slot[(uint64_t)place % mover->slots];
}

/* --- whichever ----------------------------------------------------------------------------- */

bool mover_read(Mover *mover, int command, int64_t *begun, Failure *failure) {
  switch (mover->program->transport) {
    case MAP: return read_mapped(mover, &mover->program->commands[command], begun, failure);
    case COPY: return read_copied(mover, command, begun, failure);
    default: return read_carried(mover, command, begun, failure);
  }
}

bool mover_upload(Mover *mover, int command, cl_event *event, Failure *failure) {
  const Command *upload = &mover->program->commands[command];
  if (mover->program->transport == COPY) return upload_copied(mover, command, event, failure);
  bool map = mover->program->transport == MAP;
  cl_mem memory = map ? objects_memory(mover->objects, upload->object) : mover_slot(mover, command);
  uint64_t at = map ? (uint64_t)upload->object : (uint64_t)mover->place[command] % mover->slots;
  return unmap(mover, memory, &mover->mapped[at], event, failure);
}

void mover_abandon(Mover *mover) {
  Failure ignored;
  bool map = mover->program->transport == MAP;
  uint64_t count = map ? (uint64_t)mover->program->object_count : mover->slots;
  for (uint64_t at = 0; at < count; at++)
    if (mover->mapped[at].rows)
      unmap(mover, map ? objects_memory(mover->objects, (int)at) : mover->slot[at],
            &mover->mapped[at], NULL, &ignored);
  cl.Finish(mover->device->transfer);
}
