/* Written from the algorithm's specification; little-endian machines only, as all of Android is. */
#include "xxh3.h"

#include <string.h>

#define PRIME32_1 0x9E3779B1u
#define PRIME32_2 0x85EBCA77u
#define PRIME32_3 0xC2B2AE3Du
#define PRIME64_1 0x9E3779B185EBCA87u
#define PRIME64_2 0xC2B2AE3D27D4EB4Fu
#define PRIME64_3 0x165667B19E3779F9u
#define PRIME64_4 0x85EBCA77C2B2AE63u
#define PRIME64_5 0x27D4EB2F165667C5u
#define PRIME_MX1 0x165667919E3779F9u
#define PRIME_MX2 0x9FB21C651E98DF25u

enum { LANES = 8, STRIPE = 64, SECRET = 192, STRIPES = (SECRET - STRIPE) / 8 };

static const uint8_t secret[SECRET] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static uint64_t read64(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

static uint32_t read32(const uint8_t *at) {
  uint32_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

/* Both halves of the 128-bit product, folded. */
static uint64_t fold(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t avalanche(uint64_t hash) {
  hash ^= hash >> 37;
  hash *= PRIME_MX1;
  return hash ^ (hash >> 32);
}

static uint64_t avalanche64(uint64_t hash) {
  hash ^= hash >> 33;
  hash *= PRIME64_2;
  hash ^= hash >> 29;
  hash *= PRIME64_3;
  return hash ^ (hash >> 32);
}

static uint64_t hash_to_16(const uint8_t *data, size_t bytes) {
  if (bytes > 8) {
    uint64_t low = read64(data) ^ read64(secret + 24) ^ read64(secret + 32);
    uint64_t high = read64(data + bytes - 8) ^ read64(secret + 40) ^ read64(secret + 48);
    return avalanche(bytes + __builtin_bswap64(low) + high + fold(low, high));
  }
  if (bytes >= 4) {
    uint64_t both = read32(data + bytes - 4) + ((uint64_t)read32(data) << 32);
    uint64_t hash = both ^ read64(secret + 8) ^ read64(secret + 16);
    hash ^= (hash << 49 | hash >> 15) ^ (hash << 24 | hash >> 40);
    hash *= PRIME_MX2;
    hash ^= (hash >> 35) + bytes;
    hash *= PRIME_MX2;
    return hash ^ (hash >> 28);
  }
  if (bytes > 0) {
    uint32_t all = (uint32_t)data[0] << 16 | (uint32_t)data[bytes >> 1] << 24 |
                   (uint32_t)data[bytes - 1] | (uint32_t)bytes << 8;
    return avalanche64(all ^ (uint64_t)(read32(secret) ^ read32(secret + 4)));
  }
  return avalanche64(read64(secret + 56) ^ read64(secret + 64));
}

static uint64_t mix16(const uint8_t *data, const uint8_t *key) {
  return fold(read64(data) ^ read64(key), read64(data + 8) ^ read64(key + 8));
}

static uint64_t hash_to_128(const uint8_t *data, size_t bytes) {
  uint64_t hash = bytes * PRIME64_1;
  for (size_t at = (bytes - 1) / 32 + 1; at-- > 0;) {
    hash += mix16(data + 16 * at, secret + 32 * at);
    hash += mix16(data + bytes - 16 * (at + 1), secret + 32 * at + 16);
  }
  return avalanche(hash);
}

static uint64_t hash_to_240(const uint8_t *data, size_t bytes) {
  uint64_t hash = bytes * PRIME64_1;
  size_t rounds = bytes / 16;
  for (size_t at = 0; at < 8; at++) hash += mix16(data + 16 * at, secret + 16 * at);
  hash = avalanche(hash);
  for (size_t at = 8; at < rounds; at++) hash += mix16(data + 16 * at, secret + 16 * (at - 8) + 3);
  hash += mix16(data + bytes - 16, secret + 136 - 17);
  return avalanche(hash);
}

static void accumulate(uint64_t *lanes, const uint8_t *data, const uint8_t *key) {
  for (int at = 0; at < LANES; at++) {
    uint64_t value = read64(data + 8 * at), keyed = value ^ read64(key + 8 * at);
    lanes[at ^ 1] += value;
    lanes[at] += (keyed & 0xFFFFFFFF) * (keyed >> 32);
  }
}

static void scramble(uint64_t *lanes) {
  const uint8_t *key = secret + SECRET - STRIPE;
  for (int at = 0; at < LANES; at++) {
    lanes[at] ^= lanes[at] >> 47;
    lanes[at] ^= read64(key + 8 * at);
    lanes[at] *= PRIME32_1;
  }
}

static uint64_t hash_long(const uint8_t *data, size_t bytes) {
  uint64_t lanes[LANES] = {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3,
                           PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1};
  size_t block = (size_t)STRIPE * STRIPES, blocks = (bytes - 1) / block;
  for (size_t at = 0; at < blocks; at++) {
    for (size_t stripe = 0; stripe < STRIPES; stripe++)
      accumulate(lanes, data + at * block + stripe * STRIPE, secret + 8 * stripe);
    scramble(lanes);
  }
  size_t stripes = (bytes - 1 - block * blocks) / STRIPE;
  for (size_t stripe = 0; stripe < stripes; stripe++)
    accumulate(lanes, data + blocks * block + stripe * STRIPE, secret + 8 * stripe);
  accumulate(lanes, data + bytes - STRIPE, secret + SECRET - STRIPE - 7);
  uint64_t hash = bytes * PRIME64_1;
  for (int at = 0; at < LANES; at += 2) {
    const uint8_t *key = secret + 11 + 8 * at;
    hash += fold(lanes[at] ^ read64(key), lanes[at + 1] ^ read64(key + 8));
  }
  return avalanche(hash);
}

uint64_t xxh3(const void *data, size_t bytes) {
  if (bytes <= 16) return hash_to_16(data, bytes);
  if (bytes <= 128) return hash_to_128(data, bytes);
  if (bytes <= 240) return hash_to_240(data, bytes);
  return hash_long(data, bytes);
}
