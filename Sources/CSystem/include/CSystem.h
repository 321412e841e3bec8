// The system, as Swift code sees it. A header for each subject has the functions, and a C file of the same
// name calls the C library.
//
// A function makes one system call, or a few that belong together. If its comment says nothing else, it
// returns 0 or more, or the negated error number, and a signal does not interrupt it.
//
// These headers include no header of the system. So Swift code sees no number, type or layout that differs
// between architectures: the C compiler, which knows the target, has the only copy.
#pragma once
#include "Errors.h"
#include "Files.h"
#include "Log.h"
#include "Memory.h"
#include "Netlink.h"
#include "Process.h"
#include "Sandbox.h"
#include "Socket.h"
#include "Time.h"

// Until all Swift code has moved to the functions above.
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static inline int csys_poll(struct pollfd *descriptors, size_t count, int timeout) {
  return poll(descriptors, (nfds_t)count, timeout) < 0 ? -errno : 0;
}

static inline int csys_resolve(const char *host, const char *port, int family, int numeric,
                               struct addrinfo **addresses) {
  struct addrinfo hints;
  memset(&hints, 0, sizeof hints);
  hints.ai_family = family;
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_protocol = IPPROTO_UDP;
  hints.ai_flags = (numeric ? AI_NUMERICHOST : 0) | AI_NUMERICSERV;
  return getaddrinfo(host, port, &hints, addresses);
}
