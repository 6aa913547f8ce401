#include "weights.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "xxh3.h"

enum { ROWS_AT_ONCE = 256 };

static uint64_t available_bytes(void) {
  unsigned long long kilobytes = 0;
  char line[128];
  FILE *file = fopen("/proc/meminfo", "r");
  while (file && fgets(line, sizeof line, file))
    if (sscanf(line, "MemAvailable: %llu", &kilobytes) == 1) break;
  if (file) fclose(file);
  return file ? (uint64_t)kilobytes * 1024 : UINT64_MAX;
}

bool weights_open(Weights *weights, const Program *program, const char *const *paths, int count,
                  Failure *failure) {
  uint64_t all = 0;
  *weights = (Weights){.program = program,
                       .files = allocate((size_t)count, sizeof(int)),
                       .checked = allocate((size_t)program->span_count, sizeof(bool *))};
  if (count < program->file_count)
    return fail(failure, PLAN, "the program has weights in %d files, %d were given",
                program->file_count, count);
  uint64_t *sizes = allocate((size_t)count, sizeof *sizes);
  bool sound = true;
  for (int at = 0; sound && at < count; at++) {
    struct stat status;
    int file = open(paths[at], O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status)) {
      sound = fail(failure, FILES, "%s while opening %s", strerror(errno), paths[at]);
      break;
    }
    weights->files[weights->count++] = file;
    all += sizes[at] = (uint64_t)status.st_size;
    posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL); /* weights lie in order of use */
  }
  for (int at = 0; sound && at < program->span_count; at++) {
    const Span *span = &program->spans[at];
    if (span->offset > sizes[span->file] || span->bytes > sizes[span->file] - span->offset)
      sound = fail(failure, CORRUPT, "%s", span->name);
  }
  weights->drops = all > available_bytes() / 2;
  free(sizes);
  return sound;
}

void weights_close(Weights *weights) {
  while (weights->count) close(weights->files[--weights->count]);
  for (int at = 0; weights->checked && at < weights->program->span_count; at++)
    free(weights->checked[at]);
  free(weights->checked);
  free(weights->files);
  *weights = (Weights){0};
}

/* Fills rows that lie `pitch` apart from `offset` on; a read may stop anywhere. */
static bool fill(const Weights *weights, const Span *span, uint64_t offset, uint8_t *into,
                 uint64_t rows, size_t pitch, Failure *failure) {
  struct iovec parts[ROWS_AT_ONCE];
  int file = weights->files[span->file];
  uint64_t row = span->row_bytes;
  if (pitch == row) {
    row *= rows;
    rows = 1;
  }
  uint64_t begin = offset, done = 0, whole = row * rows; /* bytes, as if rows were tight */
  while (done < whole) {
    int count = 0;
    for (uint64_t at = done; at < whole && count < ROWS_AT_ONCE; count++) {
      uint64_t inside = at % row;
      parts[count] = (struct iovec){into + at / row * pitch + inside, row - inside};
      at += row - inside;
    }
    ssize_t got = preadv(file, parts, count, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return fail(failure, FILES, "%s while reading packed weights of '%s'", strerror(errno),
                  span->name);
    if (got == 0) return fail(failure, CORRUPT, "%s", span->name);
    done += (uint64_t)got;
    offset += (uint64_t)got;
  }
  if (weights->drops) posix_fadvise(file, (off_t)begin, (off_t)whole, POSIX_FADV_DONTNEED);
  return true;
}

/* Compares one block with its checksum. */
static bool check_block(const Span *span, uint64_t first_row, uint64_t rows, const uint8_t *data,
                        size_t pitch, Failure *failure) {
  uint64_t bytes = rows * span->row_bytes, sum;
  if (pitch == span->row_bytes) {
    sum = xxh3(data, bytes);
  } else {
    uint8_t *tight = allocate(1, bytes);
    for (uint64_t at = 0; at < rows; at++)
      memcpy(tight + at * span->row_bytes, data + at * pitch, span->row_bytes);
    sum = xxh3(tight, bytes);
    free(tight);
  }
  return sum == span->checksums[first_row / span->block_rows]
             ? true
             : fail(failure, CORRUPT, "%s", span->name);
}

bool weights_read(const Weights *weights, int index, uint64_t first_row, uint64_t rows,
                  uint8_t *into, size_t pitch, Failure *failure) {
  const Span *span = &weights->program->spans[index];
  uint64_t offset = span->offset + first_row * span->row_bytes;
  if (!fill(weights, span, offset, into, rows, pitch, failure)) return false;
  for (uint64_t at = 0; at < rows; at += span->block_rows) {
    uint64_t block = rows - at < span->block_rows ? rows - at : span->block_rows;
    if (!check_block(span, first_row + at, block, into + at * pitch, pitch, failure)) return false;
  }
  return true;
}

/* A row of a block that is met for the first time: the whole block is read, for its checksum. */
static bool take_first(Weights *weights, int index, uint64_t row, uint8_t *into, Failure *failure) {
  const Span *span = &weights->program->spans[index];
  uint64_t first = row - row % span->block_rows;
  uint64_t rows = span->rows - first < span->block_rows ? span->rows - first : span->block_rows;
  uint8_t *block = allocate(rows, span->row_bytes);
  bool sound = weights_read(weights, index, first, rows, block, span->row_bytes, failure);
  if (sound) {
    memcpy(into, block + (row - first) * span->row_bytes, span->row_bytes);
    weights->checked[index][first / span->block_rows] = true;
  }
  free(block);
  return sound;
}

bool weights_take(Weights *weights, int index, const int64_t *numbers, uint64_t count,
                  uint8_t *into, Failure *failure) {
  const Span *span = &weights->program->spans[index];
  uint64_t blocks = (span->rows + span->block_rows - 1) / span->block_rows;
  if (!weights->checked[index]) weights->checked[index] = allocate(blocks, sizeof(bool));
  for (uint64_t at = 0; at < count; at++, into += span->row_bytes) {
    int64_t number = numbers[at] < 0 ? numbers[at] + (int64_t)span->rows : numbers[at];
    if (number < 0 || number >= (int64_t)span->rows)
      return fail(failure, INPUT, "index %lld is outside table '%s', which has %llu rows",
                  (long long)numbers[at], span->name, (unsigned long long)span->rows);
    uint64_t row = (uint64_t)number;
    bool seen = weights->checked[index][row / span->block_rows];
    if (seen ? !fill(weights, span, span->offset + row * span->row_bytes, into, 1, span->row_bytes,
                     failure)
             : !take_first(weights, index, row, into, failure))
      return false;
  }
  return true;
}
