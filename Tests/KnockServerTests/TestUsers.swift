import KnockBase
import KnockProtocol
import KnockServer
import TestSupport

/// An empty table.
func emptyUsers(_ count: Int = 64) -> Users {
  func index() -> PositionIndex {
    PositionIndex(storage(PositionIndex.count(forRecords: count), of: UInt32.self))
  }
  return Users(storage(count, of: User.Record.self), names: index(), keys: index())
}

/// An empty replay memory, and as many shares as `emptyUsers` has slots.
func replayMemory(_ capacity: Int, users count: Int = 64) -> ReplayMemory {
  ReplayMemory(
    records: storage(capacity, of: Fingerprint.self),
    index: PositionIndex(storage(PositionIndex.count(forRecords: capacity), of: UInt32.self)),
    shares: UserBuckets(storage(count, of: UserBuckets.Element.self)))
}

/// The name of a user.
func userName(_ text: String) -> UserName { UserName(Array(text.utf8).span) ?? .none }

/// A policy that allows all.
func policy(
  families: AddressFamilies = AddressFamilies { _ in true }, allowsObservedSource: Bool = false
) -> Policy {
  Policy(
    inet: Policy.Place(set: 0, prefixLength: 32), inet6: Policy.Place(set: 0, prefixLength: 128),
    families: families, allowsObservedSource: allowsObservedSource)
}
