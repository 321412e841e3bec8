import KnockBase
import KnockProtocol

/// One sender for each host of a command line.
struct Senders: ~Copyable {
  var items: FixedList<Sender>
  let onlyChecks: Bool
  private let closesAfterwards: Bool
  private let repeats: Int
  /// Between repeats.
  private let intervalSeconds: Int64
  /// How long to wait for a port.
  let waitSeconds: Int64
  private var searches: PublicAddressSearches
  /// How many knocks on each host are left.
  private(set) var roundsLeft = 0
  /// When the next round begins (monotonic microseconds).
  private(set) var nextRound: Int64 = 0
  /// Whether a host has a port to connect to.
  private(set) var hasPort = false
  /// Whether a host is knocked on without waiting for its answer.
  private var hasSilent = false
  /// Whether a host has answered that it did not do what was asked for, or that could not be printed.
  private(set) var hasFailed = false
  /// How long to wait if there are more descriptors than can be waited for (microseconds).
  private static var fullPause: Int64 { 50 * Microseconds.millisecond }

  init(_ settings: ClientSettings) throws(SystemError) {
    let items = try FixedList<Sender>(capacity: HostList.maximumCount)
    let searches = try PublicAddressSearches()
    onlyChecks = settings.onlyChecks
    closesAfterwards = settings.closesAfterwards
    repeats = settings.repeats
    intervalSeconds = settings.intervalSeconds
    waitSeconds = settings.waitSeconds
    self.items = items
    self.searches = searches
  }

  var count: Int { items.count }

  /// There is room for `HostList.maximumCount` senders.
  mutating func append(_ sender: consuming Sender) {
    if sender.waitPort != nil { hasPort = true }
    if !sender.awaitsAnswer { hasSilent = true }
    items.append(sender)
  }

  /// Whether this process closes what it opens.
  var closes: Bool { closesAfterwards && !onlyChecks }

  /// Knocks once on each host, as soon as it is known how, until `stop` can be read.
  @inline(never)
  mutating func knock(_ purpose: Version2.Purpose, untilReadable stop: Int32) throws(SystemError) {
    roundsLeft = onlyChecks ? 1 : repeats
    defer {
      Resolution.stopAll()
      endRound()
    }
    try run(purpose, untilAnswered: false, untilReadable: stop)
  }

  /// Waits for the answers of the hosts, and asks again. Prints them in the order of the command line.
  ///
  /// - Parameters:
  ///   - prints: whether the standard output is ours.
  ///   - othersFailed: whether there are hosts that could not be knocked on.
  @inline(never)
  mutating func awaitAnswers(
    _ purpose: Version2.Purpose, prints: Bool, othersFailed: Bool
  ) throws(SystemError) -> ExitCode {
    try run(purpose, untilAnswered: true, untilReadable: -1)
    if !hasSilent { roundsLeft = 0 }
    var exitCode = ExitCode.success
    var ofPorts = ExitCode.success
    for index in 0..<count {
      let result = items[index].report(
        purpose, isOneOfMany: count > 1 || othersFailed, isPrinted: prints)
      if result != .noAnswer {
        if result != .success { hasFailed = true }
      } else if purpose == .open, items[index].waitPort != nil {
        ofPorts = result
        continue
      }
      exitCode.include(result)
    }
    // Otherwise the connection to the port tells.
    if hasFailed || othersFailed { exitCode.include(ofPorts) }
    return exitCode
  }

  /// Knocks for the first time, and takes answers, until all of it is done or `stop` can be read.
  @inline(never)
  private mutating func run(
    _ purpose: Version2.Purpose, untilAnswered: Bool, untilReadable stop: Int32
  ) throws(SystemError) {
    while true {
      let now = SystemClock.monotonic()
      var deadline = Int64.max
      var isWaiting = false
      var set = PollSet()
      set.addReader(stop)
      searches.advance(now: now)
      for index in 0..<count {
        // What is printed has the order of the command line.
        let isDone = try items[index].step(
          purpose, mayKnock: !onlyChecks || !isWaiting, waitsForAnswer: untilAnswered,
          now: now, &searches, &set, &deadline)
        if !isDone { isWaiting = true }
      }
      guard isWaiting else { return }
      deadline = min(deadline, searches.addReaders(to: &set))
      if set.isFull { deadline = min(deadline, now + Self.fullPause) }
      try set.wait(until: deadline)
      if set.isReady(0) { return }
    }
  }

  /// Ends the knock on each host, with `onFailure` for each that could not be knocked on.
  @inline(never)
  mutating func endKnock(_ purpose: Version2.Purpose, onFailure: (ClientError) -> Void) {
    for index in 0..<count {
      do throws(ClientError) {
        try items[index].endFirstKnock(purpose, &searches)
      } catch { onFailure(error) }
    }
  }

  /// Sends the knocks of `--repeat` that are left, until `stop` can be read. If a port is waited for, `connect` does.
  @inline(never)
  mutating func sendRest(_ purpose: Version2.Purpose, untilReadable stop: Int32) throws(SystemError)
  {
    while roundsLeft > 0 {
      if purpose == .open, hasPort, areKnockedOn() { return }
      if try waitUntilReadable(stop, until: nextRound) { return }
      sendRound(purpose)
    }
  }

  /// Closes what was opened, at least once.
  mutating func close(untilReadable stop: Int32) throws(SystemError) {
    roundsLeft = repeats
    sendRound(.close)
    try sendRest(.close, untilReadable: stop)
  }

  /// Knocks once more on all hosts.
  mutating func sendRound(_ purpose: Version2.Purpose) {
    for index in 0..<count {
      if purpose == .close, closesAfterwards {
        items[index].close()
      } else if !items[index].awaitsAnswer, items[index].isKnockedOn || repeats > 1 {
        items[index].sendAgain(purpose)
      }
    }
    endRound()
  }

  @inline(never)
  private mutating func endRound() {
    roundsLeft -= 1
    nextRound = SystemClock.monotonic() + intervalSeconds * Microseconds.second
  }

  /// Whether all hosts were knocked on.
  mutating func areKnockedOn() -> Bool {
    for index in 0..<count where !items[index].isKnockedOn { return false }
    return true
  }
}
