/// An address as a number, whatever its family. The standard library's `UInt128` is not used: on some machines that
/// library was compiled for the other byte order, and mixes up the halves.
public struct AddressNumber: Equatable, Comparable, BitwiseCopyable, Sendable {
  public let high: UInt64
  public let low: UInt64

  public init(high: UInt64 = 0, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// A number whose lowest bits are ones.
  init(ones count: Int) {
    self.init(
      high: (1 << UInt64(max(count - 64, 0))) &- 1, low: (1 << UInt64(min(count, 64))) &- 1)
  }

  public static func < (left: AddressNumber, right: AddressNumber) -> Bool {
    left.high != right.high ? left.high < right.high : left.low < right.low
  }

  /// The number after this one. After the greatest comes 0.
  public var next: AddressNumber {
    AddressNumber(high: low == .max ? high &+ 1 : high, low: low &+ 1)
  }

  /// The number before this one. Before 0 comes the greatest.
  public var previous: AddressNumber {
    AddressNumber(high: low == 0 ? high &- 1 : high, low: low &- 1)
  }

  /// The number in the middle between this one and a greater one.
  public func middle(to greater: AddressNumber) -> AddressNumber {
    let (difference, borrows) = greater.low.subtractingReportingOverflow(low)
    let distance = AddressNumber(
      high: greater.high &- high &- (borrows ? 1 : 0), low: difference)
    let (sum, carries) = low.addingReportingOverflow(distance.low >> 1 | distance.high << 63)
    return AddressNumber(high: high &+ distance.high >> 1 &+ (carries ? 1 : 0), low: sum)
  }

  /// How many bits all addresses from this one to `last` have in common, if these are a prefix.
  public func prefixLength(to last: AddressNumber, of family: AddressFamily) -> Int? {
    let difference = self ^ last
    let zero = AddressNumber(low: 0)
    guard self & difference == zero, difference & difference.next == zero else { return nil }
    return family.addressBits - difference.nonzeroBitCount
  }

  static func & (left: AddressNumber, right: AddressNumber) -> AddressNumber {
    AddressNumber(high: left.high & right.high, low: left.low & right.low)
  }

  static func | (left: AddressNumber, right: AddressNumber) -> AddressNumber {
    AddressNumber(high: left.high | right.high, low: left.low | right.low)
  }

  static func ^ (left: AddressNumber, right: AddressNumber) -> AddressNumber {
    AddressNumber(high: left.high ^ right.high, low: left.low ^ right.low)
  }

  static prefix func ~ (number: AddressNumber) -> AddressNumber {
    AddressNumber(high: ~number.high, low: ~number.low)
  }

  var nonzeroBitCount: Int { high.nonzeroBitCount + low.nonzeroBitCount }
}

extension Address {
  public init(_ number: AddressNumber, of family: AddressFamily) {
    self =
      family == .inet
      ? .inet(UInt32(truncatingIfNeeded: number.low)) : .inet6(high: number.high, low: number.low)
  }
}
