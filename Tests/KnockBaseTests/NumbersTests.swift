import KnockBase
import Testing

@Suite struct NumbersTests {
  @Test(
    arguments: [
      ("60120", 60120), (" 60120\t", 60120), ("+7", 7), ("-7", -7), ("0060120", 60120),
      ("60_120", 60120), ("999999999999999999", 999_999_999_999_999_999), ("", nil), ("-", nil),
      ("+", nil), ("1__2", nil), ("_1", nil), ("1_", nil), ("1.0", nil), ("1e3", nil),
      ("0x10", nil),
      ("1 2", nil), ("9999999999999999999", nil), ("99999999999999999999999999", nil),
      ("00000000000000000060120", 60120), ("-00_0", 0), ("a", nil),
      ("--7", nil), ("- 7", nil), ("\u{0}7", nil),
    ] as [(String, Int64?)])
  func `whole numbers are those of Python's int`(input: String, expected: Int64?) {
    #expect(Numbers.integer(Array(input.utf8).span) == expected)
  }

  @Test(
    arguments: [
      ("60", 60), ("2.5", 2.5), (" .5 ", 0.5), ("5.", 5), ("1e3", 1000), ("1E-3", 0.001),
      ("-1_0.2_5e+1_0", -10.25e10), ("0.1", 0.1), ("123456789.012345", 123456789.012345),
      ("0e999", 0), ("1e-999", 0), ("1e999", .infinity), ("1e99999999999999999999", .infinity),
      ("1e-99999999999999999999", 0), ("-5e-0000000000000000000000000000000003", -0.005),
      ("1.05", 1.05), ("000_01.050e00_1", 10.5),
      ("0.0000000000000000001", 1e-19), ("1e22", 1e22), ("-0", -0.0),
      ("10000000000000000000000", 1e22), ("", nil), (".", nil), ("e3", nil), ("1e", nil),
      ("inf", nil), ("nan", nil), ("0x10", nil), ("1.2.3", nil), ("1,5", nil), ("1_.5", nil),
      ("60s", nil), (String(repeating: "1", count: 64), nil),
    ] as [(String, Double?)])
  func `decimal numbers are those of Python's float`(input: String, expected: Double?) {
    #expect(Numbers.decimal(Array(input.utf8).span) == expected)
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
