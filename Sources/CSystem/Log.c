#include "Log.h"

#include "Files.h"
#include "Result.h"
#include "Socket.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

static int log_descriptor = -1;

int csys_log_descriptor(void) {
  if (log_descriptor < 0 && isatty(STDERR_FILENO))
    log_descriptor = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (log_descriptor < 0) log_descriptor = STDERR_FILENO;
  return log_descriptor;
}

static const char *log_socket;

int csys_log_to_socket(const char *name) {
  int fd = csys_unix_socket(name);
  if (fd < 0) return fd;
  log_descriptor = fd;
  log_socket = name;
  return 0;
}

void csys_keep_log_socket(void) { log_socket = NULL; }

void csys_write_log(const void *line, size_t size) {
  static int stalled;
  int fd = csys_log_descriptor();
  struct pollfd entry = {.fd = fd, .events = POLLOUT};
  stalled = poll(&entry, 1, stalled ? 0 : 100) == 0;
  if (stalled) return;
  int result = csys_write(fd, line, size);
  // The process that had the name has ended, and another may have it now.
  if ((result == -ECONNREFUSED || result == -ENOTCONN) && log_socket &&
      csys_connect_unix(fd, log_socket) == 0)
    csys_write(fd, line, size);
}
