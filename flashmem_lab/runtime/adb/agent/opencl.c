#include "opencl.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VENDOR_FOLDERS "/vendor/lib64:/system/vendor/lib64/egl"

OpenCL cl;

static const char *const candidates[] = {
    "libOpenCL.so",
    "libOpenCL.so.1",
    "libGLES_mali.so",
    "libmali.so",
    "libOpenCL-pixel.so",
    "/vendor/lib64/libOpenCL.so",
    "/system/vendor/lib64/libOpenCL.so",
    "/system/lib64/libOpenCL.so",
    "/system/vendor/lib64/egl/libGLES_mali.so",
    "/system/vendor/lib64/libPVROCL.so",
};

typedef void *(*Resolver)(const char *name);

/* Google's library hands its functions out itself, once it is switched on. */
static void *find_call(void *library, Resolver resolve, const char *name) {
  void *found = resolve ? resolve(name) : NULL;
  return found ? found : dlsym(library, name);
}

/* The first function that is missing, or NULL. ISO C has no cast from object to function pointers;
 * POSIX promises that this copy is one. */
static const char *find_calls(void *library) {
  Resolver resolve = NULL;
  void (*enable)(void) = NULL;
  void *found = dlsym(library, "enableOpenCL");
  if (found) {
    memcpy(&enable, &found, sizeof found);
    enable();
    found = dlsym(library, "loadOpenCLPointer");
    memcpy(&resolve, &found, sizeof found);
  }
#define CALL(result, name, arguments)              \
  found = find_call(library, resolve, "cl" #name); \
  if (!found) return "cl" #name;                   \
  memcpy(&cl.name, &found, sizeof found);
  OPENCL_CALLS(CALL)
#undef CALL
  return NULL;
}

/* Whether `name` is a library with a platform; else why not, appended to `tried`. */
static bool try_library(const char *name, Text *tried) {
  void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    fprintf(stderr, "%s: %s\n", name, dlerror());
    text_add(tried, "%s%s cannot be loaded", tried->length ? "; " : "", name);
    return false;
  }
  cl_uint platforms = 0;
  const char *missing = find_calls(library);
  cl_int code = missing ? 0 : cl.GetPlatformIDs(0, NULL, &platforms);
  if (!missing && code == CL_SUCCESS && platforms) {
    fprintf(stderr, "%s: %u OpenCL platforms\n", name, platforms);
    return true;
  }
  if (missing)
    text_add(tried, "%s%s has no %s", tried->length ? "; " : "", name, missing);
  else
    text_add(tried, "%s%s finds no platform (%s)", tried->length ? "; " : "", name,
             opencl_error(code));
  dlclose(library);
  return false;
}

/* Android lets a process load vendors' libraries by path only where the loader was told of their
 * folders before it began: so once, the agent starts itself anew. */
static void start_with_vendor_folders(void) {
  if (getenv("LD_LIBRARY_PATH") || access("/vendor/lib64", X_OK)) return;
  setenv("LD_LIBRARY_PATH", VENDOR_FOLDERS, 1);
  char *arguments[] = {"flashmem-agent", "serve", NULL};
  execv("/proc/self/exe", arguments);
}

bool opencl_load(Failure *failure) {
  Text tried = {0};
  const char *named = getenv("FLASHMEM_OPENCL");
  bool found = named && try_library(named, &tried);
  for (size_t at = 0; !found && !named && at < COUNT_OF(candidates); at++)
    found = try_library(candidates[at], &tried);
  if (!found && !named) start_with_vendor_folders();
  if (!found) fail(failure, DEVICE, "no OpenCL library works here: %s", tried.bytes);
  text_release(&tried);
  return found;
}

const char *opencl_error(cl_int code) {
  static const char *const names[] = {"SUCCESS",
                                      "DEVICE_NOT_FOUND",
                                      "DEVICE_NOT_AVAILABLE",
                                      "COMPILER_NOT_AVAILABLE",
                                      "MEM_OBJECT_ALLOCATION_FAILURE",
                                      "OUT_OF_RESOURCES",
                                      "OUT_OF_HOST_MEMORY",
                                      "PROFILING_INFO_NOT_AVAILABLE",
                                      "MEM_COPY_OVERLAP",
                                      "IMAGE_FORMAT_MISMATCH",
                                      "IMAGE_FORMAT_NOT_SUPPORTED",
                                      "BUILD_PROGRAM_FAILURE",
                                      "MAP_FAILURE",
                                      "MISALIGNED_SUB_BUFFER_OFFSET",
                                      "EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST"};
  static const char *const invalid[] = {"VALUE",           "DEVICE_TYPE",
                                        "PLATFORM",        "DEVICE",
                                        "CONTEXT",         "QUEUE_PROPERTIES",
                                        "COMMAND_QUEUE",   "HOST_PTR",
                                        "MEM_OBJECT",      "IMAGE_FORMAT_DESCRIPTOR",
                                        "IMAGE_SIZE",      "SAMPLER",
                                        "BINARY",          "BUILD_OPTIONS",
                                        "PROGRAM",         "PROGRAM_EXECUTABLE",
                                        "KERNEL_NAME",     "KERNEL_DEFINITION",
                                        "KERNEL",          "ARG_INDEX",
                                        "ARG_VALUE",       "ARG_SIZE",
                                        "KERNEL_ARGS",     "WORK_DIMENSION",
                                        "WORK_GROUP_SIZE", "WORK_ITEM_SIZE",
                                        "GLOBAL_OFFSET",   "EVENT_WAIT_LIST",
                                        "EVENT",           "OPERATION",
                                        "GL_OBJECT",       "BUFFER_SIZE",
                                        "MIP_LEVEL",       "GLOBAL_WORK_SIZE"};
  if (code <= 0 && -code < (cl_int)COUNT_OF(names)) return names[-code];
  if (code <= -30 && -code - 30 < (cl_int)COUNT_OF(invalid)) return invalid[-code - 30];
  return code == -1001 ? "PLATFORM_NOT_FOUND" : "an error of the vendor's own";
}

bool opencl_fail(Failure *failure, cl_int code, const char *format, ...) {
  char doing[512];
  va_list values;
  va_start(values, format);
  vsnprintf(doing, sizeof doing, format, values);
  va_end(values);
  const char *invalid = code <= -30 && code > -64 ? "INVALID_" : "";
  return fail(failure, DEVICE, "the device failed while %s: %s%s (%d)", doing, invalid,
              opencl_error(code), code);
}
