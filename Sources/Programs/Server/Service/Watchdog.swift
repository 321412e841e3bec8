import KnockBase

/// Tells the service manager at regular times that both processes are alive.
struct Watchdog {
  /// The service manager must hear of it this often; nil if it does not want to (microseconds).
  private let patience: Int64?
  /// When `advance` has something to do, in monotonic microseconds.
  private(set) var nextDeadline: Int64
  private var lastBeat: UInt32 = 0

  init(_ patience: Int64?) {
    self.patience = patience
    nextDeadline = patience == nil ? .max : .min
  }

  /// Tells it, unless the receiver runs and has not made a round since the last time.
  ///
  /// - Parameter beat: counts the rounds of the receiver.
  mutating func advance(
    _ beat: UInt32, isReceiverRunning: Bool, _ manager: borrowing ServiceManager, now: Int64
  ) {
    guard let patience, nextDeadline <= now else { return }
    nextDeadline = now + patience / 2
    guard beat != lastBeat || !isReceiverRunning else { return }
    if manager.tell("WATCHDOG=1") {
      lastBeat = beat
    } else {
      nextDeadline = now + min(patience / 4, ServiceManager.retryInterval)
    }
  }
}
