// Where the lines of the log go: standard error, or the system's log. No call here waits for a reader.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Opens the queue of the log, a pipe. From now on lines wait there if they cannot be written. The processes
/// that are forked later have the same queue.
int csys_open_log_queue(void);

/// From now on lines go to the system's log, by the socket with a name. If that cannot be reached, nothing
/// changes.
int csys_log_to_system(const char *name);

/// From now on lines wait in the queue until the system's log can be reached.
void csys_await_system_log(const char *name);

/// From now on this process only puts lines into the queue, by the descriptor of standard error. Another
/// process writes them.
void csys_only_queue_log(void);

/// Writes a line, which ends in a newline, in one piece. If there is a queue, the line goes behind those that
/// wait. What neither the reader nor the queue takes is dropped and counted.
void csys_write_log(const void *line, size_t size);

/// Writes some of the lines that wait, unless the reader has taken none a moment ago. Returns how many lines
/// have been dropped since the last call, once no line waits.
uint32_t csys_flush_log(void);

/// Becomes readable when `csys_flush_log` has something to do. -1 if that is at `csys_log_deadline` instead.
int csys_log_descriptor(void);

/// When to call `csys_flush_log` next, in monotonic microseconds. INT64_MAX if no time is set.
int64_t csys_log_deadline(void);

/// Writes what waits, at the end of the program. What the system's log does not take goes to standard error.
void csys_end_log(void);
