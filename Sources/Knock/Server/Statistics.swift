import KnockProtocol

/// What the server has met, and which lines about it may be written.
///
/// Whoever can send a datagram could otherwise fill the log: one without the key by anything, one
/// who has recorded a knock by replaying it. So what is not authentic is only counted, and what is
/// refused gets a line of its own within a budget.
struct Statistics {
  private static let reportInterval: Int64 = 60_000
  private static let budgetLimit: Int64 = 60
  private static let budgetInterval: Int64 = 1000

  private var refused = Refusal.Counters(repeating: 0)
  private(set) var accepted: UInt64 = 0
  private var setsChanged: UInt64 = 0
  private var setsNotChanged: UInt64 = 0
  /// Since the last report.
  private var unreportedLengths: UInt64 = 0
  private var unreportedMACs: UInt64 = 0
  private var unreportedRefusals: UInt64 = 0
  private var reportedKernelDropped: UInt64 = 0
  /// Before this moment (monotonic milliseconds) there is no other report.
  private var nextReport = Int64.min
  private var budget = budgetLimit
  /// When the budget was last filled up.
  private var budgetTime = Int64.min

  mutating func countAccepted() { accepted += 1 }

  mutating func countSetChange(isDone: Bool) {
    if isDone { setsChanged += 1 } else { setsNotChanged += 1 }
  }

  /// - Parameter isWanted: whether the user wants a line for it, if it is authentic.
  /// - Returns: whether the refusal gets a line of its own.
  mutating func count(_ refusal: Refusal, isWanted: Bool, now: Int64) -> Bool {
    refused[Int(refusal.rawValue)] += 1
    switch refusal {
    case .wrongLength: unreportedLengths += 1
    case .badMAC: unreportedMACs += 1
    default:
      guard isWanted else { return false }
      if budgetTime == .min { budgetTime = now }
      let earned = (now - budgetTime) / Self.budgetInterval
      budget = min(budget + earned, Self.budgetLimit)
      budgetTime += earned * Self.budgetInterval
      guard budget > 0 else {
        unreportedRefusals += 1
        return false
      }
      budget -= 1
      return true
    }
    return false
  }

  /// When `report` has something to say; nil for never.
  var reportTime: Int64? {
    unreportedLengths + unreportedMACs + unreportedRefusals > 0 ? nextReport : nil
  }

  /// Writes what was only counted since the last time, at most once a minute.
  ///
  /// - Parameter kernelDropped: how many datagrams the kernel has dropped since the start. They alone
  ///   are no reason to wake up.
  mutating func report(kernelDropped: @autoclosure () -> UInt64?, to report: Report, now: Int64) {
    guard let reportTime, reportTime <= now else { return }
    if report.verbosity > .quiet, unreportedLengths + unreportedMACs > 0 {
      var line = report.line()
      line.append("unauthenticated datagrams: ")
      line.append(unreportedMACs)
      line.append(" with a bad MAC, ")
      line.append(unreportedLengths)
      line.append(" of wrong length")
      if let dropped = kernelDropped() {
        line.append("; the kernel dropped ")
        // It is a number of 32 bits.
        line.append(UInt32(truncatingIfNeeded: dropped &- reportedKernelDropped))
        line.append(" (of another form, or for want of room)")
        reportedKernelDropped = dropped
      }
      report.write(line)
    }
    if unreportedRefusals > 0 {
      var line = report.line()
      line.append("refusals not logged: ")
      line.append(unreportedRefusals)
      report.write(line)
    }
    unreportedLengths = 0
    unreportedMACs = 0
    unreportedRefusals = 0
    nextReport = now + Self.reportInterval
  }

  /// Writes every counter since the start, as `name=value`.
  func writeCounters(
    of runner: borrowing CommandRunner, kernelDropped: UInt64?, to report: Report
  ) {
    var line = report.line()
    line.append("counters:")
    line.append(counter: "accepted", accepted)
    var number: UInt8 = 0
    while let refusal = Refusal(rawValue: number) {
      line.append(counter: refusal.name, refused[Int(number)])
      number += 1
    }
    line.append(counter: "kernel-dropped", kernelDropped ?? 0)
    line.append(counter: "set-changed", setsChanged)
    line.append(counter: "set-not-changed", setsNotChanged)
    line.append(counter: "succeeded", runner.counters.succeeded)
    line.append(counter: "failed", runner.counters.failed)
    line.append(counter: "timed-out", runner.counters.timedOut)
    line.append(counter: "not-started", runner.counters.notStarted)
    line.append(counter: "running", UInt64(runner.runningCount))
    line.append(counter: "queued", UInt64(runner.queuedCount))
    report.write(line)
  }
}

extension Line {
  fileprivate mutating func append(counter name: StaticString, _ value: UInt64) {
    append(" ")
    append(name)
    append("=")
    append(value)
  }
}
