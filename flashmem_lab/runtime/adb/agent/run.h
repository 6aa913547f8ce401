/* A program that is open on the device, and its runs. */
#ifndef FLASHMEM_RUN_H
#define FLASHMEM_RUN_H

#include "kernels.h"
#include "mover.h"

typedef struct Run {
  const Device *device;
  Program program;
  Weights weights;
  Kernels kernels;
  Places places;
  Objects objects;
  Mover mover;
  Clock clock;
  Signals *signals;
  uint8_t **given;     /* by command: what the host gave for it (inputs, indices) */
  uint8_t **read_back; /* by command: the extent of an output */
  int64_t *made;       /* by command: when an ALLOC was carried out, 0: not in this run */
  cl_event *waiting;   /* room for what one command waits for */
  int *put_off;        /* ALLOCs of weights that wait for room: [put_off_first, put_off_end) */
  int put_off_first, put_off_end;
  int next;          /* command of the compute lane */
  _Atomic int layer; /* that was enqueued last */
  bool first, can_run;
  int64_t told;         /* when the host was told what is held */
  int64_t begun, ended; /* host ns */
} Run;

/* Reads and checks a program, opens its weights and builds its kernels. `paths`: the weight files,
 * none for a bundle; with a `count` of NONE it is not to run, only its kernels are built. Close it
 * when done; after a failure, here or in a run, the process is to end. */
bool run_open(Run *run, const Device *device, Signals *signals, const char *program,
              const char *const *paths, int count, const char *kernels, BuildProgress progress,
              Failure *failure);
void run_close(Run *run);

/* Bytes that the host has to give for a command before the first run; 0: nothing. */
uint64_t run_wants(const Run *run, int command);

/* Runs the program once; the first run also does what is done once. */
bool run_once(Run *run, bool first, Failure *failure);

/* --- parts of it ----------------------------------------------------------------------------- */

/* For the disk thread: serves the disk and transfer lanes. */
void *disk_serve(void *run);

/* Enqueues what can go of the compute lane; up to and with a command, waiting for what it needs.
 * False: it failed, or (no failure set) the run is given up. */
bool compute_advance(Run *run, Failure *failure);
bool compute_through(Run *run, int command, Failure *failure);

/* Carries out an ALLOC; those of weights are put off until there is room. */
bool making_add(Run *run, int command, Failure *failure);
bool making_what_fits(Run *run, Failure *failure);

/* Makes all that must be there before `awaited` can happen, waiting for room. */
bool making_for(Run *run, int awaited, Failure *failure);

/* A HOST_CALL: the host computes it, over the wire. */
bool host_call(Run *run, const Command *command, Failure *failure);

#endif
