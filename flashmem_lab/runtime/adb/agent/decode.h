/* Shared by the two files that turn the header of a bundle into a Program. */
#ifndef FLASHMEM_DECODE_H
#define FLASHMEM_DECODE_H

#include "json.h"
#include "names.h"
#include "program.h"

typedef struct Decoder {
  Program *program;
  Names objects, spans;
  Names inputs;         /* of the user's inputs: index into `input_sizes` */
  int64_t *input_sizes; /* elements */
  Failure *failure;
} Decoder;

/* Reads the four lanes and ties commands to each other. Objects, spans and kernels are there. */
bool decode_lanes(Decoder *decoder, const Json *header);

/* The product of a list of positive extents, at most 2^40. */
bool decode_extents(const Json *list, int64_t *extents, int most, int *count, int64_t *product);

#endif
