// A library that LD_PRELOAD loads into the server. A list of a directory lacks each NAME that has a file .unlisted-NAME
// beside it. So may a list in which a file is replaced by rename(2) meanwhile.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_unlisted(int directory, const char *name) {
  char mark[300];
  struct stat status;
  snprintf(mark, sizeof mark, ".unlisted-%s", name);
  return fstatat(directory, mark, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

long syscall(long number, ...) {
  long words[6];
  va_list rest;
  va_start(rest, number);
  for (int index = 0; index < 6; index++) words[index] = va_arg(rest, long);
  va_end(rest);
  long (*original)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  long size = original(number, words[0], words[1], words[2], words[3], words[4], words[5]);
  if (number != SYS_getdents64) return size;
  char *entries = (char *)words[1];
  for (long start = 0; start < size;) {
    struct dirent64 *entry = (struct dirent64 *)(entries + start);
    long length = entry->d_reclen;
    if (is_unlisted((int)words[0], entry->d_name)) {
      memmove(entry, entries + start + length, size - start - length);
      size -= length;
    } else {
      start += length;
    }
  }
  return size;
}
