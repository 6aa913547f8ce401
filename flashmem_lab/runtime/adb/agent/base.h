/* What every file needs: failures, memory, text that grows, time. */
#ifndef FLASHMEM_BASE_H
#define FLASHMEM_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The agent keeps to what every bionic has: no __thread, no atomics but loads and stores. */
#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* Kinds of failure: the host raises another error for each. */
#define BUNDLE "bundle"       /* the file is damaged, of another version, or not ours */
#define PLAN "plan"           /* the program breaks a rule */
#define DEVICE "device"       /* the driver refused something */
#define BUDGET "budget"       /* the ledger refused an object */
#define CORRUPT "corrupt"     /* packed weights differ from their checksum; message: the weight */
#define INPUT "input"         /* the user's arrays */
#define FILES "file"          /* the file system */
#define CANCELLED "cancelled" /* nobody waits for the answer any more */

typedef struct Failure {
  const char *kind; /* one of the above; NULL while nothing failed */
  char message[1024];
} Failure;

/* Notes what failed, and returns false: `return fail(failure, DEVICE, "...")`. */
bool fail(Failure *failure, const char *kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Zeroed memory for `count` things of `size` bytes, never NULL. Where there is none the process
 * ends with a message: it serves one host, which starts another. */
void *allocate(size_t count, size_t size);

/* Memory that is released all at once: what is read from one file. Zeroed; see `allocate`. */
typedef struct Store {
  struct StorePart *parts;
  char *next, *end;
} Store;

void *store_take(Store *store, size_t count, size_t size);
void store_release(Store *store);

/* Text that grows; `bytes` is always terminated once something was added. */
typedef struct Text {
  char *bytes;
  size_t length, room;
} Text;

void text_add(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_add_quoted(Text *text, const char *value); /* as a JSON string, with its quotes */
void text_release(Text *text);

/* The monotonic clock, ns. */
int64_t now_ns(void);

#endif
