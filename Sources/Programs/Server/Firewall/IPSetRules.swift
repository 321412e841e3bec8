import KnockBase
import KnockProtocol

/// A script for ipset(8) and iptables-restore(8).
extension FirewallRules {
  func writeIPSet(to output: inout TextOutput) {
    write(
      """
      #!/bin/sh
      # For: pyknock server -k FILE -p %p --ipset knock4,knock6 %o
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
      ipset -exist create knock4 hash:%4 family inet timeout 0
      ipset -exist create knock6 hash:%6 family inet6 timeout 0


      """, to: &output)
    output.append("iptables-restore --noflush <<'END'\n")
    writeStartOfIptables(to: &output)
    output.append(
      """
      -A INPUT -p icmp --icmp-type destination-unreachable -j ACCEPT
      -A INPUT -p icmp --icmp-type time-exceeded -j ACCEPT
      -A INPUT -p icmp --icmp-type parameter-problem -j ACCEPT
      -A INPUT -m conntrack --ctstate INVALID -j DROP
      # Multicast groups. Leases need the answers of DHCP servers.
      -A INPUT -p igmp -j ACCEPT
      -A INPUT -p udp --dport 68 -j ACCEPT

      """)
    writeEndOfIptables(family: .inet, to: &output)
    output.append("\nip6tables-restore --noflush <<'END'\n")
    writeStartOfIptables(to: &output)
    write(
      """
      -A INPUT %idestination-unreachable -j ACCEPT
      -A INPUT %ipacket-too-big -j ACCEPT
      -A INPUT %itime-exceeded -j ACCEPT
      -A INPUT %iparameter-problem -j ACCEPT
      -A INPUT -m conntrack --ctstate INVALID -j DROP
      # IPv6 needs these, and only neighbours can send them: router solicitation and advertisement,
      # neighbour solicitation and advertisement, multicast listener query, report, done, second report.
      -A INPUT %i133 -m hl --hl-eq 255 -j ACCEPT
      -A INPUT %i134 -m hl --hl-eq 255 -j ACCEPT
      -A INPUT %i135 -m hl --hl-eq 255 -j ACCEPT
      -A INPUT %i136 -m hl --hl-eq 255 -j ACCEPT
      -A INPUT -s fe80::/10 %i130 -j ACCEPT
      -A INPUT -s fe80::/10 %i131 -j ACCEPT
      -A INPUT -s fe80::/10 %i132 -j ACCEPT
      -A INPUT -s fe80::/10 %i143 -j ACCEPT
      # Leases need the answers of DHCP servers, from any address.
      -A INPUT -d fe80::/10 -p udp --dport 546 -j ACCEPT

      """, to: &output)
    writeEndOfIptables(family: .inet6, to: &output)
  }

  private func writeStartOfIptables(to output: inout TextOutput) {
    write(
      """
      *raw
      -F PREROUTING
      # Datagrams to the knock port must not fill the table of connections. So NAT does not see them: to
      # send this port elsewhere (redirect, DNAT), remove this rule. Another port can be redirected to
      # this one.
      -A PREROUTING -m addrtype --dst-type LOCAL -p udp --dport %p -j CT --notrack
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

      """, to: &output)
  }

  private func writeEndOfIptables(family: AddressFamily, to output: inout TextOutput) {
    output.append(
      """
      # Knocks. These have the form of one: its length with the UDP header (bytes), and in version 1 the
      # command and the number of the address family. There is no limit, since a flood would use it up.

      """)
    var forms = Cases<Version1.Form>()
    while let form = forms.next() {
      writeLength(form.size, family, to: &output)
      writeLocation(Self.udpHeader + Version1.commandOffset, family, after: "&&", to: &output)
      output.append(">>24=1,2")
      writeLocation(Self.udpHeader + Version1.familyOffset, family, after: "&&", to: &output)
      output.append(">>24=")
      writeFamilies(of: form, separator: ",", to: &output)
      writeLocation(Self.udpHeader + Version1.familyOffset, family, after: "&&", to: &output)
      output.append("&0xFFFFFF=0\" -j ACCEPT\n")
    }
    writeLength(Version2.requestSize, family, to: &output)
    output.append("\" -j ACCEPT\n")
    output.append("# What is hidden:\n-A INPUT -p tcp --dport 22 -m set --match-set ")
    output.append(family == .inet ? "knock4" : "knock6")
    output.append(
      """
       src -j ACCEPT
      # What everyone may reach, for example:
      # -A INPUT -p tcp --dport 443 -j ACCEPT
      # On a router, what its own network may reach, for example: -A INPUT -i br-lan -j ACCEPT
      # While the server is down, the kernel would answer a knock, and so show that the port is used. This
      # also drops the same answer from rules that reject forwarded packets.
      -A OUTPUT ! -o lo -p
      """)
    output.append(" ")
    output.append(family == .inet ? "icmp --icmp-type" : "ipv6-icmp --icmpv6-type")
    output.append(" port-unreachable -j DROP\nCOMMIT\nEND\n")
  }

  /// The beginning of a rule for knocks of a length (bytes). The quote of u32 stays open.
  private func writeLength(_ size: Int, _ family: AddressFamily, to output: inout TextOutput) {
    output.append("-A INPUT -p udp --dport ")
    output.append(port)
    output.append(" -m u32 --u32 ")
    writeLocation(4, family, to: &output)
    output.append(">>16=")
    output.append(size + Self.udpHeader)
  }

  /// Where four bytes of the UDP datagram are, for u32. The header of IPv4 tells its own length.
  @inline(never)
  private func writeLocation(
    _ offset: Int, _ family: AddressFamily, after start: Literal = "\"",
    to output: inout TextOutput
  ) {
    output.append(start)
    switch family {
    case .inet:
      output.append("0>>22&0x3C@")
      output.append(offset)
    case .inet6: output.append(offset + 40)
    }
  }
}
