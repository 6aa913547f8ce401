/* The disk thread: serves the disk and transfer lanes while the main thread computes. */
#include "run.h"

/* Enqueues the uploads that are next in their lane and whose reads are done. */
static bool upload_ready(Run *run, int *next, Failure *failure) {
  const Program *program = &run->program;
  for (; *next < program->transfer.end; ++*next) {
    const Command *upload = &program->commands[*next];
    cl_event event = NULL;
    if (upload->once && !run->first) continue;
    if (!signals_ready(run->signals, upload)) break;
    int64_t begun = now_ns();
    if (!mover_upload(&run->mover, *next, &event, failure)) return false;
    cl.Flush(run->device->transfer); /* the compute queue may wait for it already */
    signals_note(run->signals, *next, begun, event);
    signals_publish(run->signals, *next, true);
  }
  return true;
}

static bool serve(Run *run, Failure *failure) {
  const Program *program = &run->program;
  int upload = program->transfer.first;
  for (int at = program->disk.first; at < program->disk.end; at++) {
    const Command *read = &program->commands[at];
    int64_t begun = 0;
    if (read->once && !run->first) continue;
    for (int one = 0; one < read->after_count; one++)
      if (!signals_wait(run->signals, DISK, read->after[one])) return false;
    if (signals_stopped(run->signals) || !mover_read(&run->mover, at, &begun, failure))
      return false;
    signals_note(run->signals, at, begun, NULL);
    signals_publish(run->signals, at, false);
    if (!upload_ready(run, &upload, failure)) return false;
  }
  return upload_ready(run, &upload, failure) &&
         (upload == program->transfer.end ? true
                                          : fail(failure, PLAN, "an upload waits for no read"));
}

void *disk_serve(void *given) {
  Run *run = given;
  Failure failure = {0};
  if (!serve(run, &failure) && failure.kind) signals_fail(run->signals, &failure);
  signals_end(run->signals, DISK);
  return NULL;
}
