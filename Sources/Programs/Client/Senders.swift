import KnockBase
import KnockProtocol

/// One sender for each host of a command line.
struct Senders: ~Copyable {
  private var items = InlineArray<16, Sender?> { _ in nil }
  private(set) var count = 0
  private let settings: ClientSettings

  init(_ settings: ClientSettings) { self.settings = settings }

  /// There is room for `HostList.maximumCount` senders.
  mutating func append(_ sender: consuming Sender) {
    guard count < items.count else { return }
    items[count] = consume sender
    count += 1
  }

  /// Knocks on all hosts, as often as `--repeat` says. Returns how many of them a datagram was sent to.
  mutating func send(_ command: Command) -> Int {
    var isKnockedOn = InlineArray<16, Bool>(repeating: false)
    for round in 1...settings.repeats {
      for index in 0..<count where items[index]?.send(command) == true { isKnockedOn[index] = true }
      if settings.onlyChecks { break }
      guard round < settings.repeats else { break }
      SystemClock.pause(
        until: SystemClock.monotonic() + settings.intervalSeconds * Microseconds.second)
    }
    var knockedOn = 0
    for index in 0..<count where isKnockedOn[index] { knockedOn += 1 }
    return knockedOn
  }

  /// Waits for the port of each host that has one to wait for.
  mutating func waitForPorts() throws(ClientError) {
    for index in 0..<count {
      if let port = items[index]?.waitPort { _ = try connect(index, port) }
    }
  }

  /// Connects to a TCP port of the first host.
  mutating func connect(to port: UInt16) throws(ClientError) -> Descriptor {
    try connect(0, port)
  }

  private mutating func connect(_ index: Int, _ port: UInt16) throws(ClientError) -> Descriptor {
    try items[index]?.connect(to: port, within: settings.waitSeconds) ?? .none
  }
}
