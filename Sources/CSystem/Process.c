#define _GNU_SOURCE  // clone, environ
#include "Process.h"

#include "Calls.h"
#include "Files.h"
#include "Result.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

ASSERT_SAME(SIGHUP);
ASSERT_SAME(SIGINT);
ASSERT_SAME(SIGQUIT);
ASSERT_SAME(SIGKILL);
ASSERT_SAME(SIGTERM);

const int32_t CSYS_SIGUSR1 = SIGUSR1;
const int32_t CSYS_SIGCHLD = SIGCHLD;

static void leave(int signal) { _exit(128 + signal); }

static char *arguments_start;
static size_t arguments_size;

/// What this process does by itself at signals whose action it changes at the start, for a program that it becomes.
static const int changed[] = {SIGPIPE, SIGXFSZ, SIGCHLD, SIGTTOU};
enum { CHANGED_COUNT = sizeof changed / sizeof *changed };
static struct sigaction initial_actions[CHANGED_COUNT];

static void change_actions(void) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  // If a parent ignored CHLD, the kernel would reap our children itself.
  signal(SIGCHLD, SIG_DFL);
}

void csys_start_process(char **arguments) {
  // The arguments follow each other in memory.
  arguments_start = *arguments;
  for (; *arguments; arguments++)
    arguments_size = (size_t)(*arguments + strlen(*arguments) - arguments_start);
  // Process 1 has no default action for signals.
  if (getpid() == 1)
    for (int i = 0; i < 3; i++) signal((int[]){SIGTERM, SIGINT, SIGHUP}[i], leave);
  for (int i = 0; i < CHANGED_COUNT; i++) sigaction(changed[i], NULL, &initial_actions[i]);
  change_actions();
  for (int fd = 0; fd <= STDERR_FILENO; fd++)
    if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR);
}

void csys_keep_descriptors(void) {
  // Before Linux 5.11: as many as a parent may reasonably leave open.
  enum { CLOSE_ON_EXEC = 4 };  // linux/close_range.h, which a C library need not come with.
  if (syscall(SYS_close_range, 3, ~0U, CLOSE_ON_EXEC) < 0)
    for (int fd = 3; fd < 1024; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
}

int csys_detach_standard_streams(void) {
  int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (fd < 0) return -errno;
  int result = csys_result(dup2(fd, STDIN_FILENO));
  if ((fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY) dup2(fd, STDOUT_FILENO);
  close(fd);
  return result;
}

char **csys_environment(void) { return environ; }

char *csys_variable(const char *name) { return getenv(name); }

void csys_name_process(const char *name) { prctl(PR_SET_NAME, name, 0L, 0L, 0L); }

void csys_replace_arguments(const char *name) {
  for (size_t i = 0; i < arguments_size; i++) arguments_start[i] = *name ? *name++ : 0;
}

int32_t csys_process_id(void) { return getpid(); }

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

uint64_t csys_network(void) {
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return 0;
  int result = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size);
  close(fd);
  return result == 0 ? cookie : 0;
}

/// The mask of blocked signals that this process started with, for its children.
static sigset_t initial_mask;

int csys_open_signals(void) {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGTERM);
  sigaddset(&mask, SIGINT);
  sigaddset(&mask, SIGUSR1);
  sigaddset(&mask, SIGCHLD);
  struct sigaction hangup;
  if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) sigaddset(&mask, SIGHUP);
  if (sigprocmask(SIG_BLOCK, &mask, &initial_mask) < 0) return -errno;
  return csys_result(signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
}

int csys_next_signal(int fd) {
  struct signalfd_siginfo info;
  int count = csys_read(fd, &info, sizeof info);
  if (count == -EAGAIN) return 0;
  return count == (int)sizeof info ? (int)info.ssi_signo : count < 0 ? count : -EIO;
}

int csys_hold_signals(void) {
  // All that end a process.
  const int others[] = {SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH};
  sigset_t held;
  sigfillset(&held);
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) sigdelset(&held, others[i]);
  struct sigaction action;
  for (int number = 1; number < NSIG; number++)
    if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN) sigdelset(&held, number);
  if (sigprocmask(SIG_BLOCK, &held, &initial_mask) < 0) return -errno;
  return csys_result(signalfd(-1, &held, SFD_CLOEXEC));
}

void csys_release_signals(void) { sigprocmask(SIG_SETMASK, &initial_mask, NULL); }

int csys_guard(int process) {
  sigset_t awaited;
  sigprocmask(SIG_BLOCK, NULL, &awaited);
  // If the terminal stops all, this process stops once the other has.
  for (int i = 0; i < 4; i++) sigaddset(&awaited, (int[]){SIGCHLD, SIGTSTP, SIGTTIN, SIGTTOU}[i]);
  sigprocmask(SIG_BLOCK, &awaited, NULL);
  while (1) {
    // A child may have ended before CHLD was blocked.
    int status, ended;
    while ((ended = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
      if (ended != process) continue;
      if (!WIFSTOPPED(status)) {
        // Signals that still wait were for the child.
        const struct timespec now = {0, 0};
        while (sigtimedwait(&awaited, NULL, &now) > 0) {}
        return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
      }
      kill(getpid(), SIGSTOP);
      kill(process, SIGCONT);
    }
    siginfo_t info;
    int number = sigwaitinfo(&awaited, &info);
    // The terminal sends these to the whole group.
    int is_from_terminal =
        number == SIGINT || number == SIGQUIT || number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
    if (number < 0 || number == SIGCHLD || (is_from_terminal && info.si_code == SI_KERNEL)) continue;
    kill(process, number);
  }
}

void csys_die(int number) {
  const struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  signal(number, SIG_DFL);
  csys_release_signals();
  kill(getpid(), number);
  // Process 1 has survived.
  _exit(128 + number);
}

int csys_kill(int32_t process, int number) { return csys_result(kill(process, number)); }

static int check_file(const char *path) {
  struct stat status;
  if (stat(path, &status) < 0) return -errno;
  if (!S_ISREG(status.st_mode)) return -EACCES;
  return csys_result(access(path, X_OK));
}

/// The path of a program that is found as execvp(3) finds it. It may be written to `path` (PATH_MAX bytes).
/// NULL, with the reason in `error`, if there is none.
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

int csys_become(char *const *arguments) {
  char path[PATH_MAX];
  int error;
  const char *program = find_program(arguments[0], path, &error);
  if (!program) return error;
  for (int i = 0; i < CHANGED_COUNT; i++) sigaction(changed[i], &initial_actions[i], NULL);
  execve(program, arguments, environ);
  error = errno;
  change_actions();
  return -error;
}

struct start {
  const char *path;
  char *const *arguments, *const *environment;
  int error;
};

/// Runs in the child, which shares the memory of the parent while that waits.
static int start_program(void *place) {
  struct start *start = place;
  setpgid(0, 0);
  for (int i = 0; i < CHANGED_COUNT; i++) signal(changed[i], SIG_DFL);
  sigprocmask(SIG_SETMASK, &initial_mask, NULL);
  execve(start->path, start->arguments, start->environment);
  start->error = errno;
  _exit(127);
}

int csys_spawn(char *const *arguments, char *const *environment) {
  char stack[16384] __attribute__((aligned(64)));
  char path[PATH_MAX];
  int error;
  struct start start = {find_program(arguments[0], path, &error), arguments, environment, 0};
  if (!start.path) return error;
  int process = clone(start_program, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &start);
  if (process < 0) return -errno;
  if (start.error == 0) return process;
  csys_reap(process);
  return -start.error;
}

int csys_fork(void) { return csys_result(fork()); }

/// The process ID of a child that has changed to a state and was not reaped; 0 if there is none.
static int find_child(idtype_t kind, int process, int state) {
  siginfo_t info;
  info.si_pid = 0;
  int result = waitid(kind, (id_t)process, &info, state | WNOHANG | WNOWAIT);
  return result < 0 && errno != ECHILD ? -errno : (int)info.si_pid;
}

int csys_ended_child(void) { return find_child(P_ALL, 0, WEXITED); }

int csys_is_stopped(int process) { return find_child(P_PID, process, WSTOPPED) > 0; }

int csys_reap(int process) {
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) {}
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}
