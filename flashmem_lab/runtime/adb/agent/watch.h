/* What the process holds while a run goes on: sampled, and told to the host. */
#ifndef FLASHMEM_WATCH_H
#define FLASHMEM_WATCH_H

#include "run.h"

typedef struct Residency {
  int64_t time, bytes; /* host ns; resident set */
} Residency;

typedef struct Watch {
  Run *run;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool over; /* under the lock */
  Residency *samples;
  size_t count, room;
} Watch;

/* Samples every few milliseconds, and sends a STAT frame now and then, from begin to end. */
bool watch_begin(Watch *watch, Run *run, Failure *failure);
void watch_end(Watch *watch); /* the samples stay until `watch_release` */
void watch_release(Watch *watch);

#endif
