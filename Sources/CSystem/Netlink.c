#define _GNU_SOURCE  // SOCK_CLOEXEC
#include "Netlink.h"

#include "Result.h"

#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

// linux/netlink.h, which a C library need not come with.
struct netlink_address {
  sa_family_t family;
  unsigned short padding;
  uint32_t port, groups;
};
#define NETLINK_NETFILTER 12
#define SOL_NETLINK_LEVEL 270
#define NETLINK_CAP_ACK 10

int csys_netfilter_socket(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  if (fd < 0) return -errno;
  int on = 1;
  // Once the socket is connected to the kernel, which is port 0, nobody else can send to it.
  struct netlink_address kernel = {.family = AF_NETLINK};
  if (setsockopt(fd, SOL_NETLINK_LEVEL, NETLINK_CAP_ACK, &on, sizeof on) == 0 &&
      connect(fd, (struct sockaddr *)&kernel, sizeof kernel) == 0)
    return fd;
  int error = errno;
  close(fd);
  return -error;
}
