/* Files of packed weights: rows read straight into given memory, every block checked. */
#ifndef FLASHMEM_WEIGHTS_H
#define FLASHMEM_WEIGHTS_H

#include "program.h"

typedef struct Weights {
  const Program *program;
  int *files;
  int count;
  bool drops;     /* pages that were read leave the page cache: the files do not fit it twice */
  bool **checked; /* blocks of tables that were seen whole, by span; NULL before the first */
} Weights;

/* Opens the files that the program's spans number, and holds every span against its file's size. */
bool weights_open(Weights *weights, const Program *program, const char *const *paths, int count,
                  Failure *failure);
void weights_close(Weights *weights);

/* Reads whole blocks, from `first_row` on, into rows that lie `pitch` bytes apart. */
bool weights_read(const Weights *weights, int span, uint64_t first_row, uint64_t rows,
                  uint8_t *into, size_t pitch, Failure *failure);

/* Rows of a table by number, negative ones counted from its end, one behind the other. */
bool weights_take(Weights *weights, int span, const int64_t *index, uint64_t count, uint8_t *into,
                  Failure *failure);

#endif
