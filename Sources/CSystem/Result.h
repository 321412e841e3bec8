// What the C files share.
#pragma once
#include <errno.h>

/// The result of a system call as the functions of CSystem return it.
static inline int csys_result(long result) { return result < 0 ? -errno : (int)result; }
