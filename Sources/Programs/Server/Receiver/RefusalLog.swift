import KnockBase
import KnockProtocol

/// Counts the datagrams that are refused, and limits the log lines about them.
///
/// Otherwise anyone could fill the log, with any bytes or by replaying a recorded knock. So unauthentic datagrams are
/// only counted. Authentic ones that are refused get a line each, within a budget.
struct RefusalLog {
  private static let reportInterval = 60 * Microseconds.second
  /// The greatest number of lines at once.
  private static let budgetLimit: Int64 = 60
  /// How long one more line takes to earn.
  private static let budgetInterval = Microseconds.second

  private let tally: Tally
  /// Since the last report.
  private var unreportedLengths: UInt64 = 0
  private var unreportedMACs: UInt64 = 0
  private var unreportedRefusals: UInt64 = 0
  private var reportedKernelDropped: UInt64 = 0
  /// No report comes before this moment, in monotonic microseconds.
  private var nextReport = Int64.min
  /// No line about a failure of the system comes before this moment, in monotonic microseconds.
  private var nextFailure = Int64.min
  private var budget = budgetLimit
  /// When the budget last grew.
  private var budgetTime = Int64.min

  init(_ tally: Tally) { self.tally = tally }

  mutating func count(unauthentic refusal: Refusal) {
    tally.count(refusal)
    if refusal == .wrongLength { unreportedLengths += 1 } else { unreportedMACs += 1 }
  }

  /// Counts an authentic datagram that was refused.
  ///
  /// - Parameter isWanted: whether the log shows a line about it.
  /// - Returns: whether there is still budget for the line.
  mutating func count(_ refusal: Refusal, isWanted: Bool, now: Int64) -> Bool {
    tally.count(refusal)
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

  /// Logs that no datagram could be received, at most once a minute.
  mutating func logFailure(_ error: SystemError, now: Int64) {
    guard nextFailure <= now else { return }
    nextFailure = now + Self.reportInterval
    log.error("cannot receive, going on: \(error)")
  }

  /// When `logReport` has something to log, in monotonic microseconds.
  var nextDeadline: Int64 {
    unreportedLengths + unreportedMACs + unreportedRefusals > 0 ? nextReport : .max
  }

  /// Logs what was only counted since the last report, at most once a minute.
  ///
  /// - Parameter kernelDropped: how many datagrams the kernel has dropped since the start. They alone are no
  ///   reason for a report.
  mutating func logReport(kernelDropped: UInt64?, now: Int64) {
    guard nextDeadline <= now else { return }
    if log.shows(.normal), unreportedLengths + unreportedMACs > 0 {
      // The kernel counts modulo 2^32.
      let dropped = kernelDropped.map { UInt32(truncatingIfNeeded: $0 &- reportedKernelDropped) }
      log.info(
        """
        unauthenticated datagrams: \(unreportedMACs) with a bad MAC, \
        \(unreportedLengths) of wrong length\(kernelDropped: dropped)
        """)
      reportedKernelDropped = kernelDropped ?? reportedKernelDropped
    }
    if unreportedRefusals > 0 { log.warning("refusals not logged: \(unreportedRefusals)") }
    unreportedLengths = 0
    unreportedMACs = 0
    unreportedRefusals = 0
    nextReport = now + Self.reportInterval
  }
}

extension Message.Parts {
  fileprivate mutating func appendInterpolation(kernelDropped count: UInt32?) {
    guard let count else { return }
    write {
      $0.append("; the kernel dropped ")
      $0.append(count)
      $0.append(" (wrong form, or no room)")
    }
  }
}
