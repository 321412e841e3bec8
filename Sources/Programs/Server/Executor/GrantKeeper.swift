import KnockBase
import KnockProtocol
import KnockServer

/// Keeps the grants and the recent knocks while the server runs.
struct GrantKeeper: ~Copyable {
  /// How many expired grants may be closing by commands at the same time.
  static let closesAtOnce = 64

  private var grants: Grants
  /// How long a grant lasts; nil for until it is closed, or the kernel ends it.
  private let seconds: Int64?
  private var recent: RecentKnocks
  /// How many commands close expired grants. Those that knocks ask for have room of their own.
  private var expiredCount = 0
  /// Repeats, whose command did not run again.
  private(set) var repeatCount: UInt64 = 0
  /// Opens that there was no room for.
  private(set) var refusedCount: UInt64 = 0

  init(_ grants: consuming Grants, recent: consuming RecentKnocks, _ settings: ServerSettings) {
    self.grants = grants
    self.recent = recent
    seconds = settings.closeAfterSeconds
  }

  /// How many grants there are: what is open and will be closed again.
  var count: Int { grants.count }

  var isFull: Bool { grants.isFull }

  /// Whether the server closes grants itself, and so needs something to close with.
  var mustClose: Bool { seconds != nil }

  /// Whether grants are being closed, or have expired and wait for it.
  func isClosing(now: Int64) -> Bool { grants.closingCount > 0 || nextDeadline <= now }

  /// When `nextExpired` has a grant to close, in microseconds since boot.
  var nextDeadline: Int64 {
    guard expiredCount < Self.closesAtOnce else { return .max }
    return grants.nextDeadline ?? .max
  }

  /// What a knock of a user for an address of a family opens.
  ///
  /// - Parameters:
  ///   - time: how long the kernel keeps it.
  ///   - asked: how long it shall last at most (seconds); 0 if the knock does not say.
  @inline(never)
  func opening(
    _ family: AddressFamily, for user: User, _ time: SetTime, asked: UInt32, hasCommands: Bool,
    canClose: Bool, wallNow: Int64
  ) -> Grants.Opening {
    let place = user.policy.place(for: family)
    let closesCommand = seconds != nil && hasCommands
    var setDuration = time.duration
    var duration = seconds.map { $0 * Microseconds.second } ?? setDuration
    let expires = user.policy.expires
    let limit = min(
      min(user.policy.duration, asked == 0 ? .max : Int64(asked) * Microseconds.second),
      expires == .max ? .max : expires.subtractingSaturated(wallNow))
    if limit < .max {
      let end = max(0, min(duration ?? .max, min(limit, SetTime.longest * Microseconds.second)))
      duration = end
      // So that access also ends without this process.
      if let limit = time.limit { setDuration = min(setDuration ?? .max, min(end, limit)) }
    }
    // What the kernel has ended is not open any more.
    if !closesCommand, let setDuration { duration = min(duration ?? setDuration, setDuration) }
    return Grants.Opening(
      user: user.name, key: user.key, set: place.set, prefixLength: Int(place.prefixLength),
      setDuration: setDuration, duration: duration, closesCommand: closesCommand,
      hasCloseCommand: canClose)
  }

  /// Records a knock before it is acted on.
  ///
  /// - Parameters:
  ///   - asked: as for `opening`.
  ///   - hasOthers: whether there are other users. A close is then only for grants of this one.
  /// - Returns: nil for a close if the user has no grant.
  @inline(never)
  mutating func record(
    _ knock: Knock, _ opening: Grants.Opening, asked: UInt32, hasOthers: Bool, now: Int64
  ) throws(Grants.Full) -> Action? {
    let user = opening.user
    let (isRepeat, number) = recent.record(
      knock, by: user, seconds: asked, now: now)
    if isRepeat { repeatCount += 1 }
    let closesGrant: Bool
    let run: Action.Run
    switch knock.command {
    case .close:
      let isLimited = hasOthers && opening.isGrant
      guard !isLimited || isRepeat || grants.hasGrant(knock.address, of: user) else { return nil }
      closesGrant =
        !isRepeat && grants.beginClose(knock.address, of: user, wallNow: SystemClock.wall())
      let isLeftOpen = isLimited && opening.closesCommand && !closesGrant
      run = isRepeat ? .repeated : isLeftOpen ? .never : .runs
    case .open:
      closesGrant = false
      do throws(Grants.Full) {
        run = try grants.open(
          knock.address, opening, isRepeat: isRepeat, isShared: hasOthers,
          wallNow: SystemClock.wall(), now: now)
      } catch {
        recent.forget(knock.address)
        refusedCount += 1
        throw error
      }
    }
    return Action(knock, by: user, opening.key, closesGrant: closesGrant, run, number: number)
  }

  /// Begins to close the grant that expired first. Nil if none has expired.
  ///
  /// - Returns: also whether it had more time, but its user may not have it any more.
  mutating func nextExpired(now: Int64) -> (action: Action, isRevoked: Bool)? {
    guard nextDeadline <= now,
      let (grant, needsCommand, isRevoked) = grants.beginNextClose(
        wallNow: SystemClock.wall(), now: now)
    else { return nil }
    recent.forget(grant.address)
    if needsCommand { expiredCount += 1 }
    let action = Action(
      Knock(command: .close, address: grant.address), by: grant.user, grant.key,
      closesGrant: needsCommand, needsCommand ? .runs : .never)
    return (action, isRevoked)
  }

  // Answers

  /// How long an address stays open for a user (seconds, at least 1); 0 until it is closed. Nil if they have no grant
  /// of it.
  mutating func secondsLeft(_ address: Address, of user: UserName) -> UInt32? {
    grants.timeLeft(address, of: user, now: SystemClock.sinceBoot()).map { Self.seconds($0) }
  }

  /// The same for after an open. Nil if the user has too many grants.
  mutating func secondsIfOpened(
    _ address: Address, _ opening: Grants.Opening, isShared: Bool
  ) -> UInt32? {
    grants.timeIfOpened(address, opening, isShared: isShared, now: SystemClock.sinceBoot())
      .map { Self.seconds($0) }
  }

  private static func seconds(_ time: Int64) -> UInt32 {
    time == .max ? 0 : UInt32(clamping: (time - 1) / Microseconds.second + 1)
  }

  // What users may not have any more

  /// Applies what users may do now to all grants. See `Grants.revise` for `keepsPlace`.
  mutating func revise(by users: borrowing Users, keepsPlace: Bool) {
    let wallNow = SystemClock.wall()
    grants.revise(keepsPlace: keepsPlace, wallNow: wallNow, now: SystemClock.sinceBoot()) {
      users.revision(of: $0, wallNow: wallNow)
    }
  }

  /// See `Grants`.
  mutating func shortenNext(now: Int64) -> (grant: Grant, rest: Int64)? {
    grants.shortenNext(now: now)
  }

  /// Records that a command does not run, since its user is gone.
  mutating func drop(_ action: Action, now: Int64) -> Outcome {
    recent.forget(action.knock.address)
    return finish(action, succeeded: false, now: now)
  }

  /// What follows an action that has ended.
  enum Outcome {
    case done
    /// Somebody has relied on the command that failed, so it runs again.
    case runAgain
    /// The same for a grant that shares it; see `actionOfSharer`.
    case runForSharer
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
      guard runsAgain else { return .done }
      return isWantedAgain || grants.sharer(of: address) == nil ? .runAgain : .runForSharer
    }
    guard action.closesGrant else { return isWantedAgain ? .runAgain : .done }
    if action.number == 0 { expiredCount -= 1 }
    // The grant is tried again by itself.
    if isWantedAgain { recent.forget(address) }
    return outcome(grants.endClose(address, succeeded: succeeded, now: now), address)
  }

  /// What runs a command again for the grant that shares it.
  @inline(never)
  mutating func actionOfSharer(_ action: Action) -> Action {
    guard let (user, key) = grants.sharer(of: action.knock.address) else { return action }
    // Those who wait for an answer wait for this one.
    return Action(action.knock, by: user, key, closesGrant: false, .runs, number: action.number)
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

  mutating func setTime(_ address: Address, _ opening: Grants.Opening) -> Int64? {
    grants.setTime(address, opening, now: SystemClock.sinceBoot())
  }

  mutating func recordUnchangedSet(
    _ address: Address, _ opening: Grants.Opening, _ presence: Grants.Presence
  ) {
    grants.recordUnchangedSet(address, opening, presence)
  }

  mutating func nextSet(of address: Address) -> (position: Int, grant: Grant)? {
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

  @inline(never)
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

  /// Writes what is due.
  mutating func advance(_ state: inout StateKeeper?, now: Int64) {
    state?.advance(&grants, now: now)
  }

  /// Writes all for the last time.
  mutating func end(_ state: inout StateKeeper?) { state?.end(&grants) }

  // Time

  /// Lets grants of an earlier server expire sooner if the clock has been set since. Returns whether it has.
  mutating func followClock() -> Bool {
    grants.followClock(wallNow: SystemClock.wall(), now: SystemClock.sinceBoot())
  }

  /// Lets all grants expire now.
  mutating func expireAll(now: Int64) { grants.expireAll(now: now) }
}

extension Grants.Full: MessageConvertible {
  var message: Message {
    switch self {
    case .noRoom(let count): "\(count) grants are open, all that --grant-capacity allows"
    case .noShare(let count):
      "the user has \(count) grants, all that one may have: a quarter of --grant-capacity"
    }
  }
}
