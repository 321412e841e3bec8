import KnockBase
import KnockProtocol
import KnockServer

/// The receiver as the executor sees it: a child process, and the channel that its messages come through.
struct ReceiverProcess: ~Copyable {
  /// How long the receiver may take to end after it was told to. Twice the time in which its knocks are acted on.
  private static let stopPatience = 6 * Microseconds.second

  /// How long a round of the receiver may take.
  private static let roundPatience = 100 * Microseconds.millisecond

  /// How many times this process waits a millisecond for room for a message, while the receiver is paused.
  private static let messagePatience: Int64 = 32_000
  /// While it is not, each wait counts as so many.
  private static let waitWeight: Int64 = 8
  /// How many more waits there may be after each message. So many messages together do not hold it up for long.
  private static let patienceForMessage: Int64 = 80

  private let channel: Channel
  private let tally: Tally
  /// Nil before the fork, and once the process has ended.
  private var process: ChildProcess?
  /// False once no more messages are wanted or can come.
  private(set) var hasMessages = true
  /// The number of knocks received, modulo 2^32.
  private var receivedCount: UInt32 = 0
  /// How many more waits for room for a message there may be.
  private var patience: Int64 = messagePatience
  /// When the process must have ended, in monotonic microseconds.
  private(set) var nextDeadline = Int64.max

  init(_ channel: consuming Channel, tally: Tally) {
    self.channel = channel
    self.tally = tally
  }

  mutating func begin(as process: ChildProcess) { self.process = process }

  var isRunning: Bool { process != nil }

  /// For poll(2).
  var descriptor: Int32 { hasMessages ? channel.number : -1 }

  /// How many accepted knocks are on their way.
  var unreceivedCount: UInt32 { UInt32(truncatingIfNeeded: tally.accepted) &- receivedCount }

  /// The next message, without waiting.
  mutating func receive() throws(SystemError) -> Channel.Received {
    let received = try unsafe channel.receive()
    if case .message(.knock(let order)) = received {
      if order.refusal == nil { receivedCount &+= 1 } else { tally.answeredCount &+= 1 }
    }
    return received
  }

  /// Tells the receiver how many knocks are done, so that it knows how many may follow.
  ///
  /// - Parameter queued: how many still wait.
  func reportProgress(queued: Int) { tally.handledCount = receivedCount &- UInt32(queued) }

  /// Has the receiver bring the tally up to date, which takes a round of its loop. Gives up if it stands still.
  func updateTally() {
    let beat = tally.beatCount
    do throws(SystemError) {
      guard try channel.send(.updateTally) else { return }
    } catch { return }
    let end = SystemClock.monotonic() + Self.roundPatience
    while tally.beatCount == beat, SystemClock.monotonic() < end {
      SystemClock.pause(for: Microseconds.millisecond)
    }
  }

  /// Tells the receiver about a user that is new or has changed.
  mutating func send(_ user: User, _ key: borrowing KeyedMAC) throws(SystemError) {
    while try !channel.send(user, key) { try waitForRoom() }
    patience += Self.patienceForMessage
  }

  @inline(never)
  mutating func send(_ message: PrivsepMessage) throws(SystemError) {
    while try !channel.send(message) { try waitForRoom() }
    patience += Self.patienceForMessage
  }

  /// The receiver takes messages whatever else it waits for. Gives up if it does not: after 4 seconds if it runs, after
  /// 32 if a signal has stopped it, since nothing is closed meanwhile. A pause of this process counts as one wait.
  @inline(never)
  private mutating func waitForRoom() throws(SystemError) {
    SystemClock.pause(for: Microseconds.millisecond)
    patience = min(patience, Self.messagePatience)
    patience -= process?.isStopped == true ? 1 : Self.waitWeight
    guard patience > 0 else { throw .timedOut }
  }

  /// Tells the receiver to end when it has handed over all that it has accepted.
  mutating func stop(now: Int64) {
    nextDeadline = now + Self.stopPatience
    channel.hangUp()
  }

  /// Takes no more messages: the receiver has closed its end.
  mutating func close() { hasMessages = false }

  /// Moves the deadline (microseconds).
  mutating func postpone(by time: Int64) {
    if nextDeadline < .max { nextDeadline += time }
  }

  /// Kills the process if its deadline has passed. Returns as `killProcess` does.
  mutating func advance(now: Int64) -> ChildProcess.Ending? {
    nextDeadline <= now ? killProcess() : nil
  }

  /// Kills the process. It is then reaped like any other child. The messages that it has sent are still there.
  ///
  /// - Returns: how it counts as ended, if this process may not kill it. It then ends with this process.
  mutating func killProcess() -> ChildProcess.Ending? {
    nextDeadline = .max
    guard let process, !process.send(.kill) else { return nil }
    hasMessages = false
    self.process = nil
    return .killed(.kill)
  }

  /// Reaps the process if `process` is it.
  mutating func reap(_ process: ChildProcess) -> ChildProcess.Ending? {
    guard process == self.process else { return nil }
    self.process = nil
    nextDeadline = .max
    return process.reap()
  }
}
