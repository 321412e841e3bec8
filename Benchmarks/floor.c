// What a server cannot do without, as little as it can be in C, to compare with.
//
// floor receive PORT       takes datagrams and looks at nothing
// floor hmac PORT KEY      also computes the MAC of those of the right size, and compares
// floor send PORT HEX N    sends a datagram N times to 127.0.0.1
//
// A receiver ends on TERM and prints how many datagrams it has had.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 32, SIZE = 62, MAC = 32 };

static volatile sig_atomic_t stopped;
static void stop(int signal) { (void)signal, stopped = 1; }

static int open_socket(const char *port, struct sockaddr_in *address) {
  *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  return socket(AF_INET, SOCK_DGRAM, 0);
}

static int receive(const char *port, const char *key) {
  struct sockaddr_in address, sources[BATCH];
  int fd = open_socket(port, &address), size = 1 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) return perror("bind"), 1;
  crypto_auth_hmacsha256_state start;
  if (key) crypto_auth_hmacsha256_init(&start, (const unsigned char *)key, strlen(key));
  static unsigned char bytes[BATCH][SIZE];
  struct mmsghdr messages[BATCH] = {0};
  struct iovec pieces[BATCH];
  unsigned long count = 0, good = 0;
  printf("ready\n");
  fflush(stdout);
  while (!stopped) {
    for (int i = 0; i < BATCH; i++) {
      pieces[i] = (struct iovec){bytes[i], SIZE};
      messages[i].msg_hdr = (struct msghdr){.msg_name = &sources[i], .msg_namelen = sizeof *sources,
                                            .msg_iov = &pieces[i], .msg_iovlen = 1};
    }
    int received = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE | MSG_TRUNC, NULL);
    for (int i = 0; i < received; i++, count++) {
      unsigned length = messages[i].msg_len;
      if (!key || (length != 49 && length != 61)) continue;
      crypto_auth_hmacsha256_state state = start;
      unsigned char mac[MAC];
      crypto_auth_hmacsha256_update(&state, bytes[i] + MAC, length - MAC);
      crypto_auth_hmacsha256_final(&state, mac);
      good += crypto_verify_32(mac, bytes[i]) == 0;
    }
  }
  printf("%lu %lu\n", count, good);
  return 0;
}

static int send_all(const char *port, const char *hex, unsigned long count) {
  unsigned char datagram[2048];
  size_t size = 0;
  if (sodium_hex2bin(datagram, sizeof datagram, hex, strlen(hex), NULL, &size, NULL) < 0) return 1;
  struct sockaddr_in address;
  int fd = open_socket(port, &address);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) return perror("connect"), 1;
  struct iovec piece = {datagram, size};
  struct mmsghdr messages[BATCH] = {0};
  for (int i = 0; i < BATCH; i++)
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &piece, .msg_iovlen = 1};
  for (unsigned long sent = 0; sent < count;) {
    int result = sendmmsg(fd, messages, BATCH, 0);
    if (result < 0) return perror("sendmmsg"), 1;
    sent += (unsigned)result;
  }
  return 0;
}

int main(int count, char **arguments) {
  if (sodium_init() < 0) return 1;
  if (count == 3 && !strcmp(arguments[1], "receive")) return receive(arguments[2], NULL);
  if (count == 4 && !strcmp(arguments[1], "hmac")) return receive(arguments[2], arguments[3]);
  if (count == 5 && !strcmp(arguments[1], "send"))
    return send_all(arguments[2], arguments[3], strtoul(arguments[4], NULL, 10));
  fprintf(stderr, "usage: floor (receive PORT | hmac PORT KEY | send PORT HEX N)\n");
  return 2;
}
