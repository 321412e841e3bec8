// A library that LD_PRELOAD loads into the program. It makes the program do what an attacker or a crash
// would do.
//
// INTRUDER_ATTEMPT: when a datagram comes, the receiver tries this, as an attacker would who has taken it
// over. Then it writes whether it succeeded.
// INTRUDER_ANSWER: before the executor sends an answer, it tries this.
// INTRUDER_NO_SECCOMP: the kernel seems to have no seccomp.
// INTRUDER_SLOW: the name of a file. Each request to the kernel's firewall takes as many milliseconds longer as
// it says.
// INTRUDER_ERROR: after each call that received datagrams, the next one fails with the error of this number.
// INTRUDER_FILLS: when poll(2) has said that standard error can be written to, it is filled, as another
// process that shares it would do.
// INTRUDER_NO_PROC: standard error cannot be opened again.
// INTRUDER_DIE_AT: the program is killed at the call with this number. The calls below are counted from 1,
// in both processes together, in the file INTRUDER_FILE.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

// The commands of the server must not load it. A program that starts the server passes it on.
__attribute__((constructor)) static void begin(void) {
  if (strcmp(program_invocation_short_name, "nsenter")) unsetenv("LD_PRELOAD");
}

// Makes the system calls directly, so that no code of the C library changes the result.
static long attempt(const char *what, int socket_fd) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  char *const words[] = {"/bin/true", NULL};
  char bytes[8];
  if (!strcmp(what, "open")) return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
  if (!strcmp(what, "socket")) return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
  if (!strcmp(what, "connect")) return syscall(SYS_connect, socket_fd, &address, sizeof address);
  if (!strcmp(what, "fork")) return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (!strcmp(what, "exec")) return syscall(SYS_execve, words[0], words, NULL);
  if (!strcmp(what, "ptrace")) return syscall(SYS_ptrace, PTRACE_ATTACH, getppid(), 0, 0);
  if (!strcmp(what, "kill")) return syscall(SYS_kill, getppid(), SIGKILL);
  if (!strcmp(what, "map")) return syscall(SYS_mmap, 0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!strcmp(what, "answer")) return syscall(SYS_sendto, socket_fd, "here", 4, 0, &address, sizeof address);
  if (!strcmp(what, "receive"))
    return syscall(SYS_recvfrom, socket_fd, bytes, sizeof bytes, MSG_DONTWAIT, NULL, NULL);
  if (!strcmp(what, "read")) return syscall(SYS_read, socket_fd, bytes, sizeof bytes);
  if (!strcmp(what, "receive message")) return syscall(SYS_recvmsg, socket_fd, NULL, MSG_DONTWAIT);
  if (!strcmp(what, "copy")) return syscall(SYS_dup, socket_fd);
  if (!strcmp(what, "copy by fcntl")) return syscall(SYS_fcntl, socket_fd, F_DUPFD, 0);
  if (!strcmp(what, "x32")) return syscall(0x40000000 + SYS_getpid);
  if (!strcmp(what, "nothing")) return 0;
  abort();
}

static int channel;
// Where the last datagram came from.
static char last_source[28];

// The receiver may send messages to the executor. These are messages that no intact receiver sends.
static int lie(const char *what) {
  // KnockServer/PrivsepMessage.swift has the format.
  // The first user: generation 1, slot 0.
  char message[1280] = {2, 0, 0x40, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, (char)192, 0, 2, 77};
  size_t size = 134;
  // As many as fill the queue of the executor, with the one that makes it do this.
  for (int i = 1; !strcmp(what, "lie: many") && i < 1152; i++) {
    message[15] = (char)(i >> 8), message[16] = (char)i;
    while (send(channel, message, size, 0) < 0) continue;
  }
  // Refusals to be answered, along the way that the last datagram came.
  for (int i = 0; !strcmp(what, "lie: answers") && i < 5000; i++) {
    message[6] = 2, message[7] = 1;
    memcpy(message + 46, last_source, sizeof last_source);
    memcpy(message + 94, &i, sizeof i);
    while (send(channel, message, size, 0) < 0) continue;
  }
  if (!strcmp(what, "lie: short")) size = 133;
  else if (!strcmp(what, "lie: empty")) size = 0;
  else if (!strcmp(what, "lie: long")) size = 135;
  else if (!strcmp(what, "lie: kind")) message[0] = 7;
  else if (!strcmp(what, "lie: new user")) message[0] = 3, size = sizeof message;
  else if (!strcmp(what, "lie: update")) message[0] = 4, size = 1;
  else if (!strcmp(what, "lie: removed user")) message[0] = 5, size = 5;
  else if (!strcmp(what, "lie: users told")) message[0] = 6, size = 1;
  else if (!strcmp(what, "lie: user")) message[1] = 1;
  else if (!strcmp(what, "lie: other user")) message[2] = (char)0x80;
  else if (!strcmp(what, "lie: command")) message[5] = 4;
  else if (!strcmp(what, "lie: length")) message[12] = 5;
  else if (!strcmp(what, "lie: rest")) message[28] = 1;
  else if (!strcmp(what, "lie: source")) message[29] = 4, message[30] = (char)224;
  else if (!strcmp(what, "lie: multicast")) message[13] = (char)224;
  // Without --answer nobody wants one. A refusal is only for an answer.
  else if (!strcmp(what, "lie: answer")) message[7] = 1;
  else if (!strcmp(what, "lie: refusal")) message[6] = 2;
  else if (!strcmp(what, "lie: way")) message[46] = 1;
  else if (!strcmp(what, "lie: seconds")) message[5] = 2, message[8] = 1;
  else if (strcmp(what, "lie: knock")) return 0;
  return send(channel, message, size, 0) == (ssize_t)size;
}

static void slow_down(int fd) {
  const char *name = getenv("INTRUDER_SLOW");
  int domain = 0;
  socklen_t size = sizeof domain;
  if (!name || fd == channel || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0) return;
  if (domain != AF_NETLINK) return;
  char milliseconds[16] = "";
  int file = open(name, O_RDONLY | O_CLOEXEC);
  read(file, milliseconds, sizeof milliseconds - 1);
  close(file);
  usleep(1000 * (useconds_t)atoi(milliseconds));
}

static void count_call(void) {
  static volatile int *calls;
  const char *file = getenv("INTRUDER_FILE"), *last = getenv("INTRUDER_DIE_AT");
  if (!file || !last) return;
  if (!calls) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC);
    calls = mmap(NULL, sizeof *calls, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
  }
  if (__atomic_add_fetch(calls, 1, __ATOMIC_SEQ_CST) == atoi(last)) {
    kill(getpid(), SIGKILL);
  }
}

#define ORIGINAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
// Counts before and after each call that others can see or that writes to a file, in both processes.
#define COUNTED(type, name, parameters, ...)   \
  type name parameters {                       \
    count_call();                              \
    type result = ORIGINAL(name)(__VA_ARGS__); \
    int error = errno;                         \
    count_call();                              \
    errno = error;                             \
    return result;                             \
  }
COUNTED(ssize_t, send, (int fd, const void *bytes, size_t size, int flags), (slow_down(fd), fd), bytes, size,
        flags)
COUNTED(ssize_t, recv, (int fd, void *bytes, size_t size, int flags), fd, bytes, size, flags)
COUNTED(ssize_t, write, (int fd, const void *bytes, size_t size), fd, bytes, size)
COUNTED(ssize_t, pwrite, (int fd, const void *bytes, size_t size, off_t offset), fd, bytes, size, offset)
COUNTED(int, ftruncate, (int fd, off_t size), fd, size)
COUNTED(int, fsync, (int fd), fd)
COUNTED(int, posix_fallocate, (int fd, off_t start, off_t size), fd, start, size)
COUNTED(int, renameat, (int from, const char *old, int to, const char *new), from, old, to, new)
COUNTED(pid_t, waitpid, (pid_t pid, int *status, int options), pid, status, options)
COUNTED(int, posix_spawnp, (pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
        const posix_spawnattr_t *attributes, char *const words[], char *const environment[]),
        pid, file, actions, attributes, words, environment)

int prctl(int option, ...) {
  va_list list;
  va_start(list, option);
  long values[4];
  for (int i = 0; i < 4; i++) values[i] = va_arg(list, long);
  va_end(list);
  if (option == PR_SET_SECCOMP && getenv("INTRUDER_NO_SECCOMP")) return errno = EINVAL, -1;
  return (int)syscall(SYS_prctl, option, values[0], values[1], values[2], values[3]);
}

int open(const char *path, int flags, ...) {
  if (!strcmp(path, "/proc/self/fd/2") && getenv("INTRUDER_NO_PROC")) return errno = ENOENT, -1;
  va_list list;
  va_start(list, flags);
  int mode = va_arg(list, int);
  va_end(list);
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int poll(struct pollfd *entries, nfds_t count, int limit) {
  int result = ORIGINAL(poll)(entries, count, limit);
  if (result <= 0 || entries[0].fd != 2 || !getenv("INTRUDER_FILLS")) return result;
  static const char bytes[4096];
  int flags = fcntl(2, F_GETFL);
  fcntl(2, F_SETFL, flags | O_NONBLOCK);
  while (ORIGINAL(write)(2, bytes, sizeof bytes) > 0) {}
  while (ORIGINAL(write)(2, bytes, 1) > 0) {}
  fcntl(2, F_SETFL, flags);
  return result;
}

int socketpair(int domain, int type, int protocol, int ends[2]) {
  int result = ORIGINAL(socketpair)(domain, type, protocol, ends);
  channel = ends[0];
  return result;
}

static void report(const char *what, long got) {
  char line[64];
  int size = snprintf(line, sizeof line, "intruder: %s: %ld\n", what, got < 0 ? -errno : got);
  write(2, line, (size_t)size);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  const char *what = getenv("INTRUDER_ANSWER");
  if (what) report(what, attempt(what, fd));
  count_call();
  ssize_t result = ORIGINAL(sendmsg)(fd, message, flags);
  int error = errno;
  count_call();
  return errno = error, result;
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout) {
  static int has_received;
  const char *error = getenv("INTRUDER_ERROR");
  if (has_received && error) return has_received = 0, errno = atoi(error), -1;
  count_call();
  int result = ORIGINAL(recvmmsg)(fd, messages, count, flags, timeout);
  has_received = result > 0;
  if (has_received) memcpy(last_source, messages[0].msg_hdr.msg_name, sizeof last_source);
  const char *what = getenv("INTRUDER_ATTEMPT");
  if (what && result > 0) report(what, strncmp(what, "lie", 3) ? attempt(what, fd) : lie(what));
  count_call();
  return result;
}
