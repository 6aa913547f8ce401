/* Nodes that no kernel covers: the host computes them, over the wire, with the weights it has. */
#include <stdlib.h>
#include <string.h>

#include "frames.h"
#include "run.h"
#include "views.h"

static uint64_t bytes_of(const View *views, int count) {
  uint64_t bytes = 0;
  for (int at = 0; at < count; at++) bytes += view_bytes(&views[at]);
  return bytes;
}

static bool read_input(Run *run, const View *view, uint8_t *array, Failure *failure) {
  uint8_t *extent = allocate(1, view_extent_bytes(view));
  cl_command_queue queue = run->device->compute;
  cl_int code = view_read(queue, objects_memory(&run->objects, view->object), view, extent, NULL);
  if (!code) code = cl.Finish(queue);
  view_gather(view, extent, array);
  free(extent);
  return code ? opencl_fail(failure, code, "reading what the host computes with") : true;
}

static bool write_output(Run *run, const View *view, const uint8_t *array, Failure *failure) {
  cl_command_queue queue = run->device->compute;
  cl_int code = view_write(queue, objects_memory(&run->objects, view->object), view, array, NULL);
  if (!code) code = cl.Finish(queue);
  return code ? opencl_fail(failure, code, "writing what the host computed") : true;
}

bool host_call(Run *run, const Command *command, Failure *failure) {
  const View *outputs = command->views + command->input_count;
  uint64_t size = bytes_of(command->views, command->input_count);
  uint8_t *arrays = allocate(1, size), *next = arrays;
  bool sound = true;
  for (int at = 0; sound && at < command->input_count; at++) {
    sound = read_input(run, &command->views[at], next, failure);
    next += view_bytes(&command->views[at]);
  }
  if (sound) {
    Text head = {0};
    text_add(&head, "{\"command\":%lld}", (long long)command->id);
    frame_send("CALL", &head, arrays, size);
    text_release(&head);
  }
  free(arrays);
  if (!sound) return false;
  Frame answer = {0};
  if (!frame_take(&answer)) return fail(failure, CANCELLED, "stopped");
  if (memcmp(answer.tag, "VALS", 4) || answer.bytes != bytes_of(outputs, command->output_count))
    sound = fail(failure, INPUT, "the host did not compute '%s'", command->name);
  next = answer.body;
  for (int at = 0; sound && at < command->output_count; at++) {
    sound = write_output(run, &outputs[at], next, failure);
    next += view_bytes(&outputs[at]);
  }
  frame_release(&answer);
  return sound;
}
