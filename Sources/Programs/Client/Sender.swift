import KnockBase
import KnockProtocol

/// Of the last request of version 2 (microseconds since the Unix epoch).
nonisolated(unsafe) private var lastRequestTime: Int64 = 0

/// The time in the next request: that of the clock, or later if the clock stands still or goes back. No two requests
/// have the same time, so none is a replay.
func nextRequestTime(at now: Int64) -> Int64 {
  unsafe lastRequestTime = max(now, lastRequestTime + 1)
  return unsafe lastRequestTime
}

/// Knocks on one host: sends a datagram to each of its addresses. If one cannot be reached, that is logged, and
/// the others are still knocked on.
struct Sender: ~Copyable {
  /// The host as the command line names it.
  let name: Argument
  /// Whether it is the HostName in client.conf that has the addresses.
  private let isConfigured: Bool
  /// The addresses of the host, with the port to knock on.
  private(set) var addresses: Resolution
  private var signed: SignedAddress
  /// The servers that tell the address to sign, with `-S auto`.
  private let stunServers: StunServerList
  /// The local address to send from, if `-s` names it.
  private(set) var source: SocketAddress?
  private let key: KeyedMAC
  /// How long it shall stay open; 0 leaves it to the server.
  private let seconds: UInt32
  private var answerWait: AnswerWait
  /// Whether an answer is wanted.
  let awaitsAnswer: Bool
  /// Whether to tell if the server sees another address than the ones here, for which an open would be.
  private let comparesAddress: Bool
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
    name: Argument, isConfigured: Bool, addresses: consuming Resolution, signed: SignedAddress,
    source: SocketAddress?, key: consuming KeyedMAC, settings: ClientSettings, isCheck: Bool
  ) throws(SystemError) {
    let awaitsAnswer =
      key.version == 2 && (isCheck || settings.wantsAnswer ?? false) && !settings.onlyChecks
    let answerWait = try AnswerWait(isWanted: awaitsAnswer)
    let opened = try OpenedAddresses()
    self.awaitsAnswer = awaitsAnswer
    self.answerWait = answerWait
    self.opened = opened
    seconds = UInt32(settings.ttlSeconds)
    comparesAddress = isCheck && settings.signAddress == nil
    self.name = name
    self.isConfigured = isConfigured
    self.addresses = addresses
    self.signed = signed
    self.source = source
    self.key = key
    stunServers = settings.stunServers
    waitPort = settings.waitPort
    onlyPrints = settings.onlyChecks
  }

  /// Knocks on all addresses. With `-S ADDR`, knocks on those in the family of ADDR, since its owner will connect
  /// through these. If none of them can be reached, knocks on the others.
  ///
  /// - Returns: whether at least one datagram was sent.
  @inline(never)
  mutating func send(_ purpose: Version2.Purpose) -> Bool {
    sendOnce(purpose)
    return endRound(purpose)
  }

  @inline(never)
  private mutating func sendOnce(_ purpose: Version2.Purpose) {
    (triedCount, sentCount) = (0, 0)
    sharedTimeStamp = nil
    send(purpose, in: firstFamily)
    if signed.kind != .address || sentCount == 0 { send(purpose, in: otherFamily) }
  }

  /// Closes what was opened, also if the client has other addresses now.
  mutating func close() {
    answerWait.close()
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
        "warning: \(quoted: name) was opened from \(address), and not closed from there: with -S observed it may stay open"
      )
    }
  }

  /// Knocks on all addresses after the first knock, if there are some.
  mutating func sendAgain(_ purpose: Version2.Purpose) {
    guard isKnockedOn || isSettled && addresses.failure == nil else { return }
    if send(purpose) { isKnockedOn = true }
  }

  /// The family to knock and to connect in first.
  var firstFamily: AddressFamily {
    signed.kind == .address && signed.inet?.family == .inet ? .inet : .inet6
  }
  private var otherFamily: AddressFamily { firstFamily == .inet ? .inet6 : .inet }

  /// If nothing could be sent, tries again, and logs why. A family without a route is no fault if the other has one.
  @inline(never)
  private mutating func endRound(_ purpose: Version2.Purpose) -> Bool {
    if triedCount == 0 {
      log.error("\(quoted: name) has no address of the family of the source address")
    } else if sentCount == 0, !log.shows(.verbose) {
      logsFailures = true
      send(purpose, in: firstFamily)
      send(purpose, in: otherFamily)
      logsFailures = false
    }
    return sentCount > 0
  }

  @inline(never)
  private mutating func send(_ purpose: Version2.Purpose, in family: AddressFamily) {
    for position in 0..<targetCount(in: family) {
      guard let address = addresses.address(at: position, in: family) else { break }
      triedCount += 1
      do throws(SystemError) {
        let place = Resolution.place(of: position, in: family)
        if try send(purpose, to: address, at: place) { sentCount += 1 }
      } catch {
        if logsFailures || log.shows(.verbose) { logFailure(error, address) }
      }
    }
  }

  @inline(never)
  private func logFailure(_ error: SystemError, _ address: SocketAddress) {
    let failure = AddressFailure(error, address, from: source)
    if let source = source?.parts?.address {
      log.error("cannot knock on \(address) from \(source): \(failure)")
    } else {
      log.error("cannot knock on \(address): \(failure)")
    }
  }

  /// Returns false if there is no address to sign in this family.
  @inline(never)
  private mutating func send(
    _ purpose: Version2.Purpose, to address: SocketAddress, at place: Int
  ) throws(SystemError) -> Bool {
    let isObserved = signed.kind == .observed
    let asks = answerWait.isOpen
    var socket = asks ? answerWait.takeSocket(at: place) : .none
    if !socket.isOpen {
      socket = try UDPSocket(to: address, from: isObserved ? observedSource(to: address) : source)
    }
    let local =
      if let source = connectionSource(to: address) { source } else { try socket.localAddress() }
    guard let own = local.parts?.address else { throw .familyNotSupported }
    guard let signed = signed.address(from: own) else { return false }
    logIfBehindNAT(signed, to: address)
    if onlyPrints {
      try log.print("\(Self.description(of: purpose, signed, to: address))")
      return true
    }
    let closing = isObserved ? own : signed
    if purpose == .open { try opened.insert(closing) } else { opened.close(closing) }
    let datagram = key.version == 2 ? request(purpose, signed) : knock(purpose, signed)
    if asks {
      try answerWait.send(datagram, from: socket, at: place)
    } else {
      try datagram.withBytes { bytes throws(SystemError) in try socket.send(bytes) }
    }
    log.debug("sent \(Self.description(of: purpose, signed, to: address))")
    return true
  }

  /// A datagram of version 1.
  @inline(never)
  private mutating func knock(_ purpose: Version2.Purpose, _ address: Address) -> Datagram {
    let timeStamp = sharedTimeStamp ?? SystemClock.wall()
    if signed.kind == .address { sharedTimeStamp = timeStamp }
    return Datagram(
      Knock(command: purpose == .close ? .close : .open, address: address), timeStamp: timeStamp,
      signedWith: key)
  }

  /// A datagram of version 2.
  @inline(never)
  private func request(_ purpose: Version2.Purpose, _ address: Address) -> Datagram {
    let request = Version2.Request(
      purpose, wantsAnswer: answerWait.isOpen, seconds: purpose == .open ? seconds : 0,
      time: nextRequestTime(at: SystemClock.wall()),
      address: signed.kind == .observed ? nil : address)
    let keys = unsafe key.keys
    return unsafe keys.pointee.tag.span.withUnsafeBufferPointer { tag in
      unsafe keys.pointee.mask.span.withUnsafeBufferPointer { mask in
        unsafe keys.pointee.idMask.span.withUnsafeBufferPointer { idMask in
          unsafe Datagram(
            request, id: keys.pointee.id, tagKey: DerivedKey(tag), maskKey: DerivedKey(mask),
            idMaskKey: DerivedKey(idMask))
        }
      }
    }
  }

  // MARK: The answer

  /// Whether the answer to a knock may still come.
  private var isAnswerOpen: Bool { isKnockedOn && answerWait.isOpen }

  /// Takes an answer that has come. Asks again if it is time.
  @inline(never)
  private mutating func converse(_ purpose: Version2.Purpose) {
    let isTime = answerWait.takeRound()
    // After the clock was read, so that what came while this process was stopped is found.
    answerWait.receive(with: key)
    guard let isTime, !(isSettled && answerWait.isAnswered) else { return answerWait.close() }
    guard isTime, answerWait.isOpen else { return }
    sentCount = 0
    if isFirstSettled { send(purpose, in: firstFamily) }
    if isOtherSettled, signed.kind != .address || sentCount == 0 { send(purpose, in: otherFamily) }
  }

  /// Prints the answer, or logs what failed.
  @inline(never)
  func report(
    _ purpose: Version2.Purpose, isOneOfMany: Bool, isPrinted: Bool
  ) -> ExitCode {
    guard awaitsAnswer, isKnockedOn else { return .success }
    guard let answer = answerWait.answer else {
      log.error(
        """
        \(quoted: name): no answer; does the server run with --answer? If so, check the clocks, \
        the key, and the port (-p)
        """)
      return .noAnswer
    }
    let exitCode = answer.report(
      purpose, of: name, isOneOfMany: isOneOfMany, isPrinted: isPrinted, at: answerWait.answerTime)
    if exitCode == .success, comparesAddress, let seen = answer.address,
      !answerWait.hasLeft(from: seen)
    {
      log.warning(
        "warning: this machine has another address than \(seen): open needs -S \(seen), or -S observed"
      )
    }
    return exitCode
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
      "port \(waitPort) of \(quoted: name) did not open within \(seconds) s: \(reason); check the clocks, the key, the server's port (-p), and behind NAT the public address (-S)"
    )
  }

  // MARK: The first knock

  /// Does what is due, and adds what to wait for.
  ///
  /// - Parameter waitsForAnswer: whether the knocks are done only once the answer has come.
  /// - Returns: whether the knocks are done.
  @inline(never)
  mutating func step(
    _ purpose: Version2.Purpose, mayKnock: Bool, waitsForAnswer: Bool, now: Int64,
    _ searches: inout PublicAddressSearches, _ set: inout PollSet, _ deadline: inout Int64
  ) throws(SystemError) -> Bool {
    try advance(purpose, mayKnock: mayKnock, now: now, &searches)
    converse(purpose)
    deadline = min(deadline, answerWait.nextDeadline(after: now))
    answerWait.addReaders(to: &set)
    guard !isSettled else { return !(waitsForAnswer && isAnswerOpen) }
    deadline = min(deadline, nextDeadline(after: now))
    addresses.addReaders(to: &set)
    return false
  }

  /// Takes the addresses that have been found. Knocks for the first time in each family whose addresses to knock on
  /// and to sign are known, if it may.
  @inline(never)
  private mutating func advance(
    _ purpose: Version2.Purpose, mayKnock: Bool, now: Int64, _ searches: inout PublicAddressSearches
  ) throws(SystemError) {
    guard !isSettled else { return }
    self.mayKnock = mayKnock
    addresses.advance()
    if !isFirstSettled {
      isFirstSettled = try knock(purpose, in: firstFamily, now: now, &searches)
    }
    if !isOtherSettled {
      if signed.kind == .address {
        if isFirstSettled {
          isOtherSettled = sentCount > 0
          if !isOtherSettled {
            isOtherSettled = try knock(purpose, in: otherFamily, now: now, &searches)
          }
        }
      } else if isFirstSettled || mayPrecede(now: now) {
        isOtherSettled = try knock(purpose, in: otherFamily, now: now, &searches)
      }
    }
    isKnockedOn = isKnockedOn || sentCount > 0
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
  private func nextDeadline(after now: Int64) -> Int64 {
    precedingMoment <= now ? lastMoment : min(precedingMoment, lastMoment)
  }

  /// Returns false if something is not known yet.
  @inline(never)
  private mutating func knock(
    _ purpose: Version2.Purpose, in family: AddressFamily, now: Int64,
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
    if mayKnock { send(purpose, in: family) }
    return mayKnock
  }

  /// Ends the first knock. Logs why nothing could be sent.
  @inline(never)
  mutating func endFirstKnock(
    _ purpose: Version2.Purpose, _ searches: inout PublicAddressSearches
  ) throws(ClientError) {
    if signed.kind == .publicAddress {
      let isUnknown = signed.inet == nil && signed.inet6 == nil && addresses.failure == nil
      if isUnknown || log.shows(.verbose) { searches.logFailures(of: stunServers) }
      if isUnknown, triedCount > 0 { throw .noPublicAddress }
    }
    if let failure = addresses.failure {
      throw .unresolved(host: name, isConfigured: isConfigured, failure)
    }
    if !isKnockedOn { isKnockedOn = endRound(purpose) }
  }

  @inline(never)
  private static func description(
    of purpose: Version2.Purpose, _ signed: Address, to address: SocketAddress
  ) -> Message {
    "\(purpose.name) \(signed) to \(address)"
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

extension Version2.Purpose {
  fileprivate var name: Literal {
    switch self {
    case .open: "open"
    case .close: "close"
    case .check: "check"
    }
  }
}
