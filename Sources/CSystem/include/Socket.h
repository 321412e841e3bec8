// Sockets, their addresses, and waiting for descriptors.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Waiting

/// The most descriptors that can be waited for.
#define CSYS_WAIT_LIMIT 64

/// Waits until one of `count` descriptors (-1 is none) is ready, or for `timeout` microseconds, or forever if
/// that is negative. One with its bit in `readers` is ready if it can be read from. One with its bit in `writers` is
/// ready if it can be written to. All are ready at an error, or when nothing can pass any more. Stores the bits of
/// the ready descriptors in `ready`: none after the timeout. Returns -EINTR after a signal. Source: poll(2).
int csys_wait(const int32_t *descriptors, size_t count, uint64_t readers, uint64_t writers, int64_t timeout,
              uint64_t *ready);

// Addresses

// The families. Socket.c asserts that they are those of the system.
#define CSYS_ANY_FAMILY 0
#define CSYS_INET 2
#define CSYS_INET6 10

/// The size of the memory for an IPv4 or IPv6 socket address in bytes. It is aligned for a uint64_t. In these
/// functions `address` points to such memory, and `size` is how much of it is used.
#define CSYS_ADDRESS_SIZE 32

/// CSYS_INET, CSYS_INET6, or the system's number of another family.
int csys_address_family(const void *address);

/// Stores the bytes of an address in network order, and its port. Returns their number: 4, 16, or 0 for
/// another family.
int csys_address_bytes(const void *address, uint8_t bytes[16], uint16_t *port);

/// How many bytes an IPv4 or IPv6 address uses.
uint32_t csys_address_size(const void *address);

/// Stores the bytes of an address as inet_pton(3) reads it. Zones, and old forms of IPv4 such as 010.0.0.1 and 127.1,
/// are refused. Returns the number of bytes, 0 if the text is something else.
int csys_parse_address(const char *text, uint8_t bytes[16]);

/// Stores the number of an address's zone, 0 if it has none. Returns the name of the zone, or NULL. Source: RFC 4007.
const char *csys_zone(const void *address, uint32_t *number);

/// From now on, zones have no names. The system call for them is forbidden in the receiver.
void csys_number_zones(void);

void csys_set_port(void *address, uint16_t port);

/// Stores the wildcard address of a family. Returns its size.
uint32_t csys_any_address(int family, uint16_t port, void *address);

/// The most addresses of a name, in one family, that are taken.
#define CSYS_NAME_ADDRESSES 100

/// Stores up to `limit` addresses of `host` for UDP, without repeats, in the system's order. If `numeric` is not 0,
/// only a numeric address is accepted. Otherwise a name is looked up. Returns how many there are, or a number below 0
/// that `csys_resolve_error` explains.
int csys_look_up(const char *host, int family, int numeric, void *addresses, int limit);

/// The error of a name server that gives no answer. Socket.c asserts its number.
#define CSYS_EAI_AGAIN -3

/// Starts a process that looks a name up. Returns a descriptor that can be read once it has ended.
int csys_begin_look_up(const char *host, int family, int *process);

/// What a look-up that has not ended returns.
#define CSYS_UNFINISHED 1000

/// Ends a look-up, if its process has. Stores up to CSYS_NAME_ADDRESSES addresses. Returns as `csys_look_up`.
int csys_end_look_up(int fd, int process, void *addresses);

/// Ends all processes that look up. A program that this process becomes must not have them as children.
void csys_stop_look_ups(void);

/// Why a host has no addresses.
const char *csys_resolve_error(int error);

// Any socket

int csys_bind(int fd, const void *address, uint32_t size);

int csys_connect(int fd, const void *address, uint32_t size);

/// The address that a socket is bound to.
int csys_local_address(int fd, void *address);

/// Stores the address that a socket is connected to. Returns its size, 0 if there is none.
uint32_t csys_peer_address(int fd, void *address);

/// Lets a socket be bound to an address that no interface has yet. Source: ip(7), IP_FREEBIND.
int csys_allow_any_address(int fd);

/// Sends a message, or as many bytes as there is room for.
int csys_send(int fd, const void *bytes, size_t size);

/// Sends a message, or as many bytes as there is room for, without waiting. -EAGAIN if there is no room.
int csys_send_now(int fd, const void *bytes, size_t size);

/// Receives a message without waiting, at most `size` bytes of it. Returns its whole length: -EAGAIN if none
/// is there.
int csys_receive(int fd, void *buffer, size_t size);

/// Ends what is sent. The other side reads the end.
void csys_hang_up(int fd);

// UDP

int csys_udp_socket(int family);

/// 0 if a descriptor is a UDP socket, -EINVAL if not.
int csys_check_udp_socket(int fd);

/// Makes an IPv6 socket also take IPv4, as IPv4-mapped addresses, whatever the system's default.
int csys_accept_both_families(int fd);

/// Asks for a receive buffer of `size` bytes. With the privilege, this exceeds the system's limit. Returns
/// the size that the kernel gave, which includes its own overhead: about twice as much.
int csys_set_receive_buffer(int fd, int size);

/// The most datagrams that one call receives.
#define CSYS_BATCH 32

/// The size in bytes of the address that a datagram came from, in a batch.
#define CSYS_SOURCE_SIZE 28

/// The size in bytes of the address that a datagram was sent to, in a batch: a struct in6_pktinfo.
#define CSYS_LOCAL_SIZE 20

/// Has the kernel say which address each datagram was sent to. Source: ipv6(7), ip(7).
int csys_tell_local_addresses(int fd);

/// Receives the datagrams that are there, without waiting. Each has `size` bytes of `buffer`,
/// CSYS_SOURCE_SIZE bytes of `sources`, and CSYS_LOCAL_SIZE bytes of `locals`, which may be NULL. Stores their
/// whole lengths, which may exceed `size`. Returns their number: -EAGAIN if none is there.
int csys_receive_batch(int fd, void *buffer, size_t size, uint32_t *lengths, void *sources, void *locals);

/// Another descriptor for the same open socket, which no program that is started inherits.
int csys_duplicate(int fd);

/// Sends a datagram to `peer` from `local`, without waiting. Both are as `csys_receive_batch` stored them.
int csys_answer(int fd, const void *datagram, size_t size, const void *peer, const void *local);

/// A form of datagrams: `length` bytes, with a byte from `first` to `last` at `offset`.
struct csys_form {
  uint32_t length, offset;
  uint8_t first, last;
};

/// The most forms that csys_drop_others takes.
#define CSYS_FORMS 4

/// Makes the kernel drop all datagrams except those that have one of these forms. They then wake no process. If
/// `forever` is not 0, this cannot be undone. Source: socket(7), SO_ATTACH_FILTER.
int csys_drop_others(int fd, const struct csys_form *forms, size_t count, int forever);

/// How many datagrams the kernel dropped, through the filter or for lack of room. Source: SO_MEMINFO.
int64_t csys_dropped_datagrams(int fd);

// TCP

/// Begins to connect a socket that never blocks, from `source` unless that is NULL. If it is closed before
/// `csys_connection_result` said that it is connected, the other side gets a reset, and no byte. If `only_route`
/// is not 0, the socket gets its local address and sends nothing; -EOPNOTSUPP if the system cannot do that.
/// Source: tcp(7), TCP_FASTOPEN_CONNECT.
int csys_begin_connection(const void *source, const void *address, uint32_t size, int only_route);

/// 0 if the connection was made, or why it failed.
int csys_connection_result(int fd);

/// A descriptor that waits for any number of connections. Source: epoll(7).
int csys_open_waiter(void);

/// Makes a waiter report when a socket is connected or has failed, until the socket is closed. `place` is at
/// most INT_MAX.
int csys_watch_connection(int waiter, int fd, uint32_t place);

/// The place of a socket that is connected or has failed. Waits for one for `timeout` microseconds. -EAGAIN after
/// the timeout or a signal.
int csys_next_connection(int waiter, int64_t timeout);

/// Writes as many bytes as there is room for, without waiting, to a descriptor that is ready. -EAGAIN if
/// there is no room.
int csys_write_now(int fd, const void *bytes, size_t size);

// Within the machine

/// A socket that is connected to the one with a name, for datagrams unless `is_stream` is not 0. An abstract
/// name begins with `@`. Source: unix(7).
int csys_unix_socket(const char *name, int is_stream);

/// The two ends of a connection that delivers whole messages.
int csys_channel(int ends[2]);
