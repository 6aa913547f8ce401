/* zlib streams (RFC 1950, 1951): how the header of a bundle is stored. */
#ifndef FLASHMEM_INFLATE_H
#define FLASHMEM_INFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Expands a whole zlib stream into exactly `size` bytes. False: the stream is damaged, expands to
 * another size, or goes on behind its end. Reads and writes within the two given ranges only. */
bool inflate(const uint8_t *data, size_t bytes, uint8_t *into, size_t size);

#endif
