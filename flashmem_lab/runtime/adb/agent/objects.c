#include "objects.h"

#include <stdlib.h>
#include <string.h>

struct Block {
  Block *next;
  const Object *as; /* an object that it was made for, or has served since */
  cl_mem memory;
  cl_event *used; /* the last commands that use it, once its object has ended */
  cl_uint count;
};

static uint64_t total(const Ledger *ledger) {
  uint64_t sum = 0;
  for (int pool = 0; pool < POOLS; pool++) sum += ledger->held[pool];
  return sum;
}

bool ledger_take(Ledger *ledger, Pool pool, uint64_t bytes, const char *name, Failure *failure) {
  uint64_t held = total(ledger);
  if (held > ledger->cap || bytes > ledger->cap - held)
    return fail(failure, BUDGET,
                "creating '%s' (%llu bytes) beside the %llu bytes held would break the cap of %llu",
                name, (unsigned long long)bytes, (unsigned long long)held,
                (unsigned long long)ledger->cap);
  ledger->held[pool] = ledger->held[pool] + bytes; /* one thread writes: no need for more */
  if (held + bytes > ledger->peak) ledger->peak = held + bytes;
  return true;
}

void ledger_give(Ledger *ledger, Pool pool, uint64_t bytes) {
  ledger->held[pool] = ledger->held[pool] - bytes;
}

void objects_open(Objects *objects, const Program *program, const Device *device,
                  const Places *places) {
  *objects =
      (Objects){.program = program,
                .device = device,
                .places = places,
                .ledger = {.cap = program->peak_bytes},
                .weight_flags = program->transport == INLINE ? CL_MEM_READ_WRITE : CL_MEM_READ_ONLY,
                .live = allocate((size_t)program->object_count, sizeof(Block *)),
                .in_arena = allocate((size_t)program->object_count, sizeof(cl_mem))};
  if (program->transport == MAP) objects->weight_flags |= CL_MEM_ALLOC_HOST_PTR;
  objects->ended_link = &objects->ended;
}

bool objects_make_arena(Objects *objects, Failure *failure) {
  const Program *program = objects->program;
  if (!objects->places->arena || objects->arena) return true;
  uint64_t bytes = objects->places->bytes;
  if (!ledger_take(&objects->ledger, BUFFER, bytes, "activations", failure)) return false;
  cl_int code;
  objects->arena = cl.CreateBuffer(objects->device->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
  if (code) {
    ledger_give(&objects->ledger, BUFFER, bytes);
    objects->arena = NULL;
    return opencl_fail(failure, code, "creating a buffer of %llu bytes for activations",
                       (unsigned long long)bytes);
  }
  for (int at = 0; at < program->object_count; at++) {
    if (is_weight(program, at)) continue;
    cl_buffer_region region = {objects->places->offsets[at], program->objects[at].bytes};
    objects->in_arena[at] = cl.CreateSubBuffer(objects->arena, CL_MEM_READ_WRITE,
                                               CL_BUFFER_CREATE_TYPE_REGION, &region, &code);
    if (code) {
      objects->in_arena[at] = NULL;
      return opencl_fail(failure, code, "placing '%s' among the activations",
                         program->objects[at].name);
    }
  }
  return true;
}

static bool same_geometry(const Object *one, const Object *other) {
  return one->image == other->image && one->pool == other->pool && one->bytes == other->bytes &&
         (!one->image ||
          (one->width == other->width && one->height == other->height && one->half == other->half));
}

/* Takes a block out of the ended ones; `link` points at it. */
static Block *unlink_block(Objects *objects, Block **link) {
  Block *block = *link;
  *link = block->next;
  if (!block->next) objects->ended_link = link;
  block->next = NULL;
  return block;
}

static bool take(Objects *objects, int object) {
  const Object *wanted = &objects->program->objects[object];
  for (Block **link = &objects->ended; *link; link = &(*link)->next)
    if (same_geometry((*link)->as, wanted)) {
      objects->live[object] = unlink_block(objects, link);
      objects->live[object]->as = wanted;
      return true;
    }
  return false;
}

static void forget_used(Block *block) {
  while (block->count) cl.ReleaseEvent(block->used[--block->count]);
  free(block->used);
  block->used = NULL;
}

static void release(Objects *objects, Block *block) {
  if (block->count) cl.WaitForEvents(block->count, block->used);
  forget_used(block);
  cl.ReleaseMemObject(block->memory);
  ledger_give(&objects->ledger, block->as->pool, block->as->bytes);
  free(block);
}

static bool is_done(const Block *block) {
  for (cl_uint at = 0; at < block->count; at++) {
    cl_int status = CL_COMPLETE + 1;
    cl.GetEventInfo(block->used[at], CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status,
                    NULL);
    if (status != CL_COMPLETE) return false;
  }
  return true;
}

static bool lacks_room(const Objects *objects, const Object *wanted) {
  return total(&objects->ledger) + wanted->bytes > objects->ledger.cap;
}

static bool make(Objects *objects, int object, Failure *failure) {
  const Object *wanted = &objects->program->objects[object];
  cl_context context = objects->device->context;
  uint64_t flags = wanted->pool == TEXTURE ? objects->weight_flags : CL_MEM_READ_WRITE;
  if (!ledger_take(&objects->ledger, wanted->pool, wanted->bytes, wanted->name, failure))
    return false;
  cl_int code;
  cl_mem memory;
  if (wanted->image) {
    cl_image_format format = {CL_RGBA, wanted->half ? CL_HALF_FLOAT : CL_FLOAT};
    cl_image_desc shape = {
        .type = CL_MEM_OBJECT_IMAGE2D, .width = wanted->width, .height = wanted->height};
    memory = cl.CreateImage(context, flags, &format, &shape, NULL, &code);
  } else {
    memory = cl.CreateBuffer(context, flags, wanted->bytes, NULL, &code);
  }
  if (code) {
    ledger_give(&objects->ledger, wanted->pool, wanted->bytes);
    return opencl_fail(failure, code, "creating %s '%s' of %llu bytes",
                       wanted->image ? "image2d" : "buffer", wanted->name,
                       (unsigned long long)wanted->bytes);
  }
  Block *block = objects->live[object] = allocate(1, sizeof *block);
  *block = (Block){.as = wanted, .memory = memory};
  return true;
}

bool objects_create(Objects *objects, int object, Failure *failure) {
  const Object *wanted = &objects->program->objects[object];
  if (objects->in_arena[object] || take(objects, object)) return true;
  while (objects->ended && lacks_room(objects, wanted))
    release(objects, unlink_block(objects, &objects->ended));
  return make(objects, object, failure);
}

bool objects_try(Objects *objects, int object, bool *done, Failure *failure) {
  const Object *wanted = &objects->program->objects[object];
  *done = objects->in_arena[object] || take(objects, object);
  if (*done) return true;
  while (lacks_room(objects, wanted)) {
    Block **link = &objects->ended;
    while (*link && !is_done(*link)) link = &(*link)->next;
    if (!*link) return true;
    release(objects, unlink_block(objects, link));
  }
  *done = make(objects, object, failure);
  return *done;
}

void objects_end(Objects *objects, int object, const cl_event *used, cl_uint count) {
  Block *block = objects->live[object];
  if (objects->in_arena[object] || !block) return;
  objects->live[object] = NULL;
  forget_used(block);
  block->used = allocate(count, sizeof *used);
  for (block->count = 0; block->count < count; block->count++) {
    block->used[block->count] = used[block->count];
    cl.RetainEvent(used[block->count]);
  }
  *objects->ended_link = block;
  objects->ended_link = &block->next;
}

void objects_idle(Objects *objects) {
  for (Block *block = objects->ended; block; block = block->next) forget_used(block);
  for (int at = 0; at < objects->program->object_count; at++)
    if (objects->live[at]) forget_used(objects->live[at]);
}

cl_mem objects_memory(const Objects *objects, int object) {
  if (objects->in_arena[object]) return objects->in_arena[object];
  return objects->live[object] ? objects->live[object]->memory : NULL;
}

const cl_event *objects_used(const Objects *objects, int object, cl_uint *count) {
  const Block *block = objects->live[object];
  *count = block ? block->count : 0;
  return *count ? block->used : NULL;
}

void objects_close(Objects *objects) {
  if (!objects->live) return;
  while (objects->ended) release(objects, unlink_block(objects, &objects->ended));
  for (int at = 0; at < objects->program->object_count; at++) {
    if (objects->live[at]) release(objects, objects->live[at]);
    if (objects->in_arena[at]) cl.ReleaseMemObject(objects->in_arena[at]);
  }
  if (objects->arena) {
    cl.ReleaseMemObject(objects->arena);
    ledger_give(&objects->ledger, BUFFER, objects->places->bytes);
  }
  free(objects->live);
  free(objects->in_arena);
  objects->live = NULL;
}
