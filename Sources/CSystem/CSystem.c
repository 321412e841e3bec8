#include "CSystem.h"

void csys_write_log(const void *line, size_t size) {
  static int stalled;
  struct pollfd entry = {.fd = STDERR_FILENO, .events = POLLOUT};
  stalled = csys_poll(&entry, 1, stalled ? 0 : 100) == 0;
  if (!stalled) csys_write(STDERR_FILENO, line, size);
}
