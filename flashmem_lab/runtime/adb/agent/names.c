#include "names.h"

#include <string.h>

#include "xxh3.h"

struct NameSlot {
  const char *name; /* NULL: of a number, or free */
  int64_t number;
  int index;
  bool taken;
};

Names names_make(Store *store, size_t count) {
  uint32_t slots = 8;
  while (slots < 2 * count) slots *= 2;
  return (Names){store_take(store, slots, sizeof(struct NameSlot)), slots - 1};
}

/* The slot of a key, or the free one where it belongs. */
static struct NameSlot *slot_of(const Names *names, const char *name, int64_t number) {
  uint64_t hash = name ? xxh3(name, strlen(name)) : xxh3(&number, sizeof number);
  for (uint32_t at = (uint32_t)hash & names->mask;; at = (at + 1) & names->mask) {
    struct NameSlot *slot = &names->slots[at];
    if (!slot->taken) return slot;
    if (name ? slot->name && !strcmp(slot->name, name) : !slot->name && slot->number == number)
      return slot;
  }
}

static bool add(Names *names, const char *name, int64_t number, int index) {
  struct NameSlot *slot = slot_of(names, name, number);
  if (slot->taken) return false;
  *slot = (struct NameSlot){name, number, index, true};
  return true;
}

static int find(const Names *names, const char *name, int64_t number) {
  const struct NameSlot *slot = slot_of(names, name, number);
  return slot->taken ? slot->index : -1;
}

bool names_add(Names *names, const char *name, int index) {
  return add(names, name, 0, index);
}
bool numbers_add(Names *names, int64_t number, int index) {
  return add(names, NULL, number, index);
}
int names_find(const Names *names, const char *name) {
  return find(names, name, 0);
}
int numbers_find(const Names *names, int64_t number) {
  return find(names, NULL, number);
}
