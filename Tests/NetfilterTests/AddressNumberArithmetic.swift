import KnockBase

/// The arithmetic of the standard library, which the program does without.
extension AddressNumber: ExpressibleByIntegerLiteral, Strideable {
  static let max = AddressNumber(UInt128.max)

  init(_ number: some BinaryInteger) {
    let number = UInt128(number)
    self.init(high: UInt64(number >> 64), low: UInt64(truncatingIfNeeded: number))
  }

  public init(integerLiteral number: UInt128) { self.init(number) }

  var number: UInt128 { UInt128(high) << 64 | UInt128(low) }

  public func distance(to other: AddressNumber) -> Int { Int(other.number) - Int(number) }
  public func advanced(by distance: Int) -> AddressNumber { AddressNumber(Int(number) + distance) }

  static func + (left: AddressNumber, right: AddressNumber) -> AddressNumber {
    AddressNumber(left.number + right.number)
  }
  static func - (left: AddressNumber, right: AddressNumber) -> AddressNumber {
    AddressNumber(left.number - right.number)
  }
}
