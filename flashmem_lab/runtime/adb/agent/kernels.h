/* Kernels from binaries that were kept, or from source. */
#ifndef FLASHMEM_KERNELS_H
#define FLASHMEM_KERNELS_H

#include "device.h"
#include "program.h"

typedef struct Kernels {
  cl_program *programs;
  cl_kernel *kernels;  /* one for each of the program's */
  int count, compiled; /* compiled: no binary of them had been kept */
  bool *fresh;         /* those */
} Kernels;

/* Told after each kernel. */
typedef void (*BuildProgress)(int done, int of);

/* `folder`: where binaries are kept, NULL or "": nowhere. */
bool kernels_build(Kernels *kernels, const Device *device, const Program *program,
                   const char *folder, BuildProgress progress, Failure *failure);
void kernels_close(Kernels *kernels);

/* Keeps the binaries of what was compiled. Best after a run: some drivers finish a kernel at its
 * first launch. A file that cannot be written costs the next run a compilation, no more. */
void kernels_keep(Kernels *kernels, const Device *device, const Program *program,
                  const char *folder);

/* Launches each kernel once on scratch objects, where the driver finishes compiling only then: that
 * is building, not running (runtime/opencl/warmup.py). */
bool kernels_first_launches(Kernels *kernels, const Device *device, const Program *program,
                            Failure *failure);

static inline cl_int kernel_set_memory(cl_kernel kernel, cl_uint at, cl_mem memory) {
  return cl.SetKernelArg(kernel, at, sizeof memory, &memory);
}

static inline cl_int kernel_set_int(cl_kernel kernel, cl_uint at, int32_t value) {
  return cl.SetKernelArg(kernel, at, sizeof value, &value);
}

#endif
