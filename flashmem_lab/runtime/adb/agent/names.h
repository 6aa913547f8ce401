/* A table from texts or numbers to indices. */
#ifndef FLASHMEM_NAMES_H
#define FLASHMEM_NAMES_H

#include "base.h"

typedef struct Names {
  struct NameSlot *slots;
  uint32_t mask;
} Names;

/* A table with room for `count` entries. */
Names names_make(Store *store, size_t count);

/* Adds an entry; false where the name is there already. */
bool names_add(Names *names, const char *name, int index);
bool numbers_add(Names *names, int64_t number, int index);

/* The index of a name or number, -1 where there is none. */
int names_find(const Names *names, const char *name);
int numbers_find(const Names *names, int64_t number);

#endif
