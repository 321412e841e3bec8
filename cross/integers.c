// The 64-bit integer arithmetic that compilers take from libgcc, for machines that Debian has no fit libgcc for.
// The names and types are those of libgcc. Source: the manual of GCC's internals, "Integer library routines".

#include <stdint.h>

uint64_t __udivmoddi4(uint64_t number, uint64_t divisor, uint64_t *rest) {
  uint64_t quotient = 0, left = 0;
  for (int bit = 63; bit >= 0; bit--) {
    const int overflows = left >> 63 != 0;
    left = left << 1 | (number >> bit & 1);
    if (!overflows && left < divisor) continue;
    left -= divisor;
    quotient |= (uint64_t)1 << bit;
  }
  *rest = left;
  return quotient;
}

uint64_t __udivdi3(uint64_t number, uint64_t divisor) {
  uint64_t rest;
  return __udivmoddi4(number, divisor, &rest);
}

uint64_t __umoddi3(uint64_t number, uint64_t divisor) {
  uint64_t rest;
  __udivmoddi4(number, divisor, &rest);
  return rest;
}

static uint64_t magnitude(int64_t number) { return number < 0 ? -(uint64_t)number : (uint64_t)number; }

int64_t __divdi3(int64_t number, int64_t divisor) {
  const uint64_t quotient = __udivdi3(magnitude(number), magnitude(divisor));
  return (int64_t)((number < 0) == (divisor < 0) ? quotient : -quotient);
}

// The sign is that of the number.
int64_t __moddi3(int64_t number, int64_t divisor) {
  const uint64_t rest = __umoddi3(magnitude(number), magnitude(divisor));
  return (int64_t)(number < 0 ? -rest : rest);
}
