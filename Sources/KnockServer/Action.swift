import KnockBase
import KnockProtocol

/// A knock that the executor acts on.
public struct Action: Equatable, BitwiseCopyable, Sendable {
  public let knock: Knock
  /// Whether it closes a grant. The journal of grants then needs to know how it ended.
  public let closesGrant: Bool
  /// Whether the knock is a repeat. Its command has just run or soon will, and need not run again.
  public let isRepeat: Bool
  /// Tells it from other actions for the same knock; see `RecentKnocks.record`. 0 for a grant that has expired.
  public let number: UInt32

  public init(_ knock: Knock, closesGrant: Bool, isRepeat: Bool = false, number: UInt32 = 0) {
    self.knock = knock
    self.closesGrant = closesGrant
    self.isRepeat = isRepeat
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
