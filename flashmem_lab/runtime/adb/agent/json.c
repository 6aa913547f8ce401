#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 32, NODES = 4 * 1024 * 1024 };

typedef struct Reader {
  char *at, *end;
  Store *store;
  Failure *failure;
  uint32_t nodes;
} Reader;

static bool wrong(Reader *reader, const char *what) {
  return fail(reader->failure, BUNDLE, "its header is not JSON: %s, %zu bytes before its end", what,
              (size_t)(reader->end - reader->at));
}

static void skip_space(Reader *reader) {
  while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) && *reader->at) reader->at++;
}

static bool take(Reader *reader, char wanted) {
  skip_space(reader);
  if (reader->at == reader->end || *reader->at != wanted) return false;
  reader->at++;
  return true;
}

static bool hex4(Reader *reader, uint32_t *into) {
  if (reader->end - reader->at < 4) return false;
  *into = 0;
  for (int left = 4; left; left--) {
    char digit = *reader->at++;
    uint32_t value = digit >= '0' && digit <= '9'   ? (uint32_t)(digit - '0')
                     : digit >= 'a' && digit <= 'f' ? (uint32_t)(digit - 'a' + 10)
                     : digit >= 'A' && digit <= 'F' ? (uint32_t)(digit - 'A' + 10)
                                                    : 16;
    if (value > 15) return false;
    *into = *into << 4 | value;
  }
  return true;
}

/* The code point behind "\u", surrogates joined, as UTF-8: never longer than what it stands for. */
static char *unicode(Reader *reader, char *to) {
  uint32_t point, low;
  if (!hex4(reader, &point) || point == 0) return NULL;
  if (point >= 0xD800 && point < 0xE000) {
    if (point >= 0xDC00 || reader->end - reader->at < 6 || memcmp(reader->at, "\\u", 2))
      return NULL;
    reader->at += 2;
    if (!hex4(reader, &low) || low < 0xDC00 || low > 0xDFFF) return NULL;
    point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
  }
  if (point < 0x80) {
    *to++ = (char)point;
    return to;
  }
  int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  static const uint8_t heads[] = {0, 0xC0, 0xE0, 0xF0};
  *to++ = (char)(heads[more] | point >> (6 * more));
  while (more--) *to++ = (char)(0x80 | (point >> (6 * more) & 0x3F));
  return to;
}

/* Decodes in place, behind the opening quote; the closing one becomes the terminator. */
static const char *read_text(Reader *reader) {
  char *begin = reader->at, *to = begin;
  while (reader->at < reader->end) {
    char byte = *reader->at++;
    if (byte == '"') {
      *to = 0;
      return begin;
    }
    if ((unsigned char)byte < 0x20) break;
    if (byte != '\\') {
      *to++ = byte;
      continue;
    }
    if (reader->at == reader->end) break;
    static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    char escape = *reader->at++;
    const char *found = escape ? strchr(escapes, escape) : NULL;
    if (found) {
      *to++ = meanings[found - escapes];
    } else if (escape != 'u' || !(to = unicode(reader, to))) {
      break;
    }
  }
  wrong(reader, "a text that does not end, or holds what texts may not hold");
  return NULL;
}

static bool read_number(Reader *reader, Json *value) {
  const char *begin = reader->at;
  bool real = false;
  while (reader->at < reader->end && strchr("+-.0123456789eE", *reader->at) && *reader->at) {
    real |= *reader->at == '.' || *reader->at == 'e' || *reader->at == 'E';
    reader->at++;
  }
  char digits[64]; /* a copy: the number may end the text, which is not terminated */
  size_t length = (size_t)(reader->at - begin);
  if (length == 0 || length >= sizeof digits) return wrong(reader, "no value");
  memcpy(digits, begin, length);
  digits[length] = 0;
  if (real) {
    char *end;
    value->type = JSON_REAL;
    value->real = strtod(digits, &end);
    return *end || !isfinite(value->real) ? wrong(reader, "a number that is none") : true;
  }
  value->type = JSON_INTEGER;
  value->truth = digits[0] == '-';
  const char *at = digits + value->truth;
  if (!*at) return wrong(reader, "a number that is none");
  for (value->integer = 0; *at; at++) {
    if (*at < '0' || *at > '9' || __builtin_mul_overflow(value->integer, 10, &value->integer) ||
        __builtin_add_overflow(value->integer, (uint64_t)(*at - '0'), &value->integer))
      return wrong(reader, "an integer of more than 64 bits");
  }
  return true;
}

static bool read_word(Reader *reader, const char *word) {
  size_t length = strlen(word);
  if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length))
    return wrong(reader, "no value");
  reader->at += length;
  return true;
}

static bool read_value(Reader *reader, Json *value, int depth);

static bool read_elements(Reader *reader, Json *list, int depth) {
  bool object = list->type == JSON_OBJECT;
  char closing = object ? '}' : ']';
  Json **link = &list->first;
  if (depth == DEPTH) return wrong(reader, "values nested too deep");
  if (take(reader, closing)) return true;
  do {
    if (++reader->nodes > NODES) return wrong(reader, "more values than any real one");
    Json *element = *link = store_take(reader->store, 1, sizeof *element);
    link = &element->next;
    list->count++;
    if (object) {
      if (!take(reader, '"')) return wrong(reader, "a member without a name");
      if (!(element->key = read_text(reader))) return false;
      if (!take(reader, ':')) return wrong(reader, "a member without a value");
    }
    if (!read_value(reader, element, depth + 1)) return false;
  } while (take(reader, ','));
  return take(reader, closing) ? true : wrong(reader, "a list or an object that does not end");
}

static bool read_value(Reader *reader, Json *value, int depth) {
  skip_space(reader);
  if (reader->at == reader->end) return wrong(reader, "it ends too soon");
  switch (*reader->at) {
    case '{':
    case '[':
      value->type = *reader->at++ == '{' ? JSON_OBJECT : JSON_LIST;
      return read_elements(reader, value, depth);
    case '"':
      reader->at++;
      value->type = JSON_TEXT;
      return (value->text = read_text(reader)) != NULL;
    case 't':
    case 'f':
      value->type = JSON_BOOL;
      value->truth = *reader->at == 't';
      return read_word(reader, value->truth ? "true" : "false");
    case 'n': value->type = JSON_NULL; return read_word(reader, "null");
    default: return read_number(reader, value);
  }
}

Json *json_read(char *text, size_t bytes, Store *store, Failure *failure) {
  Reader reader = {.at = text, .end = text + bytes, .store = store, .failure = failure};
  Json *value = store_take(store, 1, sizeof *value);
  if (!read_value(&reader, value, 0)) return NULL;
  skip_space(&reader);
  if (reader.at != reader.end) wrong(&reader, "something behind its end");
  return reader.at == reader.end ? value : NULL;
}

const Json *json_member(const Json *object, const char *key) {
  if (!object || object->type != JSON_OBJECT) return NULL;
  for (const Json *member = object->first; member; member = member->next)
    if (!strcmp(member->key, key)) return member;
  return NULL;
}

static bool lacks(const char *key, const char *wanted, Failure *failure) {
  return fail(failure, BUNDLE, "its header has no proper %s: %s expected", key, wanted);
}

bool json_count(const Json *object, const char *key, uint64_t most, uint64_t *into,
                Failure *failure) {
  const Json *found = json_member(object, key);
  if (!found || found->type != JSON_INTEGER || (found->truth && found->integer) ||
      found->integer > most)
    return lacks(key, "a count within its bounds", failure);
  *into = found->integer;
  return true;
}

bool json_signed(const Json *value, int64_t *into) {
  if (value->type != JSON_INTEGER || value->integer > INT64_MAX) return false;
  *into = value->truth ? -(int64_t)value->integer : (int64_t)value->integer;
  return true;
}

bool json_real(const Json *value, double *into) {
  if (value->type == JSON_REAL)
    *into = value->real;
  else if (value->type == JSON_INTEGER)
    *into = value->truth ? -(double)value->integer : (double)value->integer;
  else
    return false;
  return true;
}

bool json_bool(const Json *object, const char *key, bool *into, Failure *failure) {
  const Json *found = json_member(object, key);
  if (!found || found->type != JSON_BOOL) return lacks(key, "true or false", failure);
  *into = found->truth;
  return true;
}

bool json_text(const Json *object, const char *key, const char **into, Failure *failure) {
  const Json *found = json_member(object, key);
  if (!found || found->type != JSON_TEXT) return lacks(key, "a text", failure);
  *into = found->text;
  return true;
}

const Json *json_list(const Json *object, const char *key, Failure *failure) {
  const Json *found = json_member(object, key);
  if (found && found->type == JSON_LIST) return found;
  lacks(key, "a list", failure);
  return NULL;
}

const Json *json_object(const Json *object, const char *key, Failure *failure) {
  const Json *found = json_member(object, key);
  if (found && found->type == JSON_OBJECT) return found;
  lacks(key, "an object", failure);
  return NULL;
}
