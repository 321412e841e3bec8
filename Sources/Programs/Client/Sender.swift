import CSystem
import KnockBase
import KnockProtocol

/// What a knock is to open or close access for.
enum Signing {
  /// The source address of the datagram.
  case source
  /// What the server sees as that: the unspecified address stands for it.
  case observed
  /// `-S ADDR`.
  case address(Address)
  /// Our address outside, in each family; nil where it is not known.
  case outside(inet: Address?, inet6: Address?)

  /// - Parameter own: the source address.
  /// - Returns: nil where nothing can be signed for that family.
  func address(for own: Address) -> Address? {
    switch self {
    case .source: own
    case .observed: own.family == .inet ? .inet(0) : .inet6(high: 0, low: 0)
    case .address(let address): address
    case .outside(let inet, let inet6): own.family == .inet ? inet : inet6
    }
  }
}

/// Sends one knock to each address of a host. An address that cannot be reached is reported, and
/// does not keep the others from theirs.
struct Sender: ~Copyable {
  let host: Argument
  /// Of the host, with the port to knock on.
  let addresses: Resolution
  private let signing: Signing
  /// What `-s` named.
  let source: SocketAddress?
  private let mac: KeyedMAC
  /// Where to wait for the effect; nil for nowhere.
  let waitPort: UInt16?
  /// Whether nothing is sent, but printed what would be.
  private let onlyPrints: Bool
  let report: Report
  /// With `-S ADDR`: the one time stamp, and so the one MAC, of all datagrams. A server that hears them
  /// on two of its addresses takes the second for the replay that it is.
  private var sharedTimeStamp: Double?
  private var triedCount = 0
  private var sentCount = 0
  private var hasWarned = false

  init(
    host: Argument, addresses: consuming Resolution, signing: Signing, source: SocketAddress?,
    mac: consuming KeyedMAC, settings: ClientSettings, report: Report
  ) {
    self.host = host
    self.addresses = addresses
    self.signing = signing
    self.source = source
    self.mac = mac
    waitPort = settings.waitPort
    onlyPrints = settings.onlyChecks
    self.report = report
  }

  /// Knocks on all addresses; with `-S ADDR`, on those of the other family only if none of the family of
  /// the signed address, by which its owner will connect, could be reached.
  ///
  /// - Returns: whether at least one datagram was sent.
  mutating func send(_ command: Command) -> Bool {
    (triedCount, sentCount) = (0, 0)
    sharedTimeStamp = nil
    if case .address(let address) = signing {
      let (family, other) = address.family == .inet ? (AF_INET, AF_INET6) : (AF_INET6, AF_INET)
      sharedTimeStamp = Clock.wallSeconds()
      send(command, family: family)
      if sentCount == 0 { send(command, family: other) }
    } else {
      send(command, family: AF_UNSPEC)
    }
    if triedCount == 0 {
      var line = Line()
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
      let socket = try UDPSocket(to: address, from: source)
      guard let own = try socket.localAddress().parts?.address else {
        throw SystemError(number: EAFNOSUPPORT)
      }
      // What is not known of a family has been reported.
      guard let signed = signing.address(for: own) else { return false }
      let knock = Knock(command: command, address: signed)
      warnOfNAT(signed, towards: address)
      if onlyPrints {
        try print(knock, to: address)
        return true
      }
      let datagram = Datagram(
        knock, timeStamp: sharedTimeStamp ?? Clock.wallSeconds(), signedWith: mac)
      try datagram.withBytes { bytes throws(SystemError) in try socket.send(bytes) }
      if report.verbosity >= .verbose {
        var line = Line()
        line.append("sent ")
        line.append(knock)
        line.append(" to ")
        line.append(address)
        report.write(line)
      }
      return true
    } catch {
      var line = Line()
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
    var line = Line()
    line.append("warning: ")
    line.append(signed)
    line.append(" is a private address, ")
    line.append(server)
    line.append(" a public one: behind NAT, name the outside address with -S")
    report.write(line)
  }
}
