import KnockBase
import KnockProtocol

/// What the receiver has met, and which lines about it may be written.
///
/// Whoever can send a datagram could otherwise fill the log: one without the key by anything, one
/// who has recorded a knock by replaying it. So what is not authentic is only counted, and what is
/// refused gets a line of its own within a budget.
struct Statistics {
  private static let reportInterval: Int64 = 60_000
  private static let budgetLimit: Int64 = 60
  private static let budgetInterval: Int64 = 1000

  private let tally: Tally
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

  init(_ tally: Tally) { self.tally = tally }

  func countAccepted() { tally.countAccepted() }

  /// - Parameter isWanted: whether the user wants a line for it, if it is authentic.
  /// - Returns: whether the refusal gets a line of its own.
  mutating func count(_ refusal: Refusal, isWanted: Bool, now: Int64) -> Bool {
    tally.count(refusal)
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
      var line = Line()
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
      var line = Line(.warning)
      line.append("refusals not logged: ")
      line.append(unreportedRefusals)
      report.write(line)
    }
    unreportedLengths = 0
    unreportedMACs = 0
    unreportedRefusals = 0
    nextReport = now + Self.reportInterval
  }
}
