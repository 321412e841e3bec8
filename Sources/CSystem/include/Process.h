// This process, its children and its signals.
#pragma once
#include <stdint.h>

// The same on each architecture. Process.c asserts it. Source: signal(7).
#define CSYS_SIGHUP 1
#define CSYS_SIGINT 2
#define CSYS_SIGQUIT 3
#define CSYS_SIGKILL 9
#define CSYS_SIGTERM 15

// Different on some.
extern const int32_t CSYS_SIGUSR1;
extern const int32_t CSYS_SIGCHLD;

/// Makes the process independent of how its parent started it:
/// - TERM, INT and HUP end it, even as process 1, until `csys_open_signals` is called.
/// - Descriptors 0 to 2 that are closed become /dev/null, so that no socket of ours becomes standard error.
///   Number 1 is then opened to read, so that a write to it still fails.
/// - If the reader of our output is gone, or a file is at its limit, write(2) fails. No signal ends the
///   process.
/// - `csys_replace_arguments` knows where the arguments are.
void csys_start_process(char **arguments);

/// From now on, no program that is started inherits a descriptor from 3 on. Android traps close_range(2), so only
/// the server calls this.
void csys_keep_descriptors(void);

/// Names the process for ps(1) and top(1), which show the first 15 bytes. Source: prctl(2), PR_SET_NAME.
void csys_name_process(const char *name);

/// Writes `name` over the arguments, for the programs that show those. From then on nobody can use them.
void csys_replace_arguments(const char *name);

/// Replaces standard input by /dev/null, and standard output too if it was closed.
int csys_detach_standard_streams(void);

char **csys_environment(void);

/// The value of a variable of the environment, or NULL.
char *csys_variable(const char *name);

int32_t csys_process_id(void);

/// A number that no other network namespace of this boot has. 0 if the kernel does not tell. Source: SO_NETNS_COOKIE,
/// since Linux 5.14.
uint64_t csys_network(void);

// Signals

/// Blocks TERM, INT, USR1, CHLD, and HUP unless it is ignored, as nohup(1) does. Returns a descriptor that the
/// blocked signals are read from. Must be called once, before `csys_spawn`.
int csys_open_signals(void);

/// The number of the next signal, 0 if none is waiting.
int csys_next_signal(int fd);

/// Blocks all signals that end a process from outside, except those that are ignored. Returns a descriptor that can
/// be read once one has come. Nobody reads it, so that the signal stays.
int csys_hold_signals(void);

/// Undoes it. A signal that has come then does what it does by itself.
void csys_release_signals(void);

/// Waits for the end of a child, between `csys_hold_signals` and `csys_release_signals`. Passes signals on to it, and
/// stops and continues with it. Returns as `csys_reap`.
int csys_guard(int process);

/// Ends the process by a signal, without a core dump.
void csys_die(int number);

/// Sends a signal to a process, or to the group `-process`.
int csys_kill(int32_t process, int number);

// Children

/// 0 if a program can be run: a path, or a name that is looked up in PATH.
int csys_check_program(const char *name);

/// Makes this process the program `arguments[0]`, which is looked up in PATH. Returns only if that fails.
int csys_become(char *const *arguments);

/// Starts `arguments[0]`, which is looked up in PATH, in a process group of its own. What this process ignores or
/// blocks for itself, the program does not. Returns its process ID.
int csys_spawn(char *const *arguments, char *const *environment);

/// The process ID in the parent, 0 in the child.
int csys_fork(void);

/// The process ID of a child that has ended and is not yet reaped, 0 if there is none.
int csys_ended_child(void);

/// Whether a signal such as STOP has stopped a child.
int csys_is_stopped(int process);

/// Reaps a child that has ended. Returns its exit status (0 to 255), or the negated number of its signal.
int csys_reap(int process);
