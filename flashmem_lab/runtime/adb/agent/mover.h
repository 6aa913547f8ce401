/* How a chunk gets from its file to its object. `copy`: into the next slot of a pinned ring, then
 * over the transfer queue. `map`: straight into the mapped object. `inline`: into a slot that a
 * kernel of the compute lane empties. */
#ifndef FLASHMEM_MOVER_H
#define FLASHMEM_MOVER_H

#include "objects.h"
#include "signals.h"
#include "weights.h"

/* Memory that the host sees for a while. */
typedef struct Mapped {
  uint8_t *rows; /* NULL: not mapped */
  size_t pitch;
  cl_event ready; /* may be touched once this is over */
} Mapped;

typedef struct Mover {
  const Program *program;
  const Device *device;
  const Weights *weights;
  Objects *objects;
  Signals *signals;
  uint64_t slots;
  cl_mem ring; /* copy: pinned, mapped for as long as it lives */
  uint8_t *ring_rows;
  cl_mem *slot;   /* inline: a buffer each, for none may be mapped while a kernel reads it */
  Mapped *mapped; /* of each object (map) or slot (inline) */
  int *carrier;   /* of each command: the one that carries it (inline) */
  int *order;     /* of this run's uploads: the command, by place */
  int *place; /* of each command of the disk and transfer lanes in its lane, this run; or NONE */
} Mover;

/* Makes the ring, if there is one. Close it with the queues idle. */
bool mover_open(Mover *mover, Failure *failure);
void mover_close(Mover *mover);

void mover_begin(Mover *mover, bool first);

/* Hears from the main thread that a weight's object exists, before any read of it. */
bool mover_created(Mover *mover, int object, Failure *failure);

/* For the disk thread: brings a chunk to host memory, checked, and says when the disk began. False
 * without a failure: the run is given up. */
bool mover_read(Mover *mover, int command, int64_t *begun, Failure *failure);

/* For the disk thread: moves what was read into its object, or hands the slot over, not waiting. */
bool mover_upload(Mover *mover, int command, cl_event *event, Failure *failure);

/* Gives up what an early end left mapped, when the disk thread is gone. */
void mover_abandon(Mover *mover);

/* The slot of an upload of this run; NULL where this run does not read it. */
cl_mem mover_slot(const Mover *mover, int upload);

#endif
