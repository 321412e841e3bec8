#define _GNU_SOURCE  // chroot, setgroups
#include "Sandbox.h"

#include "Calls.h"
#include "Filter.h"
#include "Result.h"
#include "Socket.h"

#include <grp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

int csys_check_kernel(void) {
#ifdef __i386__
  if (syscall(SYS_getsockopt, -1L, 0L, 0L, NULL, NULL) < 0 && errno == ENOSYS) return -ENOSYS;
#endif
  return 0;
}

int csys_check_root(const char *path) {
  struct stat status;
  if (stat(path, &status) < 0) return -errno;
  if (!S_ISDIR(status.st_mode)) return -ENOTDIR;
  return status.st_uid != 0 || status.st_mode & (S_IWGRP | S_IWOTH) ? -EACCES : 0;
}

int csys_change_root(const char *path) {
  int result = csys_check_root(path);
  return result < 0 ? result : csys_result(chdir(path) < 0 ? -1 : chroot("."));
}

int csys_change_user(uint32_t user, uint32_t group) {
  if (prctl(PR_SET_KEEPCAPS, 1L, 0L, 0L, 0L) < 0 || setgroups(0, NULL) < 0 || setgid(group) < 0 ||
      setuid(user) < 0)
    return -errno;
  // Some containers only pretend.
  return geteuid() == user && getegid() == group ? 0 : -EPERM;
}

// From linux/capability.h, linux/landlock.h, linux/seccomp.h and linux/audit.h, which a C library need not
// come with.
enum { CAPABILITY_VERSION = 0x20080522, CAPABILITY_COUNT = 64 };
struct capability_header {
  uint32_t version;
  int process;
};
// The lower 32 capabilities, and then the others.
struct capability_sets {
  uint32_t effective, permitted, inheritable;
};

static int check_effective(uint32_t needed) {
  struct capability_header header = {CAPABILITY_VERSION, 0};
  struct capability_sets sets[2];
  if (syscall(SYS_capget, &header, sets) < 0) return -errno;
  return (sets[0].effective & needed) == needed ? 0 : -EPERM;
}

int csys_check_privilege(int changes_user, int changes_root) {
  enum { SET_GROUP = 6, SET_USER = 7, CHANGE_ROOT = 18 };
  return check_effective((changes_user ? 1U << SET_GROUP | 1U << SET_USER : 0) |
                         (changes_root ? 1U << CHANGE_ROOT : 0));
}

int csys_bound_capabilities(uint64_t kept) {
  enum { SET_CAPABILITIES = 8 };
  if (check_effective(1U << SET_CAPABILITIES) < 0) return 0;
  for (int number = 0; number < CAPABILITY_COUNT; number++)
    if (!(kept >> number & 1) && prctl(PR_CAPBSET_DROP, (long)number, 0L, 0L, 0L) < 0)
      // The kernel does not know those behind its last.
      return errno == EINVAL && number > 0 ? 0 : -errno;
  return 0;
}

int csys_keep_capabilities(uint64_t kept) {
  struct capability_header header = {CAPABILITY_VERSION, 0};
  struct capability_sets sets[2];
  if (syscall(SYS_capget, &header, sets) < 0) return -errno;
  for (int half = 0; half < 2; half++) {
    sets[half].permitted &= (uint32_t)(kept >> 32 * half);
    sets[half].effective = sets[half].permitted;
    sets[half].inheritable = 0;
  }
  if (syscall(SYS_capset, &header, sets) < 0 || syscall(SYS_capget, &header, sets) < 0) return -errno;
  return (sets[0].permitted & ~(uint32_t)kept) | (sets[1].permitted & ~(uint32_t)(kept >> 32)) ? -EPERM : 0;
}

int csys_forbid_new_privileges(void) { return csys_result(prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L)); }

int csys_forbid_files(void) {
  enum { ASK_VERSION = 1 };
  struct {
    uint64_t files, network, scopes;
  } forbidden = {0};
  long version = syscall(SYS_landlock_create_ruleset, NULL, 0L, (long)ASK_VERSION);
  if (version < 0) return -errno;
  // Version 1 has 13 rights. Versions 2, 3 and 5 added one each.
  static const uint64_t files[] = {0x1FFF, 0x3FFF, 0x7FFF, 0x7FFF, 0xFFFF};
  long last = (long)(sizeof files / sizeof *files);
  forbidden.files = files[(version < last ? version : last) - 1];
  if (version >= 4) forbidden.network = 3;  // Bind and connect.
  if (version >= 6) forbidden.scopes = 3;   // Abstract unix sockets and signals.
  size_t size = version >= 6 ? sizeof forbidden : version >= 4 ? 16 : 8;
  int fd = (int)syscall(SYS_landlock_create_ruleset, &forbidden, size, 0L);
  if (fd < 0) return -errno;
  int result = csys_result(syscall(SYS_landlock_restrict_self, (long)fd, 0L));
  close(fd);
  return result;
}

int csys_hide(void) { return csys_result(prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L)); }

// The limit of descriptors. poll(2) refuses more entries than that, and gets two at a time.
enum { DESCRIPTORS = 2 };

int csys_limit(int32_t parent) {
  struct rlimit none = {0, 0}, few = {DESCRIPTORS, DESCRIPTORS};
  if (setrlimit(RLIMIT_NPROC, &none) < 0 || setrlimit(RLIMIT_CORE, &none) < 0 ||
      setrlimit(RLIMIT_NOFILE, &few) < 0 || csys_hide() < 0 ||
      prctl(PR_SET_PDEATHSIG, (long)SIGKILL, 0L, 0L, 0L) < 0)
    return -errno;
  return getppid() == parent ? 0 : -ESRCH;
}

#if defined __x86_64__
enum { ARCHITECTURE = (int)0xC000003E };
#elif defined __aarch64__
enum { ARCHITECTURE = (int)0xC00000B7 };
#elif defined __arm__
enum { ARCHITECTURE = 0x40000028 };
#elif defined __i386__
enum { ARCHITECTURE = 0x40000003 };
#elif defined __riscv && __riscv_xlen == 64
enum { ARCHITECTURE = (int)0xC00000F3 };
#elif defined __mips__ && _MIPS_SIM == _ABIO32 && defined __MIPSEL__
enum { ARCHITECTURE = 0x40000008 };
#elif defined __mips__ && _MIPS_SIM == _ABIO32
enum { ARCHITECTURE = 8 };
#else
#error "linux/audit.h has the number of this architecture"
#endif

enum { KILL = (int)0x80000000, ALLOW = 0x7FFF0000 };
// Offsets in struct seccomp_data. An argument has 64 bits. The kernel ignores the upper half of a descriptor.
enum {
  CALL = 0,
  ARCHITECTURE_OF_CALL = 4,
  LOWER_HALF_OF_FIRST_ARGUMENT = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 20 : 16
};

enum { FILTER_MODE = 2 };

/// The beginning of both filters: calls by the rules of another architecture have other numbers.
#define FILTER_BEGIN                                                            \
  {LOAD, 0, 0, ARCHITECTURE_OF_CALL}, {IF_EQUAL, 1, 0, (uint32_t)ARCHITECTURE}, \
      {RETURN, 0, 0, (uint32_t)KILL}, {                                         \
    LOAD, 0, 0, CALL                                                            \
  }

static int set_filter(const struct filter_step *steps, unsigned short count) {
  struct filter_program program = {count, steps};
  return csys_result(prctl(PR_SET_SECCOMP, (long)FILTER_MODE, &program));
}

int csys_filter_calls(int socket, int channel, int log) {
  csys_number_zones();
  enum { ANY = -1 };
  // Some calls have two numbers. Which one is used depends on the C library and the kernel.
  const struct {
    uint32_t call;
    int descriptor;
  } allowed[] = {
      {SYS_recvmmsg, socket},
      {SYS_getsockopt, socket},
      {SYS_sendto, channel},
      {SYS_recvfrom, channel},
      {SYS_write, log},
      {SYS_ppoll, ANY},
      {SYS_exit_group, ANY},
      {SYS_restart_syscall, ANY},
#ifdef SYS_poll
      {SYS_poll, ANY},
#endif
#ifdef SYS_recvmmsg_time64
      {SYS_recvmmsg_time64, socket},
#endif
#ifdef SYS_ppoll_time64
      {SYS_ppoll_time64, ANY},
#endif
#ifdef SYS_clock_gettime
      {SYS_clock_gettime, ANY},
#else
      {SYS_clock_gettime32, ANY},
#endif
#ifdef SYS_clock_gettime64
      {SYS_clock_gettime64, ANY},
#endif
  };
  enum { COUNT = sizeof allowed / sizeof *allowed };
  struct filter_step steps[4 + 6 * COUNT + 1] = {FILTER_BEGIN};
  unsigned short count = 4;
#define STEP(...)                                       \
  steps[count++] = (struct filter_step) { __VA_ARGS__ }
  for (int i = 0; i < COUNT; i++) {
    if (allowed[i].descriptor == ANY) {
      STEP(IF_EQUAL, 0, 1, allowed[i].call);
    } else {
      STEP(IF_EQUAL, 0, 4, allowed[i].call);
      STEP(LOAD, 0, 0, LOWER_HALF_OF_FIRST_ARGUMENT);
      STEP(IF_EQUAL, 1, 0, (uint32_t)allowed[i].descriptor);
      STEP(RETURN, 0, 0, (uint32_t)KILL);
    }
    STEP(RETURN, 0, 0, ALLOW);
  }
  STEP(RETURN, 0, 0, (uint32_t)KILL);
#undef STEP
  return set_filter(steps, count);
}

int csys_only_send(int socket) {
  // What receives from its first argument, or makes another descriptor of it.
  static const uint32_t with_socket[] = {
      SYS_recvfrom, SYS_read, SYS_readv, SYS_preadv, SYS_dup, SYS_dup3,
#ifdef SYS_recv
      SYS_recv,
#endif
#ifdef SYS_dup2
      SYS_dup2,
#endif
#ifdef SYS_fcntl
      SYS_fcntl,
#endif
#ifdef SYS_fcntl64
      SYS_fcntl64,
#endif
  };
  // What receives in another way, or gets a descriptor back under another number.
  static const uint32_t forbidden[] = {
      SYS_recvmsg,         SYS_recvmmsg, SYS_preadv2,        SYS_splice,
      SYS_sendfile,        SYS_io_setup, SYS_io_uring_setup, SYS_pidfd_getfd,
#ifdef SYS_recvmmsg_time64
      SYS_recvmmsg_time64,
#endif
#ifdef SYS_sendfile64
      SYS_sendfile64,
#endif
#ifdef SYS_socketcall
      SYS_socketcall,
#endif
  };
  enum {
    WITH = sizeof with_socket / sizeof *with_socket,
    NEVER = sizeof forbidden / sizeof *forbidden,
    // Where the argument is looked at, and where the process ends.
    LOOK = 4 + 1 + NEVER + WITH + 1,
    END = LOOK + 2,
  };
  struct filter_step steps[END + 2] = {FILTER_BEGIN};
  unsigned short count = 4;
#define JUMP(condition, number, target)                                                             \
  steps[count] = (struct filter_step){condition, (uint8_t)(target - count - 1), 0, number}, count++
  // On x86-64, calls by the rules of x32 have these numbers.
  JUMP(IF_AT_LEAST, 0x40000000, END);
  for (int i = 0; i < NEVER; i++) JUMP(IF_EQUAL, forbidden[i], END);
  for (int i = 0; i < WITH; i++) JUMP(IF_EQUAL, with_socket[i], LOOK);
#undef JUMP
  steps[count++] = (struct filter_step){RETURN, 0, 0, ALLOW};
  steps[count++] = (struct filter_step){LOAD, 0, 0, LOWER_HALF_OF_FIRST_ARGUMENT};
  steps[count++] = (struct filter_step){IF_EQUAL, 0, 1, (uint32_t)socket};
  steps[count++] = (struct filter_step){RETURN, 0, 0, (uint32_t)KILL};
  steps[count++] = (struct filter_step){RETURN, 0, 0, ALLOW};
  return set_filter(steps, count);
}

void csys_end_process(int code) { _exit(code); }

void csys_close_others(int socket, int channel, int log) {
  unsigned last = (unsigned)(socket > channel ? socket : channel);
  if ((unsigned)log > last) last = (unsigned)log;
  // Before Linux 5.9: as many as a parent may reasonably leave open.
  if (syscall(SYS_close_range, last + 1, ~0U, 0) < 0) last = 1023;
  for (int fd = 0; fd <= (int)last; fd++)
    if (fd != socket && fd != channel && fd != log) close(fd);
  // All numbers below the limit are then in use.
  for (int fd = 0; fd < DESCRIPTORS; fd++)
    if (fd != log) dup2(log, fd);
}
