/* Where activations lie in one buffer, and what must be made before a weight can be read: the
 * agent's share of runtime/arena.py, which says why. */
#ifndef FLASHMEM_PLACES_H
#define FLASHMEM_PLACES_H

#include "program.h"

typedef struct Places {
  bool arena;        /* activations share one buffer; else a buffer each */
  uint64_t bytes;    /* of that buffer */
  uint64_t *offsets; /* in it, by object */
  int *made_at;      /* place of each weight in the order of the Allocs, by object; else NONE */
  int *made_with;    /* how many weights are made once that weight can be read, by object */
} Places;

/* `alignment`: of every place, bytes. */
Places places_of(Program *program, uint64_t alignment);

#endif
