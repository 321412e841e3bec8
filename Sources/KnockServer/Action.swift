import KnockBase
import KnockProtocol

/// A knock that the executor acts on, or the end of a grant.
public struct Action: Equatable, BitwiseCopyable, Sendable {
  /// Whether its command runs.
  public enum Run: BitwiseCopyable, Sendable {
    case runs
    /// It is a repeat, or the address is open: the command has just run or soon will.
    case repeated
    /// The address is open for another user.
    case openAlready
    /// There is none, or the address stays open for another user.
    case never
  }

  public let knock: Knock
  /// Whose knock or grant it is, and with which key.
  public let user: UserName
  public let key: KeyFingerprint
  /// Whether it closes a grant. The journal of grants then needs to know how it ended.
  public let closesGrant: Bool
  public let run: Run
  /// Tells it from other actions for the same knock; see `RecentKnocks.record`. 0 for a grant that has expired.
  public let number: UInt32

  public init(
    _ knock: Knock, by user: UserName, _ key: KeyFingerprint, closesGrant: Bool, _ run: Run,
    number: UInt32 = 0
  ) {
    self.knock = knock
    self.user = user
    self.key = key
    self.closesGrant = closesGrant
    self.run = run
    self.number = number
  }
}

/// Actions whose command has not started yet, oldest first. Bounded.
public struct ActionQueue: ~Copyable {
  private let actions: Storage<Action>
  private var first = 0
  public private(set) var count = 0

  public init(_ actions: consuming Storage<Action>) {
    precondition(actions.count >= 1)
    self.actions = actions
  }

  public subscript(index: Int) -> Action { actions[(first + index) % actions.count] }

  /// Returns false and changes nothing if the queue is full.
  public mutating func append(_ action: Action) -> Bool {
    guard count < actions.count else { return false }
    if count == 0 { first = 0 }  // A short queue then touches few pages.
    actions[(first + count) % actions.count] = action
    count += 1
    return true
  }

  /// Removes the action whose command runs next. Two for the same address keep their order. Otherwise a close that
  /// ends a grant comes before all opens, and so does what came earlier for its address.
  ///
  /// - Parameter isBusy: whether a command runs for an address. Another one must wait for it.
  public mutating func removeNext(isBusy: (Address) -> Bool) -> Action? {
    for index in 0..<count where self[index].closesGrant {
      let address = self[index].knock.address
      if !isBusy(address) { return removeFirst { $0.knock.address == address } }
    }
    return removeFirst { !isBusy($0.knock.address) }
  }

  /// Removes the first action for which `isReady` is true. The order of the others stays.
  @inline(never)
  public mutating func removeFirst(where isReady: (Action) -> Bool) -> Action? {
    for index in 0..<count where isReady(self[index]) {
      let action = self[index]
      for later in (0..<index).reversed() {
        actions[(first + later + 1) % actions.count] = self[later]
      }
      first = (first + 1) % actions.count
      count -= 1
      return action
    }
    return nil
  }
}
