// Makes and lists sets in machines for which there is neither nft nor ipset. It knows only the sets of
// test_real_kernel.py, which hold one element or none.
//
//   sets make          makes them all
//   sets nft NAME      prints what a set of table inet pyknock holds
//   sets ipset NAME    prints what an ipset holds

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { NFT = NFNL_SUBSYS_NFTABLES << 8, IPSET = NFNL_SUBSYS_IPSET << 8 };
enum { HEADER = NLMSG_HDRLEN + sizeof(struct nfgenmsg) };
enum { HOUR = 3600 };

static _Alignas(8) char request[4096];
static size_t length;  // Of all messages in it.
static struct nlmsghdr *message;
static int kernel;

static void fail(const char *what, int error) {
  fprintf(stderr, "sets: %s: %s\n", what, strerror(error));
  exit(1);
}

static void begin(int type, int flags, int family, int subsystem) {
  struct nfgenmsg body = {
      .nfgen_family = (uint8_t)family, .version = NFNETLINK_V0, .res_id = htons(subsystem)};
  message = (struct nlmsghdr *)(request + length);
  *message = (struct nlmsghdr){.nlmsg_len = HEADER, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags};
  memcpy(NLMSG_DATA(message), &body, sizeof body);
  length += HEADER;
}

static struct nlattr *append(int type, const void *value, size_t size) {
  struct nlattr *attribute = (struct nlattr *)(request + length);
  attribute->nla_type = type;
  attribute->nla_len = NLA_HDRLEN + size;
  memcpy(attribute + 1, value, size);
  size_t all = NLA_ALIGN(NLA_HDRLEN + size);
  message->nlmsg_len += all;
  length += all;
  return attribute;
}

static void append_text(int type, const char *text) { append(type, text, strlen(text) + 1); }

static void append_byte(int type, uint8_t value) { append(type, &value, 1); }

static void append_number(int type, uint32_t value) {
  value = htonl(value);
  append(type, &value, sizeof value);
}

static void send_request(void) {
  if (send(kernel, request, length, 0) < 0) fail("send", errno);
  length = 0;
}

static void expect_success(void) {
  char answer[4096];
  const struct nlmsghdr *header = (struct nlmsghdr *)answer;
  const struct nlmsgerr *error = NLMSG_DATA(header);
  if (recv(kernel, answer, sizeof answer, 0) < 0) fail("recv", errno);
  if (header->nlmsg_type != NLMSG_ERROR || error->error != 0) fail("the kernel", -error->error);
}

// The types are those of nft: datatype.h in its sources.
static void make_nft(const char *name, uint32_t type, uint32_t size, bool holds_ranges) {
  static uint32_t id;
  // In milliseconds, and in network byte order.
  uint32_t timeout[] = {0, htonl(HOUR * 1000)};
  begin(NFT | NFT_MSG_NEWSET, NLM_F_CREATE, NFPROTO_INET, 0);
  append_text(NFTA_SET_TABLE, "pyknock");
  append_text(NFTA_SET_NAME, name);
  append_number(NFTA_SET_FLAGS, holds_ranges ? NFT_SET_INTERVAL : NFT_SET_TIMEOUT);
  append_number(NFTA_SET_KEY_TYPE, type);
  append_number(NFTA_SET_KEY_LEN, size);
  append_number(NFTA_SET_ID, ++id);
  if (!holds_ranges) append(NFTA_SET_TIMEOUT, timeout, sizeof timeout);
}

static void make_ipset(const char *name, const char *type, int family) {
  begin(IPSET | IPSET_CMD_CREATE, NLM_F_CREATE | NLM_F_ACK, family, 0);
  append_byte(IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL);
  append_text(IPSET_ATTR_SETNAME, name);
  append_text(IPSET_ATTR_TYPENAME, type);
  append_byte(IPSET_ATTR_REVISION, 0);
  append_byte(IPSET_ATTR_FAMILY, (uint8_t)family);
  struct nlattr *options = append(IPSET_ATTR_DATA | NLA_F_NESTED, "", 0);
  append_number(IPSET_ATTR_TIMEOUT | NLA_F_NET_BYTEORDER, HOUR);
  options->nla_len = (uint16_t)(request + length - (char *)options);
  send_request();
  expect_success();
}

static void make(void) {
  begin(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  begin(NFT | NFT_MSG_NEWTABLE, NLM_F_CREATE, NFPROTO_INET, 0);
  append_text(NFTA_TABLE_NAME, "pyknock");
  make_nft("knock4", 7, 4, false);
  make_nft("knock6", 8, 16, false);
  make_nft("net4", 7, 4, true);
  make_nft("net6", 8, 16, true);
  // The kernel answers errors, and this.
  message->nlmsg_flags |= NLM_F_ACK;
  begin(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  send_request();
  expect_success();
  make_ipset("knock4", "hash:ip", NFPROTO_IPV4);
  make_ipset("knock6", "hash:ip", NFPROTO_IPV6);
  make_ipset("net4", "hash:net", NFPROTO_IPV4);
  make_ipset("net6", "hash:net", NFPROTO_IPV6);
}

typedef struct {
  const char *at, *end;
} Bytes;

// What the first attribute of a type holds; nothing if there is none.
static Bytes find(Bytes in, int type) {
  while (in.end - in.at >= NLA_HDRLEN) {
    const struct nlattr *attribute = (const struct nlattr *)in.at;
    if ((attribute->nla_type & NLA_TYPE_MASK) == type)
      return (Bytes){in.at + NLA_HDRLEN, in.at + attribute->nla_len};
    in.at += NLA_ALIGN(attribute->nla_len);
  }
  return (Bytes){0};
}

// The element, and what is one after its last address in a set of nft that holds ranges.
static uint8_t first[16], after[16];
static int size, prefix;  // Of the address in bytes, 0 if there is none; in bits, 0 if it is not known.
static bool is_range;

static void copy(Bytes address, uint8_t *to) {
  size = (int)(address.end - address.at);
  memcpy(to, address.at, size);
}

static void read_nft(Bytes body) {
  Bytes all = find(body, NFTA_SET_ELEM_LIST_ELEMENTS), one;
  while ((one = find(all, NFTA_LIST_ELEM)).at) {
    Bytes flags = find(one, NFTA_SET_ELEM_FLAGS);
    bool is_end = flags.at && ntohl(*(const uint32_t *)flags.at) & NFT_SET_ELEM_INTERVAL_END;
    is_range |= is_end;
    copy(find(find(one, NFTA_SET_ELEM_KEY), NFTA_DATA_VALUE), is_end ? after : first);
    all.at = one.end;
  }
}

static void read_ipset(Bytes body) {
  Bytes one = find(find(body, IPSET_ATTR_ADT), IPSET_ATTR_DATA);
  Bytes address = find(one, IPSET_ATTR_IP), bits = find(one, IPSET_ATTR_CIDR);
  if (!address.at) return;
  Bytes inet = find(address, IPSET_ATTR_IPADDR_IPV4);
  copy(inet.at ? inet : find(address, IPSET_ATTR_IPADDR_IPV6), first);
  if (bits.at) prefix = *(const uint8_t *)bits.at;
}

static void read_answers(void (*read_body)(Bytes)) {
  static _Alignas(8) char answer[1 << 16];
  for (;;) {
    ssize_t count = recv(kernel, answer, sizeof answer, 0);
    if (count < 0) fail("recv", errno);
    unsigned left = (unsigned)count;
    for (struct nlmsghdr *header = (struct nlmsghdr *)answer; NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return;
      if (header->nlmsg_type == NLMSG_ERROR)
        fail("the kernel", -((struct nlmsgerr *)NLMSG_DATA(header))->error);
      read_body((Bytes){(char *)header + HEADER, (char *)header + header->nlmsg_len});
    }
  }
}

static void print_element(void) {
  if (size == 0) return;
  if (is_range)
    for (prefix = size * 8; prefix > 0; prefix--)
      if ((first[(prefix - 1) / 8] ^ after[(prefix - 1) / 8]) >> (7 - (prefix - 1) % 8) & 1) break;
  char text[INET6_ADDRSTRLEN];
  inet_ntop(size == 4 ? AF_INET : AF_INET6, first, text, sizeof text);
  if (prefix == 0 || prefix == size * 8) printf(" %s \n", text);
  else printf(" %s/%d \n", text, prefix);
}

int main(int count, char **words) {
  struct sockaddr_nl self = {.nl_family = AF_NETLINK};
  kernel = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
  if (kernel < 0 || bind(kernel, (struct sockaddr *)&self, sizeof self) < 0) fail("netlink", errno);
  if (count == 2 && strcmp(words[1], "make") == 0) {
    make();
  } else if (count == 3 && strcmp(words[1], "nft") == 0) {
    begin(NFT | NFT_MSG_GETSETELEM, NLM_F_DUMP, NFPROTO_INET, 0);
    append_text(NFTA_SET_ELEM_LIST_TABLE, "pyknock");
    append_text(NFTA_SET_ELEM_LIST_SET, words[2]);
    send_request();
    read_answers(read_nft);
  } else if (count == 3 && strcmp(words[1], "ipset") == 0) {
    begin(IPSET | IPSET_CMD_LIST, NLM_F_DUMP, AF_UNSPEC, 0);
    append_byte(IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL);
    append_text(IPSET_ATTR_SETNAME, words[2]);
    send_request();
    read_answers(read_ipset);
  } else {
    fail("usage: sets make | nft NAME | ipset NAME", EINVAL);
  }
  print_element();
  return 0;
}
