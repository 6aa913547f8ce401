/* The OpenCL device of this machine: the first GPU, else an accelerator, else the CPU. */
#ifndef FLASHMEM_DEVICE_H
#define FLASHMEM_DEVICE_H

#include "opencl.h"

typedef struct Device {
  cl_device_id id;
  cl_platform_id platform;
  cl_context context;
  cl_command_queue compute, transfer; /* in order, with profiling */
  bool compiles_late;                 /* its driver finishes a kernel at its first launch */
  uint64_t alignment;                 /* of sub-buffers, bytes */
  uint64_t signature;                 /* of platform, device and driver, for what is kept of them */
} Device;

bool device_open(Device *device, Failure *failure);

/* Name, driver, kind, limits and extensions, as members of a JSON object. */
void device_describe(const Device *device, Text *into);

/* The device's clock on the host's: two readings, at both ends of a run, take up the drift. */
typedef struct Clock {
  int64_t device[2], host[2];
  int readings;
} Clock;

/* Takes a reading; the queue must be idle. */
void clock_read(Clock *clock, const Device *device);

/* Start and end of a finished command, host ns, within what the host knows of it: it was enqueued
 * after `enqueued` and over at `done`. The two themselves where the device tells no times. */
void clock_span(const Clock *clock, cl_event event, int64_t enqueued, int64_t done, int64_t *start,
                int64_t *end);

#endif
