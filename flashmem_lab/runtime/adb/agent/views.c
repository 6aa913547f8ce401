#include "views.h"

#include <stdlib.h>
#include <string.h>

static bool is_tight(const View *view) {
  int64_t expected = 1;
  for (int at = view->dimensions - 1; at >= 0; at--) {
    if (view->shape[at] != 1 && view->strides[at] != expected) return false;
    expected *= view->shape[at];
  }
  return view->count == view->size;
}

/* Copies element by element: out of the extent into the array (`gather`), or the other way. */
static void each_element(const View *view, const uint8_t *from, uint8_t *to, bool gather) {
  int64_t index[DIMENSIONS] = {0}, place = view->offset - view->low;
  size_t item = view->item;
  for (int64_t at = 0; at < view->size; at++) {
    size_t in_extent = (size_t)place * item, in_array = (size_t)at * item;
    memcpy(to + (gather ? in_array : in_extent), from + (gather ? in_extent : in_array), item);
    for (int axis = view->dimensions - 1; axis >= 0; axis--) {
      place += view->strides[axis];
      if (++index[axis] < view->shape[axis]) break;
      place -= view->strides[axis] * view->shape[axis];
      index[axis] = 0;
    }
  }
}

void view_gather(const View *view, const uint8_t *extent, uint8_t *array) {
  if (is_tight(view))
    memcpy(array, extent, view_bytes(view));
  else
    each_element(view, extent, array, true);
}

cl_int view_write(cl_command_queue queue, cl_mem memory, const View *view, const uint8_t *array,
                  cl_event *event) {
  uint64_t offset = (uint64_t)view->low * view->item, bytes = view_extent_bytes(view);
  if (is_tight(view))
    return cl.EnqueueWriteBuffer(queue, memory, CL_FALSE, offset, bytes, array, 0, NULL, event);
  uint8_t *extent = allocate(1, bytes);
  cl_int code = cl.EnqueueReadBuffer(queue, memory, CL_TRUE, offset, bytes, extent, 0, NULL, NULL);
  if (!code) {
    each_element(view, array, extent, false);
    code = cl.EnqueueWriteBuffer(queue, memory, CL_TRUE, offset, bytes, extent, 0, NULL, event);
  }
  free(extent);
  return code;
}

cl_int view_read(cl_command_queue queue, cl_mem memory, const View *view, uint8_t *into,
                 cl_event *event) {
  return cl.EnqueueReadBuffer(queue, memory, CL_FALSE, (uint64_t)view->low * view->item,
                              view_extent_bytes(view), into, 0, NULL, event);
}
