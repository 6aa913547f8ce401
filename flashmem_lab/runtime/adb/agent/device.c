#include "device.h"

#include <stdlib.h>
#include <string.h>

#include "xxh3.h"

enum { MOST = 16, TRIES = 5 };
enum { ADRENO_PERF_HINT = 0x40C2, ADRENO_PERF_HINT_HIGH = 0x40C3 }; /* cl_qcom_perf_hint */

/* Compute GPUs first, as ids of this machine's devices are given (runtime/opencl/query.py). */
static const struct {
  cl_ulong type;
  const char *name;
} kinds[] = {
    {CL_DEVICE_TYPE_GPU, "gpu"},
    {CL_DEVICE_TYPE_ACCELERATOR, "accelerator"},
    {CL_DEVICE_TYPE_CPU, "cpu"},
};

static bool find_device(Device *device, Failure *failure) {
  cl_platform_id platforms[MOST];
  cl_uint count = 0;
  cl_int code = cl.GetPlatformIDs(MOST, platforms, &count);
  if (code) return opencl_fail(failure, code, "listing OpenCL platforms");
  for (size_t kind = 0; kind < COUNT_OF(kinds); kind++)
    for (cl_uint at = 0; at < count && at < MOST; at++) {
      cl_uint found = 0;
      code = cl.GetDeviceIDs(platforms[at], kinds[kind].type, 1, &device->id, &found);
      if (!code && found) {
        device->platform = platforms[at];
        return true;
      }
    }
  return fail(failure, DEVICE, "OpenCL is installed but has no device");
}

/* A text of the device or its platform; "" where the driver does not say. */
static void ask_text(const Device *device, cl_uint what, char *into, size_t room) {
  bool platform = what == CL_PLATFORM_NAME || what == CL_PLATFORM_VERSION;
  size_t size = 0;
  cl_int code = platform ? cl.GetPlatformInfo(device->platform, what, 0, NULL, &size)
                         : cl.GetDeviceInfo(device->id, what, 0, NULL, &size);
  char *whole = allocate(size + 1, 1);
  if (!code)
    code = platform ? cl.GetPlatformInfo(device->platform, what, size, whole, NULL)
                    : cl.GetDeviceInfo(device->id, what, size, whole, NULL);
  size_t length = code ? 0 : strlen(whole) < room ? strlen(whole) : room - 1;
  memcpy(into, whole, length);
  into[length] = 0;
  free(whole);
}

static uint64_t ask_number(const Device *device, cl_uint what, size_t size) {
  uint64_t value = 0;
  return cl.GetDeviceInfo(device->id, what, size, &value, NULL) ? 0 : value;
}

/* Adreno clocks down between kernels unless it is told not to. */
static cl_context make_context(const Device *device, cl_int *code) {
  static const intptr_t fast[] = {ADRENO_PERF_HINT, ADRENO_PERF_HINT_HIGH, 0};
  char extensions[8192];
  ask_text(device, CL_DEVICE_EXTENSIONS, extensions, sizeof extensions);
  cl_context context = NULL;
  *code = -1;
  if (strstr(extensions, "cl_qcom_perf_hint"))
    context = cl.CreateContext(fast, 1, &device->id, NULL, NULL, code);
  return *code ? cl.CreateContext(NULL, 1, &device->id, NULL, NULL, code) : context;
}

bool device_open(Device *device, Failure *failure) {
  cl_int code = 0;
  if (!find_device(device, failure)) return false;
  device->context = make_context(device, &code);
  if (code) return opencl_fail(failure, code, "opening the device");
  device->compute =
      cl.CreateCommandQueue(device->context, device->id, CL_QUEUE_PROFILING_ENABLE, &code);
  if (!code)
    device->transfer =
        cl.CreateCommandQueue(device->context, device->id, CL_QUEUE_PROFILING_ENABLE, &code);
  if (code) return opencl_fail(failure, code, "making its queues");
  uint64_t bits = ask_number(device, CL_DEVICE_MEM_BASE_ADDR_ALIGN, sizeof(cl_uint));
  device->alignment = bits >= 64 ? bits / 8 : 8;
  char platform[512];
  ask_text(device, CL_PLATFORM_NAME, platform, sizeof platform);
  device->compiles_late = !strcmp(platform, "Portable Computing Language");
  static const cl_uint parts[] = {CL_PLATFORM_NAME, CL_PLATFORM_VERSION, CL_DEVICE_NAME,
                                  CL_DRIVER_VERSION};
  Text all = {0};
  for (size_t at = 0; at < COUNT_OF(parts); at++) {
    char part[512];
    ask_text(device, parts[at], part, sizeof part);
    text_add(&all, "%zu:%s", strlen(part), part);
  }
  device->signature = xxh3(all.bytes, all.length);
  text_release(&all);
  return true;
}

static void add_text(const Device *device, Text *into, const char *key, cl_uint what) {
  char value[8192];
  ask_text(device, what, value, sizeof value);
  text_add(into, ",\"%s\":", key);
  text_add_quoted(into, value);
}

static void add_number(const Device *device, Text *into, const char *key, cl_uint what,
                       size_t size) {
  text_add(into, ",\"%s\":%llu", key, (unsigned long long)ask_number(device, what, size));
}

void device_describe(const Device *device, Text *into) {
  uint64_t type = ask_number(device, CL_DEVICE_TYPE, sizeof(cl_ulong));
  const char *kind = "cpu";
  for (size_t at = COUNT_OF(kinds); at-- > 0;)
    if (type & kinds[at].type) kind = kinds[at].name;
  text_add(into, "\"kind\":\"%s\"", kind);
  add_text(device, into, "platform", CL_PLATFORM_NAME);
  add_text(device, into, "name", CL_DEVICE_NAME);
  add_text(device, into, "version", CL_DEVICE_VERSION);
  add_text(device, into, "driver", CL_DRIVER_VERSION);
  add_text(device, into, "extensions", CL_DEVICE_EXTENSIONS);
  add_number(device, into, "images", CL_DEVICE_IMAGE_SUPPORT, sizeof(cl_uint));
  add_number(device, into, "image_width", CL_DEVICE_IMAGE2D_MAX_WIDTH, sizeof(size_t));
  add_number(device, into, "image_height", CL_DEVICE_IMAGE2D_MAX_HEIGHT, sizeof(size_t));
  add_number(device, into, "max_alloc", CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof(cl_ulong));
  add_number(device, into, "global_memory", CL_DEVICE_GLOBAL_MEM_SIZE, sizeof(cl_ulong));
  add_number(device, into, "local_memory", CL_DEVICE_LOCAL_MEM_SIZE, sizeof(cl_ulong));
  add_number(device, into, "max_work_group", CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof(size_t));
}

void clock_read(Clock *clock, const Device *device) {
  int64_t best = INT64_MAX, at_device = 0, at_host = 0;
  for (int left = TRIES; left; left--) {
    cl_event marker;
    cl_ulong end;
    int64_t before = now_ns();
    if (cl.EnqueueMarkerWithWaitList(device->compute, 0, NULL, &marker)) return;
    cl_int code = cl.WaitForEvents(1, &marker);
    int64_t after = now_ns();
    if (!code)
      code = cl.GetEventProfilingInfo(marker, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL);
    cl.ReleaseEvent(marker);
    if (code) return;
    if (after - before < best) {
      best = after - before;
      at_device = (int64_t)end;
      at_host = before + (after - before) / 2;
    }
  }
  int at = clock->readings > 0;
  if (clock->readings > 1) {
    clock->device[0] = clock->device[1];
    clock->host[0] = clock->host[1];
  }
  clock->device[at] = at_device;
  clock->host[at] = at_host;
  clock->readings = at + 1;
}

static int64_t on_host(const Clock *clock, cl_ulong device_ns) {
  int last = clock->readings - 1;
  int64_t passed = (int64_t)device_ns - clock->device[0];
  int64_t device = clock->device[last] - clock->device[0],
          host = clock->host[last] - clock->host[0];
  double share = device > 0 ? (double)passed / (double)device : 0;
  return clock->host[0] + passed + (int64_t)((double)(host - device) * share);
}

static int64_t within(int64_t value, int64_t low, int64_t high) {
  return value < low ? low : value > high ? high : value;
}

void clock_span(const Clock *clock, cl_event event, int64_t enqueued, int64_t done, int64_t *start,
                int64_t *end) {
  cl_ulong begun, ended;
  *start = enqueued;
  *end = done;
  if (!clock->readings ||
      cl.GetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof begun, &begun, NULL) ||
      cl.GetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof ended, &ended, NULL))
    return;
  *start = within(on_host(clock, begun), enqueued, done);
  *end = within(on_host(clock, ended), *start, done);
}
