// Where the lines of the log go.
#pragma once
#include <stddef.h>

/// The descriptor that lines are written to: standard error, or another one for the same terminal. That one
/// is opened for us alone and never blocks.
int csys_log_descriptor(void);

/// From now on, lines go to the datagram socket with a name. If its owner is replaced, they go to the new
/// one.
int csys_log_to_socket(const char *name);

/// From now on, this process does not connect the log socket again. Another process that shares it may.
void csys_keep_log_socket(void);

/// Writes a line in one piece. If the reader has stalled, for example at a full pipe, the line is dropped
/// after a tenth of a second. The lines after it are dropped at once until there is room.
void csys_write_log(const void *line, size_t size);
