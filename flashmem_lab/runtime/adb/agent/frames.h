/* The wire to the host: frames on stdin and stdout, frames.py says which.
 *
 * A frame is a tag of four letters, u32 bytes of its head, u64 bytes of its body, the head (a JSON
 * object, or nothing) and the body (bytes as they are); integers are little-endian. */
#ifndef FLASHMEM_FRAMES_H
#define FLASHMEM_FRAMES_H

#include "json.h"

typedef struct Frame {
  char tag[5];
  const Json *head; /* NULL: none */
  uint8_t *body;
  uint64_t bytes; /* of the body */
  Store store;
} Frame;

/* Takes stdout for frames alone (what drivers print there goes to stderr) and starts to read.
 * `on_end` is called when the input ends, by another thread; the process is gone soon after,
 * whatever it still does. */
void frames_begin(void (*on_end)(void));

/* Sends a frame; for any thread. The process ends where nobody reads any more. */
void frame_send(const char *tag, const Text *head, const void *body, uint64_t bytes);

/* Sends a failure. */
void frame_fail(const Failure *failure);

/* Waits for the next frame; false when there will be none. */
bool frame_take(Frame *into);
void frame_release(Frame *frame);

#endif
