import KnockBase
import KnockProtocol

/// Knocks on one host: sends a datagram to each of its addresses. If one cannot be reached, that is logged, and
/// the others are still knocked on.
struct Sender: ~Copyable {
  let host: Argument
  /// The addresses of the host, with the port to knock on.
  private(set) var addresses: Resolution
  private var signed: SignedAddress
  /// The servers that tell the address to sign, with `-S auto`.
  private let stunServers: StunServerList
  /// The local address to send from, if `-s` names it.
  private(set) var source: SocketAddress?
  private let key: KeyedMAC
  /// The TCP port that opens after the knock, if it is to be waited for.
  let waitPort: UInt16?
  /// Whether to print the knocks instead of sending them.
  private let onlyPrints: Bool
  /// What `--close` closes. With `-S observed`, the addresses that knocks have left from.
  private let opened: OpenedAddresses
  /// With `-S ADDR`, all datagrams have one time stamp, and so one MAC. A server that receives two of them on two
  /// of its addresses then takes the second for a replay.
  private var sharedTimeStamp: Int64?
  /// How long a family waits for the first one (microseconds). Source: RFC 8305, section 3.
  private static var resolutionDelay: Int64 { 50 * Microseconds.millisecond }
  /// Whether the first knock is done in a family, or need not be.
  private var (isFirstSettled, isOtherSettled) = (false, false)
  private var mayKnock = true
  private var precedingMoment = Int64.max
  /// How long a family may need once the other was knocked on (microseconds). A lost question is repeated by then.
  private static var patience: Int64 { 3 * Microseconds.second }
  private var lastMoment = Int64.max
  /// Whether the first knock is done.
  private(set) var isSettled = false
  private(set) var isKnockedOn = false
  private var triedCount = 0
  private var sentCount = 0
  private var hasWarned = false
  private var logsFailures = false

  init(
    host: Argument, addresses: consuming Resolution, signed: SignedAddress,
    source: SocketAddress?, key: consuming KeyedMAC, settings: ClientSettings
  ) throws(SystemError) {
    self.host = host
    self.addresses = addresses
    self.signed = signed
    self.source = source
    self.key = key
    stunServers = settings.stunServers
    waitPort = settings.waitPort
    onlyPrints = settings.onlyChecks
    opened = try OpenedAddresses()
  }

  /// Knocks on all addresses. With `-S ADDR`, knocks on those in the family of ADDR, since its owner will connect
  /// through these. If none of them can be reached, knocks on the others.
  ///
  /// - Returns: whether at least one datagram was sent.
  @inline(never)
  mutating func send(_ command: Command) -> Bool {
    sendOnce(command)
    return endRound(command)
  }

  @inline(never)
  private mutating func sendOnce(_ command: Command) {
    (triedCount, sentCount) = (0, 0)
    sharedTimeStamp = nil
    send(command, in: firstFamily)
    if signed.kind != .address || sentCount == 0 { send(command, in: otherFamily) }
  }

  /// Closes what was opened, also if the client has other addresses now.
  mutating func close() {
    if signed.kind == .observed { return closeObserved() }
    var index = 0
    while let address = opened[index] {
      index += 1
      signed = .address(address)
      sendOnce(.close)
      if sentCount == 0, source != nil {
        // The address that -s names may be gone.
        source = nil
        sendOnce(.close)
      }
      _ = endRound(.close)
    }
  }

  /// Only the server knows what was opened, and it closes for the address that it sees now.
  @inline(never)
  private mutating func closeObserved() {
    guard opened[0] != nil else { return }
    _ = send(.close)
    while let address = opened.takeUnclosed() {
      log.warning(
        "warning: \(quoted: host) was opened from \(address), and not closed from there: with -S observed it may stay open"
      )
    }
  }

  /// Knocks on all addresses after the first knock, if there are some.
  mutating func sendAgain(_ command: Command) {
    guard isKnockedOn || isSettled && addresses.failure == nil else { return }
    if send(command) { isKnockedOn = true }
  }

  /// The family to knock and to connect in first.
  var firstFamily: AddressFamily {
    signed.kind == .address && signed.inet?.family == .inet ? .inet : .inet6
  }
  private var otherFamily: AddressFamily { firstFamily == .inet ? .inet6 : .inet }

  /// If nothing could be sent, tries again, and logs why. A family without a route is no fault if the other has one.
  @inline(never)
  private mutating func endRound(_ command: Command) -> Bool {
    if triedCount == 0 {
      log.error("\(quoted: host) has no address of the family of the source address")
    } else if sentCount == 0, !log.shows(.verbose) {
      logsFailures = true
      send(command, in: firstFamily)
      send(command, in: otherFamily)
      logsFailures = false
    }
    return sentCount > 0
  }

  @inline(never)
  private mutating func send(_ command: Command, in family: AddressFamily) {
    for position in 0..<targetCount(in: family) {
      guard let address = addresses.address(at: position, in: family) else { break }
      triedCount += 1
      do throws(SystemError) {
        if try send(command, to: address) { sentCount += 1 }
      } catch {
        guard logsFailures || log.shows(.verbose) else { continue }
        let failure = AddressFailure(error, address, from: source)
        if let source = source?.parts?.address {
          log.error("cannot knock on \(address) from \(source): \(failure)")
        } else {
          log.error("cannot knock on \(address): \(failure)")
        }
      }
    }
  }

  /// Returns false if there is no address to sign in this family.
  private mutating func send(
    _ command: Command, to address: SocketAddress
  ) throws(SystemError) -> Bool {
    let isObserved = signed.kind == .observed
    let socket = try UDPSocket(to: address, from: isObserved ? observedSource(to: address) : source)
    let local =
      if let source = connectionSource(to: address) { source } else { try socket.localAddress() }
    guard let own = local.parts?.address else { throw .familyNotSupported }
    guard let signed = signed.address(from: own) else { return false }
    logIfBehindNAT(signed, to: address)
    let knock = Knock(command: command, address: signed)
    if onlyPrints {
      try print(knock, to: address)
      return true
    }
    let closing = isObserved ? own : signed
    if command == .open { try opened.insert(closing) } else { opened.close(closing) }
    let timeStamp = sharedTimeStamp ?? SystemClock.wall()
    if self.signed.kind == .address { sharedTimeStamp = timeStamp }
    let datagram = Datagram(knock, timeStamp: timeStamp, signedWith: key)
    try datagram.withBytes { bytes throws(SystemError) in try socket.send(bytes) }
    log.debug("sent \(knock) to \(address)")
    return true
  }

  /// The address that a connection to the port leaves from; nil if there is no port, or no such address.
  @inline(never)
  private func connectionSource(to address: SocketAddress) -> SocketAddress? {
    guard let address = waitPort.map({ address.with(port: $0) }) else { return nil }
    do throws(SystemError) {
      return try SocketAddress(ofConnectionTo: address, from: source).with(port: 0)
    } catch {
      do throws(SystemError) {
        return try UDPSocket(to: address, from: source).localAddress().with(port: 0)
      } catch { return nil }
    }
  }

  /// The local address to send from so that others see the address of the connection; nil if that needs no choice.
  @inline(never)
  private func observedSource(to address: SocketAddress) -> SocketAddress? {
    do throws(SystemError) {
      let datagram = try UDPSocket(to: address, from: source).localAddress()
      guard let connection = connectionSource(to: address),
        connection.parts?.address != datagram.parts?.address
      else { return source }
      return connection
    } catch { return source }
  }

  /// Begins an attempt for the port, if there is one.
  @inline(never)
  func begin(
    _ attempt: ConnectionRace.Attempt, _ sockets: borrowing ConnectingSockets
  ) throws(SystemError) {
    guard let waitPort, let address = addresses.address(at: attempt.position, in: attempt.family)
    else { return }
    try sockets.begin(at: attempt.place, to: address.with(port: waitPort), from: source)
  }

  /// How many addresses of a family can be connected to from the source address.
  @inline(never)
  func targetCount(in family: AddressFamily) -> Int {
    source == nil || source?.family == family ? addresses.count(in: family) : 0
  }

  @inline(never)
  func logClosedPort(after seconds: Int64, _ reason: SystemError) {
    guard let waitPort else { return }
    log.error(
      "port \(waitPort) of \(quoted: host) did not open within \(seconds) s: \(reason); check the clocks, the key, the server's port (-p), and behind NAT the public address (-S)"
    )
  }

  // MARK: The first knock

  /// Takes the addresses that have been found. Knocks for the first time in each family whose addresses to knock on
  /// and to sign are known, if it may.
  @inline(never)
  mutating func advance(
    _ command: Command, mayKnock: Bool, now: Int64, _ searches: inout PublicAddressSearches
  ) throws(SystemError) {
    guard !isSettled else { return }
    self.mayKnock = mayKnock
    addresses.advance()
    if !isFirstSettled {
      isFirstSettled = try knock(command, in: firstFamily, now: now, &searches)
    }
    if !isOtherSettled {
      if signed.kind == .address {
        if isFirstSettled {
          isOtherSettled = sentCount > 0
          if !isOtherSettled {
            isOtherSettled = try knock(command, in: otherFamily, now: now, &searches)
          }
        }
      } else if isFirstSettled || mayPrecede(now: now) {
        isOtherSettled = try knock(command, in: otherFamily, now: now, &searches)
      }
    }
    isKnockedOn = sentCount > 0
    if isKnockedOn { lastMoment = min(lastMoment, now + Self.patience) }
    isSettled = isFirstSettled && isOtherSettled || lastMoment <= now
  }

  /// Whether a family need not wait any longer for the first one.
  private mutating func mayPrecede(now: Int64) -> Bool {
    guard addresses.isFinished(otherFamily) else { return false }
    if precedingMoment == .max, !onlyPrints { precedingMoment = now + Self.resolutionDelay }
    return precedingMoment <= now
  }

  /// The next moment at which something is due by itself.
  func nextDeadline(after now: Int64) -> Int64 {
    precedingMoment <= now ? lastMoment : min(precedingMoment, lastMoment)
  }

  /// Returns false if something is not known yet.
  @inline(never)
  private mutating func knock(
    _ command: Command, in family: AddressFamily, now: Int64,
    _ searches: inout PublicAddressSearches
  ) throws(SystemError) -> Bool {
    guard addresses.isFinished(family) else { return false }
    if signed.kind == .publicAddress {
      var signed = signed
      for position in 0..<targetCount(in: family) {
        guard let address = addresses.address(at: position, in: family),
          let server = address.parts?.address
        else { break }
        // Datagrams to an IPv4-mapped address have an IPv4 source.
        let own = server.family
        let result = try searches.find(
          own, onlyInet: own == .inet || server.isTranslated, stunServers,
          from: observedSource(to: address), now: now)
        switch result {
        case .pending: return false
        case .ended(let found):
          if own == .inet { signed.inet = found } else { signed.inet6 = found }
        }
      }
      self.signed = signed
    }
    if mayKnock { send(command, in: family) }
    return mayKnock
  }

  /// Ends the first knock. Logs why nothing could be sent.
  @inline(never)
  mutating func endFirstKnock(
    _ command: Command, _ searches: inout PublicAddressSearches
  ) throws(ClientError) {
    if signed.kind == .publicAddress {
      let isUnknown = signed.inet == nil && signed.inet6 == nil && addresses.failure == nil
      if isUnknown || log.shows(.verbose) { searches.logFailures(of: stunServers) }
      if isUnknown, triedCount > 0 { throw .noPublicAddress }
    }
    if let failure = addresses.failure { throw .unresolved(host: host, failure) }
    if !isKnockedOn { isKnockedOn = endRound(command) }
  }

  @inline(never)
  private func print(_ knock: Knock, to address: SocketAddress) throws(SystemError) {
    var output = TextOutput(descriptor: 1)
    output.append(knock)
    output.append(" to ")
    output.append(address)
    output.append("\n")
    try output.finish()
  }

  /// Warns once if the server, which has a public address, most likely sees another one than is signed.
  @inline(never)
  private mutating func logIfBehindNAT(_ signed: Address, to address: SocketAddress) {
    // The unspecified address stands for the one that the server sees.
    guard !hasWarned, signed.refusal == nil, let server = address.parts?.address else { return }
    if server.isTranslated {
      guard signed.family == .inet6 || signed.isPrivate else { return }
      hasWarned = true
      log.warning(
        "warning: \(server) is reached through NAT64, and \(signed) is not what the server sees: name the public IPv4 address with -S"
      )
    } else if signed.isPrivate, !server.isPrivate {
      hasWarned = true
      log.warning(
        "warning: \(signed) is a private address, \(server) a public one: behind NAT, name the public address with -S"
      )
    }
  }
}
