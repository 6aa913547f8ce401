/* A strict reader of JSON, and questions to what was read. */
#ifndef FLASHMEM_JSON_H
#define FLASHMEM_JSON_H

#include "base.h"

typedef enum JsonType {
  JSON_NULL,
  JSON_BOOL,
  JSON_INTEGER,
  JSON_REAL,
  JSON_TEXT,
  JSON_LIST,
  JSON_OBJECT
} JsonType;

typedef struct Json {
  JsonType type;
  bool truth;      /* of a bool; of an integer: it is negative */
  uint32_t count;  /* elements of a list or an object */
  const char *key; /* of a member of an object */
  union {
    uint64_t integer; /* its magnitude */
    double real;
    const char *text;   /* terminated; without a NUL inside */
    struct Json *first; /* element or member */
  };
  struct Json *next;
} Json;

/* Reads one value that fills `text` (of `bytes` bytes, whose content is spoilt: texts are decoded
 * in place and live as long as it does). NULL, with `failure` set: it is not JSON, or is larger
 * or nested deeper than any that we write. */
Json *json_read(char *text, size_t bytes, Store *store, Failure *failure);

/* The member `key` of an object, NULL where there is none, or no object. */
const Json *json_member(const Json *object, const char *key);

/* Members of a type and within bounds; false, with `failure` set, where they are not. */
bool json_count(const Json *object, const char *key, uint64_t most, uint64_t *into,
                Failure *failure);
bool json_signed(const Json *value, int64_t *into);
bool json_real(const Json *value, double *into);
bool json_bool(const Json *object, const char *key, bool *into, Failure *failure);
bool json_text(const Json *object, const char *key, const char **into, Failure *failure);
const Json *json_list(const Json *object, const char *key, Failure *failure);
const Json *json_object(const Json *object, const char *key, Failure *failure);

#endif
