import TestSupport
import Testing

@testable import KnockProtocol

/// What a double in seconds is in microseconds, computed with 128 bits. Saturated as in the program.
private func expectedMicroseconds(_ seconds: Double) -> Int64? {
  guard seconds.isFinite else { return nil }
  let sign: Int64 = seconds.sign == .minus ? -1 : 1
  guard seconds.magnitude < 0x1p43 else { return sign * .max }
  guard seconds.magnitude >= 0x1p-30 else { return 0 }
  // The last bit of a number in this range counts 2^-82 or more.
  let units = UInt128(seconds.magnitude * 0x1p82)
  let (high, low) = units.multipliedFullWidth(by: 2_000_000)
  let twice = high << 46 | low >> 82
  return sign * Int64((twice + 1) / 2)
}

/// By how much a double in seconds misses a number of microseconds, in units of 2^-20 microseconds. Exact
/// from 2^33 seconds on.
private func error(_ bits: UInt64, _ microseconds: Int64) -> UInt128 {
  let seconds = Double(bitPattern: bits).magnitude
  let exact = UInt128(microseconds.magnitude) << 20
  let found = UInt128(seconds * 0x1p20) * 1_000_000
  return exact > found ? exact - found : found - exact
}

@Suite struct Version1TimeTests {
  @Test(
    arguments: [
      (0, 0), (-0.0, 0), (1, 1_000_000), (-1.5, -1_500_000),
      (1_700_000_000.25, 1_700_000_000_250_000),
      // A half of a microsecond, and the doubles beside it.
      (0x1p-7, 7813), (-0x1p-7, -7813), ((0x1p-7).nextDown, 7812), ((0x1p-7).nextUp, 7813),
      (5e-7, 0), (5.0000000000000004e-7, 1), (1e-6, 1),
      (.leastNonzeroMagnitude, 0), (.leastNormalMagnitude, 0), (-.leastNormalMagnitude, 0),
      ((0x1p43).nextDown, 8_796_093_022_207_999_023), (0x1p43, .max), (-0x1p43, -.max),
      (1e300, .max), (-1e300, -.max), (.greatestFiniteMagnitude, .max),
      (.infinity, nil), (-.infinity, nil), (.nan, nil), (-.nan, nil), (.signalingNaN, nil),
    ] as [(Double, Int64?)])
  func `doubles are read to the nearest microsecond`(seconds: Double, expected: Int64?) {
    #expect(Version1.microseconds(fromDoubleBits: seconds.bitPattern) == expected)
    #expect(expectedMicroseconds(seconds) == expected)
  }

  @Test func `random doubles are read as with 128 bits`() {
    var generator = Generator(seed: 1)
    var different = 0
    for _ in 0..<200_000 {
      let bits = generator.next()
      // Any double, one that a clock may say, and one with any exponent about which something can be said.
      let near = Double(Int64(bitPattern: bits) >> 20) * 0x1p-12
      let wide = bits & (1 << 63 | (1 << 52 - 1)) | (1023 - 40 + bits >> 52 % 90) << 52
      for bits in [bits, near.bitPattern, wide] {
        let found = Version1.microseconds(fromDoubleBits: bits)
        if found != expectedMicroseconds(Double(bitPattern: bits)) { different += 1 }
      }
    }
    #expect(different == 0)
  }

  @Test(
    arguments: [
      // What Python's struct.pack("<d", fractions.Fraction(microseconds, 10**6)) says.
      (0, 0), (1, 0x3EB0_C6F7_A0B5_ED8D), (-1, 0xBEB0_C6F7_A0B5_ED8D),
      (1_000_000, 0x3FF0_0000_0000_0000), (1_700_000_000_250_000, 0x41D9_54FC_4010_0000),
      (1_732_579_200_123_457, 0x41D9_D143_E007_E6B8),
      (9_007_199_254_740_993, 0x4200_C6F7_A0B5_ED8E),
      (.max, 0x42A0_C6F7_A0B5_ED8D), (.min, 0xC2A0_C6F7_A0B5_ED8D),
    ] as [(Int64, UInt64)])
  func `microseconds are written as Python writes them`(microseconds: Int64, bits: UInt64) {
    #expect(Version1.doubleBits(fromMicroseconds: microseconds) == bits)
  }

  @Test func `microseconds are written as the nearest double`() {
    var generator = Generator(seed: 2)
    var different = 0
    for _ in 0..<200_000 {
      let microseconds =
        Int64(bitPattern: generator.next()) >> Int64.random(in: 0..<64, using: &generator)
      let bits = Version1.doubleBits(fromMicroseconds: microseconds)
      if microseconds.magnitude <= 1 << 53 {
        // The division of two doubles that are exact is rounded once.
        if Double(microseconds) / 1e6 != Double(bitPattern: bits) { different += 1 }
      } else {
        let missed = error(bits, microseconds)
        for other in [bits - 1, bits + 1] {
          let otherMissed = error(other, microseconds)
          if missed > otherMissed || missed == otherMissed && bits & 1 != 0 { different += 1 }
        }
      }
    }
    #expect(different == 0)
  }

  @Test func `what was written is read again until 2242`() {
    var generator = Generator(seed: 3)
    var different = 0
    for _ in 0..<200_000 {
      let microseconds = Int64.random(in: 0..<1 << 33 * 1_000_000, using: &generator)
      let bits = Version1.doubleBits(fromMicroseconds: microseconds)
      if Version1.microseconds(fromDoubleBits: bits) != microseconds { different += 1 }
    }
    #expect(different == 0)
  }
}
