import KnockBase
import KnockProtocol

/// The number of a user: of the key that signs, and of the policy for what it signs.
public typealias UserNumber = UInt16

/// What the holder of a key may ask for.
public struct Policy: Sendable {
  /// The families of the addresses that access can be opened for.
  public let families: AddressFamilies
  /// Whether a knock for the unspecified address is for the address that it came from.
  public let allowsObservedSource: Bool

  public init(families: AddressFamilies, allowsObservedSource: Bool) {
    self.families = families
    self.allowsObservedSource = allowsObservedSource
  }
}

/// The policy of each user, by number.
///
/// The table is made from the options before the server forks, so both processes have it. Only numbers
/// pass between them, so an attacker in the receiver cannot change what a user may do.
public struct Policies: Sendable {
  /// The user of the only key.
  public static let onlyUser: UserNumber = 0

  private let policy: Policy

  public init(_ policy: Policy) { self.policy = policy }

  /// Nil if there is no user with the number.
  public subscript(user: UserNumber) -> Policy? { user == Self.onlyUser ? policy : nil }

  /// Whether a user may ask for what a knock says. An observed source is already in the knock.
  public func allow(_ knock: Knock, from user: UserNumber) -> Bool {
    self[user]?.families.contains(knock.address.family) ?? false
  }
}
