import KnockBase
import KnockProtocol
import KnockServer

/// Keeps the grants and the recent knocks while the server runs.
struct GrantKeeper: ~Copyable {
  /// How many expired grants may be closing at the same time.
  static let closesAtOnce = 64

  private var grants: Grants
  private let settings: FirewallSettings
  /// The numbers of the sets for both families; 0 if there is none.
  private let inetSet: UInt16
  private let inet6Set: UInt16
  /// How long a grant lasts; nil for until it is closed, or the kernel ends it.
  private let seconds: Int64?
  private var recent: RecentKnocks
  /// Repeats, whose command did not run again.
  private(set) var repeatCount: UInt64 = 0
  /// Opens that there was no room for.
  private(set) var refusedCount: UInt64 = 0

  /// There are so many grants that what would be opened could not be closed again.
  struct JournalFull: Error {
    let count: Int
  }

  init(_ grants: consuming Grants, recent: consuming RecentKnocks, _ settings: ServerSettings) {
    inetSet = GrantState.number(of: settings.firewall.set(for: .inet), in: grants.names) ?? 0
    inet6Set = GrantState.number(of: settings.firewall.set(for: .inet6), in: grants.names) ?? 0
    self.grants = grants
    self.recent = recent
    self.settings = settings.firewall
    seconds = settings.closeAfterSeconds
  }

  /// How many addresses are open and will be closed again.
  var count: Int { grants.count }

  var isFull: Bool { grants.isFull }

  /// Whether the server closes grants itself, and so needs something to close with.
  var mustClose: Bool { seconds != nil }

  /// Whether grants are being closed, or have expired and wait for it.
  func isClosing(now: Int64) -> Bool { grants.closingCount > 0 || nextDeadline <= now }

  /// When `nextExpired` has a grant to close, in microseconds since boot.
  var nextDeadline: Int64 {
    guard grants.closingCount < Self.closesAtOnce else { return .max }
    return grants.nextDeadline ?? .max
  }

  /// What a knock of a family opens.
  ///
  /// - Parameter setDuration: how long the kernel keeps it (microseconds); nil for ever.
  func opening(
    _ family: AddressFamily, setDuration: Int64?, hasCommands: Bool, canClose: Bool
  ) -> Grants.Opening {
    let set = family == .inet ? inetSet : inet6Set
    let closesCommand = seconds != nil && hasCommands
    var duration = seconds.map { $0 * Microseconds.second } ?? setDuration
    // What the kernel has ended is not open any more.
    if !closesCommand, let setDuration { duration = min(duration ?? setDuration, setDuration) }
    return Grants.Opening(
      set: set, prefixLength: settings.prefixLength(for: family), setDuration: setDuration,
      duration: duration, closesCommand: closesCommand, hasCloseCommand: canClose)
  }

  /// Records a knock before it is acted on.
  mutating func record(
    _ knock: Knock, _ opening: Grants.Opening, now: Int64
  ) throws(JournalFull) -> Action {
    let (isRepeat, number) = recent.record(knock, now: now)
    if isRepeat { repeatCount += 1 }
    switch knock.command {
    case .close:
      let closesGrant =
        !isRepeat && grants.beginClose(knock.address, wallNow: SystemClock.wall())
      return Action(knock, closesGrant: closesGrant, isRepeat: isRepeat, number: number)
    case .open:
      let runs = grants.open(
        knock.address, opening, isRepeat: isRepeat, wallNow: SystemClock.wall(), now: now)
      guard let runs else {
        recent.forget(knock.address)
        refusedCount += 1
        throw JournalFull(count: count)
      }
      return Action(knock, closesGrant: false, isRepeat: !runs, number: number)
    }
  }

  /// Begins to close the grant that expired first. Nil if none has expired.
  mutating func nextExpired(now: Int64) -> Action? {
    guard nextDeadline <= now,
      let (address, needsCommand) = grants.beginNextClose(wallNow: SystemClock.wall(), now: now)
    else { return nil }
    recent.forget(address)
    return Action(Knock(command: .close, address: address), closesGrant: needsCommand)
  }

  /// What follows an action that has ended.
  enum Outcome {
    case done
    /// A repeat has relied on the command that failed, so it runs again.
    case runAgain
    case closeInAMinute, closeInAnHour, closeEndedUnopened
  }

  /// Records how an action has ended.
  ///
  /// - Parameter succeeded: nil if there was no command to run.
  @inline(never)
  mutating func finish(_ action: Action, succeeded: Bool?, now: Int64) -> Outcome {
    let address = action.knock.address
    let isWantedAgain = succeeded == false && recent.recordFailure(action)
    if action.knock.command == .open {
      let runsAgain = grants.endOpen(
        address, succeeded: succeeded ?? true, isWantedAgain: isWantedAgain)
      return runsAgain ? .runAgain : .done
    }
    guard action.closesGrant else { return isWantedAgain ? .runAgain : .done }
    // The grant is tried again by itself.
    if isWantedAgain { recent.forget(address) }
    return outcome(grants.endClose(address, succeeded: succeeded, now: now), address)
  }

  // The sets

  /// The set of a grant. Nil if its name is none.
  func set(_ number: UInt16, _ family: AddressFamily) -> FirewallSet? {
    grants.names.withName(number) { FirewallSet(name: $0, addresses: family) }
  }

  /// See `Grants` for these.
  mutating func recordOnlyHost(_ address: Address, _ opening: Grants.Opening) {
    grants.recordOnlyHost(address, opening)
  }

  mutating func recordUnchangedSet(
    _ address: Address, _ opening: Grants.Opening, _ presence: Grants.Presence
  ) {
    grants.recordUnchangedSet(address, opening, presence)
  }

  func nextSet(of address: Address) -> (position: Int, grant: Grant)? {
    grants.nextSet(of: address)
  }

  mutating func recordSet(at position: Int, isClosed: Bool) {
    grants.recordSet(at: position, isClosed: isClosed)
  }

  func need(
    for range: AddressRange, from first: AddressNumber, in set: UInt16, near address: Address,
    onlySame: Bool
  ) -> Grants.Need {
    grants.need(for: range, from: first, in: set, near: address, onlySame: onlySame)
  }

  var checkCount: Int { grants.checkCount }

  mutating func nextToCheck(limit: inout Int) -> (position: Int, grant: Grant)? {
    grants.nextToCheck(limit: &limit)
  }

  mutating func removeFromSet(at position: Int) { grants.removeFromSet(at: position) }

  /// Records that all sets that had to change for an address were changed.
  mutating func finishSets(_ address: Address, now: Int64) -> Outcome {
    outcome(grants.endSets(of: address, now: now), address)
  }

  private mutating func outcome(_ closing: Grants.Closing, _ address: Address) -> Outcome {
    // Another close is no repeat of one that has failed. It tries again at once.
    if closing != .done { recent.forget(address) }
    return switch closing {
    case .done: .done
    case .retriedSoon: .closeInAMinute
    case .retriedLater: .closeInAnHour
    case .endedUnopened: .closeEndedUnopened
    }
  }

  // The journal

  /// Writes what has changed to the state directory, if there is one.
  mutating func save(to state: inout StateKeeper?) { state?.save(&grants) }

  /// Writes the names of the sets, to which some were added.
  mutating func saveNames(to state: inout StateKeeper?) { state?.saveNames(&grants) }

  /// Writes what is due.
  mutating func advance(_ state: inout StateKeeper?, now: Int64) {
    state?.advance(&grants, now: now)
  }

  /// Writes all for the last time.
  mutating func end(_ state: inout StateKeeper?) { state?.end(&grants) }

  // Time

  /// Lets grants of an earlier server expire sooner if the clock has been set since.
  mutating func followClock() {
    grants.followClock(wallNow: SystemClock.wall(), now: SystemClock.sinceBoot())
  }

  /// Lets all grants expire now.
  mutating func expireAll(now: Int64) { grants.expireAll(now: now) }
}

extension GrantKeeper.JournalFull: MessageConvertible {
  var message: Message { "\(count) addresses are open, all that --grant-capacity allows" }
}
