// Three things that musl does not do for us in a static-PIE file. Linked into each.

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

// Only musl's dynamic loader makes relocated data read-only. Without one, the file seals its own.
extern const char __ehdr_start[];

__attribute__((constructor)) static void seal_relro(void) {
  const ElfW(Phdr) *header = (const void *)getauxval(AT_PHDR);
  const size_t mask = -getauxval(AT_PAGESZ);
  for (size_t i = getauxval(AT_PHNUM); i > 0; i--, header++) {
    if (header->p_type != PT_GNU_RELRO) continue;
    const size_t start = (size_t)__ehdr_start + header->p_vaddr;
    const size_t end = (start + header->p_memsz) & mask;
    if (mprotect((void *)(start & mask), end - (start & mask), PROT_READ) != 0) abort();
  }
}

// libsodium asserts; musl's way to report it would bring all of printf in.
_Noreturn void __assert_fail(const char *what, const char *file, int line, const char *function) {
  (void)file, (void)line, (void)function;
  (void)write(STDERR_FILENO, what, strlen(what));
  abort();
}

// getaddrinfo(3) alone allocates, and a few hundred bytes at a time: with nothing given back, musl's simplest malloc
// does, which is smaller.
void free(void *memory) { (void)memory; }

// Of Swift's allocator, which nothing calls and the linker drops; but it would bring musl's other malloc along.
int posix_memalign(void **memory, size_t alignment, size_t size) {
  (void)memory, (void)alignment, (void)size;
  return ENOMEM;
}
