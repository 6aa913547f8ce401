#include "signals.h"

#include <stdlib.h>
#include <string.h>

void signals_open(Signals *signals, const Program *program) {
  pthread_mutex_lock(&signals->lock);
  signals->program = program;
  signals->marks = allocate((size_t)program->command_count, sizeof(Mark));
  pthread_mutex_unlock(&signals->lock);
}

static void release_events(Signals *signals) {
  for (int at = 0; signals->program && at < signals->program->command_count; at++)
    if (signals->marks[at].event) cl.ReleaseEvent(signals->marks[at].event);
}

void signals_close(Signals *signals) {
  pthread_mutex_lock(&signals->lock);
  release_events(signals);
  free(signals->marks);
  signals->marks = NULL;
  signals->program = NULL;
  pthread_mutex_unlock(&signals->lock);
}

void signals_begin(Signals *signals, bool first) {
  pthread_mutex_lock(&signals->lock);
  release_events(signals);
  for (int at = 0; at < signals->program->command_count; at++)
    signals->marks[at] = (Mark){.published = !first && signals->program->commands[at].once};
  for (int who = 0; who < 2; who++) {
    signals->waiting[who] = NONE;
    signals->over[who] = false;
  }
  signals->stopped = false;
  signals->failure.kind = NULL;
  pthread_mutex_unlock(&signals->lock);
}

void signals_note(Signals *signals, int command, int64_t begun, cl_event event) {
  Mark *mark = &signals->marks[command];
  mark->begun = begun;
  mark->ended = now_ns();
  mark->event = event;
  mark->noted = true;
}

void signals_publish(Signals *signals, int command, bool awaited) {
  pthread_mutex_lock(&signals->lock);
  signals->marks[command].published = true;
  signals->marks[command].awaited = awaited;
  pthread_cond_broadcast(&signals->changed);
  pthread_mutex_unlock(&signals->lock);
}

bool signals_ready(Signals *signals, const Command *command) {
  bool ready = true;
  pthread_mutex_lock(&signals->lock);
  for (int at = 0; ready && at < command->after_count; at++)
    ready = signals->marks[command->after[at]].published;
  pthread_mutex_unlock(&signals->lock);
  return ready;
}

/* Whether nobody is left who could publish what `who` waits for. */
static bool hopeless(const Signals *signals, Who who) {
  Who other = who == MAIN ? DISK : MAIN;
  int awaited = signals->waiting[other];
  return signals->over[other] || (awaited != NONE && !signals->marks[awaited].published);
}

static void fail_locked(Signals *signals, const Failure *failure) {
  if (!signals->failure.kind) signals->failure = *failure;
  signals->stopped = true;
  pthread_cond_broadcast(&signals->changed);
}

bool signals_wait(Signals *signals, Who who, int command) {
  Failure failure;
  pthread_mutex_lock(&signals->lock);
  signals->waiting[who] = command;
  pthread_cond_broadcast(&signals->changed);
  while (!signals->stopped && !signals->marks[command].published) {
    if (hopeless(signals, who)) {
      fail(&failure, PLAN, "command %lld of the program waits for one that waits for it",
           (long long)signals->program->commands[command].id);
      fail_locked(signals, &failure);
    } else {
      pthread_cond_wait(&signals->changed, &signals->lock);
    }
  }
  signals->waiting[who] = NONE;
  bool go_on = !signals->stopped;
  pthread_mutex_unlock(&signals->lock);
  return go_on;
}

void signals_fail(Signals *signals, const Failure *failure) {
  pthread_mutex_lock(&signals->lock);
  fail_locked(signals, failure);
  pthread_mutex_unlock(&signals->lock);
}

bool signals_stopped(Signals *signals) {
  pthread_mutex_lock(&signals->lock);
  bool stopped = signals->stopped;
  pthread_mutex_unlock(&signals->lock);
  return stopped;
}

void signals_end(Signals *signals, Who who) {
  pthread_mutex_lock(&signals->lock);
  signals->over[who] = true;
  pthread_cond_broadcast(&signals->changed);
  pthread_mutex_unlock(&signals->lock);
}

cl_uint signals_pending(Signals *signals, const Command *command, cl_event *into) {
  cl_uint count = 0;
  pthread_mutex_lock(&signals->lock);
  for (int at = 0; at < command->after_count; at++) {
    const Mark *mark = &signals->marks[command->after[at]];
    if (mark->awaited && mark->event) into[count++] = mark->event;
  }
  pthread_mutex_unlock(&signals->lock);
  return count;
}
