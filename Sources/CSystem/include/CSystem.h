// The system's C interface, and what of it Swift cannot import: errno, variadic functions, macros
// with casts, socket address casts, and constants that are enums in one libc and macros in another.
//
// Each function here is one system call, or the few that only make sense together. Unless said
// otherwise it returns 0 or more, or an error number negated, and is never interrupted (EINTR).
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "Sandbox.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

extern char **environ;

static inline char **csys_environment(void) { return environ; }

static inline int csys_result(long result) { return result < 0 ? -errno : (int)result; }

// Memory

/// Zeroed pages of our own, or NULL.
static inline void *csys_map(size_t size) {
  void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? NULL : pages;
}

/// The same, shared with each process that is forked later.
static inline void *csys_map_shared(size_t size) {
  void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? NULL : pages;
}

/// Has `csys_allocate` take all from `size` bytes at `memory` until it is called again; NULL for what it takes from
/// otherwise. What was in them is gone.
void csys_allocate_in(void *memory, size_t size);

/// A number that another process may be reading or writing.
static inline uint32_t csys_load(const uint32_t *number) {
  return __atomic_load_n(number, __ATOMIC_RELAXED);
}

static inline void csys_store(uint32_t *number, uint32_t value) {
  __atomic_store_n(number, value, __ATOMIC_RELAXED);
}

/// Zeroed memory for the rest of the process, or NULL. What is small shares pages.
void *csys_allocate(size_t size);

/// The same for a key of at most a page, kept out of swap and dumps where the system allows that.
void *csys_allocate_key(size_t size);

/// Gives the room of a key of the same size to the next one. It must be wiped.
void csys_release_key(void *key);

/// Keeps the last of them out of swap in a new process, too.
void csys_lock_keys(void);

// Files

static inline int csys_open_to_read(const char *path) {
  return csys_result(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
}

/// A new file with the given mode, whatever the umask; EEXIST where the name is taken.
static inline int csys_create(const char *path, mode_t mode) {
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, mode);
  if (fd < 0) return -errno;
  if (fchmod(fd, mode) == 0) return fd;
  int error = errno;
  unlink(path);
  close(fd);
  return -error;
}

/// Where log lines go: the standard error, or for a terminal another descriptor. One that is ready may
/// still block a write, so it is opened anew, for us alone, as one that does not.
int csys_log_descriptor(void);

/// Has log lines go to a datagram socket from here on, that of whoever has the name at the time.
int csys_log_to_socket(const char *name);

/// From here on, to whom it is connected now or another process connects it to.
void csys_keep_log_socket(void);

/// Device and inode number of what is open.
static inline int csys_identity(int fd, uint64_t *device, uint64_t *inode) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  *device = status.st_dev;
  *inode = status.st_ino;
  return 0;
}

/// Writes a line there in one piece, and never waits longer than a tenth of a second
/// for it: where its reader has stalled (a full pipe, say) the line is dropped, and further ones at
/// once until there is room.
void csys_write_log(const void *line, size_t size);

/// 0 where a program can be run: a path, or a name to be looked for in PATH.
int csys_check_program(const char *name);

static inline int csys_read(int fd, void *buffer, size_t size) {
  ssize_t count;
  do count = read(fd, buffer, size); while (count < 0 && errno == EINTR);
  return csys_result(count);
}

static inline int csys_write(int fd, const void *bytes, size_t size) {
  ssize_t count;
  do count = write(fd, bytes, size); while (count < 0 && errno == EINTR);
  return csys_result(count);
}

static inline int csys_sync(int fd) { return csys_result(fsync(fd)); }

#define CSYS_REGULAR_FILE 0x10000
#define CSYS_TERMINAL 0x20000

/// The permission bits, with one of the above added.
static inline int csys_mode(int fd) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  return (int)(status.st_mode & 07777) | (S_ISREG(status.st_mode) ? CSYS_REGULAR_FILE : 0) |
         (isatty(fd) ? CSYS_TERMINAL : 0);
}

/// Makes the process independent of who started it: TERM, INT and HUP end it, also as process 1, until
/// they are taken from a descriptor; /dev/null is opened on each of the descriptors
/// 0 to 2 that is closed, so that no socket of ours is taken for the standard error (on 1 only to
/// read, so that what is written to it is an error as before); no command will have any other that
/// we inherited; and a reader of our output that is gone, or a file at its limit, is an error of
/// write(2), not the end.
void csys_start_process(void);

/// Puts /dev/null in the place of the standard input, and of a standard output that was closed.
static inline int csys_detach_standard_streams(void) {
  int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (fd < 0) return -errno;
  int result = csys_result(dup2(fd, STDIN_FILENO));
  if ((fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY) dup2(fd, STDOUT_FILENO);
  close(fd);
  return result;
}

// Files that are kept

/// Opens a directory of ours, and makes it where there is none: -EACCES where it belongs to somebody
/// else than us or root, or others may write in it.
int csys_open_state_directory(const char *path, int make);

/// Takes the lock of a directory: -EWOULDBLOCK where another process has it. It ends with the process.
static inline int csys_lock(int fd) { return csys_result(flock(fd, LOCK_EX | LOCK_NB)); }

/// Opens a regular file in a directory, never through a link: -EACCES as above. `make` is 0, O_CREAT, or
/// O_CREAT | O_TRUNC.
int csys_open_state_file(int directory, const char *name, int make);

/// Makes a file anew that all may read, whatever the umask.
static inline int csys_create_for_all(int directory, const char *name) {
  if (unlinkat(directory, name, 0) < 0 && errno != ENOENT) return -errno;
  int fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return -errno;
  fchmod(fd, 0644);
  return fd;
}

/// Opens the directory that a path is in.
int csys_open_parent(const char *path);

/// Opens a regular file to read: -EACCES as above.
int csys_open_configuration(const char *path);

/// The size of a file in bytes.
static inline int64_t csys_size(int fd) {
  struct stat status;
  return fstat(fd, &status) < 0 ? -errno : (int64_t)status.st_size;
}

/// Gives a file its size (bytes) with all the room that it needs, so that no write to it can fail.
int csys_reserve(int fd, int64_t size);

/// Maps a file to be read and written; NULL with an error number in `error`.
static inline void *csys_map_file(int fd, size_t size, int *error) {
  void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  *error = errno;
  return pages == MAP_FAILED ? NULL : pages;
}

/// Keeps mapped pages out of processes that are forked later.
static inline int csys_keep_from_children(void *pages, size_t size) {
  return csys_result(madvise(pages, size, MADV_DONTFORK));
}

/// Lets go of the memory behind mapped pages; what is in the file stays, and comes back when it is used.
static inline void csys_release_pages(void *pages, size_t size) {
  madvise(pages, size, MADV_DONTNEED);
}

/// Gives a file of a directory another name, on the disk, too.
static inline int csys_rename(int directory, const char *old_name, const char *new_name) {
  return csys_result(renameat(directory, old_name, directory, new_name));
}

/// 0 where something can be made at a path: the directory that it would be in is there.
int csys_check_place(const char *path);

// Time

/// Seconds since the Unix epoch by the system's clock.
static inline double csys_wall_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/// Year, month, day, hour, minute and second of a time since the Unix epoch, in UTC.
static inline void csys_utc(int64_t seconds, int32_t parts[6]) {
  time_t time = (time_t)seconds;
  struct tm utc;
  memset(&utc, 0, sizeof utc);
  gmtime_r(&time, &utc);
  const int32_t values[6] = {utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                             utc.tm_hour,        utc.tm_min,     utc.tm_sec};
  memcpy(parts, values, sizeof values);
}

/// Milliseconds by a clock that nobody sets, and that goes on while the machine sleeps.
static inline int64_t csys_monotonic_milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/// Microseconds by CLOCK_MONOTONIC, as systemd counts.
static inline int64_t csys_uptime_microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

// Waiting

/// poll(2); -EINTR after a signal. `timeout` in milliseconds, negative for none.
static inline int csys_poll(struct pollfd *descriptors, size_t count, int timeout) {
  return csys_result(poll(descriptors, (nfds_t)count, timeout));
}

// Signals

/// Blocks TERM, INT, USR1, CHLD, and HUP unless it is ignored (nohup), stores the mask as it was, and returns a
/// descriptor that reads as the blocked signals.
static inline int csys_open_signals(sigset_t *old_mask) {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGTERM);
  sigaddset(&mask, SIGINT);
  sigaddset(&mask, SIGUSR1);
  sigaddset(&mask, SIGCHLD);
  struct sigaction hangup;
  if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
    sigaddset(&mask, SIGHUP);
  // Where a parent left CHLD ignored, the kernel would reap our children itself.
  signal(SIGCHLD, SIG_DFL);
  if (sigprocmask(SIG_BLOCK, &mask, old_mask) < 0) return -errno;
  return csys_result(signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
}

static inline void csys_ignore(int number) { signal(number, SIG_IGN); }

/// The next signal's number; 0 where none is waiting.
static inline int csys_next_signal(int fd) {
  struct signalfd_siginfo info;
  int count = csys_read(fd, &info, sizeof info);
  if (count == -EAGAIN) return 0;
  return count == (int)sizeof info ? (int)info.ssi_signo : count < 0 ? count : -EIO;
}

// Children

/// Starts `arguments[0]`, looked for in PATH, in a process group of its own if `own_group` is not 0, with the
/// given signal mask and without the signals that we ignore. Returns its process ID.
int csys_spawn(char *const *arguments, char *const *environment, const sigset_t *mask, int own_group);

/// A child that has ended and still waits to be reaped; 0 where there is none.
static inline int csys_ended_child(void) {
  siginfo_t info;
  info.si_pid = 0;
  int result;
  do result = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
  while (result < 0 && errno == EINTR);
  if (result < 0) return errno == ECHILD ? 0 : -errno;
  return (int)info.si_pid;
}

/// Reaps a child that has ended: its exit status (0 to 255), or its signal's number negated.
static inline int csys_reap(int pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/// The number of the new process, 0 in itself.
static inline int csys_fork(void) { return csys_result(fork()); }

// Two processes of ours

/// A connection to the datagram socket with a name; `@` begins that of an abstract one. Source: unix(7).
int csys_unix_socket(const char *name);

/// The two ends of a connection that takes whole messages.
static inline int csys_channel(int ends[2]) {
  return csys_result(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
}

static inline void csys_hang_up(int fd) { shutdown(fd, SHUT_WR); }

static inline int csys_duplicate(int fd) { return csys_result(fcntl(fd, F_DUPFD_CLOEXEC, 3)); }

// Sockets

/// The addresses of `host` for UDP, to be freed; an EAI_ number (not 0) where there are none.
/// `family` is 0 for any. A numeric host is never looked up; with `numeric`, no other is taken.
static inline int csys_resolve(const char *host, const char *port, int family, int numeric,
                               struct addrinfo **addresses) {
  struct addrinfo hints;
  memset(&hints, 0, sizeof hints);
  hints.ai_family = family;
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_protocol = IPPROTO_UDP;
  hints.ai_flags = (numeric ? AI_NUMERICHOST : 0) | AI_NUMERICSERV;
  return getaddrinfo(host, port, &hints, addresses);
}

/// Why `csys_resolve` failed.
static inline const char *csys_resolve_error(int error) {
  return error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error);
}

static inline int csys_udp_socket(int family) {
  return csys_result(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP));
}

static inline int csys_bind(int fd, const struct sockaddr_storage *address, socklen_t size) {
  return csys_result(bind(fd, (const struct sockaddr *)address, size));
}

static inline int csys_connect(int fd, const struct sockaddr_storage *address, socklen_t size) {
  return csys_result(connect(fd, (const struct sockaddr *)address, size));
}

/// The address that a socket is bound to.
static inline int csys_local_address(int fd, struct sockaddr_storage *address) {
  socklen_t size = sizeof *address;
  return csys_result(getsockname(fd, (struct sockaddr *)address, &size));
}

static inline int csys_send(int fd, const void *bytes, size_t size) {
  ssize_t count;
  do count = send(fd, bytes, size, MSG_NOSIGNAL); while (count < 0 && errno == EINTR);
  return csys_result(count);
}

/// A message's whole length, of which at most `size` bytes are stored; -EAGAIN where none is waiting.
static inline int csys_receive(int fd, void *buffer, size_t size) {
  ssize_t count;
  do count = recv(fd, buffer, size, MSG_DONTWAIT | MSG_TRUNC); while (count < 0 && errno == EINTR);
  return csys_result(count);
}

/// The most datagrams that one call receives.
#define CSYS_BATCH 32

/// Takes the datagrams that are waiting, without waiting. Each has `size` bytes of `buffer`; stored are
/// their whole lengths, which may exceed that, and where they came from: a sockaddr_in6 each, or a
/// sockaddr_in in its place. Returns their number; -EAGAIN for none.
int csys_receive_batch(int fd, void *buffer, size_t size, uint32_t *lengths, void *sources);

/// 0 where a descriptor is a UDP socket, -EINVAL where it is not.
int csys_check_udp_socket(int fd);

/// Has the kernel drop all datagrams but those with one of two lengths and with a byte in a range at
/// `offset`, before they wake anybody. For UDP; cannot be undone with
/// `forever`. Source: socket(7), SO_ATTACH_FILTER.
int csys_drop_others(int fd, uint32_t length, uint32_t other_length, uint32_t offset, uint8_t first,
                     uint8_t last, int forever);

/// How many datagrams the kernel has dropped: by the filter, or for want of room. Source: SO_MEMINFO.
int64_t csys_dropped_datagrams(int fd);

/// Makes an IPv6 socket take IPv4 too, as IPv4-mapped addresses, whatever the system's default.
static inline int csys_accept_both_families(int fd) {
  int off = 0;
  return csys_result(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
}

/// Asks for a receive buffer, beyond the system's limit where we may. Returns what the kernel
/// gave, in bytes; it counts its own overhead, about double.
static inline int csys_set_receive_buffer(int fd, int size) {
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  socklen_t length = sizeof size;
  return getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, &length) < 0 ? -errno : size;
}

/// Stores an address's bytes in network order and its port. Returns their number, 4 or 16; 0 for
/// another family.
static inline int csys_address_bytes(const struct sockaddr_storage *address, uint8_t bytes[16],
                                     uint16_t *port) {
  if (address->ss_family == AF_INET) {
    const struct sockaddr_in *inet = (const struct sockaddr_in *)address;
    *port = ntohs(inet->sin_port);
    memcpy(bytes, &inet->sin_addr, 4);
    return 4;
  }
  if (address->ss_family == AF_INET6) {
    const struct sockaddr_in6 *inet6 = (const struct sockaddr_in6 *)address;
    *port = ntohs(inet6->sin6_port);
    memcpy(bytes, &inet6->sin6_addr, 16);
    return 16;
  }
  return 0;
}

static inline void csys_set_port(struct sockaddr_storage *address, uint16_t port) {
  if (address->ss_family == AF_INET) ((struct sockaddr_in *)address)->sin_port = htons(port);
  if (address->ss_family == AF_INET6) ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
}

/// Begins to connect a TCP socket, from `source` if that is not NULL: the socket, which can be written to
/// once it is connected or has failed, and never blocks.
int csys_begin_connection(const struct sockaddr_storage *source, const struct sockaddr_storage *address,
                          socklen_t size);

/// What has become of it: 0, or why it failed.
static inline int csys_connection_result(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? -errno : -error;
}

/// Writes what there is room for, without waiting; -EAGAIN for none. For a descriptor that poll(2) has said
/// can be written to.
int csys_write_now(int fd, const void *bytes, size_t size);

/// The wildcard address of a family, AF_INET or AF_INET6. Returns the size of the address.
static inline socklen_t csys_any_address(int family, uint16_t port,
                                         struct sockaddr_storage *address) {
  memset(address, 0, sizeof *address);
  address->ss_family = (sa_family_t)family;
  if (family == AF_INET) {
    ((struct sockaddr_in *)address)->sin_port = htons(port);
    return sizeof(struct sockaddr_in);
  }
  ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
  return sizeof(struct sockaddr_in6);
}

/// A socket to the netfilter part of the kernel that hears nobody else. It tells of an error without
/// repeating the request. Source: netlink(7).
int csys_netfilter_socket(void);
