// A library that LD_PRELOAD loads into a program. It kills the program before the call that KILLED names.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static void reach(const char *name) {
  if (strcmp(getenv("KILLED"), name) == 0) kill(getpid(), SIGKILL);
}

#define ORIGINAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fchown(int fd, uid_t user, gid_t group) {
  reach("fchown");
  return ORIGINAL(fchown)(fd, user, group);
}

int fchmod(int fd, mode_t mode) {
  reach("fchmod");
  return ORIGINAL(fchmod)(fd, mode);
}

ssize_t write(int fd, const void *bytes, size_t size) {
  reach("write");
  return ORIGINAL(write)(fd, bytes, size);
}

int fsync(int fd) {
  reach("fsync");
  return ORIGINAL(fsync)(fd);
}

int renameat(int from, const char *old, int to, const char *new) {
  reach("renameat");
  return ORIGINAL(renameat)(from, old, to, new);
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
  reach("linkat");
  return ORIGINAL(linkat)(from, old, to, new, flags);
}
