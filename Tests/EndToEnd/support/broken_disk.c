// A library that LD_PRELOAD loads into the server. It stands in for a disk that gives errors: whatever would change
// a file fails with the error whose number is in the file BROKEN_DISK, unless that is 0.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

// The commands of the server must not load it.
__attribute__((constructor)) static void begin(void) { unsetenv("LD_PRELOAD"); }

static int fails(void) {
  char text[16] = "";
  int fd = open(getenv("BROKEN_DISK"), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
  close(fd);
  errno = atoi(text);
  return errno != 0;
}

#define ORIGINAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
  return fails() ? -1 : ORIGINAL(pwrite)(fd, bytes, size, offset);
}

int ftruncate(int fd, off_t size) { return fails() ? -1 : ORIGINAL(ftruncate)(fd, size); }

int posix_fallocate(int fd, off_t start, off_t size) {
  return fails() ? errno : ORIGINAL(posix_fallocate)(fd, start, size);
}
