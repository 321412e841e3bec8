// What the C files share.
#pragma once
#include <errno.h>

/// Checks that a constant of CSystem's headers has the value of the system's.
#define ASSERT_SAME(name) _Static_assert(CSYS_##name == name, #name)

/// The result of a system call as the functions of CSystem return it.
static inline int csys_result(long result) { return result < 0 ? -errno : (int)result; }
