import KnockBase

/// The time stamp of version 1 is an IEEE 754 double in seconds. Here, and nowhere else, it is read and
/// written, with integer arithmetic: a router without a floating-point unit needs no library for it.
extension Version1 {
  private static let fractionBits = 52
  private static let hiddenBit: UInt64 = 1 << fractionBits
  private static let exponentMask: UInt64 = 0x7FF
  private static let signBit: UInt64 = 1 << 63
  /// What the exponent of 1.0 reads.
  private static let exponentBias = 1023

  /// A double in seconds as microseconds, rounded to nearest, halves away from zero. Nil if it is NaN or
  /// infinite. From 2^43 seconds on (the year 280,000) it is `.max`, or `-.max`.
  ///
  /// Until the year 2242, two neighbouring doubles are less than a microsecond apart. So this returns what was
  /// passed to `doubleBits(fromMicroseconds:)`.
  static func microseconds(fromDoubleBits bits: UInt64) -> Int64? {
    let exponent = Int(truncatingIfNeeded: bits >> UInt64(fractionBits) & exponentMask)
    guard exponent < Int(exponentMask) else { return nil }
    let magnitude = microseconds(
      exponent: max(exponent, 1),
      significand: bits & (hiddenBit - 1) | (exponent > 0 ? hiddenBit : 0))
    return bits & signBit == 0 ? magnitude : -magnitude
  }

  /// The number without its sign: `significand` * 2 ^ (`exponent` - `exponentBias` - `fractionBits`).
  private static func microseconds(exponent: Int, significand: UInt64) -> Int64 {
    guard exponent < exponentBias + 43 else { return .max }
    // The product has up to 73 bits: `high` counts units of 2^32.
    let low = (significand & 0xFFFF_FFFF) * UInt64(Microseconds.second)
    let high = (significand >> 32) * UInt64(Microseconds.second) + low >> 32
    // From 10 to 1074. All bits are lost from 75 on.
    let shift = exponentBias + fractionBits - exponent
    let half: UInt64 = 1
    if shift > 32 { return Int64((high + half << (shift - 33)) >> (shift - 32)) }
    let rest = (low & 0xFFFF_FFFF + half << (shift - 1)) >> shift
    return Int64(high << (32 - shift) + rest)
  }

  /// Microseconds as the nearest double in seconds. Halfway between two, it is the even one, as IEEE 754 rounds.
  static func doubleBits(fromMicroseconds microseconds: Int64) -> UInt64 {
    guard microseconds != 0 else { return 0 }
    let divisor = UInt64(Microseconds.second)
    var (significand, rest) = microseconds.magnitude.quotientAndRemainder(dividingBy: divisor)
    // Long division, up to one bit more than the significand has, for rounding.
    var exponent = exponentBias + fractionBits + 1
    while significand < hiddenBit << 1 {
      rest <<= 1
      significand = significand << 1 | (rest >= divisor ? 1 : 0)
      if rest >= divisor { rest -= divisor }
      exponent -= 1
    }
    let isOverHalf = significand & 1 == 1 && (rest > 0 || significand & 2 != 0)
    significand = significand >> 1 + (isOverHalf ? 1 : 0)
    // If rounding carries out of the significand, the addition raises the exponent.
    let bits = UInt64(exponent) << UInt64(fractionBits) + (significand - hiddenBit)
    return microseconds < 0 ? bits | signBit : bits
  }
}
