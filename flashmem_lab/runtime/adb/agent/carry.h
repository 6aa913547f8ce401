/* What kernels carry (`inline`), as their arguments describe it: program/carry.py's share. */
#ifndef FLASHMEM_CARRY_H
#define FLASHMEM_CARRY_H

#include "program.h"

/* A chunk: units of the object where it begins, and how many there are. */
typedef struct Entry {
  int upload;
  int32_t first, count; /* count 0: moves nothing */
} Entry;

/* The entries of a kernel that carries something, by unit; missing ones repeat the last and move
 * nothing. */
void carry_entries(const Program *program, const Command *command, Entry entries[CARRIED]);

#endif
