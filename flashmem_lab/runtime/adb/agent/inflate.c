#include "inflate.h"

#include <string.h>

enum { MAX_BITS = 15, LITERALS = 288, DISTANCES = 32, LENGTH_CODES = 19, END = 256 };

typedef struct Stream {
  const uint8_t *data;
  size_t bytes, at;
  uint32_t held; /* bits that were taken from `data` and not yet used */
  int count;     /* of them */
  uint8_t *into;
  size_t size, done;
  bool damaged;
} Stream;

/* A canonical Huffman code: how many codes have each length, and the symbols in order of code. */
typedef struct Code {
  uint16_t counts[MAX_BITS + 1];
  uint16_t symbols[LITERALS];
} Code;

static uint32_t bits(Stream *stream, int wanted) {
  while (stream->count < wanted) {
    if (stream->at == stream->bytes) {
      stream->damaged = true;
      return 0;
    }
    stream->held |= (uint32_t)stream->data[stream->at++] << stream->count;
    stream->count += 8;
  }
  uint32_t value = stream->held & ((1u << wanted) - 1);
  stream->held >>= wanted;
  stream->count -= wanted;
  return value;
}

/* Returns false where the lengths promise more codes than there are. Fewer are let pass: a lone
 * distance is coded so, and a code that stands for nothing is refused when it is met. */
static bool make_code(Code *code, const uint8_t *lengths, int count) {
  uint16_t next[MAX_BITS + 1];
  memset(code->counts, 0, sizeof code->counts);
  for (int at = 0; at < count; at++) code->counts[lengths[at]]++;
  code->counts[0] = 0;
  int left = 1;
  next[1] = 0;
  for (int length = 1; length <= MAX_BITS; length++) {
    left = 2 * left - code->counts[length];
    if (left < 0) return false;
    if (length < MAX_BITS) next[length + 1] = (uint16_t)(next[length] + code->counts[length]);
  }
  for (int at = 0; at < count; at++)
    if (lengths[at]) code->symbols[next[lengths[at]]++] = (uint16_t)at;
  return true;
}

static int symbol(Stream *stream, const Code *code) {
  int value = 0, first = 0, before = 0;
  for (int length = 1; length <= MAX_BITS; length++) {
    value |= (int)bits(stream, 1);
    if (stream->damaged) return -1;
    int count = code->counts[length];
    if (value - first < count) return code->symbols[before + value - first];
    before += count;
    first = (first + count) << 1;
    value <<= 1;
  }
  return -1;
}

static bool expand(Stream *stream, const Code *literals, const Code *distances) {
  static const uint16_t lengths[] = {3,  4,  5,  6,   7,   8,   9,   10,  11, 13,
                                     15, 17, 19, 23,  27,  31,  35,  43,  51, 59,
                                     67, 83, 99, 115, 131, 163, 195, 227, 258};
  static const uint8_t length_bits[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                        2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
  static const uint16_t offsets[] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                     33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                     1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
  static const uint8_t offset_bits[] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                        6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
  for (;;) {
    int found = symbol(stream, literals);
    if (found == END) return true;
    if (found < 0) return false;
    if (found < END) {
      if (stream->done == stream->size) return false;
      stream->into[stream->done++] = (uint8_t)found;
      continue;
    }
    if (found - END - 1 >= (int)sizeof length_bits) return false;
    size_t length = lengths[found - END - 1] + bits(stream, length_bits[found - END - 1]);
    int way = symbol(stream, distances);
    if (way < 0 || way >= (int)sizeof offset_bits) return false;
    size_t offset = offsets[way] + bits(stream, offset_bits[way]);
    if (stream->damaged || offset > stream->done || length > stream->size - stream->done)
      return false;
    for (; length; length--, stream->done++)
      stream->into[stream->done] = stream->into[stream->done - offset];
  }
}

static bool stored(Stream *stream) {
  stream->held = 0; /* a stored block begins at a whole byte; fewer than 8 bits are held */
  stream->count = 0;
  if (stream->bytes - stream->at < 4) return false;
  const uint8_t *head = stream->data + stream->at;
  size_t length = head[0] | (size_t)head[1] << 8, inverse = head[2] | (size_t)head[3] << 8;
  stream->at += 4;
  if ((length ^ inverse) != 0xFFFF || length > stream->bytes - stream->at ||
      length > stream->size - stream->done)
    return false;
  memcpy(stream->into + stream->done, stream->data + stream->at, length);
  stream->at += length;
  stream->done += length;
  return true;
}

static bool fixed(Stream *stream) {
  uint8_t lengths[LITERALS];
  Code literals, distances;
  for (int at = 0; at < LITERALS; at++)
    lengths[at] = at < 144 ? 8 : at < 256 ? 9 : at < 280 ? 7 : 8;
  make_code(&literals, lengths, LITERALS);
  memset(lengths, 5, DISTANCES);
  make_code(&distances, lengths, DISTANCES);
  return expand(stream, &literals, &distances);
}

static bool dynamic(Stream *stream) {
  static const uint8_t order[LENGTH_CODES] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                              11, 4,  12, 3, 13, 2, 14, 1, 15};
  uint8_t lengths[LITERALS + DISTANCES] = {0};
  Code literals, distances;
  int literal_count = (int)bits(stream, 5) + 257, distance_count = (int)bits(stream, 5) + 1;
  int given = (int)bits(stream, 4) + 4, all = literal_count + distance_count;
  if (literal_count > 286 || distance_count > 30) return false;
  for (int at = 0; at < given; at++) lengths[order[at]] = (uint8_t)bits(stream, 3);
  if (stream->damaged || !make_code(&literals, lengths, LENGTH_CODES)) return false;
  memset(lengths, 0, sizeof lengths);
  for (int at = 0; at < all;) {
    int found = symbol(stream, &literals), times = 1;
    uint8_t length = 0;
    if (found < 0) return false;
    if (found < 16) {
      length = (uint8_t)found;
    } else if (found == 16) {
      if (at == 0) return false;
      length = lengths[at - 1];
      times = 3 + (int)bits(stream, 2);
    } else {
      times = found == 17 ? 3 + (int)bits(stream, 3) : 11 + (int)bits(stream, 7);
    }
    if (times > all - at) return false;
    while (times--) lengths[at++] = length;
  }
  if (stream->damaged || !lengths[END]) return false;
  if (!make_code(&literals, lengths, literal_count) ||
      !make_code(&distances, lengths + literal_count, distance_count))
    return false;
  return expand(stream, &literals, &distances);
}

static uint32_t adler32(const uint8_t *data, size_t bytes) {
  uint32_t low = 1, high = 0;
  while (bytes) {
    size_t part = bytes < 5552 ? bytes : 5552; /* as many as cannot overflow */
    bytes -= part;
    for (; part; part--) high += low += *data++;
    low %= 65521;
    high %= 65521;
  }
  return high << 16 | low;
}

bool inflate(const uint8_t *data, size_t bytes, uint8_t *into, size_t size) {
  Stream stream = {.data = data, .bytes = bytes, .at = 2, .into = into, .size = size};
  if (bytes < 6 || (data[0] & 15) != 8 || data[1] & 32 || (data[0] << 8 | data[1]) % 31)
    return false;
  for (bool last = false; !last;) {
    last = bits(&stream, 1);
    uint32_t kind = bits(&stream, 2);
    if (stream.damaged) return false;
    bool sound = kind == 0   ? stored(&stream)
                 : kind == 1 ? fixed(&stream)
                 : kind == 2 ? dynamic(&stream)
                             : false;
    if (!sound || stream.damaged) return false;
  }
  if (stream.done != size || bytes - stream.at != 4) return false;
  const uint8_t *sum = data + stream.at;
  return adler32(into, size) ==
         ((uint32_t)sum[0] << 24 | (uint32_t)sum[1] << 16 | (uint32_t)sum[2] << 8 | sum[3]);
}
