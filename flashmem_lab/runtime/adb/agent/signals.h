/* What has happened in a run, across its two threads: commands done or enqueued, failures, times.
 *
 * The main thread waits for uploads, the disk thread for allocations. If both wait, no one is left
 * to wake them, and a damaged program that would hang is refused instead. */
#ifndef FLASHMEM_SIGNALS_H
#define FLASHMEM_SIGNALS_H

#include <pthread.h>

#include "opencl.h"
#include "program.h"

typedef enum Who { MAIN, DISK } Who;

/* Of one command. */
typedef struct Mark {
  bool published;       /* done, or enqueued with `event` */
  bool awaited;         /* others wait for `event` on the device */
  bool noted;           /* `begun` and `ended` are times of this run */
  cl_event event;       /* held until the run is over */
  int64_t begun, ended; /* host ns; with an event: before it was enqueued, and after */
} Mark;

typedef struct Signals {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  const Program *program;
  Mark *marks; /* by command */
  int waiting[2];
  bool over[2];
  bool stopped;
  Failure failure; /* the first one */
} Signals;

void signals_open(Signals *signals, const Program *program);
void signals_close(Signals *signals);

/* Forgets the last run; in a later run what is done once counts as done. */
void signals_begin(Signals *signals, bool first);

/* Notes when a command began; when it ended, or was handed over with `event`, is now. For the
 * command's own thread, before it publishes. */
void signals_note(Signals *signals, int command, int64_t begun, cl_event event);

/* Says that a command is done, or (`awaited`) enqueued with the event that was noted. */
void signals_publish(Signals *signals, int command, bool awaited);

/* Whether all that a command waits for is done or enqueued. */
bool signals_ready(Signals *signals, const Command *command);

/* Waits until a command is published; false: the run is given up. */
bool signals_wait(Signals *signals, Who who, int command);

/* Gives the run up. The first failure is kept. */
void signals_fail(Signals *signals, const Failure *failure);
bool signals_stopped(Signals *signals);

/* Says that a thread has no more commands. */
void signals_end(Signals *signals, Who who);

/* The events that a command has to wait for on the device; room for all of its `after`. */
cl_uint signals_pending(Signals *signals, const Command *command, cl_event *into);

#endif
