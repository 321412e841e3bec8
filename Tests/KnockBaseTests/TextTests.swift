import KnockBase
import KnockProtocol
import TestSupport
import Testing

@Suite struct TextTests {
  @Test(
    arguments: [
      (0, "+0.0"), (1, "+0.0"), (-1, "-0.0"), (-40_000, "-0.0"), (49_999, "+0.0"), (50_000, "+0.1"),
      (-3_600_440_000, "-3600.4"), (59_960_000, "+60.0"), (-59_949_999, "-59.9"),
      (1_000_000_000_000_000_000, "+1000000000000.0"), (1_000_000_000_000_000_001, "+>1e12"),
      (.max, "+>1e12"), (.min, "->1e12"),
    ] as [(Int64, String)])
  func `clock skews have a sign and one decimal`(microseconds: Int64, expected: String) {
    #expect(text { $0.append(signedSeconds: microseconds) } == expected)
  }

  @Test(
    arguments: [
      (60_000_000, "60"), (2_500_000, "2.5"), (1000, "0.001"), (50_000, "0.05"), (100, "0"),
      (500, "0.001"), (86_400_250_000, "86400.25"), (.max, "9223372036854.776"),
    ] as [(Int64, String)])
  func `drifts have the decimals that they need`(microseconds: Int64, expected: String) {
    #expect(text { $0.append(seconds: microseconds) } == expected)
  }

  @Test func `numbers have a sign where they need one`() {
    #expect(text { $0.append(0) } == "0")
    #expect(text { $0.append(Int32.min) } == "-2147483648")
    #expect(text { $0.append(UInt64.max) } == "18446744073709551615")
    #expect(text { $0.append(Int64.min) } == "-9223372036854775808")
  }

  @Test func `quoted text cannot forge a line`() {
    let hostile: [UInt8] = Array("a'b\\\n\u{1B}[2J\u{7F}é".utf8)
    #expect(
      text { $0.append(quoted: hostile.span) }
        == #"'a\x27b\x5c\x0a\x1b[2J\x7f\xc3\xa9'"#)
    let long = [UInt8](repeating: UInt8(ascii: "x"), count: 129)
    #expect(
      text { $0.append(quoted: long.span) } == "'" + String(repeating: "x", count: 128) + "...'")
    #expect(text { $0.append(quoted: long.span.extracting(first: 128)) }.hasSuffix("x'"))
  }

  @Test func `a buffer drops what exceeds it, but not the end of the line`() {
    var buffer = TextBuffer<8>()
    buffer.append("0123456789")
    buffer.endLine()
    let line = buffer.withBytes { span in
      var bytes: [UInt8] = []
      for index in span.indices { bytes.append(span[index]) }
      return String(decoding: bytes, as: UTF8.self)
    }
    #expect(line == "0123456\n")
  }

  @Test func `keys are Latin-1, written in UTF-8`() {
    func encode(_ bytes: [UInt8]) -> [UInt8]? {
      var result = Text()
      return KeyText.encode(utf8: bytes.span, into: &result) ? result.bytes : nil
    }
    #expect(
      encode(Array("pässword é ÿ \u{80}".utf8)) == [
        0x70, 0xE4, 0x73, 0x73, 0x77, 0x6F, 0x72, 0x64, 0x20, 0xE9, 0x20, 0xFF, 0x20, 0x80,
      ])
    #expect(encode(Array("\u{100}".utf8)) == nil)
    #expect(encode(Array("€".utf8)) == nil)
    #expect(encode([0xE9]) == nil)
    #expect(encode([0xC3]) == nil)
    #expect(encode([0xC3, 0x29]) == nil)
    #expect(encode([0xC0, 0x80]) == nil)
    #expect(encode([0x80]) == nil)
    #expect(encode([0xC3, 0xC0]) == nil)
    #expect(encode([0, 0x7F]) == [0, 0x7F])
    #expect(encode([]) == [])
  }
}
