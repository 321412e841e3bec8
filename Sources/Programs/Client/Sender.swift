import KnockBase
import KnockProtocol

/// Knocks on one host: sends a datagram to each of its addresses. If one cannot be reached, that is logged, and
/// the others are still knocked on.
struct Sender: ~Copyable {
  let host: Argument
  /// The addresses of the host, with the port to knock on.
  let addresses: Resolution
  private let signed: SignedAddress
  /// The local address to send from, if `-s` names it.
  let source: SocketAddress?
  private let key: KeyedMAC
  /// The TCP port that opens after the knock, if it is to be waited for.
  let waitPort: UInt16?
  /// Whether to print the knocks instead of sending them.
  private let onlyPrints: Bool
  /// With `-S ADDR`, all datagrams have one time stamp, and so one MAC. A server that receives two of them on two
  /// of its addresses then takes the second for a replay.
  private var sharedTimeStamp: Int64?
  private var triedCount = 0
  private var sentCount = 0
  private var hasWarned = false

  init(
    host: Argument, addresses: consuming Resolution, signed: SignedAddress,
    source: SocketAddress?, key: consuming KeyedMAC, settings: ClientSettings
  ) {
    self.host = host
    self.addresses = addresses
    self.signed = signed
    self.source = source
    self.key = key
    waitPort = settings.waitPort
    onlyPrints = settings.onlyChecks
  }

  /// Knocks on all addresses. With `-S ADDR`, knocks on those in the family of ADDR, through which its owner will
  /// connect; on the others only if none of these can be reached.
  ///
  /// - Returns: whether at least one datagram was sent.
  mutating func send(_ command: Command) -> Bool {
    (triedCount, sentCount) = (0, 0)
    sharedTimeStamp = nil
    if case .address(let address) = signed {
      sharedTimeStamp = SystemClock.wall()
      send(command, in: address.family)
      if sentCount == 0 { send(command, in: address.family == .inet ? .inet6 : .inet) }
    } else {
      send(command, in: nil)
    }
    if triedCount == 0 {
      log.error("\(quoted: host) has no address of the family of the source address")
    }
    return sentCount > 0
  }

  /// - Parameter family: nil for both.
  private mutating func send(_ command: Command, in family: AddressFamily?) {
    var position = 0
    while let address = addresses.address(at: position) {
      position += 1
      guard family == nil || family == address.family,
        source == nil || source?.family == address.family
      else { continue }
      triedCount += 1
      do throws(SystemError) {
        if try send(command, to: address) { sentCount += 1 }
      } catch {
        if let source = source?.parts?.address {
          log.error("cannot knock on \(address) from \(source): \(error)")
        } else {
          log.error("cannot knock on \(address): \(error)")
        }
      }
    }
  }

  /// Returns false if there is no address to sign in this family.
  private mutating func send(
    _ command: Command, to address: SocketAddress
  ) throws(SystemError) -> Bool {
    let connectionSource = connectionSource(to: address)
    // The server sees the source of the datagram.
    let isObserved = if case .observed = signed { true } else { false }
    let socket = try UDPSocket(to: address, from: isObserved ? connectionSource ?? source : source)
    let local = if let connectionSource { connectionSource } else { try socket.localAddress() }
    guard let own = local.parts?.address else { throw .familyNotSupported }
    guard let signed = signed.address(from: own) else { return false }
    logIfBehindNAT(signed, to: address)
    let knock = Knock(command: command, address: signed)
    if onlyPrints {
      try print(knock, to: address)
      return true
    }
    let datagram = Datagram(
      knock, timeStamp: sharedTimeStamp ?? SystemClock.wall(), signedWith: key)
    try datagram.withBytes { bytes throws(SystemError) in try socket.send(bytes) }
    log.debug("sent \(knock) to \(address)")
    return true
  }

  /// The address that a connection to the port leaves from; nil if there is no port, or no such address.
  private func connectionSource(to address: SocketAddress) -> SocketAddress? {
    guard let waitPort else { return nil }
    do throws(SystemError) {
      return try SocketAddress(ofConnectionTo: address.with(port: waitPort), from: source).with(
        port: 0)
    } catch { return nil }
  }

  /// Makes the race for a connection to the port; nil if there is none.
  func race(
    from start: Int64, until end: Int64, firstPlace: Int
  ) throws(SystemError) -> ConnectionRace? {
    guard let waitPort else { return nil }
    return try ConnectionRace(
      to: waitPort, of: self, from: start, until: end, firstPlace: firstPlace)
  }

  /// The family to connect in first: that of the signed address, or of the first address of the host.
  var preferredFamily: AddressFamily {
    if case .address(let address) = signed { return address.family }
    return addresses.address(at: 0)?.family ?? .inet6
  }

  /// The next address of a family, from a position on, to connect to from the source address.
  func nextAddress(in family: AddressFamily, from position: inout Int) -> SocketAddress? {
    while let address = addresses.address(at: position) {
      position += 1
      if address.family == family, source == nil || source?.family == family { return address }
    }
    return nil
  }

  private func print(_ knock: Knock, to address: SocketAddress) throws(SystemError) {
    var output = TextOutput(descriptor: 1)
    output.append(knock)
    output.append(" to ")
    output.append(address)
    output.append("\n")
    try output.finish()
  }

  /// Warns once if a private address is signed for a server with a public address. The server most likely sees
  /// another one.
  private mutating func logIfBehindNAT(_ signed: Address, to address: SocketAddress) {
    guard !hasWarned, signed.isPrivate, let server = address.parts?.address, !server.isPrivate,
      !server.isLocal
    else { return }
    hasWarned = true
    log.warning(
      "warning: \(signed) is a private address, \(server) a public one: behind NAT, name the public address with -S"
    )
  }
}
