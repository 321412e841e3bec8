import CSystem
import KnockProtocol

/// Sends one knock to each address of a host. An address that cannot be reached is reported, and
/// does not keep the others from theirs.
struct Sender: ~Copyable {
  let host: Argument
  /// Of the host, with the port to knock on.
  let addresses: Resolution
  /// What `-S` named; nil to sign the source address of each datagram.
  private let signed: Address?
  /// What `-s` named.
  let source: SocketAddress?
  private let mac: KeyedMAC
  /// Whether nothing is sent, but printed what would be.
  private let onlyPrints: Bool
  private let report: Report
  /// With `-S`: the one time stamp, and so the one MAC, of all datagrams. A server that hears them
  /// on two of its addresses takes the second for the replay that it is.
  private var sharedTimeStamp: Double?
  private var triedCount = 0
  private var sentCount = 0
  private var hasWarned = false

  init(
    host: Argument, addresses: consuming Resolution, signed: Address?, source: SocketAddress?,
    mac: consuming KeyedMAC, onlyPrints: Bool, report: Report
  ) {
    self.host = host
    self.addresses = addresses
    self.signed = signed
    self.source = source
    self.mac = mac
    self.onlyPrints = onlyPrints
    self.report = report
  }

  /// Knocks on all addresses; with `-S`, on those of the other family only if none of the family of
  /// the signed address, by which its owner will connect, could be reached.
  ///
  /// - Returns: whether at least one datagram was sent.
  mutating func send(_ command: Command) -> Bool {
    (triedCount, sentCount) = (0, 0)
    sharedTimeStamp = signed == nil ? nil : Clock.wallSeconds()
    switch signed {
    case nil: send(command, family: AF_UNSPEC)
    case .inet:
      send(command, family: AF_INET)
      if sentCount == 0 { send(command, family: AF_INET6) }
    case .inet6:
      send(command, family: AF_INET6)
      if sentCount == 0 { send(command, family: AF_INET) }
    }
    if triedCount == 0 {
      var line = report.line()
      line.append(quoted: host)
      line.append(" has no address of the family of the source address")
      report.write(line)
    }
    return sentCount > 0
  }

  private mutating func send(_ command: Command, family: Int32) {
    var position = 0
    while let address = addresses.address(at: position) {
      position += 1
      guard family == AF_UNSPEC || family == address.family,
        source == nil || source?.family == address.family
      else { continue }
      triedCount += 1
      if send(command, to: address) { sentCount += 1 }
    }
  }

  private mutating func send(_ command: Command, to address: SocketAddress) -> Bool {
    do throws(SystemError) {
      let socket = try UDPSocket(family: address.family)
      if let source { try socket.bind(to: source) }
      try socket.connect(to: address)
      guard let own = try socket.localAddress().parts?.address else {
        throw SystemError(number: EAFNOSUPPORT)
      }
      let knock = Knock(command: command, address: signed ?? own)
      warnOfNAT(knock.address, towards: address)
      if onlyPrints {
        try print(knock, to: address)
        return true
      }
      let timeStamp = sharedTimeStamp ?? Clock.wallSeconds()
      try socket.send(Datagram(knock, timeStamp: timeStamp, signedWith: mac))
      if report.verbosity >= .verbose {
        var line = report.line()
        line.append("sent ")
        line.append(knock)
        line.append(" to ")
        line.append(address)
        report.write(line)
      }
      return true
    } catch {
      var line = report.line()
      line.append("cannot knock on ")
      line.append(address)
      if let source {
        line.append(" from ")
        line.append(source.parts?.address ?? .inet(0))
      }
      line.append(": ")
      line.append(error)
      report.write(line)
      return false
    }
  }

  private func print(_ knock: Knock, to address: SocketAddress) throws(SystemError) {
    var output = FileText(descriptor: 1)
    output.append(knock)
    output.append(" to ")
    output.append(address)
    output.append("\n")
    try output.finish()
  }

  /// A private address means nothing to a server outside: it most likely sees another one.
  private mutating func warnOfNAT(_ signed: Address, towards address: SocketAddress) {
    guard !hasWarned, signed.isPrivate, let server = address.parts?.address, !server.isPrivate,
      !server.isLocal
    else { return }
    hasWarned = true
    var line = report.line()
    line.append("warning: ")
    line.append(signed)
    line.append(" is a private address, ")
    line.append(server)
    line.append(" a public one: behind NAT, name the outside address with -S")
    report.write(line)
  }
}
