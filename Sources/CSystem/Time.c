#define _GNU_SOURCE  // CLOCK_BOOTTIME
#include "Time.h"

#include "Result.h"

#include <string.h>
#include <sys/timerfd.h>
#include <time.h>

static int64_t microseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t csys_wall_microseconds(void) { return microseconds(CLOCK_REALTIME); }

void csys_calendar_time(int64_t seconds, int is_local, int32_t parts[6]) {
  time_t time = (time_t)seconds;
  struct tm date;
  memset(&date, 0, sizeof date);
  if (is_local) localtime_r(&time, &date);
  else gmtime_r(&time, &date);
  const int32_t values[6] = {date.tm_year + 1900, date.tm_mon + 1, date.tm_mday,
                             date.tm_hour,        date.tm_min,     date.tm_sec};
  memcpy(parts, values, sizeof values);
}

int64_t csys_monotonic_microseconds(void) { return microseconds(CLOCK_MONOTONIC); }

int64_t csys_boot_microseconds(void) { return microseconds(CLOCK_BOOTTIME); }

int csys_boot_timer(void) { return csys_result(timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC)); }

void csys_set_boot_timer(int fd, int64_t moment) {
  struct itimerspec time;
  memset(&time, 0, sizeof time);
  if (moment < INT64_MAX) {
    // 0 would stop the timer.
    if (moment <= 0) moment = 1;
    time.it_value.tv_sec = (time_t)(moment / 1000000);
    time.it_value.tv_nsec = (long)(moment % 1000000) * 1000;
  }
  timerfd_settime(fd, TFD_TIMER_ABSTIME, &time, NULL);
}
