#include "program.h"

#include <string.h>

#include "container.h"
#include "decode.h"

#define MOST_BYTES ((uint64_t)1 << 42) /* of anything: sums of a few stay far from overflow */

enum { MOST_FILES = 256 };

bool decode_extents(const Json *list, int64_t *extents, int most, int *count, int64_t *product) {
  *product = 1;
  *count = 0;
  for (const Json *one = list->first; one; one = one->next) {
    int64_t extent;
    if (*count == most || !json_signed(one, &extent) || extent < 1 ||
        __builtin_mul_overflow(*product, extent, product) || *product > INT64_C(1) << 40)
      return false;
    extents[(*count)++] = extent;
  }
  return true;
}

static bool unsound(Decoder *decoder, const char *what, const char *name) {
  return fail(decoder->failure, PLAN, "the program is not sound: %s of '%s'", what, name);
}

static bool decode_spans(Decoder *decoder, const Json *list, const Container *container) {
  Program *program = decoder->program;
  Failure *failure = decoder->failure;
  program->spans = store_take(&program->store, list->count, sizeof(Span));
  decoder->spans = names_make(&program->store, list->count);
  for (const Json *one = list->first; one; one = one->next) {
    Span *span = &program->spans[program->span_count];
    uint64_t file;
    span->name = one->key;
    const Json *sums = json_list(one, "checksums", failure);
    if (!sums || !json_count(one, "offset", MOST_BYTES, &span->offset, failure) ||
        !json_count(one, "bytes", MOST_BYTES, &span->bytes, failure) ||
        !json_count(one, "row_bytes", MOST_BYTES, &span->row_bytes, failure) ||
        !json_count(one, "block_rows", MOST_BYTES, &span->block_rows, failure) ||
        !json_count(one, "file", MOST_FILES - 1, &file, failure))
      return false;
    if (!span->bytes || !span->row_bytes || !span->block_rows || span->bytes % span->row_bytes)
      return unsound(decoder, "the rows", one->key);
    span->rows = span->bytes / span->row_bytes;
    if (span->block_rows > span->rows) span->block_rows = span->rows;
    if (sums->count != (span->rows + span->block_rows - 1) / span->block_rows)
      return unsound(decoder, "the number of checksums", one->key);
    if (container->bundle) {
      if (span->offset > container->data_bytes ||
          span->bytes > container->data_bytes - span->offset)
        return unsound(decoder, "the place", one->key);
      span->offset += container->data_offset;
    }
    span->file = (int)file;
    if (span->file >= program->file_count) program->file_count = span->file + 1;
    uint64_t *checksums = store_take(&program->store, sums->count, sizeof *checksums);
    span->checksums = checksums;
    for (const Json *sum = sums->first; sum; sum = sum->next) {
      if (sum->type != JSON_INTEGER || sum->truth) return unsound(decoder, "a checksum", one->key);
      *checksums++ = sum->integer;
    }
    if (!names_add(&decoder->spans, one->key, program->span_count++))
      return unsound(decoder, "a second span", one->key);
  }
  return !container->bundle || program->file_count <= 1
             ? true
             : fail(failure, PLAN, "the program is not sound: a bundle is one file");
}

static bool decode_objects(Decoder *decoder, const Json *list) {
  Program *program = decoder->program;
  Failure *failure = decoder->failure;
  program->objects = store_take(&program->store, list->count, sizeof(Object));
  decoder->objects = names_make(&program->store, list->count);
  for (const Json *one = list->first; one; one = one->next) {
    Object *object = &program->objects[program->object_count];
    const char *name, *kind, *pool, *dtype;
    if (!json_text(one, "name", &name, failure) || !json_text(one, "kind", &kind, failure) ||
        !json_text(one, "pool", &pool, failure) || !json_text(one, "dtype", &dtype, failure) ||
        !json_count(one, "bytes", MOST_BYTES, &object->bytes, failure) ||
        !json_count(one, "width", 1 << 20, &object->width, failure) ||
        !json_count(one, "height", 1 << 20, &object->height, failure))
      return false;
    object->name = one->key;
    object->image = !strcmp(kind, "image2d");
    object->pool = !strcmp(pool, "texture") ? TEXTURE : BUFFER;
    object->half = !strcmp(dtype, "float16");
    object->span = names_find(&decoder->spans, one->key);
    if (strcmp(name, one->key) || !object->bytes) return unsound(decoder, "the size", one->key);
    if ((!object->image && strcmp(kind, "buffer")) ||
        (object->pool == BUFFER && strcmp(pool, "buffer")))
      return unsound(decoder, "the kind or pool", one->key);
    if (object->image != (object->width > 0 && object->height > 0))
      return unsound(decoder, "the geometry", one->key);
    if (object->image && ((!object->half && strcmp(dtype, "float32")) || object->pool != TEXTURE))
      return unsound(decoder, "the texels", one->key);
    if (!names_add(&decoder->objects, one->key, program->object_count++))
      return unsound(decoder, "a second object", one->key);
  }
  return true;
}

static bool decode_kernels(Decoder *decoder, const Json *list) {
  Program *program = decoder->program;
  program->kernels = store_take(&program->store, list->count, sizeof(Kernel));
  for (const Json *one = list->first; one; one = one->next) {
    Kernel *kernel = &program->kernels[program->kernel_count++];
    if (!json_text(one, "entry", &kernel->entry, decoder->failure) ||
        !json_text(one, "source", &kernel->source, decoder->failure))
      return false;
  }
  return true;
}

static bool decode_inputs(Decoder *decoder, const Json *list) {
  Program *program = decoder->program;
  int count = 0;
  decoder->inputs = names_make(&program->store, list->count);
  decoder->input_sizes = store_take(&program->store, list->count, sizeof(int64_t));
  for (const Json *one = list->first; one; one = one->next, count++) {
    const char *name;
    int64_t extents[DIMENSIONS];
    int dimensions;
    const Json *shape = json_list(one, "shape", decoder->failure);
    if (!shape || !json_text(one, "name", &name, decoder->failure)) return false;
    if (!decode_extents(shape, extents, DIMENSIONS, &dimensions, &decoder->input_sizes[count]))
      return unsound(decoder, "the shape", name);
    if (!names_add(&decoder->inputs, name, count)) return unsound(decoder, "a second input", name);
  }
  return true;
}

static bool decode_transport(Program *program, const Json *header, Failure *failure) {
  static const char *const names[] = {[COPY] = "copy", [MAP] = "map", [INLINE] = "inline"};
  const char *name;
  if (!json_text(header, "transport", &name, failure)) return false;
  for (size_t at = 0; at < COUNT_OF(names); at++)
    if (!strcmp(name, names[at])) {
      program->transport = (Transport)at;
      return true;
    }
  return fail(failure, PLAN, "the program wants transport '%s', which this agent has not", name);
}

static bool decode(Program *program, const Container *container, Failure *failure) {
  Decoder decoder = {.program = program, .failure = failure};
  const Json *header = container->header;
  const Json *spans = json_object(header, "spans", failure);
  const Json *objects = spans ? json_object(header, "objects", failure) : NULL;
  const Json *kernels = objects ? json_list(header, "kernels", failure) : NULL;
  const Json *layers = kernels ? json_list(header, "layers", failure) : NULL;
  const Json *inputs = layers ? json_list(header, "inputs", failure) : NULL;
  if (!inputs) return false;
  program->layer_count = (int)layers->count;
  return json_text(header, "model", &program->model, failure) &&
         json_text(header, "weights_key", &program->weights_key, failure) &&
         json_count(header, "budget_bytes", MOST_BYTES, &program->budget_bytes, failure) &&
         json_count(header, "staging_bytes", MOST_BYTES, &program->staging_bytes, failure) &&
         json_count(header, "slot_bytes", MOST_BYTES, &program->slot_bytes, failure) &&
         json_count(header, "predicted_peak_bytes", MOST_BYTES, &program->peak_bytes, failure) &&
         decode_transport(program, header, failure) && decode_spans(&decoder, spans, container) &&
         decode_objects(&decoder, objects) && decode_kernels(&decoder, kernels) &&
         decode_inputs(&decoder, inputs) && decode_lanes(&decoder, header);
}

bool program_read(const char *path, Program *into, Failure *failure) {
  Container container = {0};
  *into = (Program){0};
  return container_read(path, &container, &into->store, failure) &&
         decode(into, &container, failure) && program_check(into, failure);
}

void program_release(Program *program) {
  store_release(&program->store);
}
