// A library that LD_PRELOAD loads into a program. Each MAC takes 100 microseconds more, as on a slow machine.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int crypto_auth_hmacsha256_final(void *state, unsigned char *mac) {
  long long end = now() + 100000;
  while (now() < end) continue;
  return ((int (*)(void *, unsigned char *))dlsym(RTLD_NEXT, "crypto_auth_hmacsha256_final"))(state, mac);
}
