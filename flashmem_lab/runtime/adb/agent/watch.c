#include "watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "frames.h"

enum { INTERVAL_NS = 5000000, SAMPLES_A_FRAME = 10 };

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

static void tell(const Watch *watch) {
  const Run *run = watch->run;
  const Ledger *ledger = &run->objects.ledger;
  Text head = {0};
  text_add(&head, "{\"layer\":%d,\"texture\":%llu,\"buffer\":%llu,\"staging\":%llu}", run->layer,
           (unsigned long long)ledger->held[TEXTURE], (unsigned long long)ledger->held[BUFFER],
           (unsigned long long)ledger->held[STAGING]);
  frame_send("STAT", &head, NULL, 0);
  text_release(&head);
}

static void *watch_on(void *given) {
  Watch *watch = given;
  struct timespec pause = {0, INTERVAL_NS};
  for (int round = 0; !watch->over; round++) {
    if (round % SAMPLES_A_FRAME == 0) tell(watch);
    sample(watch);
    nanosleep(&pause, NULL);
  }
  return NULL;
}

bool watch_begin(Watch *watch, const Run *run, Failure *failure) {
  *watch = (Watch){.run = run};
  sample(watch);
  return pthread_create(&watch->thread, NULL, watch_on, watch)
             ? fail(failure, FILES, "no thread to watch the run")
             : true;
}

void watch_end(Watch *watch) {
  watch->over = true;
  pthread_join(watch->thread, NULL);
  sample(watch);
}

void watch_release(Watch *watch) { free(watch->samples); }
