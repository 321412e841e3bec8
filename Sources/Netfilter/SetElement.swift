import KnockBase

/// Consecutive addresses that a set holds.
public struct SetElement: Equatable, BitwiseCopyable, Sendable {
  public let first: AddressNumber
  public var last: AddressNumber
  /// How long it stays in milliseconds; `forever` if it has no timeout.
  public let milliseconds: UInt64

  public static let forever = UInt64.max

  public init(first: AddressNumber, last: AddressNumber, milliseconds: UInt64) {
    self.first = first
    self.last = last
    self.milliseconds = milliseconds
  }
}

/// Where an element of a set with intervals begins, or the address after its last.
public struct Boundary: Equatable, BitwiseCopyable, Sendable {
  public let address: AddressNumber
  public let isEnd: Bool
  /// How long the element that begins here stays in milliseconds, as in `SetElement`.
  public let milliseconds: UInt64

  public init(address: AddressNumber, isEnd: Bool, milliseconds: UInt64) {
    self.address = address
    self.isEnd = isEnd
    self.milliseconds = milliseconds
  }

  /// At the same address, the end of one element comes before the start of the next.
  func isBefore(_ other: Boundary) -> Bool {
    address != other.address ? address < other.address : isEnd && !other.isEnd
  }
}
