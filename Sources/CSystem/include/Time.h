// Clocks and a timer. Source: clock_gettime(2), timerfd_create(2).
#pragma once
#include <stdint.h>

/// Microseconds since the Unix epoch by the system's clock.
int64_t csys_wall_microseconds(void);

/// Year, month, day, hour, minute and second of a time since the Unix epoch, in UTC or in the time zone of the user.
void csys_calendar_time(int64_t seconds, int is_local, int32_t parts[6]);

/// Microseconds by CLOCK_MONOTONIC. Nobody can set this clock, and it stands still while the machine sleeps.
int64_t csys_monotonic_microseconds(void);

/// Microseconds by CLOCK_BOOTTIME. Nobody can set this clock, and it also runs while the machine sleeps.
int64_t csys_boot_microseconds(void);

/// A timer that `csys_boot_microseconds` drives, so that it also expires because the machine slept.
int csys_boot_timer(void);

/// From the moment on, a timer is ready to be read, until it is set again. INT64_MAX stops it.
void csys_set_boot_timer(int fd, int64_t moment);
