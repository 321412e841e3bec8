// Clocks. Source: clock_gettime(2).
#pragma once
#include <stdint.h>

/// Microseconds since the Unix epoch by the system's clock.
int64_t csys_wall_microseconds(void);

/// Year, month, day, hour, minute and second of a time since the Unix epoch, in UTC.
void csys_utc(int64_t seconds, int32_t parts[6]);

/// Microseconds by CLOCK_BOOTTIME. Nobody can set this clock, and it also runs while the machine sleeps.
int64_t csys_monotonic_microseconds(void);

/// Microseconds by CLOCK_MONOTONIC, which systemd uses.
int64_t csys_uptime_microseconds(void);
