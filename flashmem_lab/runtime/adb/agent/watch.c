#include "watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "frames.h"

enum { INTERVAL_NS = 5000000, FRAME_NS = 50000000 };

static int64_t resident_bytes(void) {
  unsigned long long size, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file) return 0;
  if (fscanf(file, "%llu %llu", &size, &resident) != 2) resident = 0;
  fclose(file);
  return (int64_t)resident * getpagesize();
}

static void sample(Watch *watch) {
  if (watch->count == watch->room) {
    size_t room = watch->room ? 2 * watch->room : 256;
    Residency *grown = realloc(watch->samples, room * sizeof *grown);
    if (!grown) return; /* the samples so far must do */
    watch->samples = grown;
    watch->room = room;
  }
  watch->samples[watch->count++] = (Residency){now_ns(), resident_bytes()};
}

/* Unless the host was told a moment ago, in this run or the one before. */
static void tell(const Watch *watch) {
  Run *run = watch->run;
  if (run->told && now_ns() - run->told < FRAME_NS) return;
  run->told = now_ns();
  const Ledger *ledger = &run->objects.ledger;
  Text head = {0};
  text_add(&head, "{\"layer\":%d,\"texture\":%llu,\"buffer\":%llu,\"staging\":%llu}", run->layer,
           (unsigned long long)ledger->held[TEXTURE], (unsigned long long)ledger->held[BUFFER],
           (unsigned long long)ledger->held[STAGING]);
  frame_send("STAT", &head, NULL, 0);
  text_release(&head);
}

/* Waits for the next sample, or for the end, which wakes it: runs of a small model take less time
 * than a pause. True at the end. */
static bool pause_or_end(Watch *watch) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += INTERVAL_NS;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  pthread_mutex_lock(&watch->lock);
  if (!watch->over) pthread_cond_timedwait(&watch->changed, &watch->lock, &until);
  bool over = watch->over;
  pthread_mutex_unlock(&watch->lock);
  return over;
}

static void *watch_on(void *given) {
  Watch *watch = given;
  while (!pause_or_end(watch)) {
    tell(watch);
    sample(watch);
  }
  return NULL;
}

bool watch_begin(Watch *watch, Run *run, Failure *failure) {
  *watch = (Watch){.run = run};
  pthread_mutex_init(&watch->lock, NULL);
  pthread_cond_init(&watch->changed, NULL);
  tell(watch);
  sample(watch);
  return pthread_create(&watch->thread, NULL, watch_on, watch)
             ? fail(failure, FILES, "no thread to watch the run")
             : true;
}

void watch_end(Watch *watch) {
  pthread_mutex_lock(&watch->lock);
  watch->over = true;
  pthread_cond_signal(&watch->changed);
  pthread_mutex_unlock(&watch->lock);
  pthread_join(watch->thread, NULL);
  sample(watch);
}

void watch_release(Watch *watch) {
  free(watch->samples);
}
