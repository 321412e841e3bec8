import KnockBase

/// What systemd and similar service managers tell a service in its environment, and what the service tells them.
/// Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
struct ServiceManager: ~Copyable {
  private static let firstDescriptor: Int32 = 3
  /// The time between two attempts to tell it something.
  static let retryInterval = 100 * Microseconds.millisecond
  /// The shortest time of a watchdog that is honoured.
  private static let leastPatience = 40 * Microseconds.millisecond

  /// `Descriptor.none` if it wants to hear nothing.
  private let socket: Descriptor
  /// How often it wants to hear that the service is alive; nil for never (microseconds).
  let watchdogPatience: Int64?
  /// When `advance` has something to do, in monotonic microseconds.
  private(set) var nextDeadline = Int64.max

  /// - Parameter socket: a connection to it.
  init(_ socket: consuming Descriptor) {
    self.socket = socket
    let watched = Environment.number("WATCHDOG_PID")
    let isOurs = watched == nil || watched == Int64(CurrentProcess.number)
    let patience = isOurs ? Environment.number("WATCHDOG_USEC") : nil
    watchdogPatience = patience.flatMap { $0 > 0 ? max($0, Self.leastPatience) : nil }
  }

  /// Whether it wants to hear anything.
  var listens: Bool { socket.isOpen }

  /// Sends it a state such as `STOPPING=1`. Returns false if its queue is full.
  @discardableResult
  func tell(_ state: Literal) -> Bool {
    guard listens else { return true }
    return unsafe send(
      UnsafeRawBufferPointer(start: state.start, count: state.count))
  }

  private func send(_ message: UnsafeRawBufferPointer) -> Bool {
    do throws(SystemError) {
      try unsafe socket.send(message)
      return true
    } catch { return error != .wouldBlock }
  }

  /// Tells it that the service is ready. It waits for that, so if its queue is full, `advance` tries again.
  mutating func tellReady(now: Int64) {
    nextDeadline = tell("READY=1") ? .max : now + Self.retryInterval
  }

  mutating func advance(now: Int64) {
    if nextDeadline <= now { tellReady(now: now) }
  }

  /// Tells it that the service is reading its configuration again, and since when.
  func tellReloading() {
    guard listens else { return }
    var text = TextBuffer<64>()
    text.append("RELOADING=1\nMONOTONIC_USEC=")
    text.append(SystemClock.monotonic())
    text.withBytes { bytes in
      _ = unsafe bytes.withUnsafeBytes { unsafe send($0) }
    }
  }

  enum Passed: ~Copyable {
    case none
    case socket(UDPSocket)
    /// Anything else than one UDP socket.
    case other
  }

  /// The socket that the service manager passed on. To be called once.
  static func passedSocket() -> Passed {
    guard let count = Environment.number("LISTEN_FDS"),
      Environment.number("LISTEN_PID") == Int64(CurrentProcess.number)
    else { return .none }
    guard count == 1 else { return .other }
    do throws(SystemError) {
      return .socket(try UDPSocket(adopting: firstDescriptor))
    } catch { return .other }
  }

  /// Whether a variable of the environment is for this process only.
  static func owns(_ variable: Span<UInt8>) -> Bool {
    variable.hasPrefix("NOTIFY_SOCKET=") || variable.hasPrefix("WATCHDOG_")
      || variable.hasPrefix("LISTEN_")
  }
}
