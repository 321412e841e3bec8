// A library that LD_PRELOAD loads into the program. It changes what the kernel answers about sets, as NETLINK says:
// - changed N: the first N answers with elements say that the set has changed meanwhile (NLM_F_DUMP_INTR).
// - cut N: the last N bytes of each answer with elements are missing.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

ssize_t recv(int fd, void *bytes, size_t size, int flags) {
  static int number = -1;
  static char what[16];
  ssize_t count = ((__typeof__(&recv))dlsym(RTLD_NEXT, "recv"))(fd, bytes, size, flags);
  if (number < 0 && sscanf(getenv("NETLINK"), "%15s %d", what, &number) != 2) abort();
  struct nlmsghdr *message = bytes;
  // NFT_MSG_NEWSETELEM, and IPSET_CMD_LIST with elements.
  int has_elements =
      count > 200 && (message->nlmsg_type == (10 << 8 | 12) || message->nlmsg_type == (6 << 8 | 7));
  if (!has_elements || number == 0) return count;
  if (strcmp(what, "cut") == 0) return count - number;
  number--;
  message->nlmsg_flags |= NLM_F_DUMP_INTR;
  return count;
}
