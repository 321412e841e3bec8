// Filters for datagrams and for system calls: linux/filter.h and linux/bpf_common.h, which a C library need
// not come with.
#pragma once
#include <stdint.h>

struct filter_step {
  uint16_t code;
  uint8_t if_true, if_false;
  uint32_t value;
};
struct filter_program {
  unsigned short count;
  const struct filter_step *steps;
};
enum {
  LOAD = 0x20,
  LOAD_LENGTH = 0x80,
  LOAD_BYTE = 0x30,
  IF_EQUAL = 0x15,
  IF_AT_LEAST = 0x35,
  IF_GREATER = 0x25,
  RETURN = 0x06
};
