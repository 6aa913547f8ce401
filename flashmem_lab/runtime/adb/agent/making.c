/* Weights are made in their order, each as soon as there is room; launches do not wait for it. */
#include "run.h"

static void done(Run *run, int command) {
  run->made[command] = now_ns();
  signals_publish(run->signals, command, false);
}

static bool weight_made(Run *run, int command, Failure *failure) {
  if (!mover_created(&run->mover, run->program.commands[command].object, failure)) return false;
  done(run, command);
  return true;
}

bool making_what_fits(Run *run, Failure *failure) {
  while (run->put_off_first < run->put_off_end) {
    int command = run->put_off[run->put_off_first];
    bool made;
    if (!objects_try(&run->objects, run->program.commands[command].object, &made, failure))
      return false;
    if (!made) return true;
    run->put_off_first++;
    if (!weight_made(run, command, failure)) return false;
  }
  return true;
}

bool making_add(Run *run, int command, Failure *failure) {
  int object = run->program.commands[command].object;
  if (is_weight(&run->program, object)) {
    run->put_off[run->put_off_end++] = command;
    return making_what_fits(run, failure);
  }
  if (!objects_create(&run->objects, object, failure)) return false;
  done(run, command);
  return true;
}

bool making_for(Run *run, int awaited, Failure *failure) {
  const Command *upload = &run->program.commands[awaited];
  if (upload->kind != UPLOAD) return true;
  int count = run->places.made_with[upload->object];
  while (run->put_off_first < run->put_off_end) {
    int command = run->put_off[run->put_off_first];
    int object = run->program.commands[command].object;
    if (run->places.made_at[object] >= count) break;
    run->put_off_first++;
    if (!objects_create(&run->objects, object, failure) || !weight_made(run, command, failure))
      return false;
  }
  return true;
}
