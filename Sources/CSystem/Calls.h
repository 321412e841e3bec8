// System calls that an older C library has no numbers for. Since Linux 5.1 a new call has the same number on
// each architecture, counted from the first number of its table. Source: syscalls(2).
#pragma once
#include <sys/syscall.h>
#include <unistd.h>

#if defined __mips__ && _MIPS_SIM == _ABIO32
#define FIRST_CALL 4000
#else
#define FIRST_CALL 0
#endif

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup (FIRST_CALL + 425)
#endif
#ifndef SYS_close_range
#define SYS_close_range (FIRST_CALL + 436)
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd (FIRST_CALL + 438)
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset (FIRST_CALL + 444)
#define SYS_landlock_restrict_self (FIRST_CALL + 446)
#endif
