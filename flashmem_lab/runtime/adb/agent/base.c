#include "base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PART_BYTES = 64 * 1024 };

struct StorePart {
  struct StorePart *next;
  _Alignas(16) char bytes[];
};

bool fail(Failure *failure, const char *kind, const char *format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(failure->message, sizeof failure->message, format, values);
  va_end(values);
  failure->kind = kind;
  return false;
}

static _Noreturn void no_memory(void) {
  fputs("the agent has no host memory left\n", stderr);
  exit(3);
}

void *allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size ? size : 1);
  if (!memory) no_memory();
  return memory;
}

void *store_take(Store *store, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2) no_memory();
  bytes = (bytes + 15) & ~(size_t)15;
  if ((size_t)(store->end - store->next) < bytes || !store->next) {
    size_t room = bytes > PART_BYTES ? bytes : PART_BYTES;
    struct StorePart *part = allocate(1, sizeof *part + room);
    part->next = store->parts;
    store->parts = part;
    store->next = part->bytes;
    store->end = part->bytes + room;
  }
  void *taken = store->next;
  store->next += bytes;
  return taken;
}

void store_release(Store *store) {
  while (store->parts) {
    struct StorePart *part = store->parts;
    store->parts = part->next;
    free(part);
  }
  store->next = store->end = NULL;
}

static void grow(Text *text, size_t more) {
  if (text->room - text->length > more) return;
  text->room = 2 * text->room + more + 64;
  text->bytes = realloc(text->bytes, text->room);
  if (!text->bytes) no_memory();
}

void text_add(Text *text, const char *format, ...) {
  va_list values;
  va_start(values, format);
  int length = vsnprintf(NULL, 0, format, values);
  va_end(values);
  if (length < 0) return;
  grow(text, (size_t)length);
  va_start(values, format);
  vsnprintf(text->bytes + text->length, (size_t)length + 1, format, values);
  va_end(values);
  text->length += (size_t)length;
}

void text_add_quoted(Text *text, const char *value) {
  text_add(text, "\"");
  for (; *value; value++) {
    unsigned char byte = (unsigned char)*value;
    if (byte == '"' || byte == '\\')
      text_add(text, "\\%c", byte);
    else if (byte < 0x20)
      text_add(text, "\\u%04x", byte);
    else
      text_add(text, "%c", byte);
  }
  text_add(text, "\"");
}

void text_release(Text *text) {
  free(text->bytes);
  *text = (Text){0};
}

int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
