// What a process gives up for good.
#pragma once
#include <stdint.h>

/// 0 if we may become another user, or change the root directory, or both: -EPERM if not.
int csys_check_privilege(int changes_user, int changes_root);

/// 0 if the kernel has the system calls that `csys_filter_calls` allows. On i686, Linux 4.2 and earlier have one
/// call for all that is done with sockets: -ENOSYS.
int csys_check_kernel(void);

/// 0 if a directory can become the root directory. If others than root can write to it, it returns -EACCES.
int csys_check_root(const char *path);

/// Makes a directory the root directory, after the same check.
int csys_change_root(const char *path);

/// Becomes another user without supplementary groups. Capabilities stay permitted, but are not effective.
int csys_change_user(uint32_t user, uint32_t group);

/// The bit of CAP_NET_ADMIN.
static const uint64_t CSYS_NET_ADMIN = (uint64_t)1 << 12;

/// Limits the capabilities that this process, and programs that it starts, can ever get to those with a bit
/// in `kept`. Must be called before `csys_change_user`. Without the privilege for it, it returns 0 and does
/// nothing: `csys_forbid_new_privileges` has the same effect. Source: capabilities(7).
int csys_bound_capabilities(uint64_t kept);

/// Gives up all capabilities except those with a bit in `kept` that the process has.
int csys_keep_capabilities(uint64_t kept);

/// Programs that are started get no more rights than this process has. Source: prctl(2), PR_SET_NO_NEW_PRIVS.
int csys_forbid_new_privileges(void);

/// Forbids to open, make or remove files, whatever their permissions. If the kernel can, it also forbids TCP
/// connections, and signals to other processes. Returns -ENOSYS or -EOPNOTSUPP if the kernel has no Landlock.
/// Source: landlock(7).
int csys_forbid_files(void);

/// Hides this process from all others without CAP_SYS_PTRACE, and forbids core dumps. The kernel may undo it when the
/// user changes. Source: prctl(2), PR_SET_DUMPABLE.
int csys_hide(void);

/// Forbids new processes, new descriptors and core dumps, hides this process from others, and ends it when
/// its parent ends. Returns -ESRCH if `parent` has ended already.
int csys_limit(int32_t parent);

/// Ends the process at any system call that the receiver does not need. It may wait, receive from `socket`,
/// send to and receive from `channel`, write to `log`, ask for the time, and exit. Source: seccomp(2).
int csys_filter_calls(int socket, int channel, int log);

/// Ends the process when it receives anything from `socket`, or makes another descriptor of it. It may send. Source:
/// seccomp(2).
int csys_only_send(int socket);

/// Closes all descriptors except these. The lowest numbers become further descriptors of the log.
void csys_close_others(int socket, int channel, int log);

/// Ends the process: _exit(2). It is not declared to never return. Otherwise the compiler would first free
/// what the caller holds, with system calls that are forbidden.
void csys_end_process(int code);
