#define _GNU_SOURCE  // recvmmsg, clone
#include "CSystem.h"

#include "Filter.h"

#include <limits.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/un.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif

static void leave(int signal) { _exit(128 + signal); }

void csys_start_process(void) {
  // Process 1 has no default action for signals.
  if (getpid() == 1)
    for (int i = 0; i < 3; i++) signal((int[]){SIGTERM, SIGINT, SIGHUP}[i], leave);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  for (int fd = 0; fd <= STDERR_FILENO; fd++)
    if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR);
  // Linux 5.11 has it in one call; before, what a parent may sensibly leave open.
  if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
    for (int fd = 3; fd < 1024; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int connect_unix(int fd, const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(name);
  if (length >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, name, length);
  if (*name == '@') address.sun_path[0] = 0;
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
  return csys_result(connect(fd, (struct sockaddr *)&address, size));
}

int csys_unix_socket(const char *name) {
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int result = connect_unix(fd, name);
  if (result == 0) return fd;
  close(fd);
  return result;
}

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
  stalled = csys_poll(&entry, 1, stalled ? 0 : 100) == 0;
  if (stalled) return;
  int result = csys_write(fd, line, size);
  // Who had the name is gone, and somebody else may have it.
  if ((result == -ECONNREFUSED || result == -ENOTCONN) && log_socket && connect_unix(fd, log_socket) == 0)
    csys_write(fd, line, size);
}

int csys_begin_connection(const struct sockaddr_storage *source, const struct sockaddr_storage *address,
                          socklen_t size) {
  int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
  if (fd < 0) return -errno;
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  if ((!source || bind(fd, (const struct sockaddr *)source, size) == 0) &&
      (connect(fd, (const struct sockaddr *)address, size) == 0 || errno == EINPROGRESS))
    return fd;
  int error = errno;
  close(fd);
  return -error;
}

int csys_write_now(int fd, const void *bytes, size_t size) {
  ssize_t count = send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  // A pipe that is ready has room for so much; more could wait for its reader. See pipe(7).
  if (count < 0 && errno == ENOTSOCK) return csys_write(fd, bytes, size < PIPE_BUF ? size : PIPE_BUF);
  return csys_result(count);
}

static char *given;
static size_t given_left;

void csys_allocate_in(void *memory, size_t size) {
  if (memory) csys_release_pages(memory, size);
  given = memory;
  given_left = size;
}

void *csys_allocate(size_t size) {
  enum { SMALL = 2048, CHUNK = 65536, ALIGNMENT = 64 };
  static char *next;
  static size_t left;
  if (size > SMALL && !given) return csys_map(size);
  if (size > SIZE_MAX - ALIGNMENT) return NULL;
  size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (given) {
    if (given_left < size) return NULL;
    given_left -= size;
    return (given += size) - size;
  }
  if (left < size) {
    next = csys_map(CHUNK);
    left = next ? CHUNK : 0;
    if (!next) return NULL;
  }
  char *memory = next;
  next += size;
  left -= size;
  return memory;
}

enum { KEY_PAGE = 4096 };
static char *key_page;

void csys_lock_keys(void) {
  madvise(key_page, KEY_PAGE, MADV_DONTDUMP);
  mlock(key_page, KEY_PAGE);
}

static void *free_key;

void csys_release_key(void *key) {
  memcpy(key, &free_key, sizeof free_key);
  free_key = key;
}

void *csys_allocate_key(size_t size) {
  static size_t used = KEY_PAGE;
  if (free_key) {
    void *key = free_key;
    memcpy(&free_key, key, sizeof free_key);
    return key;
  }
  size = (size + 63) / 64 * 64;
  if (size > KEY_PAGE - used) {
    key_page = csys_map(KEY_PAGE);
    if (!key_page) return NULL;
    csys_lock_keys();
    used = 0;
  }
  used += size;
  return key_page + used - size;
}

static int check_file(const char *path) {
  struct stat status;
  if (stat(path, &status) < 0) return -errno;
  if (!S_ISREG(status.st_mode)) return -EACCES;
  return csys_result(access(path, X_OK));
}

/// The file that a name stands for, looked for as execvp(3) does, in `path` (PATH_MAX bytes) if need be; NULL with
/// the reason in `error`.
static const char *find_program(const char *name, char *path, int *error) {
  *error = -ENOENT;
  if (!*name) return NULL;
  if (strchr(name, '/')) return (*error = check_file(name)) == 0 ? name : NULL;
  const char *place = getenv("PATH");
  // The default of execvp(3).
  if (!place) place = "/usr/local/bin:/bin:/usr/bin";
  for (;; place++) {
    size_t length = strcspn(place, ":");
    if (length + 1 + strlen(name) < PATH_MAX) {
      memcpy(path, place, length);
      path[length] = '/';
      strcpy(path + length + (length > 0), name);
      int result = check_file(path);
      if (result == 0) return path;
      if (result == -EACCES) *error = result;
    }
    place += length;
    if (!*place) return NULL;
  }
}

int csys_check_program(const char *name) {
  char path[PATH_MAX];
  int error;
  return find_program(name, path, &error) ? 0 : error;
}

struct start {
  const char *path;
  char *const *arguments, *const *environment;
  const sigset_t *mask;
  int own_group, error;
};

/// In the child, which has the memory of its parent, and the parent waits.
static int start_program(void *place) {
  struct start *start = place;
  if (start->own_group) setpgid(0, 0);
  for (int i = 0; i < 3; i++) signal((int[]){SIGPIPE, SIGXFSZ, SIGQUIT}[i], SIG_DFL);
  sigprocmask(SIG_SETMASK, start->mask, NULL);
  execve(start->path, start->arguments, start->environment);
  start->error = errno;
  _exit(127);
}

int csys_spawn(char *const *arguments, char *const *environment, const sigset_t *mask, int own_group) {
  static char stack[16384] __attribute__((aligned(64)));
  char path[PATH_MAX];
  int error;
  struct start start = {find_program(arguments[0], path, &error), arguments, environment, mask, own_group, 0};
  if (!start.path) return error;
  int process = clone(start_program, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &start);
  if (process < 0) return -errno;
  if (start.error == 0) return process;
  csys_reap(process);
  return -start.error;
}

// linux/netlink.h, which a C library need not come with.
struct netlink_address {
  sa_family_t family;
  unsigned short padding;
  uint32_t port, groups;
};
#define NETLINK_NETFILTER 12
#define SOL_NETLINK_LEVEL 270
#define NETLINK_CAP_ACK 10

int csys_netfilter_socket(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  if (fd < 0) return -errno;
  int on = 1;
  // Once connected to the kernel, which is port 0, other senders are refused.
  struct netlink_address kernel = {.family = AF_NETLINK};
  if (setsockopt(fd, SOL_NETLINK_LEVEL, NETLINK_CAP_ACK, &on, sizeof on) == 0 &&
      connect(fd, (struct sockaddr *)&kernel, sizeof kernel) == 0)
    return fd;
  int error = errno;
  close(fd);
  return -error;
}

int csys_check_udp_socket(int fd) {
  int type = 0, protocol = 0;
  socklen_t size = sizeof type;
  // A descriptor of another kind, or none, is as wrong as another socket.
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
      getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) < 0)
    return -EINVAL;
  return type == SOCK_DGRAM && protocol == IPPROTO_UDP ? 0 : -EINVAL;
}

int csys_receive_batch(int fd, void *buffer, size_t size, uint32_t *lengths, void *sources) {
  struct sockaddr_in6 *source = sources;
  struct mmsghdr messages[CSYS_BATCH];
  struct iovec pieces[CSYS_BATCH];
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < CSYS_BATCH; i++) {
    pieces[i] = (struct iovec){.iov_base = (char *)buffer + (size_t)i * size, .iov_len = size};
    messages[i].msg_hdr.msg_iov = &pieces[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    messages[i].msg_hdr.msg_name = &source[i];
    messages[i].msg_hdr.msg_namelen = sizeof source[i];
  }
  int count;
  do count = recvmmsg(fd, messages, CSYS_BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
  while (count < 0 && errno == EINTR);
  for (int i = 0; i < count; i++) lengths[i] = messages[i].msg_len;
  return csys_result(count);
}

// linux/sock_diag.h, as above.
enum { UDP_HEADER = 8, MEMINFO_DROPS = 8, MEMINFO_COUNT = 9 };

int csys_drop_others(int fd, uint32_t length, uint32_t other_length, uint32_t offset, uint8_t first,
                     uint8_t last, int forever) {
  // The filter sees the datagram with its UDP header.
  const struct filter_step steps[] = {
      {LOAD_LENGTH, 0, 0, 0},
      {IF_EQUAL, 1, 0, UDP_HEADER + length},
      {IF_EQUAL, 0, 3, UDP_HEADER + other_length},
      {LOAD_BYTE, 0, 0, UDP_HEADER + offset},
      {IF_AT_LEAST, 0, 1, first},
      {IF_GREATER, 0, 1, last},
      {RETURN, 0, 0, 0},
      {RETURN, 0, 0, UINT32_MAX},
  };
  struct filter_program program = {sizeof steps / sizeof *steps, steps};
  int on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) return -errno;
  if (!forever) return 0;
  return csys_result(setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on));
}

int64_t csys_dropped_datagrams(int fd) {
  uint32_t values[MEMINFO_COUNT];
  socklen_t size = sizeof values;
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values, &size) < 0) return -errno;
  return size == sizeof values ? (int64_t)values[MEMINFO_DROPS] : -ENOPROTOOPT;
}

/// Whether only we and root can have written what is there.
static int check_owner(int fd, mode_t type) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  if ((status.st_mode & S_IFMT) != type) return type == S_IFDIR ? -ENOTDIR : -EINVAL;
  if (status.st_uid != 0 && status.st_uid != geteuid()) return -EACCES;
  return status.st_mode & (S_IWGRP | S_IWOTH) ? -EACCES : 0;
}

static int checked(int fd, mode_t type) {
  if (fd < 0) return -errno;
  int result = check_owner(fd, type);
  if (result == 0) return fd;
  close(fd);
  return result;
}

int csys_open_state_directory(const char *path, int make) {
  if (make && mkdir(path, 0700) < 0 && errno != EEXIST) return -errno;
  return checked(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), S_IFDIR);
}

int csys_open_state_file(int directory, const char *name, int make) {
  int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | make;
  return checked(openat(directory, name, flags, 0600), S_IFREG);
}

int csys_open_configuration(const char *path) { return checked(csys_open_to_read(path), S_IFREG); }

int csys_reserve(int fd, int64_t size) {
  int error = posix_fallocate(fd, 0, (off_t)size);
  if (error != EOPNOTSUPP && error != ENOSYS) return -error;
  // A file system without it: what is missing is written.
  static char zeros[4096];  // Not const: so it takes no room in the program.
  int64_t end = csys_size(fd);
  while (end >= 0 && end < size) {
    size_t rest = size - end < (int64_t)sizeof zeros ? (size_t)(size - end) : sizeof zeros;
    ssize_t count = pwrite(fd, zeros, rest, (off_t)end);
    if (count < 0 && errno != EINTR) return -errno;
    if (count > 0) end += count;
  }
  return end < 0 ? (int)end : 0;
}

/// Writes the directory that a path is in into `parent` (PATH_MAX bytes).
static int find_parent(const char *path, char *parent) {
  size_t length = strlen(path);
  while (length > 1 && path[length - 1] == '/') length--;
  while (length > 0 && path[length - 1] != '/') length--;
  if (length + 1 >= PATH_MAX) return -ENAMETOOLONG;
  memcpy(parent, path, length);
  strcpy(parent + length, ".");
  return 0;
}

int csys_check_place(const char *path) {
  char parent[PATH_MAX];
  int result = find_parent(path, parent);
  return result < 0 ? result : csys_result(access(parent, W_OK | X_OK));
}

int csys_open_parent(const char *path) {
  char parent[PATH_MAX];
  int result = find_parent(path, parent);
  return result < 0 ? result : csys_result(open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC));
}
