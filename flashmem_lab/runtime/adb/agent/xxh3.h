/* XXH3, 64 bits, seed 0: the checksum of headers and of blocks of weights. */
#ifndef FLASHMEM_XXH3_H
#define FLASHMEM_XXH3_H

#include <stddef.h>
#include <stdint.h>

uint64_t xxh3(const void *data, size_t bytes);

#endif
