#include "frames.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEAD_LIMIT = 1 << 20, SECONDS_TO_END = 2, TOGETHER = 16 << 10 };
#define BODY_LIMIT ((uint64_t)1 << 33)

typedef struct __attribute__((packed)) Wire {
  char tag[4];
  uint32_t head;
  uint64_t body;
} Wire;

static int output = -1;
static pthread_mutex_t sending = PTHREAD_MUTEX_INITIALIZER;

static pthread_mutex_t receiving = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static Frame arrived; /* one frame; the host waits for an answer before it sends more than that */
static bool full, ended;
static void (*when_ended)(void);

static bool read_all(void *into, uint64_t bytes) {
  for (char *to = into; bytes;) {
    ssize_t count = read(STDIN_FILENO, to, bytes < 1 << 20 ? bytes : 1 << 20);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    to += count;
    bytes -= (uint64_t)count;
  }
  return true;
}

static bool read_frame(Frame *frame) {
  Wire wire;
  Failure failure = {0};
  if (!read_all(&wire, sizeof wire)) return false;
  if (wire.head > HEAD_LIMIT || wire.body > BODY_LIMIT) {
    fputs("the input holds no frames\n", stderr);
    return false;
  }
  memcpy(frame->tag, wire.tag, sizeof wire.tag);
  frame->bytes = wire.body;
  char *head = store_take(&frame->store, 1, wire.head + 1);
  if (!read_all(head, wire.head)) return false;
  frame->body = allocate(1, wire.body);
  if (!read_all(frame->body, wire.body)) return false;
  if (wire.head && !(frame->head = json_read(head, wire.head, &frame->store, &failure))) {
    fprintf(stderr, "a frame of the host: %s\n", failure.message);
    return false;
  }
  return true;
}

static void *read_on(void *unused) {
  for (;;) {
    Frame frame = {0};
    if (!read_frame(&frame)) {
      frame_release(&frame);
      break;
    }
    pthread_mutex_lock(&receiving);
    while (full) pthread_cond_wait(&changed, &receiving);
    arrived = frame;
    full = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&receiving);
  }
  pthread_mutex_lock(&receiving);
  ended = true;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&receiving);
  when_ended();
  sleep(SECONDS_TO_END); /* a kernel that never ends must not keep the process */
  _exit(4);
  return unused;
}

void frames_begin(void (*on_end)(void)) {
  pthread_t reader;
  signal(SIGPIPE, SIG_IGN);
  output = dup(STDOUT_FILENO);
  dup2(STDERR_FILENO, STDOUT_FILENO);
  when_ended = on_end;
  if (output < 0 || pthread_create(&reader, NULL, read_on, NULL)) {
    fputs("the agent cannot start its reader\n", stderr);
    exit(3);
  }
  pthread_detach(reader);
}

static void write_all(const void *data, uint64_t bytes) {
  for (const char *from = data; bytes;) {
    ssize_t count = write(output, from, bytes < 1 << 20 ? bytes : 1 << 20);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) _exit(5); /* nobody reads */
    from += count;
    bytes -= (uint64_t)count;
  }
}

void frame_send(const char *tag, const Text *head, const void *body, uint64_t bytes) {
  Wire wire = {.head = head ? (uint32_t)head->length : 0, .body = bytes};
  memcpy(wire.tag, tag, sizeof wire.tag);
  /* As few writes as can be: over adb each is a packet that is answered before the next one goes.
   */
  char first[TOGETHER];
  uint64_t length = sizeof wire, taken = 0;
  memcpy(first, &wire, sizeof wire);
  pthread_mutex_lock(&sending);
  if (wire.head <= sizeof first - length) {
    if (head) memcpy(first + length, head->bytes, wire.head);
    length += wire.head;
    taken = bytes < sizeof first - length ? bytes : sizeof first - length;
    if (taken) memcpy(first + length, body, taken);
    write_all(first, length + taken);
  } else {
    write_all(first, length);
    write_all(head->bytes, head->length);
  }
  if (taken < bytes) write_all((const char *)body + taken, bytes - taken);
  pthread_mutex_unlock(&sending);
}

void frame_fail(const Failure *failure) {
  Text head = {0};
  text_add(&head, "{\"kind\":\"%s\",\"message\":", failure->kind);
  text_add_quoted(&head, failure->message);
  text_add(&head, "}");
  frame_send("FAIL", &head, NULL, 0);
  text_release(&head);
}

bool frame_take(Frame *into) {
  pthread_mutex_lock(&receiving);
  while (!full && !ended) pthread_cond_wait(&changed, &receiving);
  bool taken = full;
  if (taken) *into = arrived;
  full = false;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&receiving);
  return taken;
}

void frame_release(Frame *frame) {
  free(frame->body);
  store_release(&frame->store);
}
