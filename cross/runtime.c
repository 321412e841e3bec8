// What each static-PIE file needs beside musl.

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// musl's dynamic loader makes relocated data read-only (RELRO). A static file has no loader, so it does
// that itself.
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

// libsodium uses assert(3). musl's version of this function would link all of printf(3).
_Noreturn void __assert_fail(const char *what, const char *file, int line, const char *function) {
  (void)file, (void)line, (void)function;
  (void)write(STDERR_FILENO, what, strlen(what));
  abort();
}

// Only getaddrinfo(3) allocates, a few hundred bytes at a time. With a free(3) that does nothing, the linker
// takes musl's simplest malloc(3), which is smaller.
void free(void *memory) { (void)memory; }

// Only Swift's allocator refers to this. Nothing calls it and the linker drops it, but musl's version of this
// function would link musl's larger malloc(3).
int posix_memalign(void **memory, size_t alignment, size_t size) {
  (void)memory, (void)alignment, (void)size;
  return ENOMEM;
}

// The rest replaces what musl has for programs that do more.

// No process of ours has threads.
int pthread_mutex_lock(pthread_mutex_t *mutex) {
  (void)mutex;
  return 0;
}

int pthread_mutex_unlock(pthread_mutex_t *mutex) {
  (void)mutex;
  return 0;
}

// musl calls this to change the user of all threads.
void __synccall(void (*function)(void *), void *context) { function(context); }

#ifdef __mips__
// musl looks here for the kernel's own functions (vDSO). They may change $gp, and cross/one-gp needs it unchanged.
void *__vdsosym(const char *version, const char *name) {
  (void)version, (void)name;
  return NULL;
}

// musl's version of this function is in assembly, and computes $gp. pipe2(3) calls it on kernels before 2.6.27.
int pipe(int ends[2]) { return (int)syscall(SYS_pipe2, ends, 0); }
#endif

// Only libsodium calls this, for the size of a page.
long sysconf(int name) { return name == _SC_PAGESIZE ? (long)getauxval(AT_PAGESZ) : -1; }

// getaddrinfo(3) asks whether a name is text. In the locale of C, all names are.
size_t mbstowcs(wchar_t *restrict wide, const char *restrict text, size_t size) {
  (void)wide, (void)size;
  return strlen(text);
}

// getaddrinfo(3) looks for a name in a line of /etc/hosts.
char *strstr(const char *text, const char *word) {
  const size_t length = strlen(word);
  for (; strncmp(text, word, length) != 0; text++)
    if (!*text) return NULL;
  return (char *)text;
}

// getaddrinfo(3) sorts up to 48 addresses.
void qsort(void *base, size_t count, size_t size, int (*compare)(const void *, const void *)) {
  char *const first = base, *const end = first + count * size;
  for (char *next = first + size; next < end; next += size)
    for (char *item = next; item > first && compare(item - size, item) > 0; item -= size)
      for (size_t i = 0; i < size; i++) {
        const char byte = item[i];
        item[i] = item[i - size];
        item[i - size] = byte;
      }
}
