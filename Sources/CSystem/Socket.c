#define _GNU_SOURCE  // recvmmsg, pipe2
#include "Socket.h"

#include "Files.h"
#include "Filter.h"
#include "Process.h"
#include "Result.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

_Static_assert(CSYS_ANY_FAMILY == AF_UNSPEC && CSYS_INET == AF_INET && CSYS_INET6 == AF_INET6, "families");
_Static_assert(CSYS_EAI_AGAIN == EAI_AGAIN, "an error");
_Static_assert(CSYS_ADDRESS_SIZE >= sizeof(struct sockaddr_in6), "an address");
_Static_assert(_Alignof(struct sockaddr_in6) <= _Alignof(uint64_t), "an address");
_Static_assert(CSYS_SOURCE_SIZE == sizeof(struct sockaddr_in6), "an address of a batch");

/// The time limit for poll(2) in milliseconds. Rounded up, so that no loop spins until its moment.
static int poll_limit(int64_t microseconds) {
  if (microseconds < 0) return -1;
  const int64_t limit = microseconds / 1000 + (microseconds % 1000 > 0);
  return limit < INT_MAX ? (int)limit : INT_MAX;
}

int csys_wait(const int32_t *descriptors, size_t count, uint64_t readers, uint64_t writers, int64_t timeout,
              uint64_t *ready) {
  struct pollfd entries[CSYS_WAIT_LIMIT];
  if (count > CSYS_WAIT_LIMIT) return -EINVAL;
  for (size_t i = 0; i < count; i++) {
    entries[i].fd = descriptors[i];
    entries[i].events = (short)((readers >> i & 1 ? POLLIN : 0) | (writers >> i & 1 ? POLLOUT : 0));
  }
  if (poll(entries, (nfds_t)count, poll_limit(timeout)) < 0) return -errno;
  *ready = 0;
  for (size_t i = 0; i < count; i++)
    if (entries[i].revents) *ready |= (uint64_t)1 << i;
  return 0;
}

int csys_address_family(const void *address) { return ((const struct sockaddr *)address)->sa_family; }

int csys_address_bytes(const void *address, uint8_t bytes[16], uint16_t *port) {
  switch (csys_address_family(address)) {
    case AF_INET: {
      const struct sockaddr_in *inet = address;
      *port = ntohs(inet->sin_port);
      memcpy(bytes, &inet->sin_addr, 4);
      return 4;
    }
    case AF_INET6: {
      const struct sockaddr_in6 *inet6 = address;
      *port = ntohs(inet6->sin6_port);
      memcpy(bytes, &inet6->sin6_addr, 16);
      return 16;
    }
    default:
      return 0;
  }
}

uint32_t csys_address_size(const void *address) {
  return csys_address_family(address) == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

int csys_parse_address(const char *text, uint8_t bytes[16]) {
  if (inet_pton(AF_INET, text, bytes) == 1) return 4;
  return inet_pton(AF_INET6, text, bytes) == 1 ? 16 : 0;
}

/// Whether this process may ask for the names of interfaces.
static int asks_for_names = 1;

void csys_number_zones(void) { asks_for_names = 0; }

const char *csys_zone(const void *address, uint32_t *number) {
  static char name[IF_NAMESIZE];
  const struct sockaddr_in6 *inet6 = address;
  *number = csys_address_family(address) == AF_INET6 ? inet6->sin6_scope_id : 0;
  return *number > 0 && asks_for_names ? if_indextoname(*number, name) : NULL;
}

void csys_set_port(void *address, uint16_t port) {
  if (csys_address_family(address) == AF_INET) ((struct sockaddr_in *)address)->sin_port = htons(port);
  if (csys_address_family(address) == AF_INET6) ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
}

uint32_t csys_any_address(int family, uint16_t port, void *address) {
  memset(address, 0, CSYS_ADDRESS_SIZE);
  ((struct sockaddr *)address)->sa_family = (sa_family_t)family;
  csys_set_port(address, port);
  return csys_address_size(address);
}

// Below it are the error numbers of the system, from it on those of getaddrinfo(3).
enum { SYSTEM_ERROR = -1000 };

static int is_known(const char *addresses, int count, const struct addrinfo *entry) {
  for (int i = 0; i < count; i++)
    if (memcmp(addresses + i * CSYS_ADDRESS_SIZE, entry->ai_addr, entry->ai_addrlen) == 0) return 1;
  return 0;
}

int csys_look_up(const char *host, int family, int numeric, void *addresses, int limit) {
  struct addrinfo hints, *first = NULL;
  memset(&hints, 0, sizeof hints);
  hints.ai_family = family;
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_protocol = IPPROTO_UDP;
  hints.ai_flags = numeric ? AI_NUMERICHOST : 0;
  int error = getaddrinfo(host, NULL, &hints, &first), count = 0;
  if (error == EAI_SYSTEM) return SYSTEM_ERROR - errno;
  if (error) return error;
  memset(addresses, 0, (size_t)limit * CSYS_ADDRESS_SIZE);
  for (const struct addrinfo *entry = first; entry && count < limit; entry = entry->ai_next)
    if (entry->ai_addrlen <= CSYS_ADDRESS_SIZE && !is_known(addresses, count, entry))
      memcpy((char *)addresses + count++ * CSYS_ADDRESS_SIZE, entry->ai_addr, entry->ai_addrlen);
  freeaddrinfo(first);
  return count;
}

/// What one process tells another of a name. As small as what a pipe takes whole. Source: pipe(7).
struct answer {
  int count;
  char addresses[CSYS_NAME_ADDRESSES][CSYS_ADDRESS_SIZE];
};
_Static_assert(sizeof(struct answer) <= PIPE_BUF, "an answer");

// The processes that look up.
static int looking_up[256];
static int look_ups;

int csys_begin_look_up(const char *host, int family, int *process) {
  int ends[2];
  if (look_ups == sizeof looking_up / sizeof *looking_up) return -EAGAIN;
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return -errno;
  *process = fork();
  if (*process == 0) {
    struct answer answer;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0L, 0L, 0L);
    answer.count = csys_look_up(host, family, 0, answer.addresses, CSYS_NAME_ADDRESSES);
    _exit(csys_write(ends[1], &answer, sizeof answer) < 0);
  }
  const int error = errno;
  close(ends[1]);
  if (*process > 0) {
    looking_up[look_ups++] = *process;
    return ends[0];
  }
  close(ends[0]);
  return -error;
}

int csys_end_look_up(int fd, int process, void *addresses) {
  struct answer answer;
  int size = csys_read(fd, &answer, sizeof answer);
  if (size == -EAGAIN) return CSYS_UNFINISHED;
  csys_reap(process);
  int i = 0;
  while (looking_up[i] != process) i++;
  looking_up[i] = looking_up[--look_ups];
  if (size != sizeof answer) return EAI_FAIL;
  memcpy(addresses, answer.addresses, sizeof answer.addresses);
  return answer.count;
}

void csys_stop_look_ups(void) {
  for (int i = 0; i < look_ups; i++) kill(looking_up[i], SIGKILL);
  while (look_ups > 0) csys_reap(looking_up[--look_ups]);
}

const char *csys_resolve_error(int error) {
  return error <= SYSTEM_ERROR ? strerror(SYSTEM_ERROR - error) : gai_strerror(error);
}

int csys_bind(int fd, const void *address, uint32_t size) { return csys_result(bind(fd, address, size)); }

int csys_connect(int fd, const void *address, uint32_t size) {
  return csys_result(connect(fd, address, size));
}

int csys_local_address(int fd, void *address) {
  socklen_t size = CSYS_ADDRESS_SIZE;
  return csys_result(getsockname(fd, address, &size));
}

uint32_t csys_peer_address(int fd, void *address) {
  socklen_t size = CSYS_ADDRESS_SIZE;
  return getpeername(fd, address, &size) == 0 ? size : 0;
}

int csys_allow_any_address(int fd) {
  int on = 1;
  // For IPv6, too.
  return csys_result(setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on));
}

int csys_send(int fd, const void *bytes, size_t size) {
  ssize_t count;
  do count = send(fd, bytes, size, MSG_NOSIGNAL);
  while (count < 0 && errno == EINTR);
  return csys_result(count);
}

int csys_send_now(int fd, const void *bytes, size_t size) {
  return csys_result(send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL));
}

int csys_receive(int fd, void *buffer, size_t size) {
  ssize_t count;
  // A process that ends without having read all that it was sent resets the connection. What it has sent is still
  // there.
  do count = recv(fd, buffer, size, MSG_DONTWAIT | MSG_TRUNC);
  while (count < 0 && (errno == EINTR || errno == ECONNRESET));
  return csys_result(count);
}

void csys_hang_up(int fd) { shutdown(fd, SHUT_WR); }

int csys_udp_socket(int family) {
  return csys_result(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP));
}

int csys_check_udp_socket(int fd) {
  int type = 0, protocol = 0;
  socklen_t size = sizeof type;
  // What is not a socket, or not open, is refused with the same error.
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
      getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) < 0)
    return -EINVAL;
  return type == SOCK_DGRAM && protocol == IPPROTO_UDP ? 0 : -EINVAL;
}

int csys_accept_both_families(int fd) {
  int off = 0;
  return csys_result(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
}

int csys_set_receive_buffer(int fd, int size) {
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  socklen_t length = sizeof size;
  return getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, &length) < 0 ? -errno : size;
}

_Static_assert(CSYS_LOCAL_SIZE == sizeof(struct in6_pktinfo), "a local address of a batch");

int csys_tell_local_addresses(int fd) {
  int on = 1;
  if (setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on) == 0) return 0;
  return csys_result(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on));
}

/// The local address of a received datagram. An IPv4 address becomes an IPv4-mapped one. All zero if it is not told.
static struct in6_pktinfo local_address(struct msghdr *message) {
  struct in6_pktinfo local = {0};
  for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
      memcpy(&local, CMSG_DATA(part), sizeof local);
    } else if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
      struct in_pktinfo inet;
      memcpy(&inet, CMSG_DATA(part), sizeof inet);
      local.ipi6_addr.s6_addr[10] = local.ipi6_addr.s6_addr[11] = 0xFF;
      // Not ipi_addr: what was sent to a broadcast address cannot be answered from it.
      memcpy(local.ipi6_addr.s6_addr + 12, &inet.ipi_spec_dst, 4);
    }
  }
  return local;
}

int csys_receive_batch(int fd, void *buffer, size_t size, uint32_t *lengths, void *sources, void *locals) {
  struct mmsghdr messages[CSYS_BATCH];
  struct iovec pieces[CSYS_BATCH];
  // Aligned as struct cmsghdr must be.
  size_t controls[CSYS_BATCH][CMSG_SPACE(CSYS_LOCAL_SIZE) / sizeof(size_t) + 1];
  memset(messages, 0, sizeof messages);
  for (size_t i = 0; i < CSYS_BATCH; i++) {
    pieces[i] = (struct iovec){.iov_base = (char *)buffer + i * size, .iov_len = size};
    messages[i].msg_hdr.msg_iov = &pieces[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    messages[i].msg_hdr.msg_name = (char *)sources + i * CSYS_SOURCE_SIZE;
    messages[i].msg_hdr.msg_namelen = CSYS_SOURCE_SIZE;
    if (!locals) continue;
    messages[i].msg_hdr.msg_control = controls[i];
    messages[i].msg_hdr.msg_controllen = sizeof controls[i];
  }
  int count;
  do count = recvmmsg(fd, messages, CSYS_BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
  while (count < 0 && errno == EINTR);
  for (int i = 0; i < count; i++) {
    lengths[i] = messages[i].msg_len;
    if (!locals) continue;
    const struct in6_pktinfo local = local_address(&messages[i].msg_hdr);
    memcpy((char *)locals + i * CSYS_LOCAL_SIZE, &local, sizeof local);
  }
  return csys_result(count);
}

int csys_duplicate(int fd) { return csys_result(fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

int csys_answer(int fd, const void *datagram, size_t size, const void *peer, const void *local) {
  struct in6_pktinfo from;
  memcpy(&from, local, sizeof from);
  size_t control[CMSG_SPACE(CSYS_LOCAL_SIZE) / sizeof(size_t) + 1] = {0};
  struct sockaddr_in6 to;
  memcpy(&to, peer, sizeof to);
  struct iovec piece = {.iov_base = (void *)(uintptr_t)datagram, .iov_len = size};
  struct msghdr message = {.msg_name = &to, .msg_iov = &piece, .msg_iovlen = 1};
  message.msg_namelen = csys_address_size(&to);
  // Only a link-local address needs its interface. Routes decide for the others.
  const int is_link_local = IN6_IS_ADDR_LINKLOCAL(&from.ipi6_addr);
  if (!is_link_local) from.ipi6_ifindex = 0;
  if (!IN6_IS_ADDR_UNSPECIFIED(&from.ipi6_addr)) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    struct cmsghdr *part = CMSG_FIRSTHDR(&message);
    if (csys_address_family(&to) == AF_INET6) {
      part->cmsg_level = IPPROTO_IPV6;
      part->cmsg_type = IPV6_PKTINFO;
      part->cmsg_len = CMSG_LEN(sizeof from);
      memcpy(CMSG_DATA(part), &from, sizeof from);
      message.msg_controllen = CMSG_SPACE(sizeof from);
    } else {
      struct in_pktinfo inet = {0};
      memcpy(&inet.ipi_spec_dst, from.ipi6_addr.s6_addr + 12, 4);
      part->cmsg_level = IPPROTO_IP;
      part->cmsg_type = IP_PKTINFO;
      part->cmsg_len = CMSG_LEN(sizeof inet);
      memcpy(CMSG_DATA(part), &inet, sizeof inet);
      message.msg_controllen = CMSG_SPACE(sizeof inet);
    }
  }
  return csys_result(sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -1 : 0);
}

int csys_drop_others(int fd, const struct csys_form *forms, size_t count, int forever) {
  enum { UDP_HEADER = 8, EACH = 6 };  // The filter sees the datagram with its header.
  struct filter_step steps[1 + EACH * CSYS_FORMS + 1] = {{LOAD_LENGTH, 0, 0, 0}};
  if (count > CSYS_FORMS) return -EINVAL;
  for (size_t i = 0; i < count; i++) {
    const struct filter_step form[EACH] = {
        {IF_EQUAL, 0, EACH - 1, UDP_HEADER + forms[i].length},
        {LOAD_BYTE, 0, 0, UDP_HEADER + forms[i].offset},
        {IF_AT_LEAST, 0, 1, forms[i].first},
        {IF_GREATER, 0, 1, forms[i].last},
        {RETURN, 0, 0, 0},
        {RETURN, 0, 0, UINT32_MAX},
    };
    memcpy(steps + 1 + EACH * i, form, sizeof form);
  }
  steps[1 + EACH * count] = (struct filter_step){RETURN, 0, 0, 0};
  struct filter_program program = {(unsigned short)(2 + EACH * count), steps};
  int on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) return -errno;
  if (!forever) return 0;
  return csys_result(setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on));
}

int64_t csys_dropped_datagrams(int fd) {
  enum { DROPS = 8, COUNT = 9 };  // linux/sock_diag.h, which a C library need not come with.
  uint32_t values[COUNT];
  socklen_t size = sizeof values;
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values, &size) < 0) return -errno;
  return size == sizeof values ? (int64_t)values[DROPS] : -ENOPROTOOPT;
}

int csys_begin_connection(const void *source, const void *address, uint32_t size, int only_route) {
  int fd = socket(csys_address_family(address), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
  if (fd < 0) return -errno;
  int on = 1;
  const struct linger reset = {.l_onoff = 1};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  // Fast open without a cookie defers the SYN until the first write.
  if ((!only_route || (setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on) == 0 &&
                       setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, &on, sizeof on) == 0)) &&
      (!source || bind(fd, source, size) == 0) && (connect(fd, address, size) == 0 || errno == EINPROGRESS))
    return fd;
  int error = errno;
  close(fd);
  return -error;
}

int csys_connection_result(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  const struct linger off = {.l_onoff = 0};
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) return -errno;
  return error ? -error : csys_result(setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off));
}

int csys_open_waiter(void) { return csys_result(epoll_create1(EPOLL_CLOEXEC)); }

int csys_watch_connection(int waiter, int fd, uint32_t place) {
  struct epoll_event event = {.events = EPOLLOUT, .data.u32 = place};
  return csys_result(epoll_ctl(waiter, EPOLL_CTL_ADD, fd, &event));
}

int csys_next_connection(int waiter, int64_t timeout) {
  struct epoll_event event;
  int count = epoll_wait(waiter, &event, 1, poll_limit(timeout));
  if (count < 0 && errno != EINTR) return -errno;
  return count > 0 ? (int)event.data.u32 : -EAGAIN;
}

int csys_write_now(int fd, const void *bytes, size_t size) {
  int result = csys_send_now(fd, bytes, size);
  // A pipe that is ready has room for PIPE_BUF bytes. More might wait for its reader. Source: pipe(7).
  return result == -ENOTSOCK ? csys_write(fd, bytes, size < PIPE_BUF ? size : PIPE_BUF) : result;
}

int csys_unix_socket(const char *name, int is_stream) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(name);
  if (length >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, name, length);
  if (*name == '@') address.sun_path[0] = 0;
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
  int fd = socket(AF_UNIX, (is_stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (connect(fd, (struct sockaddr *)&address, size) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

int csys_channel(int ends[2]) {
  return csys_result(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
}
