// The smallest server, client and sender in C with libsodium, to compare our program with.
//
// floor receive PORT                    receives datagrams and ignores them
// floor serve PORT KEY                  writes a line for each datagram that is signed and fresh
// floor serve PORT KEY PROGRAM WORD...  runs a program for each instead
// floor knock ADDRESS PORT FILE         knocks for ADDRESS, with the key in FILE
// floor send PORT HEX N                 sends a datagram N times to 127.0.0.1
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <math.h>
#include <netdb.h>
#include <signal.h>
#include <sodium.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 32, SIZE = 62, MAC = 32, SHORT = 49, LONG = 61, TIME = 33, DRIFT = 60, OPEN = 1 };
extern char **environ;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int bound(const char *port) {
  struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};
  int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 1 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) perror("bind"), exit(1);
  return fd;
}

static void act(char **command) {
  pid_t process;
  if (!*command) write(STDERR_FILENO, "accepted\n", 9);
  else if (posix_spawn(&process, *command, NULL, NULL, command, environ) != 0) exit(1);
}

static _Noreturn void serve(const char *port, const char *key, char **command) {
  struct sockaddr_in6 sources[BATCH];
  int fd = bound(port);
  signal(SIGCHLD, SIG_IGN);  // The kernel reaps.
  crypto_auth_hmacsha256_state start;
  if (key) crypto_auth_hmacsha256_init(&start, (const unsigned char *)key, strlen(key));
  static unsigned char bytes[BATCH][SIZE];
  struct mmsghdr messages[BATCH] = {0};
  struct iovec pieces[BATCH];
  for (;;) {
    for (int i = 0; i < BATCH; i++) {
      pieces[i] = (struct iovec){bytes[i], SIZE};
      messages[i].msg_hdr = (struct msghdr){
          .msg_name = &sources[i], .msg_namelen = sizeof *sources, .msg_iov = &pieces[i], .msg_iovlen = 1};
    }
    int received = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE | MSG_TRUNC, NULL);
    for (int i = 0; i < received; i++) {
      unsigned length = messages[i].msg_len;
      if (!key || (length != SHORT && length != LONG)) continue;
      crypto_auth_hmacsha256_state state = start;
      unsigned char mac[MAC];
      crypto_auth_hmacsha256_update(&state, bytes[i] + MAC, length - MAC);
      crypto_auth_hmacsha256_final(&state, mac);
      if (crypto_verify_32(mac, bytes[i]) != 0) continue;
      double time;
      memcpy(&time, bytes[i] + TIME, sizeof time);
      if (bytes[i][MAC] == OPEN && fabs(time - now()) <= DRIFT) act(command);
    }
  }
}

static int knock(const char *host, const char *port, const char *file) {
  unsigned char key[4096];
  int fd = open(file, O_RDONLY);
  ssize_t size = read(fd, key, sizeof key);
  if (size < 1) return 1;
  close(fd);
  struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_family = AF_INET}, *found;
  if (getaddrinfo(host, port, &hints, &found) != 0) return 1;
  unsigned char datagram[SHORT] = {[MAC] = OPEN};
  double time = now();
  int32_t family = AF_INET;
  memcpy(datagram + TIME, &time, sizeof time);
  memcpy(datagram + TIME + sizeof time, &family, sizeof family);
  memcpy(datagram + SHORT - 4, &((struct sockaddr_in *)found->ai_addr)->sin_addr, 4);
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, key, (size_t)size - 1);  // Without the line feed.
  crypto_auth_hmacsha256_update(&state, datagram + MAC, SHORT - MAC);
  crypto_auth_hmacsha256_final(&state, datagram);
  fd = socket(AF_INET, SOCK_DGRAM, 0);
  return sendto(fd, datagram, SHORT, 0, found->ai_addr, found->ai_addrlen) != SHORT;
}

static int send_all(const char *port, const char *hex, unsigned long count) {
  unsigned char datagram[2048];
  size_t size = 0;
  if (sodium_hex2bin(datagram, sizeof datagram, hex, strlen(hex), NULL, &size, NULL) < 0) return 1;
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(port)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) return perror("connect"), 1;
  struct iovec piece = {datagram, size};
  struct mmsghdr messages[BATCH] = {0};
  for (int i = 0; i < BATCH; i++) messages[i].msg_hdr = (struct msghdr){.msg_iov = &piece, .msg_iovlen = 1};
  for (unsigned long sent = 0; sent < count;) {
    int result = sendmmsg(fd, messages, BATCH, 0);
    if (result < 0) return perror("sendmmsg"), 1;
    sent += (unsigned)result;
  }
  return 0;
}

int main(int count, char **words) {
  if (sodium_init() < 0) return 1;
  if (count == 3 && !strcmp(words[1], "receive")) serve(words[2], NULL, NULL);
  if (count >= 4 && !strcmp(words[1], "serve")) serve(words[2], words[3], words + 4);
  if (count == 5 && !strcmp(words[1], "knock")) return knock(words[2], words[3], words[4]);
  if (count == 5 && !strcmp(words[1], "send"))
    return send_all(words[2], words[3], strtoul(words[4], NULL, 10));
  fprintf(stderr, "usage: see the source\n");
  return 2;
}
