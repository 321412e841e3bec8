import KnockBase

/// A race between the addresses of a host for a connection to its TCP port.
///
/// As in RFC 8305, the addresses are tried one after another, families by turns, and each attempt stays open while
/// others run. A slow firewall drops the first SYN to an address. So the address is tried again soon, but at most 3
/// times in 10 seconds, since servers limit the rate of new connections. In between, the kernel repeats each SYN.
struct ConnectionRace: ~Copyable {
  private struct Target {
    var attemptCount: Int
    var nextAttempt: Int64
  }

  /// An attempt to begin: for which address of a family, and the place of its socket.
  struct Attempt {
    let family: AddressFamily
    let position: Int
    let place: Int
  }

  /// How many attempts for an address can be open at once.
  private static let attemptsPerTarget = 3
  /// How long most servers need to open the port (microseconds). The first SYN waits for it.
  private static let openingTime = 50 * Microseconds.millisecond
  /// Between the first attempts for two addresses (microseconds). Source: RFC 8305, section 8.
  private static let usualGap = 250 * Microseconds.millisecond
  private static let leastGap = 10 * Microseconds.millisecond
  /// Until the second knock (microseconds). The kernel first repeats a SYN just after it.
  private static let firstKnockPause = 900 * Microseconds.millisecond
  private static let longestKnockPause = 4 * Microseconds.second
  /// Before the third attempt, if the second was refused (microseconds): then no SYN is repeated.
  private static let pauseAfterRefusal = 1750 * Microseconds.millisecond

  /// The index of its sender.
  let host: Int
  /// In the order in which they are tried.
  private let targets: Storage<Target>
  private let (inetCount, inet6Count): (Int, Int)
  private let firstFamily: AddressFamily
  /// How many of them have been tried.
  private var startedCount = 0
  private let gap: Int64
  private var nextStart: Int64
  private var nextKnock: Int64
  private var knockPause = Microseconds.second
  /// Where the sockets of this race are among those of all.
  let places: Range<Int>
  private var lastFailure = SystemError.timedOut
  private var hasEnded = false

  /// - Parameters:
  ///   - start: when the host was knocked on (monotonic microseconds).
  ///   - end: when the race ends.
  @inline(never)
  init(
    of sender: borrowing Sender, at host: Int, from start: Int64, until end: Int64, firstPlace: Int
  ) throws(SystemError) {
    self.host = host
    inetCount = sender.targetCount(in: .inet)
    inet6Count = sender.targetCount(in: .inet6)
    firstFamily = sender.firstFamily
    let count = max(1, inetCount + inet6Count)
    guard let targets = Storage<Target>.mapped(count) else { throw .outOfMemory }
    self.targets = targets
    // So that the last address is tried before the last quarter of the time.
    gap = max(Self.leastGap, min(Self.usualGap, (end - start) / 4 * 3 / Int64(count)))
    nextStart = start + Self.openingTime
    nextKnock = start + Self.firstKnockPause
    places = firstPlace..<firstPlace + count * Self.attemptsPerTarget
  }

  /// When something is to be done (monotonic microseconds).
  var nextDeadline: Int64 {
    guard !hasEnded else { return .max }
    var deadline = startedCount < inetCount + inet6Count ? min(nextKnock, nextStart) : nextKnock
    for index in 0..<startedCount { deadline = min(deadline, targets[index].nextAttempt) }
    return deadline
  }

  /// Whether the host is to be knocked on again now: a knock may have been lost.
  mutating func takeKnock(now: Int64) -> Bool {
    guard !hasEnded, nextKnock <= now else { return false }
    nextKnock = now + knockPause
    knockPause = min(2 * knockPause, Self.longestKnockPause)
    return true
  }

  /// The next attempt that is due.
  @inline(never)
  mutating func takeAttempt(now: Int64) -> Attempt? {
    guard !hasEnded else { return nil }
    for index in 0..<startedCount where targets[index].nextAttempt <= now {
      return attempt(index, now: now)
    }
    guard startedCount < inetCount + inet6Count, nextStart <= now else { return nil }
    nextStart = now + gap
    startedCount += 1
    return attempt(startedCount - 1, now: now)
  }

  @inline(never)
  private func attempt(_ index: Int, now: Int64) -> Attempt {
    let number = targets[index].attemptCount
    targets[index] = Target(
      attemptCount: number + 1, nextAttempt: now + Self.pause(afterAttempt: number))
    // Families by turns, and then the rest of one.
    let pairs = min(inetCount, inet6Count)
    let isInet =
      index < 2 * pairs ? (index & 1 == 0) == (firstFamily == .inet) : inetCount > inet6Count
    return Attempt(
      family: isInet ? .inet : .inet6, position: index < 2 * pairs ? index / 2 : index - pairs,
      place: places.lowerBound + index * Self.attemptsPerTarget + number % Self.attemptsPerTarget)
  }

  /// An attempt could not begin.
  mutating func failAtOnce(_ error: SystemError, now: Int64) {
    // What the network says tells more.
    if lastFailure == .timedOut { lastFailure = error }
    nextStart = now
  }

  /// Of the attempts for an address, there are at most 3 in 10 seconds.
  private static func pause(afterAttempt number: Int) -> Int64 {
    switch number {
    case 0: 250 * Microseconds.millisecond
    case 1: 4750 * Microseconds.millisecond
    case 2: 8500 * Microseconds.millisecond
    default: 5 * Microseconds.second
    }
  }

  /// Takes the result of the attempt at a place, if it is one of this race. The first connection ends the race.
  ///
  /// - Returns: whether it was made. It is then in `connection`.
  @inline(never)
  mutating func finish(
    at place: Int, _ sockets: borrowing ConnectingSockets, _ connection: inout Descriptor
  ) -> Bool {
    guard places.contains(place) else { return false }
    do throws(SystemError) {
      connection = try sockets.finish(at: place)
      sockets.close(places)
      hasEnded = true
      return true
    } catch {
      lastFailure = error
      nextStart = SystemClock.monotonic()
      let index = (place - places.lowerBound) / Self.attemptsPerTarget
      if targets[index].attemptCount == 2 {
        targets[index].nextAttempt = min(
          targets[index].nextAttempt, nextStart + Self.pauseAfterRefusal)
      }
      return false
    }
  }

  /// Why there is no connection; nil if there was one.
  func failure(_ sockets: borrowing ConnectingSockets) -> SystemError? {
    for place in places where sockets.isOpen(at: place) { return .timedOut }
    return hasEnded ? nil : lastFailure
  }
}
