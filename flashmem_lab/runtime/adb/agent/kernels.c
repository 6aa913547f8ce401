#include "kernels.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "xxh3.h"

/* Before a binary in its file. A driver gets only bytes that match their checksum. */
typedef struct Head {
  char magic[8];
  uint64_t bytes, sum;
} Head;

static const char magic[8] = "FMLKER\r\n";
enum { MOST_BINARY = 256 << 20, MOST_KEPT = 512 };

/* Named by device, driver and source; the length of the source keeps a chance collision away. */
static void path_of(const Device *device, const char *source, const char *folder, char *into,
                    size_t room) {
  size_t length = strlen(source);
  snprintf(into, room, "%s/%016llx-%016llx-%zx.kernel", folder,
           (unsigned long long)device->signature, (unsigned long long)xxh3(source, length), length);
}

static cl_program load(const Device *device, const char *source, const char *folder) {
  char path[4096];
  Head head;
  cl_program program = NULL;
  path_of(device, source, folder, path, sizeof path);
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  unsigned char *binary = NULL;
  if (fread(&head, sizeof head, 1, file) == 1 && !memcmp(head.magic, magic, sizeof magic) &&
      head.bytes <= MOST_BINARY) {
    binary = allocate(1, head.bytes);
    size_t size = head.bytes;
    cl_int code = -1, status;
    if (fread(binary, 1, size, file) == size && xxh3(binary, size) == head.sum)
      program = cl.CreateProgramWithBinary(device->context, 1, &device->id, &size,
                                           (const unsigned char **)&binary, &status, &code);
    if (!code && cl.BuildProgram(program, 1, &device->id, "", NULL, NULL)) {
      cl.ReleaseProgram(program); /* a driver need not take what it once gave, after an update */
      code = -1;
    }
    if (code) program = NULL;
  }
  free(binary);
  fclose(file);
  return program;
}

/* The lines of the compiler's log that say something. */
static bool refused(cl_program program, const Device *device, const char *entry, Failure *failure) {
  size_t size = 0;
  cl.GetProgramBuildInfo(program, device->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &size);
  char *log = allocate(size + 1, 1);
  cl.GetProgramBuildInfo(program, device->id, CL_PROGRAM_BUILD_LOG, size, log, NULL);
  const char *telling = strstr(log, "error");
  while (telling && telling > log && telling[-1] != '\n') telling--;
  fail(failure, DEVICE, "the device's compiler refused kernel '%s': %.600s", entry,
       telling ? telling : log);
  free(log);
  return false;
}

static bool compile(const Device *device, const Kernel *kernel, cl_program *into,
                    Failure *failure) {
  cl_int code;
  *into =
      cl.CreateProgramWithSource(device->context, 1, (const char **)&kernel->source, NULL, &code);
  if (code) {
    *into = NULL;
    return opencl_fail(failure, code, "reading kernel '%s'", kernel->entry);
  }
  code = cl.BuildProgram(*into, 1, &device->id, "", NULL, NULL);
  return code ? refused(*into, device, kernel->entry, failure) : true;
}

bool kernels_build(Kernels *kernels, const Device *device, const Program *program,
                   const char *folder, BuildProgress progress, Failure *failure) {
  size_t count = (size_t)program->kernel_count;
  *kernels = (Kernels){.programs = allocate(count, sizeof(cl_program)),
                       .kernels = allocate(count, sizeof(cl_kernel)),
                       .fresh = allocate(count, sizeof(bool)),
                       .count = program->kernel_count};
  for (int at = 0; at < kernels->count; at++) {
    const Kernel *kernel = &program->kernels[at];
    cl_int code;
    if (*folder) kernels->programs[at] = load(device, kernel->source, folder);
    if (!kernels->programs[at]) {
      if (!compile(device, kernel, &kernels->programs[at], failure)) return false;
      kernels->fresh[at] = true;
      kernels->compiled++;
    }
    kernels->kernels[at] = cl.CreateKernel(kernels->programs[at], kernel->entry, &code);
    if (code) {
      kernels->kernels[at] = NULL;
      return opencl_fail(failure, code, "looking up kernel '%s'", kernel->entry);
    }
    progress(at + 1, kernels->count);
  }
  return true;
}

static void keep(cl_program built, const Device *device, const char *source, const char *folder) {
  char path[4096], half[4112];
  size_t size = 0;
  if (cl.GetProgramInfo(built, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) || !size ||
      size > MOST_BINARY)
    return;
  unsigned char *binary = allocate(1, size);
  if (!cl.GetProgramInfo(built, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL)) {
    Head head = {.bytes = size, .sum = xxh3(binary, size)};
    memcpy(head.magic, magic, sizeof magic);
    path_of(device, source, folder, path, sizeof path);
    snprintf(half, sizeof half, "%s.%d", path, (int)getpid());
    FILE *file = fopen(half, "wb");
    bool whole =
        file && fwrite(&head, sizeof head, 1, file) == 1 && fwrite(binary, 1, size, file) == size;
    if (file && fclose(file)) whole = false;
    if (!whole || rename(half, path)) remove(half);
  }
  free(binary);
}

typedef struct Kept {
  time_t written;
  char name[NAME_MAX + 1];
} Kept;

static int older_first(const void *left, const void *right) {
  const Kept *a = left, *b = right;
  return (a->written > b->written) - (a->written < b->written);
}

/* Removes the oldest binaries beyond the number that is kept: plans, drivers and sources change. */
static void forget_old(const char *folder) {
  DIR *listing = opendir(folder);
  if (!listing) return;
  Kept *kept = NULL;
  size_t count = 0, room = 0;
  for (struct dirent *entry; (entry = readdir(listing));) {
    struct stat status;
    if (fstatat(dirfd(listing), entry->d_name, &status, 0) || !S_ISREG(status.st_mode)) continue;
    if (count == room) {
      Kept *grown = realloc(kept, (room = 2 * room + 64) * sizeof *kept);
      if (!grown) break; /* as many as there was memory for */
      kept = grown;
    }
    kept[count].written = status.st_mtime;
    snprintf(kept[count++].name, sizeof kept->name, "%s", entry->d_name);
  }
  if (count) qsort(kept, count, sizeof *kept, older_first);
  for (size_t at = 0; at + MOST_KEPT < count; at++) unlinkat(dirfd(listing), kept[at].name, 0);
  free(kept);
  closedir(listing);
}

void kernels_keep(Kernels *kernels, const Device *device, const Program *program,
                  const char *folder) {
  bool any = false;
  if (!*folder) return;
  mkdir(folder, 0755);
  for (int at = 0; at < kernels->count; at++)
    if (kernels->fresh[at] && kernels->kernels[at]) {
      keep(kernels->programs[at], device, program->kernels[at].source, folder);
      kernels->fresh[at] = false;
      any = true;
    }
  if (any) forget_old(folder);
}

void kernels_close(Kernels *kernels) {
  for (int at = 0; at < kernels->count; at++) {
    if (kernels->kernels[at]) cl.ReleaseKernel(kernels->kernels[at]);
    if (kernels->programs[at]) cl.ReleaseProgram(kernels->programs[at]);
  }
  free(kernels->kernels);
  free(kernels->programs);
  free(kernels->fresh);
  *kernels = (Kernels){0};
}
