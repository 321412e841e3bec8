#define _GNU_SOURCE  // pipe2
#include "Log.h"

#include "Files.h"
#include "Memory.h"
#include "Result.h"
#include "Socket.h"
#include "Time.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

/// What lines are written to, -1 while there is none.
static int sink = -1;

/// What standard error is.
static enum {
  SOCKET,
  /// A file, or a pipe or terminal that was opened again for us alone. To change the flags of standard error would
  /// change them for all processes that share it.
  NEVER_BLOCKS,
  /// A pipe or terminal that could not be opened again.
  SHARED,
} kind;

/// The socket of the system's log, NULL for standard error.
static const char *system_log;
/// Whether that is a stream, where each line ends in a zero byte. Source: syslog(3) of the GNU C library.
static int is_stream;

// The ends of the queue.
static int reader = -1, writer = -1;
/// Lines of the queue that were read and not yet written.
static char waiting[1024];
static size_t waiting_size;
/// When there is something to do even if nothing comes into the queue, in monotonic microseconds.
static int64_t next_try = INT64_MAX;
/// How long the reader is left alone before the next try (microseconds). 0 if it takes lines.
static int64_t pause_time;

static uint32_t early_dropped;
/// In memory that all processes with the queue share.
static uint32_t *dropped = &early_dropped;

static void interrupt(int signal) { (void)signal; }

static void open_standard_error(void) {
  struct stat status;
  kind = SHARED;
  sink = STDERR_FILENO;
  if (fstat(sink, &status) < 0) return;
  if (!S_ISFIFO(status.st_mode) && !isatty(sink)) {
    kind = S_ISSOCK(status.st_mode) ? SOCKET : NEVER_BLOCKS;
    return;
  }
  // This fails without /proc, or if the pipe or terminal belongs to another user.
  int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return;
  sink = fd;
  kind = NEVER_BLOCKS;
}

static int open_system_log(void) {
  is_stream = 0;
  sink = csys_unix_socket(system_log, is_stream);
  if (sink == -EPROTOTYPE) sink = csys_unix_socket(system_log, is_stream = 1);
  return sink < 0 ? sink : 0;
}

/// Writes to a descriptor that may block. Somebody else may fill it after poll(2), so a timer interrupts a
/// write that waits. It goes off again and again, since the first time may come before the write.
static int write_shared(const void *line, size_t size) {
  struct pollfd entry = {.fd = sink, .events = POLLOUT};
  if (poll(&entry, 1, 0) == 0) return -EAGAIN;
  struct sigaction action = {.sa_handler = interrupt}, former_action;
  struct itimerval timer = {{0, 5000}, {0, 5000}}, former_timer;
  sigset_t alarm, former_mask;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  sigaction(SIGALRM, &action, &former_action);
  sigprocmask(SIG_UNBLOCK, &alarm, &former_mask);
  setitimer(ITIMER_REAL, &timer, &former_timer);
  int result = csys_result(write(sink, line, size));
  setitimer(ITIMER_REAL, &former_timer, NULL);
  sigprocmask(SIG_SETMASK, &former_mask, NULL);
  sigaction(SIGALRM, &former_action, NULL);
  return result;
}

static int send_to_system_log(const char *line, size_t size) {
  // The end of a line is that of a message.
  char message[sizeof waiting + 1];
  size_t length = line[size - 1] == '\n' ? size - 1 : size;
  memcpy(message, line, length);
  message[length] = 0;
  // If the system's log was replaced, the new one has another socket.
  for (int attempt = 0;; attempt++) {
    int result = sink < 0 ? open_system_log() : 0;
    if (result < 0) return result;
    result = csys_send_now(sink, message, length + (is_stream ? 1 : 0));
    if (result >= 0) return (int)size;
    if (result == -EAGAIN || result == -ENOBUFS || attempt > 0) return result;
    close(sink);
    sink = -1;
  }
}

/// Writes as much of a line as there is room for. Returns how much that is.
static int write_line(const char *line, size_t size) {
  if (system_log) return send_to_system_log(line, size);
  if (sink < 0) open_standard_error();
  switch (kind) {
    case SOCKET:
      return csys_send_now(sink, line, size);
    case NEVER_BLOCKS:
      return csys_write(sink, line, size);
    default:
      return write_shared(line, size);
  }
}

int csys_open_log_queue(void) {
  // Now. Later, with another root directory or user, that could fail.
  if (sink < 0) open_standard_error();
  int ends[2];
  uint32_t *shared = csys_map_shared(sizeof *shared);
  if (!shared) return -ENOMEM;
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return -errno;
  *shared = early_dropped;
  dropped = shared;
  reader = ends[0];
  writer = ends[1];
  // A terminal must not stop a job in the background that writes to it. Source: stty(1), tostop.
  signal(SIGTTOU, SIG_IGN);
  return 0;
}

int csys_log_to_system(const char *name) {
  system_log = name;
  int result = open_system_log();
  if (result < 0) system_log = NULL;
  return result;
}

void csys_await_system_log(const char *name) {
  system_log = name;
  sink = -1;
}

void csys_only_queue_log(void) {
  dup2(writer, STDERR_FILENO);
  writer = STDERR_FILENO;
  reader = -1;
}

void csys_write_log(const void *line, size_t size) {
  int result = writer < 0 ? write_line(line, size) : csys_write(writer, line, size);
  if (result != (int)size) __atomic_add_fetch(dropped, 1, __ATOMIC_RELAXED);
}

/// Writes the next line that waits. Returns 0 if there is none.
static int write_next(void) {
  const char *end;
  while (!(end = memchr(waiting, '\n', waiting_size)) && waiting_size < sizeof waiting) {
    int count = csys_read(reader, waiting + waiting_size, sizeof waiting - waiting_size);
    if (count <= 0) return 0;
    waiting_size += (size_t)count;
  }
  int count = write_line(waiting, end ? (size_t)(end - waiting) + 1 : waiting_size);
  if (count <= 0) return count < 0 ? count : -EAGAIN;
  waiting_size -= (size_t)count;
  memmove(waiting, waiting + count, waiting_size);
  return 1;
}

uint32_t csys_flush_log(void) {
  enum { FIRST_PAUSE = 10000, LONGEST_PAUSE = 256 * FIRST_PAUSE, LINES_AT_ONCE = 64 };
  if (reader < 0 || (pause_time > 0 && csys_monotonic_microseconds() < next_try)) return 0;
  for (int count = 0; count < LINES_AT_ONCE; count++) {
    int result = write_next();
    if (result < 0) {
      pause_time = pause_time > 0 ? 2 * pause_time : FIRST_PAUSE;
      if (pause_time > LONGEST_PAUSE) pause_time = LONGEST_PAUSE;
      next_try = csys_monotonic_microseconds() + pause_time;
      return 0;
    }
    pause_time = 0;
    next_try = result == 0 ? INT64_MAX : 0;
    if (result == 0) return __atomic_exchange_n(dropped, 0, __ATOMIC_RELAXED);
  }
  return 0;
}

int csys_log_descriptor(void) { return pause_time > 0 ? -1 : reader; }

int64_t csys_log_deadline(void) { return next_try; }

void csys_end_log(void) {
  if (reader < 0) return;
  pause_time = 0;
  int result;
  do result = write_next();
  while (result > 0);
  if (result == 0 || !system_log) return;
  system_log = NULL;
  sink = -1;
  while (write_next() > 0) {}
}
