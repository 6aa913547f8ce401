/* As much of OpenCL 1.2 as the agent uses, found at run time: it is built without OpenCL's headers
 * and starts on machines that have no OpenCL. */
#ifndef FLASHMEM_OPENCL_H
#define FLASHMEM_OPENCL_H

#include "base.h"

typedef int32_t cl_int;
typedef uint32_t cl_uint;
typedef uint64_t cl_ulong;
typedef struct cl_platform *cl_platform_id;
typedef struct cl_device *cl_device_id;
typedef struct cl_context_ *cl_context;
typedef struct cl_queue *cl_command_queue;
typedef struct cl_memory *cl_mem;
typedef struct cl_program_ *cl_program;
typedef struct cl_kernel_ *cl_kernel;
typedef struct cl_event_ *cl_event;

typedef struct cl_image_format {
  cl_uint order, type;
} cl_image_format;

typedef struct cl_image_desc {
  cl_uint type;
  size_t width, height, depth, array_size, row_pitch, slice_pitch;
  cl_uint levels, samples;
  cl_mem buffer;
} cl_image_desc;

typedef struct cl_buffer_region {
  size_t origin, size;
} cl_buffer_region;

enum {
  CL_SUCCESS = 0,
  CL_DEVICE_NOT_FOUND = -1,
  CL_BUILD_PROGRAM_FAILURE = -11,
  CL_COMPLETE = 0,
  CL_FALSE = 0,
  CL_TRUE = 1,

  CL_PLATFORM_VERSION = 0x0901,
  CL_PLATFORM_NAME = 0x0902,
  CL_DEVICE_TYPE = 0x1000,
  CL_DEVICE_MAX_WORK_GROUP_SIZE = 0x1004,
  CL_DEVICE_MAX_MEM_ALLOC_SIZE = 0x1010,
  CL_DEVICE_IMAGE2D_MAX_WIDTH = 0x1011,
  CL_DEVICE_IMAGE2D_MAX_HEIGHT = 0x1012,
  CL_DEVICE_IMAGE_SUPPORT = 0x1016,
  CL_DEVICE_MEM_BASE_ADDR_ALIGN = 0x1019,
  CL_DEVICE_GLOBAL_MEM_SIZE = 0x101F,
  CL_DEVICE_LOCAL_MEM_SIZE = 0x1023,
  CL_DEVICE_NAME = 0x102B,
  CL_DRIVER_VERSION = 0x102D,
  CL_DEVICE_VERSION = 0x102F,
  CL_DEVICE_EXTENSIONS = 0x1030,
  CL_QUEUE_PROFILING_ENABLE = 2,
  CL_MEM_READ_WRITE = 1,
  CL_MEM_READ_ONLY = 4,
  CL_MEM_ALLOC_HOST_PTR = 16,
  CL_RGBA = 0x10B5,
  CL_HALF_FLOAT = 0x10DD,
  CL_FLOAT = 0x10DE,
  CL_MEM_OBJECT_IMAGE2D = 0x10F1,
  CL_MAP_READ = 1,
  CL_MAP_WRITE = 2,
  CL_MAP_WRITE_INVALIDATE_REGION = 4,
  CL_PROGRAM_BINARY_SIZES = 0x1165,
  CL_PROGRAM_BINARIES = 0x1166,
  CL_PROGRAM_BUILD_LOG = 0x1183,
  CL_EVENT_COMMAND_EXECUTION_STATUS = 0x11D3,
  CL_PROFILING_COMMAND_START = 0x1282,
  CL_PROFILING_COMMAND_END = 0x1283,
  CL_BUFFER_CREATE_TYPE_REGION = 0x1220,
};
#define CL_DEVICE_TYPE_CPU ((cl_ulong)2)
#define CL_DEVICE_TYPE_GPU ((cl_ulong)4)
#define CL_DEVICE_TYPE_ACCELERATOR ((cl_ulong)8)
#define CL_DEVICE_TYPE_ALL ((cl_ulong)0xFFFFFFFF)

#define WAITING cl_uint, const cl_event *, cl_event *
/* clang-format off */
#define OPENCL_CALLS(CALL) \
  CALL(cl_int, GetPlatformIDs, (cl_uint, cl_platform_id *, cl_uint *)) \
  CALL(cl_int, GetPlatformInfo, (cl_platform_id, cl_uint, size_t, void *, size_t *)) \
  CALL(cl_int, GetDeviceIDs, (cl_platform_id, cl_ulong, cl_uint, cl_device_id *, cl_uint *)) \
  CALL(cl_int, GetDeviceInfo, (cl_device_id, cl_uint, size_t, void *, size_t *)) \
  CALL(cl_context, CreateContext, (const intptr_t *, cl_uint, const cl_device_id *, void *, void *, cl_int *)) \
  CALL(cl_command_queue, CreateCommandQueue, (cl_context, cl_device_id, cl_ulong, cl_int *)) \
  CALL(cl_mem, CreateBuffer, (cl_context, cl_ulong, size_t, void *, cl_int *)) \
  CALL(cl_mem, CreateSubBuffer, (cl_mem, cl_ulong, cl_uint, const void *, cl_int *)) \
  CALL(cl_mem, CreateImage, (cl_context, cl_ulong, const cl_image_format *, const cl_image_desc *, void *, cl_int *)) \
  CALL(cl_int, ReleaseMemObject, (cl_mem)) \
  CALL(cl_program, CreateProgramWithSource, (cl_context, cl_uint, const char **, const size_t *, cl_int *)) \
  CALL(cl_program, CreateProgramWithBinary, (cl_context, cl_uint, const cl_device_id *, const size_t *, const unsigned char **, cl_int *, cl_int *)) \
  CALL(cl_int, BuildProgram, (cl_program, cl_uint, const cl_device_id *, const char *, void *, void *)) \
  CALL(cl_int, GetProgramInfo, (cl_program, cl_uint, size_t, void *, size_t *)) \
  CALL(cl_int, GetProgramBuildInfo, (cl_program, cl_device_id, cl_uint, size_t, void *, size_t *)) \
  CALL(cl_int, ReleaseProgram, (cl_program)) \
  CALL(cl_kernel, CreateKernel, (cl_program, const char *, cl_int *)) \
  CALL(cl_int, SetKernelArg, (cl_kernel, cl_uint, size_t, const void *)) \
  CALL(cl_int, ReleaseKernel, (cl_kernel)) \
  CALL(cl_int, EnqueueNDRangeKernel, (cl_command_queue, cl_kernel, cl_uint, const size_t *, const size_t *, const size_t *, WAITING)) \
  CALL(cl_int, EnqueueReadBuffer, (cl_command_queue, cl_mem, cl_uint, size_t, size_t, void *, WAITING)) \
  CALL(cl_int, EnqueueWriteBuffer, (cl_command_queue, cl_mem, cl_uint, size_t, size_t, const void *, WAITING)) \
  CALL(cl_int, EnqueueWriteImage, (cl_command_queue, cl_mem, cl_uint, const size_t *, const size_t *, size_t, size_t, const void *, WAITING)) \
  CALL(void *, EnqueueMapBuffer, (cl_command_queue, cl_mem, cl_uint, cl_ulong, size_t, size_t, WAITING, cl_int *)) \
  CALL(void *, EnqueueMapImage, (cl_command_queue, cl_mem, cl_uint, cl_ulong, const size_t *, const size_t *, size_t *, size_t *, WAITING, cl_int *)) \
  CALL(cl_int, EnqueueUnmapMemObject, (cl_command_queue, cl_mem, void *, WAITING)) \
  CALL(cl_int, EnqueueMarkerWithWaitList, (cl_command_queue, WAITING)) \
  CALL(cl_int, WaitForEvents, (cl_uint, const cl_event *)) \
  CALL(cl_int, GetEventInfo, (cl_event, cl_uint, size_t, void *, size_t *)) \
  CALL(cl_int, GetEventProfilingInfo, (cl_event, cl_uint, size_t, void *, size_t *)) \
  CALL(cl_int, RetainEvent, (cl_event)) \
  CALL(cl_int, ReleaseEvent, (cl_event)) \
  CALL(cl_int, Flush, (cl_command_queue)) \
  CALL(cl_int, Finish, (cl_command_queue))
/* clang-format on */

typedef struct OpenCL {
#define CALL(result, name, arguments) result(*name) arguments;
  OPENCL_CALLS(CALL)
#undef CALL
} OpenCL;

extern OpenCL cl; /* usable once `opencl_load` returned true */

/* Finds the first library that has a platform: $FLASHMEM_OPENCL, else those that
 * phones, boards and PCs are known to have. */
bool opencl_load(Failure *failure);

/* OpenCL's word for an error, and `fail` with it: `doing` says what was tried. */
const char *opencl_error(cl_int code);
bool opencl_fail(Failure *failure, cl_int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
