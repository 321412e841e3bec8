import KnockBase
import KnockProtocol
import KnockServer

/// Counts the datagrams that are refused, and limits the log lines about them.
///
/// Otherwise anyone could fill the log, with any bytes or by replaying a recorded knock. So unauthentic datagrams are
/// only counted. Authentic ones that are refused get a line each, within a budget. Each user has one, within one for
/// all. Replays and stale datagrams have one of their own: anyone who has recorded a knock of a user can send them.
struct RefusalLog: ~Copyable {
  private static let reportInterval = 60 * Microseconds.second
  private static let lines = RateLimit(atOnce: 60, interval: Microseconds.second)
  private static let linesOfAll = RateLimit(atOnce: 600, interval: Microseconds.second / 10)

  private let tally: Tally
  /// Since the last report.
  private var unreportedLengths: UInt64 = 0
  private var unreportedMACs: UInt64 = 0
  private var unreportedRefusals: UInt64 = 0
  /// Some of the users who had no budget left since the last report.
  private var limited = LimitedUsers()
  private var reportedKernelDropped: UInt64 = 0
  /// No report comes before this moment, in monotonic microseconds.
  private var nextReport = Int64.min
  /// No line about a failure of the system comes before this moment, in monotonic microseconds.
  private var nextFailure = Int64.min
  private let budgets: UserBuckets
  private var budgetOfAll = Bucket()
  private var budgetOfRecordings = Bucket()

  init(_ tally: Tally, _ budgets: consuming UserBuckets) {
    self.tally = tally
    self.budgets = budgets
  }

  mutating func count(unauthentic refusal: Refusal) {
    tally.count(refusal)
    if refusal == .wrongLength { unreportedLengths += 1 } else { unreportedMACs += 1 }
  }

  /// Counts an authentic datagram that was refused.
  ///
  /// - Parameter isWanted: whether the log shows a line about it.
  /// - Returns: whether there is still budget for the line.
  mutating func count(
    _ refusal: Refusal, _ header: Verdict.Header, isWanted: Bool, now: Int64
  ) -> Bool {
    tally.count(refusal, of: header.user.number)
    guard isWanted else { return false }
    let hasBudget =
      refusal.isFromKeyHolder && refusal != .stale
      ? takeLine(of: header, now: now) : budgetOfRecordings.take(Self.lines, now: now)
    if !hasBudget { unreportedRefusals += 1 }
    return hasBudget
  }

  private mutating func takeLine(of header: Verdict.Header, now: Int64) -> Bool {
    guard budgets[header.user.number].holds(Self.lines, now: now) else {
      limited.insert(header.user.name)
      return false
    }
    return budgetOfAll.take(Self.linesOfAll, now: now)
      && budgets[header.user.number].take(Self.lines, now: now)
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
  @inline(never)
  mutating func logReport(kernelDropped: UInt64?, now: Int64) {
    guard nextDeadline <= now else { return }
    if log.shows(.normal), unreportedLengths + unreportedMACs > 0 {
      // The kernel counts modulo 2^32.
      let dropped = kernelDropped.map { UInt32(truncatingIfNeeded: $0 &- reportedKernelDropped) }
      log.info(
        """
        unauthenticated datagrams: \(unreportedMACs) with an unknown key or a bad MAC, \
        \(unreportedLengths) of wrong length\(kernelDropped: dropped)
        """)
      reportedKernelDropped = kernelDropped ?? reportedKernelDropped
    }
    if unreportedRefusals > 0 {
      log.warning("refusals not logged: \(unreportedRefusals)\(limited)")
    }
    unreportedLengths = 0
    unreportedMACs = 0
    unreportedRefusals = 0
    limited = LimitedUsers()
    nextReport = now + Self.reportInterval
  }
}

/// The first few users who have met a limit.
struct LimitedUsers {
  private var names = InlineArray<3, UserName>(repeating: .none)
  private var count = 0
  private var hasMore = false

  mutating func insert(_ name: UserName) {
    guard !name.isEmpty else { return }
    for index in 0..<count where names[index] == name { return }
    guard count < names.count else {
      hasMore = true
      return
    }
    names[count] = name
    count += 1
  }
}

extension LimitedUsers: MessageConvertible {
  /// ` (too many by alice, bob)`, or nothing.
  var message: Message {
    for index in 0..<count {
      _ = "\(index == 0 ? " (too many by " : ", ")\(names[index])" as Message
    }
    return hasMore ? " and others)" : count > 0 ? ")" : ""
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
