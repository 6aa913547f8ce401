/* The lanes of a program: from JSON to commands that know each other by index. */
#include <string.h>

#include "decode.h"

static bool unsound(Decoder *decoder, const Command *command, const char *what) {
  return fail(decoder->failure, PLAN, "the program is not sound: %s of command %lld ('%s')", what,
              (long long)command->id, command->name ? command->name : "");
}

/* The index of what member `key` names. */
static bool decode_name(Decoder *decoder, const Names *names, const Json *from, const char *key,
                        int *into) {
  const char *name;
  if (!json_text(from, key, &name, decoder->failure)) return false;
  *into = names_find(names, name);
  return *into != NONE
             ? true
             : fail(decoder->failure, PLAN, "the program is not sound: there is no '%s'", name);
}

static uint64_t item_bytes(const char *dtype) {
  static const struct {
    const char *name;
    uint64_t bytes;
  } known[] = {{"float32", 4}, {"int64", 8},  {"float16", 2}, {"bool", 1},  {"int32", 4},
               {"uint8", 1},   {"int8", 1},   {"float64", 8}, {"int16", 2}, {"uint16", 2},
               {"uint32", 4},  {"uint64", 8}, {"bfloat16", 2}};
  for (size_t at = 0; at < COUNT_OF(known); at++)
    if (!strcmp(dtype, known[at].name)) return known[at].bytes;
  return strncmp(dtype, "float8_", 7) ? 0 : 1;
}

static bool decode_view(Decoder *decoder, const Json *from, View *view) {
  const char *dtype;
  const Json *shape = json_list(from, "shape", decoder->failure);
  const Json *strides = shape ? json_list(from, "strides", decoder->failure) : NULL;
  const Json *offset = json_member(from, "offset");
  int64_t limit = INT64_C(1) << 41, high;
  if (!strides || !json_text(from, "dtype", &dtype, decoder->failure) ||
      !decode_name(decoder, &decoder->objects, from, "ref", &view->object))
    return false;
  const Object *object = &decoder->program->objects[view->object];
  view->item = item_bytes(dtype);
  if (!offset || !json_signed(offset, &view->offset) || view->offset > limit ||
      view->offset < -limit || !view->item || shape->count != strides->count || object->image ||
      !decode_extents(shape, view->shape, DIMENSIONS, &view->dimensions, &view->size))
    return fail(decoder->failure, PLAN,
                "the program is not sound: a view on '%s' has no proper shape", object->name);
  view->low = high = view->offset;
  int at = 0;
  for (const Json *one = strides->first; one; one = one->next, at++) {
    int64_t reach, *end;
    bool sound = json_signed(one, &view->strides[at]) && view->strides[at] < limit &&
                 view->strides[at] > -limit &&
                 !__builtin_mul_overflow(view->shape[at] - 1, view->strides[at], &reach);
    if (sound) {
      end = reach < 0 ? &view->low : &high;
      sound = !__builtin_add_overflow(*end, reach, end);
    }
    if (!sound || high > limit || view->low < 0) high = limit; /* beyond any object */
  }
  if (view->low < 0 || high < 0 || (uint64_t)high >= object->bytes / view->item)
    return fail(decoder->failure, PLAN, "the program is not sound: a view reaches beyond '%s'",
                object->name);
  view->count = high - view->low + 1;
  return true;
}

static bool decode_size(Decoder *decoder, Command *command, const Json *from, const char *key,
                        size_t *into, int *dimensions) {
  int64_t extents[3], product;
  const Json *list = json_list(from, key, decoder->failure);
  if (!list) return false;
  if (!decode_extents(list, extents, 3, dimensions, &product))
    return unsound(decoder, command, key);
  for (int at = 0; at < *dimensions; at++) {
    if (extents[at] > UINT32_MAX) return unsound(decoder, command, key);
    into[at] = (size_t)extents[at];
  }
  return true;
}

static bool decode_argument(Decoder *decoder, Command *command, const Json *from, Argument *into) {
  const char *kind;
  const Json *value = json_member(from, "value");
  int64_t integer;
  double real;
  if (!value || !json_text(from, "kind", &kind, decoder->failure)) return false;
  if (!strcmp(kind, "object")) {
    into->as = AS_OBJECT;
    return decode_name(decoder, &decoder->objects, from, "value", &into->object);
  }
  if (!strcmp(kind, "int") && json_signed(value, &integer) && integer <= INT32_MAX &&
      integer >= INT32_MIN) {
    into->as = AS_INT;
    into->integer = (int32_t)integer;
    return true;
  }
  if (!strcmp(kind, "float") && json_real(value, &real)) {
    into->as = AS_FLOAT;
    into->real = (float)real;
    return true;
  }
  return unsound(decoder, command, "an argument");
}

static bool decode_launch(Decoder *decoder, Command *command, const Json *from) {
  Program *program = decoder->program;
  uint64_t kernel;
  int dimensions = 0;
  if (!json_count(from, "kernel", INT32_MAX, &kernel, decoder->failure) ||
      !decode_size(decoder, command, from, "global_size", command->global, &command->dimensions) ||
      !decode_size(decoder, command, from, "local_size", command->local, &dimensions))
    return false;
  if (kernel >= (uint64_t)program->kernel_count) return unsound(decoder, command, "the kernel");
  command->kernel = (int)kernel;
  if (!command->dimensions || (dimensions && dimensions != command->dimensions))
    return unsound(decoder, command, "the size");
  for (int at = 0; at < dimensions; at++)
    if (command->global[at] % command->local[at])
      return unsound(decoder, command, "the local size");
  if (command->kind == MOVE) return json_bool(from, "once", &command->once, decoder->failure);
  const Json *list = json_list(from, "args", decoder->failure);
  if (!list) return false;
  command->arguments = store_take(&program->store, list->count, sizeof(Argument));
  for (const Json *one = list->first; one; one = one->next)
    if (!decode_argument(decoder, command, one, &command->arguments[command->argument_count++]))
      return false;
  return true;
}

/* Pairs of a name and a view; appended to the command's views. */
static bool decode_views(Decoder *decoder, const Json *list, View *views, int *count) {
  for (const Json *pair = list->first; pair; pair = pair->next) {
    if (pair->type != JSON_LIST || pair->count != 2)
      return fail(decoder->failure, PLAN, "the program is not sound: a host call has no views");
    if (!decode_view(decoder, pair->first->next, &views[(*count)++])) return false;
  }
  return true;
}

static bool is_contiguous(const View *view) {
  int64_t expected = 1;
  for (int at = view->dimensions - 1; at >= 0; at--) {
    if (view->shape[at] != 1 && view->strides[at] != expected) return false;
    expected *= view->shape[at];
  }
  return true;
}

static bool decode_host_call(Decoder *decoder, Command *command, const Json *work) {
  const Json *inputs = json_list(work, "inputs", decoder->failure);
  const Json *outputs = inputs ? json_list(work, "outputs", decoder->failure) : NULL;
  if (!outputs) return false;
  size_t all = (size_t)inputs->count + outputs->count;
  command->views = store_take(&decoder->program->store, all, sizeof(View));
  int count = 0;
  if (!decode_views(decoder, inputs, command->views, &count)) return false;
  command->input_count = count;
  if (!decode_views(decoder, outputs, command->views, &count)) return false;
  command->output_count = count - command->input_count;
  for (int at = command->input_count; at < count; at++)
    if (!is_contiguous(&command->views[at])) return unsound(decoder, command, "a written view");
  return true;
}

static bool decode_row_fetch(Decoder *decoder, Command *command, const Json *work) {
  Program *program = decoder->program;
  int input;
  View *view = command->views = store_take(&program->store, 1, sizeof(View));
  const Json *output = json_object(work, "output", decoder->failure);
  if (!output || !decode_view(decoder, output, view) ||
      !decode_name(decoder, &decoder->spans, work, "table", &command->table) ||
      !decode_name(decoder, &decoder->inputs, work, "index", &input))
    return false;
  command->rows = (uint64_t)decoder->input_sizes[input];
  uint64_t columns = (uint64_t)view->size / command->rows;
  uint64_t row_bytes = program->spans[command->table].row_bytes;
  if (view->item != 4 || (uint64_t)view->size % command->rows || !is_contiguous(view) ||
      (columns != row_bytes / 4 && columns != row_bytes / 2))
    return unsound(decoder, command, "the rows");
  return true;
}

static bool decode_compute(Decoder *decoder, Command *command, const Json *from, const char *type) {
  Failure *failure = decoder->failure;
  uint64_t layer;
  if (!json_text(from, "name", &command->name, failure) ||
      !json_count(from, "layer", INT32_MAX, &layer, failure))
    return false;
  if (layer >= (uint64_t)decoder->program->layer_count)
    return unsound(decoder, command, "the layer");
  command->layer = (int)layer;
  if (!strcmp(type, "Launch") || !strcmp(type, "Move")) {
    command->kind = *type == 'L' ? LAUNCH : MOVE;
    return decode_launch(decoder, command, from);
  }
  if (!strcmp(type, "HostStep")) {
    const Json *work = json_object(from, "work", failure);
    const char *kind;
    if (!work || !json_text(work, "type", &kind, failure)) return false;
    command->kind = strcmp(kind, "RowFetch") ? HOST_CALL : ROW_FETCH;
    if (command->kind == ROW_FETCH) return decode_row_fetch(decoder, command, work);
    return strcmp(kind, "HostCall") ? unsound(decoder, command, "the work")
                                    : decode_host_call(decoder, command, work);
  }
  bool writes = !strcmp(type, "WriteInput");
  if (!writes && strcmp(type, "ReadOutput")) return unsound(decoder, command, "the type");
  command->kind = writes ? WRITE_INPUT : READ_OUTPUT;
  command->views = store_take(&decoder->program->store, 1, sizeof(View));
  const Json *view = json_object(from, "view", failure);
  return view && decode_view(decoder, view, command->views);
}

static bool decode_moved(Decoder *decoder, Command *command, const Json *from) {
  Failure *failure = decoder->failure;
  command->name = "";
  return decode_name(decoder, &decoder->objects, from, "weight", &command->object) &&
         json_count(from, "first_row", INT64_MAX, &command->first_row, failure) &&
         json_count(from, "rows", INT64_MAX, &command->rows, failure) &&
         json_count(from, "bytes", INT64_MAX, &command->bytes, failure) &&
         json_bool(from, "once", &command->once, failure);
}

static bool decode_command(Decoder *decoder, Command *command, const Json *from, const char *lane) {
  Failure *failure = decoder->failure;
  const Json *id = json_member(from, "id");
  const char *type;
  if (!id || !json_signed(id, &command->id))
    return fail(failure, PLAN, "the program is not sound: a command of lane %s has no id", lane);
  if (!strcmp(lane, "disk") || !strcmp(lane, "transfer")) {
    command->kind = *lane == 'd' ? READ : UPLOAD;
    return decode_moved(decoder, command, from);
  }
  if (!json_text(from, "type", &type, failure)) return false;
  if (!strcmp(lane, "compute")) return decode_compute(decoder, command, from, type);
  bool made = !strcmp(type, "Alloc");
  if (!made && strcmp(type, "Free")) return unsound(decoder, command, "the type");
  command->kind = made ? ALLOC : FREE;
  command->name = "";
  return decode_name(decoder, &decoder->objects, from, "object", &command->object) &&
         (!made || json_bool(from, "once", &command->once, failure));
}

/* Ids to indices, once every command is known. */
static bool decode_ids(Decoder *decoder, const Names *ids, Command *command, const Json *from,
                       const char *key, int **into, int *count) {
  const Json *list = json_list(from, key, decoder->failure);
  if (!list) return false;
  *into = store_take(&decoder->program->store, list->count, sizeof(int));
  for (const Json *one = list->first; one; one = one->next) {
    int64_t id;
    int found = json_signed(one, &id) ? numbers_find(ids, id) : NONE;
    if (found == NONE) return unsound(decoder, command, "what is waited for or carried");
    (*into)[(*count)++] = found;
  }
  return true;
}

bool decode_lanes(Decoder *decoder, const Json *header) {
  Program *program = decoder->program;
  struct {
    const char *name;
    Lane *lane;
    const Json *list;
  } lanes[] = {{"memory", &program->memory, NULL},
               {"disk", &program->disk, NULL},
               {"transfer", &program->transfer, NULL},
               {"compute", &program->compute, NULL}};
  size_t all = 0;
  for (size_t at = 0; at < COUNT_OF(lanes); at++) {
    if (!(lanes[at].list = json_list(header, lanes[at].name, decoder->failure))) return false;
    all += lanes[at].list->count;
  }
  program->commands = store_take(&program->store, all, sizeof(Command));
  Names ids = names_make(&program->store, all);
  for (size_t at = 0; at < COUNT_OF(lanes); at++) {
    lanes[at].lane->first = program->command_count;
    for (const Json *one = lanes[at].list->first; one; one = one->next) {
      Command *command = &program->commands[program->command_count];
      if (!decode_command(decoder, command, one, lanes[at].name)) return false;
      if (!numbers_add(&ids, command->id, program->command_count++))
        return unsound(decoder, command, "a second command with the id");
    }
    lanes[at].lane->end = program->command_count;
  }
  for (size_t at = 0; at < COUNT_OF(lanes); at++) {
    Command *command = &program->commands[lanes[at].lane->first];
    for (const Json *one = lanes[at].list->first; one; one = one->next, command++) {
      if (command->kind != ALLOC &&
          !decode_ids(decoder, &ids, command, one, "after", &command->after, &command->after_count))
        return false;
      if ((command->kind == LAUNCH || command->kind == MOVE) &&
          !decode_ids(decoder, &ids, command, one, "carries", &command->carries,
                      &command->carry_count))
        return false;
    }
  }
  return true;
}
