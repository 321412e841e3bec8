#define _GNU_SOURCE  // MADV_DONTDUMP, mlock2
#include "Memory.h"

#include "Result.h"

#include <string.h>
#include <sys/mman.h>

static void *map(size_t size, int sharing) {
  void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? NULL : pages;
}

// Mapped memory that pieces are taken from.
struct chunk {
  char *next;
  size_t left;
};

/// Takes a piece of a chunk, or of a new one of `chunk_size`.
static void *cut(struct chunk *chunk, size_t size, size_t chunk_size, int sharing) {
  if (chunk->left < size) {
    chunk->next = map(chunk_size, sharing);
    chunk->left = chunk->next ? chunk_size : 0;
    if (!chunk->next) return NULL;
  }
  char *memory = chunk->next;
  chunk->next += size;
  chunk->left -= size;
  return memory;
}

// What `csys_allocate` was told to take its memory from.
static char *given;
static size_t given_left;

void csys_allocate_in(void *memory, size_t size) {
  if (memory) csys_release_pages(memory, size);
  given = memory;
  given_left = size;
}

// Larger pieces have pages of their own.
enum { SMALL = 2048 };

void *csys_allocate(size_t size) {
  enum { CHUNK = 65536, ALIGNMENT = 64 };
  static struct chunk chunk;
  if (size > SMALL && !given) return map(size, MAP_PRIVATE);
  if (size > SIZE_MAX - ALIGNMENT) return NULL;
  size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (given) {
    if (given_left < size) return NULL;
    given_left -= size;
    return (given += size) - size;
  }
  return cut(&chunk, size, CHUNK, MAP_PRIVATE);
}

void csys_release(void *memory, size_t size) {
  if (size > SMALL && !given) munmap(memory, size);
}

// Pages for keys.
enum { KEY_PAGE = 4096, KEY_ROOM = 24576, KEY_SIZE = 256 };
static char *key_room;

// A table of keys, which has pages of its own.
static void *key_table;
static size_t key_table_size;

static void lock(void *pages, size_t size) {
  madvise(pages, size, MADV_DONTDUMP);
  // A page costs nothing before it is used, and then it is locked at once. So a process without privileges may use
  // it without a system call.
  mlock2(pages, size, MLOCK_ONFAULT);
}

void csys_lock_keys(void) {
  lock(key_room, KEY_ROOM);
  if (key_table) lock(key_table, key_table_size);
}

void *csys_allocate_key_table(size_t size) {
  key_table_size = size;
  return key_table = map(size, MAP_PRIVATE);
}

void *csys_allocate_answer_keys(size_t size) {
  void *pages = map(size, MAP_PRIVATE);
  if (!pages || madvise(pages, size, MADV_DONTFORK) < 0) return NULL;
  lock(pages, size);
  return pages;
}

// A list: each free place begins with the address of the next. All have at least the size of a single key.
static void *free_key;
static size_t key_room_used;
static unsigned key_count;

void csys_release_key(void *key) {
  memcpy(key, &free_key, sizeof free_key);
  free_key = key;
  // A process without keys needs no page for them. Not before Linux 5.18. Source: madvise(2).
  enum { DONTNEED_LOCKED = 24 };
  if (--key_count || madvise(key_room, KEY_ROOM, DONTNEED_LOCKED) < 0) return;
  // A list of one place, in the page that comes first.
  free_key = key_room;
  key_room_used = KEY_SIZE;
}

void *csys_allocate_key(size_t size) {
  if (free_key && size <= KEY_SIZE) {
    void *key = free_key;
    memcpy(&free_key, key, sizeof free_key);
    key_count++;
    return key;
  }
  if (!key_room) {
    key_room = map(KEY_ROOM, MAP_PRIVATE);
    if (!key_room) return NULL;
    // Android allows no program mlock2, and a client needs no more than this page.
    madvise(key_room, KEY_ROOM, MADV_DONTDUMP);
    mlock(key_room, KEY_PAGE);
  }
  if (size > KEY_SIZE) csys_lock_keys();
  size = (size + 63) / 64 * 64;
  if (size > KEY_ROOM - key_room_used) return NULL;
  key_room_used += size;
  key_count++;
  return key_room + key_room_used - size;
}

void *csys_map_shared(size_t size) {
  // Pages are free until they are touched, so small pieces come before large ones in the same page.
  enum { CHUNK = 1 << 18, ALIGNMENT = 64 };
  static struct chunk chunk;
  if (size > CHUNK) return map(size, MAP_SHARED);
  size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return cut(&chunk, size, CHUNK, MAP_SHARED);
}

void csys_release_pages(void *pages, size_t size) { madvise(pages, size, MADV_DONTNEED); }

uint32_t csys_load(const uint32_t *number) { return __atomic_load_n(number, __ATOMIC_RELAXED); }

void csys_store(uint32_t *number, uint32_t value) { __atomic_store_n(number, value, __ATOMIC_RELAXED); }
