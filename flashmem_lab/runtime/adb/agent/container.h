/* The frame of bundles and program files: preamble, header, data section (program/BUNDLE.md). */
#ifndef FLASHMEM_CONTAINER_H
#define FLASHMEM_CONTAINER_H

#include "json.h"

typedef struct Container {
  bool bundle; /* it holds weights too; else they lie in files of their own */
  Json *header;
  uint64_t data_offset, data_bytes;
} Container;

/* Reads all but the data section, which is only held against the size of the file. */
bool container_read(const char *path, Container *into, Store *store, Failure *failure);

#endif
