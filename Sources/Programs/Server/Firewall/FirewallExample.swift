import KnockBase

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
      # is accepted only from addresses that have knocked. Forwarded packets, such as those to published
      # ports of containers, are not changed.
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
      \t\t# Datagrams to the knock port must not fill the table of connections.
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
      \t\tct state invalid drop

      \t\t# IPv6 needs these, and only neighbours can send them. Leases need the answers of a DHCP server.
      \t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } ip6 hoplimit 255 accept
      \t\tip6 saddr fe80::/10 icmpv6 type mld-listener-query accept
      \t\tip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
      \t\tudp sport 67 udp dport 68 accept

      \t\t# Knocks. The limit is far above what people need. A small machine can check as many.
      \t\tudp dport
      """)
    sink.append(" ")
    sink.append(port)
    sink.append(
      """
       limit rate 1000/second burst 1000 packets accept

      \t\t# What is hidden:
      \t\ttcp dport 22 ip saddr @knock4 accept
      \t\ttcp dport 22 ip6 saddr @knock6 accept

      \t\t# What everyone may reach, for example:
      \t\t# tcp dport { 80, 443 } accept
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
      # is accepted only from addresses that have knocked. Forwarded packets are not changed. This
      # replaces all rules in INPUT and OUTPUT, and in PREROUTING of the table raw.
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
    sink.append("# The answers of a DHCP server.\n")
    sink.append("-A INPUT -p udp --sport 67 --dport 68 -j ACCEPT\n")
    writeEndOfIptables(port: port, set: "knock4", icmp: "icmp --icmp-type", to: &sink)
    sink.append("\nip6tables-restore --noflush <<'END'\n")
    writeStartOfIptables(port: port, to: &sink)
    sink.append(
      """
      # IPv6 needs these, and only neighbours can send them: neighbour solicitation, neighbour
      # advertisement, router advertisement, multicast listener query. Then the answers of a DHCP server.
      -A INPUT -p ipv6-icmp --icmpv6-type 135 -m hl --hl-eq 255 -j ACCEPT
      -A INPUT -p ipv6-icmp --icmpv6-type 136 -m hl --hl-eq 255 -j ACCEPT
      -A INPUT -p ipv6-icmp --icmpv6-type 134 -m hl --hl-eq 255 -j ACCEPT
      -A INPUT -s fe80::/10 -p ipv6-icmp --icmpv6-type 130 -j ACCEPT
      -A INPUT -s fe80::/10 -p udp --sport 547 --dport 546 -j ACCEPT

      """)
    writeEndOfIptables(port: port, set: "knock6", icmp: "ipv6-icmp --icmpv6-type", to: &sink)
  }

  private static func writeStartOfIptables(
    port: UInt16, to sink: inout some TextSink & ~Copyable
  ) {
    sink.append(
      """
      *raw
      -F PREROUTING
      # Datagrams to the knock port must not fill the table of connections.
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
      -A INPUT -m conntrack --ctstate INVALID -j DROP

      """)
  }

  private static func writeEndOfIptables(
    port: UInt16, set: StaticString, icmp: StaticString, to sink: inout some TextSink & ~Copyable
  ) {
    sink.append(
      "# Knocks. The limit is far above what people need. A small machine can check as many.\n")
    sink.append("-A INPUT -p udp --dport ")
    sink.append(port)
    sink.append(" -m limit --limit 1000/second --limit-burst 1000 -j ACCEPT\n# What is hidden:\n")
    sink.append("-A INPUT -p tcp --dport 22 -m set --match-set ")
    sink.append(set)
    sink.append(
      """
       src -j ACCEPT
      # What everyone may reach, for example:
      # -A INPUT -p tcp --dport 443 -j ACCEPT
      # While the server is down, the kernel would answer a knock, and so show that the port is used. This
      # also drops the same answer from rules that reject forwarded packets.
      -A OUTPUT ! -o lo -p
      """)
    sink.append(" ")
    sink.append(icmp)
    sink.append(" port-unreachable -j DROP\nCOMMIT\nEND\n")
  }
}
