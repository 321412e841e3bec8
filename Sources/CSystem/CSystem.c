#include "CSystem.h"

#include <sys/syscall.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif

void csys_start_process(void) {
  signal(SIGPIPE, SIG_IGN);
  int fd;
  do fd = open("/dev/null", O_RDWR | O_CLOEXEC); while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
  for (fd = 0; fd <= STDERR_FILENO; fd++) fcntl(fd, F_SETFD, 0);
  // Linux 5.11 has it in one call; before, what a parent may sensibly leave open.
  if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
    for (fd = 3; fd < 1024; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
}

void csys_write_log(const void *line, size_t size) {
  static int stalled;
  struct pollfd entry = {.fd = STDERR_FILENO, .events = POLLOUT};
  stalled = csys_poll(&entry, 1, stalled ? 0 : 100) == 0;
  if (!stalled) csys_write(STDERR_FILENO, line, size);
}
