/* Strided views on device buffers: writing arrays to them, reading them back. Arrays are row-major
 * and tight, of the view's element type. */
#ifndef FLASHMEM_VIEWS_H
#define FLASHMEM_VIEWS_H

#include "opencl.h"
#include "program.h"

/* Writes an array into a view. What lies between a strided view's elements is kept; for that it
 * waits. Else the array must live until `*event` is over. */
cl_int view_write(cl_command_queue queue, cl_mem memory, const View *view, const uint8_t *array,
                  cl_event *event);

/* Reads what lies from a view's first element to its last, view->count elements, without waiting.
 */
cl_int view_read(cl_command_queue queue, cl_mem memory, const View *view, uint8_t *into,
                 cl_event *event);

/* The array of a view, out of what `view_read` read. */
void view_gather(const View *view, const uint8_t *extent, uint8_t *array);

static inline uint64_t view_bytes(const View *view) {
  return (uint64_t)view->size * view->item;
}
static inline uint64_t view_extent_bytes(const View *view) {
  return (uint64_t)view->count * view->item;
}

#endif
