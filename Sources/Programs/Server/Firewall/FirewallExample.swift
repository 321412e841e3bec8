import KnockBase
import KnockProtocol

/// Rules that hide SSH from everyone who has not knocked: text for nft(8), or a script for ipset(8) and
/// iptables-restore(8).
enum FirewallExample {
  case nft, ipset

  init?(named name: Span<UInt8>) {
    if name.equals("nft") {
      self = .nft
    } else if name.equals("ipset") {
      self = .ipset
    } else {
      return nil
    }
  }

  /// - Parameter port: that of the server.
  func write(port: UInt16, to sink: inout some TextSink & ~Copyable) {
    switch self {
    case .nft: Self.writeNft(port: port, to: &sink)
    case .ipset: Self.writeIPSet(port: port, to: &sink)
    }
  }

  private static func writeNft(port: UInt16, to sink: inout some TextSink & ~Copyable) {
    sink.append(
      """
      #!/usr/sbin/nft -f
      # For: pyknock server -k FILE --nft inet/pyknock/knock4,knock6 --ttl 1h
      #
      # Packets to this machine are dropped without an answer, except those that are accepted below. SSH
      # is accepted only from addresses that have knocked. Forwarded packets are not changed: ports that
      # Docker publishes are not hidden.
      #
      # Before you load it, have a second way into the machine. To load it: nft -f FILE
      # To load it again does the same, and keeps the addresses that have knocked.
      # To undo it: nft delete table inet pyknock

      table inet pyknock {
      \t# Addresses that have knocked. The server adds them, and the kernel deletes them when they expire.
      \t# For --grant-prefix4 and --grant-prefix6, write "flags timeout, interval" here.
      \tset knock4 {
      \t\ttype ipv4_addr
      \t\tflags timeout
      \t}
      \tset knock6 {
      \t\ttype ipv6_addr
      \t\tflags timeout
      \t}
      \tchain prerouting {
      \t\ttype filter hook prerouting priority raw; policy accept;
      \t}
      \tchain input {
      \t\ttype filter hook input priority filter; policy drop;
      \t}
      \tchain output {
      \t\ttype filter hook output priority filter; policy accept;
      \t}
      }

      flush chain inet pyknock prerouting
      flush chain inet pyknock input
      flush chain inet pyknock output

      table inet pyknock {
      \tchain prerouting {
      \t\t# Datagrams to the knock port must not fill the table of connections. So NAT does not see them:
      \t\t# to send this port elsewhere (redirect, DNAT), remove this rule. Another port can be redirected
      \t\t# to this one.
      \t\tfib daddr type local udp dport
      """)
    sink.append(" ")
    sink.append(port)
    sink.append(
      """
       notrack
      \t}
      \tchain input {
      \t\tiif lo accept

      \t\t# Answers to this machine, and established connections. A connection continues after the grant
      \t\t# of its address has expired.
      \t\tct state established,related accept

      \t\t# Errors. Those about packets that are not tracked would count as invalid.
      \t\ticmp type { destination-unreachable, time-exceeded, parameter-problem } accept
      \t\ticmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
      \t\tct state invalid drop

      \t\t# IPv6 needs these, and only neighbours can send them.
      \t\ticmpv6 type { nd-router-solicit, nd-router-advert } ip6 hoplimit 255 accept
      \t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
      \t\tip6 saddr fe80::/10 icmpv6 type { mld-listener-query, mld-listener-report } accept
      \t\tip6 saddr fe80::/10 icmpv6 type { mld-listener-done, mld2-listener-report } accept

      \t\t# Multicast groups of IPv4. Leases need the answers of DHCP servers, from any address.
      \t\tip protocol igmp accept
      \t\tmeta nfproto ipv4 udp dport 68 accept
      \t\tip6 daddr fe80::/10 udp dport 546 accept

      \t\t# Knocks. These have the form of one: its length with the UDP header (bytes), the command, and
      \t\t# the number of the address family. There is no limit, since a flood would use it up.

      """)
    var forms = Cases<Version1.Form>()
    while let form = forms.next() {
      sink.append("\t\tudp dport ")
      sink.append(port)
      sink.append(" udp length ")
      sink.append(form.size + udpHeader)
      sink.append(" @th,")
      sink.append((udpHeader + Version1.commandOffset) * 8)
      sink.append(",8 { 1, 2 } @th,")
      sink.append((udpHeader + Version1.familyOffset) * 8)
      sink.append(",8 { ")
      writeFamilies(of: form, separator: ", ", to: &sink)
      sink.append(" } @th,")
      sink.append((udpHeader + Version1.familyOffset) * 8 + 8)
      sink.append(",24 0 accept\n")
    }
    sink.append(
      """

      \t\t# What is hidden:
      \t\ttcp dport 22 ip saddr @knock4 accept
      \t\ttcp dport 22 ip6 saddr @knock6 accept

      \t\t# What everyone may reach, for example:
      \t\t# tcp dport { 80, 443 } accept
      \t\t# icmp type echo-request accept
      \t\t# On a router, what its own network may reach, for example: iifname br-lan accept
      \t}
      \tchain output {
      \t\t# While the server is down, the kernel would answer a knock, and so show that the port is used.
      \t\t# This also drops the same answer from rules that reject forwarded packets.
      \t\toif != lo icmp type destination-unreachable icmp code port-unreachable drop
      \t\toif != lo icmpv6 type destination-unreachable icmpv6 code port-unreachable drop
      \t}
      }

      """)
  }

  private static func writeIPSet(port: UInt16, to sink: inout some TextSink & ~Copyable) {
    sink.append(
      """
      #!/bin/sh
      # For: pyknock server -k FILE --ipset knock4,knock6 --ttl 1h
      #
      # Packets to this machine are dropped without an answer, except those that are accepted below. SSH
      # is accepted only from addresses that have knocked. Forwarded packets are not changed: ports that
      # Docker publishes are not hidden. This replaces all rules in INPUT and OUTPUT, and in PREROUTING of
      # the table raw. It needs the modules xt_set and xt_u32.
      #
      # Before you run it, have a second way into the machine. To run it: sh FILE
      # To run it again does the same, and keeps the addresses that have knocked. To undo it:
      # for t in iptables ip6tables; do
      #   $t -P INPUT ACCEPT; $t -F INPUT; $t -F OUTPUT; $t -t raw -F PREROUTING
      # done
      set -e

      # Addresses that have knocked. The server adds them, and the kernel deletes them when they expire.
      # For --grant-prefix4 and --grant-prefix6, write "hash:net" here.
      ipset -exist create knock4 hash:ip family inet timeout 0
      ipset -exist create knock6 hash:ip family inet6 timeout 0


      """)
    sink.append("iptables-restore --noflush <<'END'\n")
    writeStartOfIptables(port: port, to: &sink)
    sink.append(
      """
      -A INPUT -p icmp --icmp-type destination-unreachable -j ACCEPT
      -A INPUT -p icmp --icmp-type time-exceeded -j ACCEPT
      -A INPUT -p icmp --icmp-type parameter-problem -j ACCEPT
      -A INPUT -m conntrack --ctstate INVALID -j DROP
      # Multicast groups. Leases need the answers of DHCP servers.
      -A INPUT -p igmp -j ACCEPT
      -A INPUT -p udp --dport 68 -j ACCEPT

      """)
    writeEndOfIptables(port: port, family: .inet, to: &sink)
    sink.append("\nip6tables-restore --noflush <<'END'\n")
    writeStartOfIptables(port: port, to: &sink)
    sink.append(
      """
      -A INPUT -p ipv6-icmp --icmpv6-type destination-unreachable -j ACCEPT
      -A INPUT -p ipv6-icmp --icmpv6-type packet-too-big -j ACCEPT
      -A INPUT -p ipv6-icmp --icmpv6-type time-exceeded -j ACCEPT
      -A INPUT -p ipv6-icmp --icmpv6-type parameter-problem -j ACCEPT
      -A INPUT -m conntrack --ctstate INVALID -j DROP
      # IPv6 needs these, and only neighbours can send them: router solicitation and advertisement,
      # neighbour solicitation and advertisement, multicast listener query, report, done, second report.
      -A INPUT -p ipv6-icmp --icmpv6-type 133 -m hl --hl-eq 255 -j ACCEPT
      -A INPUT -p ipv6-icmp --icmpv6-type 134 -m hl --hl-eq 255 -j ACCEPT
      -A INPUT -p ipv6-icmp --icmpv6-type 135 -m hl --hl-eq 255 -j ACCEPT
      -A INPUT -p ipv6-icmp --icmpv6-type 136 -m hl --hl-eq 255 -j ACCEPT
      -A INPUT -s fe80::/10 -p ipv6-icmp --icmpv6-type 130 -j ACCEPT
      -A INPUT -s fe80::/10 -p ipv6-icmp --icmpv6-type 131 -j ACCEPT
      -A INPUT -s fe80::/10 -p ipv6-icmp --icmpv6-type 132 -j ACCEPT
      -A INPUT -s fe80::/10 -p ipv6-icmp --icmpv6-type 143 -j ACCEPT
      # Leases need the answers of DHCP servers, from any address.
      -A INPUT -d fe80::/10 -p udp --dport 546 -j ACCEPT

      """)
    writeEndOfIptables(port: port, family: .inet6, to: &sink)
  }

  private static func writeStartOfIptables(
    port: UInt16, to sink: inout some TextSink & ~Copyable
  ) {
    sink.append(
      """
      *raw
      -F PREROUTING
      # Datagrams to the knock port must not fill the table of connections. So NAT does not see them: to
      # send this port elsewhere (redirect, DNAT), remove this rule. Another port can be redirected to
      # this one.
      -A PREROUTING -m addrtype --dst-type LOCAL -p udp --dport
      """)
    sink.append(" ")
    sink.append(port)
    sink.append(
      """
       -j CT --notrack
      COMMIT
      *filter
      :INPUT DROP [0:0]
      :OUTPUT ACCEPT [0:0]
      -F INPUT
      -F OUTPUT
      -A INPUT -i lo -j ACCEPT
      # Answers to this machine, and established connections. A connection continues after the grant of
      # its address has expired.
      -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
      # Errors. Those about packets that are not tracked would count as invalid.

      """)
  }

  private static func writeEndOfIptables(
    port: UInt16, family: AddressFamily, to sink: inout some TextSink & ~Copyable
  ) {
    sink.append(
      """
      # Knocks. These have the form of one: its length with the UDP header (bytes), the command, and the
      # number of the address family. There is no limit, since a flood would use it up.

      """)
    var forms = Cases<Version1.Form>()
    while let form = forms.next() {
      sink.append("-A INPUT -p udp --dport ")
      sink.append(port)
      sink.append(" -m u32 --u32 ")
      writeLocation(4, family, to: &sink)
      sink.append(">>16=")
      sink.append(form.size + udpHeader)
      writeLocation(udpHeader + Version1.commandOffset, family, after: "&&", to: &sink)
      sink.append(">>24=1,2")
      writeLocation(udpHeader + Version1.familyOffset, family, after: "&&", to: &sink)
      sink.append(">>24=")
      writeFamilies(of: form, separator: ",", to: &sink)
      writeLocation(udpHeader + Version1.familyOffset, family, after: "&&", to: &sink)
      sink.append("&0xFFFFFF=0\" -j ACCEPT\n")
    }
    sink.append("# What is hidden:\n-A INPUT -p tcp --dport 22 -m set --match-set ")
    sink.append(family == .inet ? "knock4" : "knock6")
    sink.append(
      """
       src -j ACCEPT
      # What everyone may reach, for example:
      # -A INPUT -p tcp --dport 443 -j ACCEPT
      # On a router, what its own network may reach, for example: -A INPUT -i br-lan -j ACCEPT
      # While the server is down, the kernel would answer a knock, and so show that the port is used. This
      # also drops the same answer from rules that reject forwarded packets.
      -A OUTPUT ! -o lo -p
      """)
    sink.append(" ")
    sink.append(family == .inet ? "icmp --icmp-type" : "ipv6-icmp --icmpv6-type")
    sink.append(" port-unreachable -j DROP\nCOMMIT\nEND\n")
  }

  /// The numbers of the address family in a form.
  private static func writeFamilies(
    of form: Version1.Form, separator: StaticString, to sink: inout some TextSink & ~Copyable
  ) {
    var isFirst = true
    for number in Int32(0)..<32 where form.hasFamily(number) {
      if !isFirst { sink.append(separator) }
      sink.append(Int(number))
      isFirst = false
    }
  }

  /// Where four bytes of the UDP datagram are, for u32. The header of IPv4 tells its own length.
  private static func writeLocation(
    _ offset: Int, _ family: AddressFamily, after start: StaticString = "\"",
    to sink: inout some TextSink & ~Copyable
  ) {
    sink.append(start)
    switch family {
    case .inet:
      sink.append("0>>22&0x3C@")
      sink.append(offset)
    case .inet6: sink.append(offset + 40)
    }
  }

  /// The length of a UDP header (bytes).
  private static var udpHeader: Int { 8 }
}
