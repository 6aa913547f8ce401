#include "container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inflate.h"
#include "xxh3.h"

enum { PREAMBLE = 4096, ALIGNMENT = 4096, VERSION = 2 };
#define HEADER_LIMIT (64u << 20)
#define PLAIN_LIMIT (128u << 20)

typedef struct Preamble {
  char magic[8];
  uint32_t version, flags;
  uint64_t header_offset, header_bytes, plain_bytes, header_sum, data_offset, data_bytes,
      file_bytes;
} Preamble;
_Static_assert(sizeof(Preamble) == 72, "the fields lie in the file as they lie here");

static bool read_at(int file, void *into, size_t bytes, uint64_t offset) {
  for (char *to = into; bytes;) {
    ssize_t count = pread(file, to, bytes, (off_t)offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    to += count;
    bytes -= (size_t)count;
    offset += (uint64_t)count;
  }
  return true;
}

static bool check_preamble(const Preamble *found, const uint8_t *raw, uint64_t size, bool *bundle,
                           Failure *failure) {
  *bundle = !memcmp(found->magic, "FMLBUN\r\n", 8);
  if (!*bundle && memcmp(found->magic, "FMLPRG\r\n", 8))
    return fail(failure, BUNDLE, "it does not begin with the right magic bytes");
  if (found->version != VERSION)
    return fail(failure, BUNDLE, "it has format version %u, this agent reads %d", found->version,
                VERSION);
  uint64_t sum;
  memcpy(&sum, raw + PREAMBLE - sizeof sum, sizeof sum);
  if (sum != xxh3(raw, PREAMBLE - sizeof sum))
    return fail(failure, BUNDLE, "its preamble does not match its checksum");
  if (found->flags)
    return fail(failure, BUNDLE, "it uses features unknown to this agent (flags %#x)",
                found->flags);
  if (found->file_bytes != size)
    return fail(failure, BUNDLE, "it has %llu bytes instead of %llu: truncated or extended",
                (unsigned long long)size, (unsigned long long)found->file_bytes);
  if (found->header_bytes > HEADER_LIMIT || found->plain_bytes > PLAIN_LIMIT)
    return fail(failure, BUNDLE, "its header is larger than any real one");
  uint64_t header = found->header_offset, data = found->data_offset;
  bool inside = header >= PREAMBLE && data >= PREAMBLE && header <= size && data <= size &&
                found->header_bytes <= size - header && found->data_bytes <= size - data;
  bool apart =
      inside && (header + found->header_bytes <= data || data + found->data_bytes <= header);
  if (!apart || data % ALIGNMENT)
    return fail(failure, BUNDLE, "its header and data sections overlap or lie outside the file");
  return true;
}

static bool read_header(int file, const Preamble *preamble, Container *into, Store *store,
                        Failure *failure) {
  uint8_t *packed = allocate(1, preamble->header_bytes);
  char *plain = store_take(store, 1, preamble->plain_bytes + 1);
  bool same = read_at(file, packed, preamble->header_bytes, preamble->header_offset) &&
              xxh3(packed, preamble->header_bytes) == preamble->header_sum;
  bool expanded =
      same && inflate(packed, preamble->header_bytes, (uint8_t *)plain, preamble->plain_bytes);
  free(packed);
  if (!same) return fail(failure, BUNDLE, "its header does not match its checksum");
  if (!expanded) return fail(failure, BUNDLE, "its header does not expand to the stated size");
  into->header = json_read(plain, preamble->plain_bytes, store, failure);
  return into->header != NULL;
}

bool container_read(const char *path, Container *into, Store *store, Failure *failure) {
  uint8_t raw[PREAMBLE];
  Preamble preamble;
  struct stat status;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return fail(failure, FILES, "%s while opening %s", strerror(errno), path);
  bool sound = false;
  if (fstat(file, &status) || !S_ISREG(status.st_mode)) {
    fail(failure, BUNDLE, "it is no file");
  } else if (!read_at(file, raw, sizeof raw, 0)) {
    fail(failure, BUNDLE, "it is truncated");
  } else {
    memcpy(&preamble, raw, sizeof preamble);
    sound = check_preamble(&preamble, raw, (uint64_t)status.st_size, &into->bundle, failure) &&
            read_header(file, &preamble, into, store, failure);
    into->data_offset = preamble.data_offset;
    into->data_bytes = preamble.data_bytes;
  }
  close(file);
  return sound;
}
