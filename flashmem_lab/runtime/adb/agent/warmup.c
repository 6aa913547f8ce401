/* First launches: one work-group of each kernel and work-group size, on scratch objects. Every
 * extent and stride is 1, so that our templates compute one element and stop. */
#include <string.h>

#include "carry.h"
#include "kernels.h"

enum { SCRATCH_BYTES = 4096 };

typedef struct Scratch {
  cl_mem buffer, texel[2]; /* images of one texel, of float32 and of float16 */
} Scratch;

static cl_int make_scratch(Scratch *scratch, const Device *device) {
  cl_int code;
  scratch->buffer = cl.CreateBuffer(device->context, CL_MEM_READ_WRITE, SCRATCH_BYTES, NULL, &code);
  for (int half = 0; half < 2 && !code; half++) {
    cl_image_format format = {CL_RGBA, half ? CL_HALF_FLOAT : CL_FLOAT};
    cl_image_desc shape = {.type = CL_MEM_OBJECT_IMAGE2D, .width = 1, .height = 1};
    scratch->texel[half] =
        cl.CreateImage(device->context, CL_MEM_READ_WRITE, &format, &shape, NULL, &code);
  }
  return code;
}

static void release_scratch(Scratch *scratch) {
  cl_mem held[] = {scratch->buffer, scratch->texel[0], scratch->texel[1]};
  for (size_t at = 0; at < COUNT_OF(held); at++)
    if (held[at]) cl.ReleaseMemObject(held[at]);
}

static cl_mem like(const Scratch *scratch, const Object *object) {
  return object->image ? scratch->texel[object->half] : scratch->buffer;
}

static cl_int set_arguments(const Program *program, const Command *command, cl_kernel kernel,
                            const Scratch *scratch) {
  cl_uint next = 0;
  cl_int code = 0;
  for (int at = 0; at < command->argument_count && !code; at++) {
    const Argument *argument = &command->arguments[at];
    if (argument->as == AS_OBJECT)
      code = kernel_set_memory(kernel, next++, like(scratch, &program->objects[argument->object]));
    else
      code = kernel_set_int(kernel, next++, argument->as == AS_INT); /* 1, or 0.0f */
  }
  if (!command->carry_count) return code;
  Entry entries[CARRIED];
  carry_entries(program, command, entries);
  for (int at = 0; at < CARRIED && !code; at++) {
    const Command *upload = &program->commands[entries[at].upload];
    code = kernel_set_memory(kernel, next++, scratch->buffer);
    if (!code)
      code = kernel_set_memory(kernel, next++, like(scratch, &program->objects[upload->object]));
    if (!code) code = kernel_set_int(kernel, next++, 0);
    if (!code) code = kernel_set_int(kernel, next++, 0);
  }
  return code;
}

static cl_int launch(const Program *program, const Command *command, cl_kernel kernel,
                     const Device *device, const Scratch *scratch) {
  static const uint8_t zeros[SCRATCH_BYTES]; /* what one kernel wrote may be the next one's index */
  const size_t *group = command->local[0] ? command->local : NULL;
  static const size_t one[] = {1, 1, 1};
  cl_int code = cl.EnqueueWriteBuffer(device->compute, scratch->buffer, CL_FALSE, 0, sizeof zeros,
                                      zeros, 0, NULL, NULL);
  if (!code) code = set_arguments(program, command, kernel, scratch);
  if (!code)
    code = cl.EnqueueNDRangeKernel(device->compute, kernel, (cl_uint)command->dimensions, NULL,
                                   group ? group : one, group, 0, NULL, NULL);
  return code ? code : cl.Finish(device->compute);
}

/* Whether an earlier command of the lane has that kernel and work-group size. */
static bool seen(const Program *program, int command) {
  const Command *wanted = &program->commands[command];
  for (int at = program->compute.first; at < command; at++) {
    const Command *other = &program->commands[at];
    bool launches = other->kind == LAUNCH || other->kind == MOVE;
    if (launches && other->kernel == wanted->kernel &&
        !memcmp(other->local, wanted->local, sizeof wanted->local))
      return true;
  }
  return false;
}

bool kernels_first_launches(Kernels *kernels, const Device *device, const Program *program,
                            Failure *failure) {
  Scratch scratch = {0};
  if (!device->compiles_late) return true;
  cl_int code = make_scratch(&scratch, device);
  for (int at = program->compute.first; at < program->compute.end && !code; at++) {
    const Command *command = &program->commands[at];
    if ((command->kind != LAUNCH && command->kind != MOVE) || seen(program, at)) continue;
    code = launch(program, command, kernels->kernels[command->kernel], device, &scratch);
  }
  release_scratch(&scratch);
  return code ? opencl_fail(failure, code, "launching kernels for the first time") : true;
}
