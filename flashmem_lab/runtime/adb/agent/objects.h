/* Images and buffers of a program: made through the ledger, used again, released for room. */
#ifndef FLASHMEM_OBJECTS_H
#define FLASHMEM_OBJECTS_H

#include <stdatomic.h>

#include "device.h"
#include "places.h"

/* Every byte made on the device, by pool; nothing is made but what fits the cap. */
typedef struct Ledger {
  uint64_t cap;
  _Atomic uint64_t held[POOLS]; /* changed by the main thread, read by any */
  uint64_t peak;                /* highest total */
} Ledger;

bool ledger_take(Ledger *ledger, Pool pool, uint64_t bytes, const char *name, Failure *failure);
void ledger_give(Ledger *ledger, Pool pool, uint64_t bytes);

typedef struct Block Block;

/* The block of an object that has ended serves the next one of its geometry, without waiting: the
 * compute queue runs in order, and other queues wait for `objects_used`. Blocks are released when
 * room is needed, so what the device holds is at most the program's predicted peak. */
typedef struct Objects {
  const Program *program;
  const Device *device;
  const Places *places;
  Ledger ledger;
  uint64_t weight_flags;
  Block **live;               /* by object */
  Block *ended, **ended_link; /* the oldest first */
  cl_mem arena, *in_arena;    /* the buffer of all activations, and regions of it by object */
} Objects;

void objects_open(Objects *objects, const Program *program, const Device *device,
                  const Places *places);
void objects_close(Objects *objects); /* no command may be running */

/* Makes the buffer of all activations, once. */
bool objects_make_arena(Objects *objects, Failure *failure);

/* Makes an object or takes an ended block; releases ended ones where it needs their room, waiting
 * for the device if it must. `objects_try` does it only if that needs no waiting; `*done` says. */
bool objects_create(Objects *objects, int object, Failure *failure);
bool objects_try(Objects *objects, int object, bool *done, Failure *failure);

/* Ends an object; `used` are the last commands that use it. */
void objects_end(Objects *objects, int object, const cl_event *used, cl_uint count);

/* Says that the device is idle: nothing needs to be waited for any more. */
void objects_idle(Objects *objects);

/* The memory of an object that was made; and what must be over before another queue than the
 * compute queue writes to it. */
cl_mem objects_memory(const Objects *objects, int object);
const cl_event *objects_used(const Objects *objects, int object, cl_uint *count);

#endif
