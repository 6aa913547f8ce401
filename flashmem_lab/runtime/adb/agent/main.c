/* The agent: runs programs on the OpenCL device of the machine it was started on.
 *
 *   flashmem-agent serve                     for a host, over stdin and stdout (frames.h)
 *   flashmem-agent check FILE                whether a bundle or program file is sound
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "frames.h"
#include "views.h"
#include "watch.h"

enum { PROTOCOL = 1, MOST_WEIGHT_FILES = 256, HEAP_THRESHOLD = 256 << 10 };

static Signals signals = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

typedef struct Server {
  Device device;
  Run run;
  bool open;     /* `run` is */
  int runs;      /* of it so far */
  char *kernels; /* folder of binaries */
} Server;

static void stop_run(void) {
  Failure failure;
  fail(&failure, CANCELLED, "stopped");
  signals_fail(&signals, &failure);
}

static bool wrong(Failure *failure, const char *tag) {
  return fail(failure, INPUT, "a frame '%s' that makes no sense here", tag);
}

/* --- what the host may ask ------------------------------------------------------------------ */

static void tell_built(int done, int of) {
  Text head = {0};
  text_add(&head, "{\"done\":%d,\"of\":%d}", done, of);
  frame_send("BUIL", &head, NULL, 0);
  text_release(&head);
}

static bool open_program(Server *server, const Frame *frame, Failure *failure) {
  const char *program, *kernels, *paths[MOST_WEIGHT_FILES];
  const Json *weights = json_member(frame->head, "weights");
  int count = 0;
  if (server->open || !weights) return wrong(failure, frame->tag);
  if (!json_text(frame->head, "program", &program, failure) ||
      !json_text(frame->head, "kernels", &kernels, failure))
    return false;
  if (weights->type == JSON_NULL) count = NONE;
  for (const Json *one = weights->type == JSON_LIST ? weights->first : NULL; one; one = one->next) {
    if (one->type != JSON_TEXT || count == MOST_WEIGHT_FILES) return wrong(failure, frame->tag);
    paths[count++] = one->text;
  }
  free(server->kernels);
  server->kernels = allocate(strlen(kernels) + 1, 1);
  strcpy(server->kernels, kernels);
  int64_t begun = now_ns();
  if (!run_open(&server->run, &server->device, &signals, program, paths, count, server->kernels,
                tell_built, failure))
    return false;
  server->open = true;
  server->runs = 0;
  Text head = {0};
  text_add(&head, "{\"model\":");
  text_add_quoted(&head, server->run.program.model);
  text_add(&head, ",\"compiled\":%d,\"compile_ns\":%lld,\"arena\":%s}",
           server->run.kernels.compiled, (long long)(now_ns() - begun),
           server->run.places.arena ? "true" : "false");
  frame_send("OPND", &head, NULL, 0);
  text_release(&head);
  return true;
}

static int command_of(const Server *server, int64_t id) {
  const Program *program = &server->run.program;
  for (int at = program->compute.first; at < program->compute.end; at++)
    if (program->commands[at].id == id) return at;
  return NONE;
}

static bool take_input(Server *server, Frame *frame, Failure *failure) {
  int64_t id;
  const Json *member = json_member(frame->head, "command");
  int command = server->open && member && json_signed(member, &id) ? command_of(server, id) : NONE;
  if (command == NONE || !frame->bytes || frame->bytes != run_wants(&server->run, command))
    return wrong(failure, frame->tag);
  free(server->run.given[command]);
  server->run.given[command] = frame->body;
  frame->body = NULL;
  return true;
}

/* Times of every command of the run: id, start, end, and when the device was given it, or -1. */
static int64_t *write_notes(const Run *run, int64_t *next) {
  const Program *program = &run->program;
  for (int at = 0; at < program->command_count; at++) {
    const Mark *mark = &run->signals->marks[at];
    if (program->commands[at].kind == ALLOC && run->made[at]) {
      *next++ = program->commands[at].id;
      *next++ = run->made[at];
      *next++ = run->made[at];
      *next++ = -1;
    } else if (mark->noted) {
      int64_t start = mark->begun, end = mark->ended;
      if (mark->event) clock_span(&run->clock, mark->event, mark->begun, run->ended, &start, &end);
      *next++ = program->commands[at].id;
      *next++ = start;
      *next++ = end;
      *next++ = mark->event ? mark->ended : -1;
    }
  }
  return next;
}

/* The end of a run, in one frame: over adb each costs a round trip. */
static void send_done(const Run *run, const Watch *watch) {
  size_t most = (size_t)run->program.command_count * 4;
  size_t resident = watch->count * sizeof *watch->samples;
  int64_t *records = allocate(1, most * sizeof *records + resident);
  int64_t *end = write_notes(run, records);
  size_t notes = (size_t)(end - records) * sizeof *records;
  memcpy(end, watch->samples, resident);
  Text head = {0};
  text_add(&head, "{\"start\":%lld,\"end\":%lld,\"held_peak\":%llu,\"notes\":%zu}",
           (long long)run->begun, (long long)run->ended,
           (unsigned long long)run->objects.ledger.peak, notes);
  frame_send("DONE", &head, records, notes + resident);
  text_release(&head);
  free(records);
}

static void send_outputs(const Run *run) {
  for (int at = run->program.compute.first; at < run->program.compute.end; at++) {
    const Command *command = &run->program.commands[at];
    if (command->kind != READ_OUTPUT) continue;
    uint8_t *array = allocate(1, view_bytes(command->views));
    Text head = {0};
    view_gather(command->views, run->read_back[at], array);
    text_add(&head, "{\"command\":%lld}", (long long)command->id);
    frame_send("OUTP", &head, array, view_bytes(command->views));
    text_release(&head);
    free(array);
  }
}

static bool run_program(Server *server, const Frame *frame, Failure *failure) {
  Run *run = &server->run;
  Watch watch;
  bool outputs;
  if (!server->open || !run->can_run) return wrong(failure, frame->tag);
  if (!json_bool(frame->head, "outputs", &outputs, failure) || !watch_begin(&watch, run, failure))
    return false;
  bool sound = run_once(run, server->runs++ == 0, failure);
  watch_end(&watch);
  if (sound) {
    if (outputs) send_outputs(run);
    send_done(run, &watch);
    kernels_keep(&run->kernels, run->device, &run->program, server->kernels);
  }
  watch_release(&watch);
  return sound;
}

static bool close_program(Server *server, const Frame *frame, Failure *failure) {
  if (!server->open) return wrong(failure, frame->tag);
  kernels_keep(&server->run.kernels, &server->device, &server->run.program, server->kernels);
  run_close(&server->run);
  server->open = false;
  frame_send("SHUT", NULL, NULL, 0);
  return true;
}

static bool answer(Server *server, Frame *frame, Failure *failure) {
  if (!strcmp(frame->tag, "PING")) {
    frame_send("PONG", NULL, NULL, 0);
    return true;
  }
  if (!strcmp(frame->tag, "OPEN")) return open_program(server, frame, failure);
  if (!strcmp(frame->tag, "INPT")) return take_input(server, frame, failure);
  if (!strcmp(frame->tag, "RUN ")) return run_program(server, frame, failure);
  if (!strcmp(frame->tag, "SHUT")) return close_program(server, frame, failure);
  return wrong(failure, frame->tag);
}

/* --- the program itself --------------------------------------------------------------------- */

static bool greet(Server *server, Failure *failure) {
  if (!device_open(&server->device, failure)) return false;
  Text head = {0};
  text_add(&head, "{\"protocol\":%d,\"device\":{", PROTOCOL);
  device_describe(&server->device, &head);
  text_add(&head, "}}");
  frame_send("HELO", &head, NULL, 0);
  text_release(&head);
  return true;
}

/* On a CPU device images are blocks of the heap, and glibc would keep large ones once freed
 * (runtime/opencl/heap.py). */
static void return_freed_blocks(void) {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, HEAP_THRESHOLD);
#endif
}

/* Whatever fails ends the process: a device that refused something may refuse all that follows,
 * and a new agent takes a moment. Nothing is torn down then; the system does that best. */
static int serve(void) {
  static Server server;
  Failure failure = {0};
  return_freed_blocks();
  bool loaded = opencl_load(&failure); /* first: it may start the process anew */
  frames_begin(stop_run);
  bool sound = loaded && greet(&server, &failure);
  for (Frame frame = {0}; sound && frame_take(&frame); frame = (Frame){0}) {
    sound = answer(&server, &frame, &failure);
    frame_release(&frame);
  }
  if (!sound) {
    fprintf(stderr, "%s\n", failure.message);
    frame_fail(&failure);
    _exit(1);
  }
  if (server.open) run_close(&server.run);
  _exit(0);
}

static int check(const char *path) {
  Program program;
  Failure failure = {0};
  bool sound = program_read(path, &program, &failure);
  if (sound)
    printf("%s: sound, %d commands, at most %llu bytes on the device\n", program.model,
           program.command_count, (unsigned long long)program.peak_bytes);
  else
    fprintf(stderr, "%s: %s\n", path, failure.message);
  program_release(&program);
  return sound ? 0 : 1;
}

int main(int count, char **words) {
  if (count == 2 && !strcmp(words[1], "serve")) return serve();
  if (count == 3 && !strcmp(words[1], "check")) return check(words[2]);
  fputs("usage: flashmem-agent serve\n       flashmem-agent check FILE\n", stderr);
  return 2;
}
