/* The Program value of program/program.py, as the agent holds it. What is named in the file is an
 * index here; indices are sound once `program_read` returned. */
#ifndef FLASHMEM_PROGRAM_H
#define FLASHMEM_PROGRAM_H

#include "base.h"

enum { NONE = -1, DIMENSIONS = 16, CARRIED = 4 };

typedef enum Pool { TEXTURE, BUFFER, STAGING, POOLS } Pool;
typedef enum Transport { COPY, MAP, INLINE } Transport;
typedef enum Kind {
  ALLOC,
  FREE,
  READ,
  UPLOAD,
  LAUNCH,
  MOVE,
  ROW_FETCH,
  HOST_CALL,
  WRITE_INPUT,
  READ_OUTPUT
} Kind;

typedef struct Object {
  const char *name;
  bool image, half; /* half: of an image of float16 */
  Pool pool;
  uint64_t bytes, width, height;
  int span; /* of a weight, else NONE */
} Object;

typedef struct Span {
  const char *name;
  int file;
  uint64_t offset, bytes, row_bytes, rows, block_rows;
  const uint64_t *checksums; /* one for each block */
} Span;

typedef struct View {
  int object;
  uint64_t item; /* bytes of an element */
  int dimensions;
  int64_t shape[DIMENSIONS], strides[DIMENSIONS], offset; /* elements */
  int64_t size;                                           /* elements in all */
  int64_t low, count; /* first element that it touches, elements from there to the last */
} View;

typedef struct Argument {
  enum { AS_OBJECT, AS_INT, AS_FLOAT } as;
  union {
    int object;
    int32_t integer;
    float real;
  };
} Argument;

typedef struct Command {
  Kind kind;
  int64_t id; /* in the file; commands are known by their index here */
  bool once;  /* first run only */
  int object; /* of ALLOC, FREE; the weight of READ, UPLOAD, MOVE */
  uint64_t first_row, rows, bytes;
  int layer;
  const char *name; /* of a compute command */
  int kernel, dimensions;
  size_t global[3], local[3]; /* local[0] = 0: the driver's choice */
  Argument *arguments;
  int argument_count;
  int *after, after_count;   /* commands */
  int *carries, carry_count; /* UPLOADs that its kernel moves */
  View *views;               /* of WRITE_INPUT, READ_OUTPUT and ROW_FETCH one; of HOST_CALL the
                                inputs, then the outputs */
  int input_count, output_count;
  int table; /* span of ROW_FETCH */
} Command;

typedef struct Lane {
  int first, end; /* commands [first, end) */
} Lane;

typedef struct Kernel {
  const char *entry, *source;
} Kernel;

typedef struct Program {
  const char *model, *weights_key;
  uint64_t budget_bytes, staging_bytes, slot_bytes, peak_bytes;
  Transport transport;
  Object *objects;
  int object_count;
  Span *spans;
  int span_count;
  int file_count;    /* files that the spans name */
  Command *commands; /* lane after lane */
  int command_count;
  Lane memory, disk, transfer, compute;
  Kernel *kernels;
  int kernel_count;
  int layer_count;
  Store store;
} Program;

/* Reads a bundle (or a program file, whose weights lie elsewhere) and verifies it: check.c says
 * what holds afterwards. */
bool program_read(const char *path, Program *into, Failure *failure);
void program_release(Program *program);

/* The rules of program/check.py on which the agent's own safety rests. */
bool program_check(const Program *program, Failure *failure);

static inline bool is_weight(const Program *program, int object) {
  return program->objects[object].pool == TEXTURE;
}

#endif
