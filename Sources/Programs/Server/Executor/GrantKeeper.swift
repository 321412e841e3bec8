import KnockBase
import KnockProtocol
import KnockServer

/// Keeps the journal of grants and the recent knocks while the server runs.
struct GrantKeeper: ~Copyable {
  /// How many expired grants may be closing at the same time.
  static let closesAtOnce = 64

  private var grants: Grants
  /// How long a grant lasts; nil for until it is closed.
  private let seconds: Int64?
  private var recent: RecentKnocks
  /// Repeats, whose command did not run again.
  private(set) var repeatCount: UInt64 = 0
  /// Opens that the journal had no room for.
  private(set) var refusedCount: UInt64 = 0

  /// The journal is full, so what would be opened could not be closed again.
  struct JournalFull: Error {
    let count: Int
  }

  init(_ grants: consuming Grants, recent: consuming RecentKnocks, _ settings: ServerSettings) {
    self.grants = grants
    self.recent = recent
    seconds = settings.closeAfterSeconds
  }

  /// How many addresses are open and will be closed again.
  var count: Int { grants.count }

  /// Whether the server needs something to close with.
  var mustClose: Bool { seconds != nil || count > 0 }

  /// Whether grants are being closed, or have expired and wait for it.
  func isClosing(now: Int64) -> Bool { grants.closingCount > 0 || nextDeadline <= now }

  /// When `nextExpired` has a grant to close, in microseconds since boot.
  var nextDeadline: Int64 {
    guard grants.closingCount < Self.closesAtOnce else { return .max }
    return grants.nextDeadline ?? .max
  }

  /// Records a knock before it is acted on.
  mutating func record(_ knock: Knock, now: Int64) throws(JournalFull) -> Action {
    let (isRepeat, number) = recent.record(knock, now: now)
    if isRepeat { repeatCount += 1 }
    switch knock.command {
    case .close:
      let closesGrant =
        !isRepeat && grants.beginClose(knock.address, wallNow: SystemClock.wall())
      return Action(knock, closesGrant: closesGrant, isRepeat: isRepeat, number: number)
    case .open:
      if let seconds {
        guard
          grants.open(
            knock.address, seconds: seconds, wallNow: SystemClock.wall(), now: now)
        else {
          recent.forget(knock.address)
          refusedCount += 1
          throw JournalFull(count: count)
        }
      } else {
        // An earlier server with --close-after may have left a grant, which must not end any more.
        grants.forget(knock.address)
      }
      return Action(knock, closesGrant: false, isRepeat: isRepeat, number: number)
    }
  }

  /// Begins to close the grant that expired first. Nil if none has expired.
  mutating func nextExpired(now: Int64) -> Action? {
    guard nextDeadline <= now,
      let address = grants.beginNextClose(wallNow: SystemClock.wall(), now: now)
    else { return nil }
    recent.forget(address)
    return Action(Knock(command: .close, address: address), closesGrant: true)
  }

  /// Records that the set could not be changed for an action whose command still runs.
  mutating func recordUnchangedSet(_ action: Action) {
    if action.closesGrant { grants.recordFailure(action.knock.address) }
  }

  /// What follows an action that has ended.
  enum Outcome {
    case done
    /// A repeat has relied on the command that failed, so it runs again.
    case runAgain
    case closeInAMinute, closeInAnHour, closeGivenUp
  }

  /// Records how an action has ended.
  @inline(never)
  mutating func finish(_ action: Action, succeeded: Bool, now: Int64) -> Outcome {
    let address = action.knock.address
    let isWantedAgain = !succeeded && recent.recordFailure(action)
    guard action.closesGrant else { return isWantedAgain ? .runAgain : .done }
    // The journal tries again by itself.
    if isWantedAgain { recent.forget(address) }
    switch grants.endClose(address, succeeded: succeeded, now: now) {
    case .done: return .done
    case .retriedSoon: return .closeInAMinute
    case .retriedLater: return .closeInAnHour
    case .givenUp: return .closeGivenUp
    }
  }

  /// Lets all grants expire now.
  mutating func expireAll(now: Int64) { grants.expireAll(now: now) }
}

extension GrantKeeper.JournalFull: MessageConvertible {
  var message: Message { "\(count) addresses are open, all that --grant-capacity allows" }
}
