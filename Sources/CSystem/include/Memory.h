// Memory: mapped pages, and pieces of them for the rest of the process.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Zeroed memory for the rest of the process, or NULL. Small pieces share pages.
void *csys_allocate(size_t size);

/// From now on, `csys_allocate` takes its memory from `size` bytes at `memory`, and what was in them is lost.
/// NULL ends this.
void csys_allocate_in(void *memory, size_t size);

/// Gives back what `csys_allocate` returned for a size, unless it shares a page.
void csys_release(void *memory, size_t size);

/// Memory for keys, or NULL. The system keeps it out of swap and core dumps if it can. There is room for 64 keys at
/// once, and some more one by one.
void *csys_allocate_key(size_t size);

/// Zeroed memory for a table of keys, which `csys_lock_keys` locks too. For one table; NULL if out of memory.
void *csys_allocate_key_table(size_t size);

/// Zeroed memory for a table of keys that stays in this process: no fork passes it on. NULL if out of memory.
void *csys_allocate_answer_keys(size_t size);

/// Makes the memory of a key or of keys, which must be wiped, available to the next single key. Single keys all have the
/// same size.
void csys_release_key(void *key);

/// Keeps the pages of the keys out of swap and core dumps. A lock does not pass to a new process.
void csys_lock_keys(void);

/// Zeroed memory that is shared with all processes forked later, or NULL. Small pieces share a page.
void *csys_map_shared(size_t size);

/// Frees the memory that holds mapped pages. They are zero when they are used again.
void csys_release_pages(void *pages, size_t size);

/// Reads a number that another process may be writing.
uint32_t csys_load(const uint32_t *number);

/// Writes a number that another process may be reading.
void csys_store(uint32_t *number, uint32_t value);
