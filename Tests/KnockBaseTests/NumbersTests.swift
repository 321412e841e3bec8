import KnockBase
import Testing

private let longest: Int64 = 1_000_000_000_000_000_000

@Suite struct NumbersTests {
  @Test(
    arguments: [
      ("60120", 60120), (" 60120\t", 60120), ("+7", 7), ("-7", -7), ("0060120", 60120),
      ("60_120", 60120), ("999999999999999999", 999_999_999_999_999_999), ("", nil), ("-", nil),
      ("+", nil), ("1__2", nil), ("_1", nil), ("1_", nil), ("1.0", nil), ("1e3", nil),
      ("0x10", nil),
      ("1 2", nil), ("9999999999999999999", nil), ("1000000000000000000", nil),
      ("99999999999999999999999999", nil),
      ("00000000000000000060120", 60120), ("-00_0", 0), ("a", nil),
      ("--7", nil), ("- 7", nil), ("\u{0}7", nil),
    ] as [(String, Int64?)])
  func `whole numbers are those of Python's int`(input: String, expected: Int64?) {
    #expect(Numbers.integer(Array(input.utf8).span) == expected)
  }

  @Test(
    arguments: [
      ("60", 60_000_000), ("2.5", 2_500_000), (" .5 ", 500_000), ("5.", 5_000_000),
      ("1e3", 1_000_000_000), ("1E-3", 1000), ("+1_0.2_5e+1_0", 102_500_000_000_000_000),
      ("0.1", 100_000), ("123456789.012345", 123_456_789_012_345), ("1.05", 1_050_000),
      ("000_01.050e00_1", 10_500_000), ("5e-0000000000000000000000000000000003", 5000),
      // Rounded to nearest, and from 0 up.
      ("1.0000005", 1_000_001), ("1.00000049999999999999999", 1_000_000), ("15e-7", 2),
      ("0.1234565", 123_457), ("0.12345649999999999999999", 123_456), ("5e-7", 1), ("4e-7", 1),
      ("0.0000000000000000001", 1), ("1e-999", 1), ("1e-99999999999999999999", 1),
      ("12345678901234567890e-12", 12_345_678_901_235),
      ("99999999999999999999e-14", 1_000_000_000_000),
      // At most so much.
      ("999999999999.999999", 999_999_999_999_999_999), ("1e12", longest), ("1e22", longest),
      ("1000000000000.000001", longest), ("10000000000000000000000", longest), ("1e300", longest),
      // Not over 0, or infinite.
      ("0", nil), ("-0", nil), ("0e999", nil), ("-5", nil), ("-1e-9", nil), ("1e999", nil),
      ("1e99999999999999999999", nil), ("inf", nil), ("nan", nil),
      // No number.
      ("", nil), (".", nil), ("e3", nil), ("1e", nil), ("0x10", nil), ("1.2.3", nil), ("1,5", nil),
      ("1_.5", nil), ("60s", nil), (String(repeating: "1", count: 64), nil),
    ] as [(String, Int64?)])
  func `seconds are those of Python's float`(input: String, expected: Int64?) {
    #expect(Numbers.microseconds(ofSeconds: Array(input.utf8).span) == expected)
  }

  @Test func `a port is one of 16 bits`() {
    for number in [-1, 0, 1, 65535, 65536] {
      let expected = number > 0 && number < 65536 ? UInt16(number) : nil
      #expect(Numbers.port(Array(String(number).utf8).span) == expected)
    }
  }

  @Test(
    arguments: [
      ("1", 1), ("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400),
      ("366d", 31_622_400), ("367d", nil), ("31622401", nil), ("0", nil), ("0m", nil), ("", nil),
      ("m", nil), ("-1", nil), ("1.5h", nil), ("1w", nil), ("1 m", nil), ("1mm", nil),
      ("999999999999999999d", nil), ("99999999999999999999", nil),
    ] as [(String, Int64?)])
  func `durations have a unit or none`(input: String, expected: Int64?) {
    #expect(Numbers.duration(Array(input.utf8).span) == expected)
  }
}
