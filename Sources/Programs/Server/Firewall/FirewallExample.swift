import KnockBase
import KnockProtocol

/// The kinds of rules that `--example` prints.
enum FirewallExample {
  case nft, ipset
  /// For nft(8), too. They also hide what Docker publishes.
  case docker

  init?(named name: Span<UInt8>) {
    if name.equals("nft") {
      self = .nft
    } else if name.equals("ipset") {
      self = .ipset
    } else if name.equals("docker") {
      self = .docker
    } else {
      return nil
    }
  }
}

/// Rules that hide ports from everyone who has not knocked: text for nft(8), or a script for ipset(8) and
/// iptables-restore(8).
struct FirewallRules {
  let example: FirewallExample
  /// That of the server.
  let port: UInt16
  /// How long a grant of the server lasts; nil for an hour.
  let seconds: Int64?
  /// The lengths of the prefixes that it grants.
  let inetLength: Int
  let inet6Length: Int
  /// The ports to hide; nil for all.
  let hidden: PortList?

  func write(to output: inout TextOutput) {
    if example == .ipset {
      writeIPSet(to: &output)
    } else {
      writeNft(to: &output)
    }
  }

  /// Writes a text. In it, `%` and a letter stand for what differs:
  ///
  ///     p    the port of the server
  ///     o    its options about the sets
  ///     4 6  what the set for IPv4 or IPv6 needs for prefixes
  ///     l    the ports that the machine listens on
  ///     t u  the hidden ports of TCP or UDP
  ///     i    the beginning of a match for a type of ICMPv6
  ///     f    rules that drop what NAT forwards for them
  ///     x y  a match for what the kernel's answer to a knock of IPv4 or IPv6 quotes, if the rules hide some ports
  ///
  /// A line that begins with `%` and a capital letter is only in some rules:
  ///
  ///     A    those that hide all ports
  ///     H    those that do not
  ///     T U  those that hide ports of TCP or UDP
  ///     D    those that hide what Docker publishes
  ///     N    those that hide ports, but not what Docker publishes
  func write(_ text: Literal, to output: inout TextOutput) {
    text.withBytes { text in
      var isLeftOut = false
      var isMark = false
      for index in text.indices {
        let byte = text[index]
        if isLeftOut {
          isLeftOut = byte != UInt8(ascii: "\n")
        } else if isMark {
          isMark = false
          isLeftOut = !write(mark: byte, to: &output)
        } else if byte == UInt8(ascii: "%") {
          isMark = true
        } else {
          output.append(byte: byte)
        }
      }
    }
  }

  /// Returns false to leave out the rest of the line.
  @inline(never)
  private func write(mark: UInt8, to output: inout TextOutput) -> Bool {
    switch mark {
    case UInt8(ascii: "A"): return hidden == nil
    case UInt8(ascii: "H"): return hidden != nil
    case UInt8(ascii: "T"): return hides(isUDP: false)
    case UInt8(ascii: "U"): return hides(isUDP: true)
    case UInt8(ascii: "D"): return example == .docker
    case UInt8(ascii: "N"): return example == .nft && hidden != nil
    case UInt8(ascii: "p"): output.append(port)
    case UInt8(ascii: "o"): writeOptions(to: &output)
    case UInt8(ascii: "4"): writeForm(hasPrefixes: inetLength < 32, to: &output)
    case UInt8(ascii: "6"): writeForm(hasPrefixes: inet6Length < 128, to: &output)
    case UInt8(ascii: "l"): writeListening(to: &output)
    case UInt8(ascii: "t"): writeHidden(isUDP: false, to: &output)
    case UInt8(ascii: "u"): writeHidden(isUDP: true, to: &output)
    case UInt8(ascii: "i"): output.append("-p ipv6-icmp --icmpv6-type ")
    case UInt8(ascii: "f"): writeForwarded(to: &output)
    case UInt8(ascii: "x"): writeQuoted(" @th,136,8 17 @th,240,16 ", to: &output)
    default: writeQuoted(" @th,112,8 17 @th,400,16 ", to: &output)
    }
    return true
  }

  private func writeOptions(to output: inout TextOutput) {
    output.append("--ttl ")
    if let seconds = seconds { output.append(seconds) } else { output.append("1h") }
    if inetLength < 32 {
      output.append(" --grant-prefix4 ")
      output.append(inetLength)
    }
    if inet6Length < 128 {
      output.append(" --grant-prefix6 ")
      output.append(inet6Length)
    }
  }

  private func writeForm(hasPrefixes: Bool, to output: inout TextOutput) {
    if example == .ipset {
      output.append(hasPrefixes ? "net" : "ip")
    } else if hasPrefixes {
      output.append(", interval")
    }
  }

  private func writeQuoted(_ places: Literal, to output: inout TextOutput) {
    guard hidden != nil else { return }
    output.append(places)
    output.append(port)
  }

  private func hides(isUDP: Bool) -> Bool {
    var ports = hidden
    while let port = ports?.next() {
      if port.isUDP == isUDP { return true }
    }
    return false
  }

  private func writeHidden(isUDP: Bool, to output: inout TextOutput) {
    var ports = hidden
    var isFirst = true
    while let port = ports?.next() {
      guard port.isUDP == isUDP else { continue }
      if !isFirst { output.append(", ") }
      output.append(port.number)
      isFirst = false
    }
  }

  /// One rule for each port: nft 1.0.6 lists a set of these ports with "invalid type", and cannot read that again.
  private func writeForwarded(to output: inout TextOutput) {
    var ports = hidden
    while let port = ports?.next() {
      output.append("\t\tct status dnat meta l4proto ")
      output.append(port.isUDP ? "udp" : "tcp")
      output.append(" ct original proto-dst ")
      output.append(port.number)
      output.append(" drop\n")
    }
  }

  private func writeListening(to output: inout TextOutput) {
    guard let listening = ListeningPorts(), listening.read() else {
      return output.append(" see ss -lntu")
    }
    for position in 0..<0x20000 {
      let port = Port(number: UInt16(truncatingIfNeeded: position), isUDP: position > 0xFFFF)
      guard listening.contains(port) else { continue }
      output.append(hidden?.contains(port) == true ? " *" : " ")
      output.append(port.number)
      if port.isUDP { output.append("/udp") }
    }
  }
}

/// What both kinds of rules say about the forms of knocks.
extension FirewallRules {
  /// The numbers of the address family in a form.
  func writeFamilies(
    of form: Version1.Form, separator: Literal, to output: inout TextOutput
  ) {
    var isFirst = true
    for number in Int32(0)..<32 where form.hasFamily(number) {
      if !isFirst { output.append(separator) }
      output.append(Int(number))
      isFirst = false
    }
  }

  /// The length of a UDP header (bytes).
  static var udpHeader: Int { 8 }
}
