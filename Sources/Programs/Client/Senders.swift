import KnockBase
import KnockProtocol

/// One sender for each host of a command line.
struct Senders: ~Copyable {
  var items = InlineArray<16, Sender?> { _ in nil }
  private(set) var count = 0
  let settings: ClientSettings
  private var knockedOn = InlineArray<16, Bool>(repeating: false)
  private(set) var roundsLeft = 0
  /// When the next round begins (monotonic microseconds).
  private(set) var nextRound: Int64 = 0
  /// Whether a host has a port to connect to.
  private var hasPort = false

  init(_ settings: ClientSettings) { self.settings = settings }

  /// There is room for `HostList.maximumCount` senders.
  mutating func append(_ sender: consuming Sender) {
    guard count < items.count else { return }
    if sender.waitPort != nil { hasPort = true }
    items[count] = consume sender
    count += 1
  }

  /// Knocks on all hosts, as often as `--repeat` says. If a port is waited for, `connect` sends the rest.
  ///
  /// - Returns: how many of the hosts a datagram was sent to.
  mutating func send(_ command: Command) -> Int {
    roundsLeft = settings.onlyChecks ? 1 : settings.repeats
    knockedOn = InlineArray(repeating: false)
    while true {
      sendRound(command)
      var knockedOnCount = 0
      for index in 0..<count where knockedOn[index] { knockedOnCount += 1 }
      let goesOn = command == .open && hasPort && knockedOnCount == count
      guard roundsLeft > 0, !goesOn else { return knockedOnCount }
      SystemClock.pause(until: nextRound)
    }
  }

  mutating func sendRound(_ command: Command) {
    for index in 0..<count where items[index]?.send(command) == true { knockedOn[index] = true }
    roundsLeft -= 1
    nextRound = SystemClock.monotonic() + settings.intervalSeconds * Microseconds.second
  }
}
