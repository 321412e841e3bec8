import KnockBase
import KnockProtocol

/// Rules for nft(8). All have the same chains, so that each kind can be loaded over each other.
extension FirewallRules {
  func writeNft(to output: inout TextOutput) {
    write(
      """
      #!/usr/sbin/nft -f
      # For: pyknock server -k FILE -p %p --nft inet/pyknock/knock4,knock6 %o
      #
      %A# Packets to this machine are dropped without an answer, except those that are accepted below. SSH
      %A# is accepted only from addresses that have knocked. Forwarded packets are not changed: ports that
      %A# Docker publishes are not hidden.
      %H# Packets that open a connection to a hidden port are dropped without an answer, except from
      %H# addresses that have knocked. All else stays as it is. Other firewalls of this machine must let in
      %H# these ports, and UDP port %p.
      %N# Ports that Docker publishes are not hidden: --example docker does that.
      %D# Ports that Docker publishes are hidden by their numbers on this machine.
      %H#
      %H# This machine listens on (* is hidden below):%l
      #
      # Over ssh, first start a timer that takes the rules back. Then load them:
      #   systemd-run --collect --unit=undo-knock --on-active=10min nft delete table inet pyknock
      #   nft -f FILE
      # Knock, and open a second connection. If that works, stop the timer:
      #   systemctl stop undo-knock.timer
      # Without systemd, this is the timer. It prints the command that stops it:
      #   (trap '' HUP; sleep 600; nft delete table inet pyknock) & echo kill $!
      #
      # To load it again does the same, and keeps the addresses that have knocked. If that is refused with
      # "File exists", the old sets have other flags: undo it first.
      # To undo it: nft delete table inet pyknock

      table inet pyknock {
      \t# Addresses that have knocked. The server adds them, and the kernel deletes them when they expire.
      \tset knock4 {
      \t\ttype ipv4_addr
      \t\tflags timeout%4
      \t}
      \tset knock6 {
      \t\ttype ipv6_addr
      \t\tflags timeout%6
      \t}
      \tchain prerouting {
      \t\ttype filter hook prerouting priority raw; policy accept;
      \t}
      \tchain input {
      %A\t\ttype filter hook input priority filter; policy drop;
      %H\t\ttype filter hook input priority filter; policy accept;
      \t}
      \tchain output {
      \t\ttype filter hook output priority filter; policy accept;
      \t}
      }

      flush table inet pyknock

      table inet pyknock {
      \tchain prerouting {
      \t\t# Datagrams to the knock port must not fill the table of connections. So NAT does not see them:
      \t\t# to send this port elsewhere (redirect, DNAT), remove this rule. Another port can be redirected
      \t\t# to this one.
      \t\tfib daddr type local udp dport %p notrack
      \t}
      \tchain input {
      \t\tiif lo accept


      """, to: &output)
    if hidden == nil { writeInputForAll(to: &output) } else { writeInputForHidden(to: &output) }
    write(
      """
      \tchain output {
      \t\t# While the server is down, the kernel would answer a knock, and so show that the port is used.
      %A\t\t# This also drops the same answer from rules that reject forwarded packets.
      %H\t\t# The answer quotes the knock: its protocol (17 is UDP), and its port.
      \t\toif != lo icmp type destination-unreachable icmp code port-unreachable%x drop
      \t\toif != lo icmpv6 type destination-unreachable icmpv6 code port-unreachable%y drop
      %T
      %T\t\t# A packet with ACK that belongs to no connection gets no answer, as in other scans.
      %T\t\tip daddr @knock4 accept
      %T\t\tip6 daddr @knock6 accept
      %T\t\toif != lo tcp sport { %t } tcp flags & (ack | rst) == rst drop
      \t}
      %D\tchain forward {
      %D\t\ttype filter hook forward priority filter; policy accept;
      %D\t\tct state established,related accept
      %D\t\tip saddr @knock4 accept
      %D\t\tip6 saddr @knock6 accept
      %D\t\t# Packets that NAT sends to a container. These are their ports before NAT.
      %D%f\t}
      }

      """, to: &output)
  }

  private func writeInputForHidden(to output: inout TextOutput) {
    write(
      """
      \t\t# The kernel's answers to these would pass the rules for output. No knock is like this.
      \t\tudp dport %p ip hdrlength > 5 drop
      \t\tudp dport %p ip6 nexthdr != udp drop

      \t\tip saddr @knock4 accept
      \t\tip6 saddr @knock6 accept
      \t\t# Others who may always connect, for example: iifname docker0 accept

      %T\t\t# Each packet of a connection that exists has ACK or RST. So connections continue.
      %T\t\ttcp dport { %t } tcp flags & (ack | rst) == 0 drop
      %U\t\t# Answers to this machine, and flows that it has answered.
      %U\t\tct state established,related accept
      %U\t\tudp dport { %u } drop
      \t}

      """, to: &output)
  }

  private func writeInputForAll(to output: inout TextOutput) {
    write(
      """
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

      \t\t# Knocks. These have the form of one: its length with the UDP header (bytes), and in version 1 the
      \t\t# command and the number of the address family. There is no limit, since a flood would use it up.

      """, to: &output)
    var forms = Cases<Version1.Form>()
    while let form = forms.next() {
      output.append("\t\tudp dport ")
      output.append(port)
      output.append(" udp length ")
      output.append(form.size + Self.udpHeader)
      output.append(" @th,")
      output.append((Self.udpHeader + Version1.commandOffset) * 8)
      output.append(",8 { 1, 2 } @th,")
      output.append((Self.udpHeader + Version1.familyOffset) * 8)
      output.append(",8 { ")
      writeFamilies(of: form, separator: ", ", to: &output)
      output.append(" } @th,")
      output.append((Self.udpHeader + Version1.familyOffset) * 8 + 8)
      output.append(",24 0 accept\n")
    }
    output.append("\t\tudp dport ")
    output.append(port)
    output.append(" udp length ")
    output.append(Version2.requestSize + Self.udpHeader)
    output.append(" accept\n")
    output.append(
      """

      \t\t# What is hidden:
      \t\ttcp dport 22 ip saddr @knock4 accept
      \t\ttcp dport 22 ip6 saddr @knock6 accept

      \t\t# What everyone may reach, for example:
      \t\t# tcp dport { 80, 443 } accept
      \t\t# icmp type echo-request accept
      \t\t# On a router, what its own network may reach, for example: iifname br-lan accept
      \t}

      """)
  }
}
