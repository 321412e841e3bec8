// flood ADDRESS PORT RATE COUNT JUNK <KNOCKS: sends datagrams with the content JUNK, each from another source
// address that is not its own, RATE in a second. After each COUNT of them it sends the next line of KNOCKS, from
// its own address. Both are hexadecimal. At the end it prints how many datagrams it has sent in a second.
#define _GNU_SOURCE  // sendmmsg
#include <arpa/inet.h>
#include <err.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 20, ROOM = 1000 };

static size_t read_hex(const char *text, uint8_t *bytes) {
  size_t count = 0;
  unsigned value;
  while (count < ROOM && sscanf(text + 2 * count, "%2x", &value) == 1) bytes[count++] = (uint8_t)value;
  return count;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint16_t checksum(const uint8_t *bytes, size_t size, uint32_t sum) {
  for (size_t i = 0; i < size; i++) sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
  while (sum >> 16) sum = (sum & 0xFFFF) + (sum >> 16);
  return htons((uint16_t)~sum);
}

// Writes a packet with a source address that depends on `number`. Returns its size in bytes.
static size_t make_packet(uint8_t *packet, const void *target, int is_inet6, in_port_t port, uint32_t number,
                          const uint8_t *junk, size_t size) {
  size_t header = is_inet6 ? sizeof(struct ip6_hdr) : sizeof(struct iphdr);
  uint16_t length = (uint16_t)(sizeof(struct udphdr) + size);
  struct udphdr udp = {
      .uh_sport = htons((uint16_t)(1024 + number % 60000)), .uh_dport = port, .uh_ulen = htons(length)};
  memset(packet, 0, header);
  if (is_inet6) {
    struct ip6_hdr ip = {
        .ip6_flow = htonl(0x60000000), .ip6_nxt = IPPROTO_UDP, .ip6_hops = 64, .ip6_plen = htons(length)};
    inet_pton(AF_INET6, "2001:db8:1::", &ip.ip6_src);
    memcpy(ip.ip6_src.s6_addr + 12, &number, sizeof number);
    memcpy(&ip.ip6_dst, target, sizeof ip.ip6_dst);
    memcpy(packet, &ip, sizeof ip);
  } else {
    struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP};
    ip.saddr = htonl(0xC6120000 | (number & 0x1FFFF));  // 198.18.0.0/15
    memcpy(&ip.daddr, target, sizeof ip.daddr);
    memcpy(packet, &ip, sizeof ip);
  }
  memcpy(packet + header, &udp, sizeof udp);
  memcpy(packet + header + sizeof udp, junk, size);
  if (is_inet6) {
    // Over the addresses too, and over the protocol and the length.
    udp.uh_sum = checksum(packet + 8, 32 + length, IPPROTO_UDP + (uint32_t)length);
    memcpy(packet + header, &udp, sizeof udp);
  }
  return header + length;
}

int main(int count, char **words) {
  if (count != 6) errx(2, "usage: flood ADDRESS PORT RATE COUNT JUNK");
  static uint8_t junk[ROOM], knock[ROOM], packets[BATCH][2 * ROOM];
  char line[2 * ROOM + 2];
  size_t size = read_hex(words[5], junk);
  double rate = atof(words[3]);
  uint32_t between = (uint32_t)atoi(words[4]), number = 0;

  int is_inet6 = strchr(words[1], ':') != NULL, family = is_inet6 ? AF_INET6 : AF_INET, on = 1;
  struct sockaddr_in inet = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[2]))};
  struct sockaddr_in6 inet6 = {.sin6_family = AF_INET6, .sin6_port = inet.sin_port};
  void *target = is_inet6 ? (void *)&inet6.sin6_addr : (void *)&inet.sin_addr;
  if (inet_pton(family, words[1], target) != 1) errx(2, "not an address: %s", words[1]);
  struct sockaddr_in6 to = inet6;
  to.sin6_port = 0;
  void *name = is_inet6 ? (void *)&inet6 : (void *)&inet, *raw_name = is_inet6 ? (void *)&to : (void *)&inet;
  socklen_t name_size = is_inet6 ? sizeof inet6 : sizeof inet;

  int own = socket(family, SOCK_DGRAM, 0), raw = socket(family, SOCK_RAW, IPPROTO_RAW);
  if (own < 0 || raw < 0) err(1, "socket");
  if (is_inet6 && setsockopt(raw, IPPROTO_IPV6, IPV6_HDRINCL, &on, sizeof on) < 0) err(1, "IPV6_HDRINCL");

  double start = now(), next = start;
  while (fgets(line, sizeof line, stdin)) {
    for (uint32_t end = number + between; number < end;) {
      struct mmsghdr messages[BATCH] = {0};
      struct iovec pieces[BATCH];
      for (int i = 0; i < BATCH; i++) {
        pieces[i].iov_base = packets[i];
        pieces[i].iov_len =
            make_packet(packets[i], target, is_inet6, inet.sin_port, number + (uint32_t)i, junk, size);
        messages[i].msg_hdr.msg_name = raw_name;
        messages[i].msg_hdr.msg_namelen = name_size;
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
      }
      int sent = sendmmsg(raw, messages, BATCH, 0);
      if (sent < 0) err(1, "sendmmsg");
      number += (uint32_t)sent;
      next += sent / rate;
      double rest = next - now();
      if (rest > 0) {
        nanosleep(&(struct timespec){.tv_nsec = (long)(rest * 1e9)}, NULL);
      } else if (rest < -0.01) {
        next = now() - 0.01;  // It makes up for at most 10 ms: more would be a burst.
      }
    }
    if (sendto(own, knock, read_hex(line, knock), 0, name, name_size) < 0) err(1, "sendto");
  }
  printf("%.0f\n", number / (now() - start));
  return 0;
}
