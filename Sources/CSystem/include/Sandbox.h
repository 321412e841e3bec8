// What a process gives up for good. Results as in CSystem.h.
#pragma once
#include <stdint.h>
#include <sys/types.h>

/// 0 where a directory can be the root: -EACCES where others than root may write in it.
int csys_check_root(const char *path);

/// 0 where we may become another user, or change the root: -EPERM.
int csys_check_privilege(int changes_user, int changes_root);

/// Makes a directory that can be the root the root.
int csys_change_root(const char *path);

/// Becomes another user, without other groups; capabilities stay, but are not in effect.
int csys_change_user(uid_t user, gid_t group);

static const uint64_t CSYS_NET_ADMIN = (uint64_t)1 << 12;

/// Whatever it runs later, no capabilities but those with a bit in `kept` can be got, as far as it is ours to
/// say. To be called before another user is become. Source: capabilities(7).
void csys_bound_capabilities(uint64_t kept);

/// Gives up all capabilities but those with a bit in `kept` that the process has.
int csys_keep_capabilities(uint64_t kept);

/// No program that is started has more rights than this one. Source: prctl(2), PR_SET_NO_NEW_PRIVS.
int csys_forbid_new_privileges(void);

/// No file can be opened, made or removed, whatever its permissions, and where the kernel has it, no TCP
/// connection and no signal to others; -ENOSYS or -EOPNOTSUPP where the kernel has not. Source: landlock(7).
int csys_forbid_files(void);

/// Not one process, descriptor or byte of core dump more; other processes cannot look into this one, and
/// it ends with its parent, `parent`: -ESRCH where that has ended.
int csys_limit(pid_t parent);

/// From here on all but what the receiver does ends the process: it may wait, receive from `socket`, send
/// to and receive from `channel`, write to `log`, ask for the time, and end. Source: seccomp(2).
int csys_filter_calls(int socket, int channel, int log);

/// _exit(2). The compiler is not told that it does not return: it would free what the caller holds before,
/// by system calls that are gone.
void csys_end_process(int code);

/// Closes all descriptors but these, and has the first ones stand for the log.
void csys_close_others(int socket, int channel, int log);
