import KnockBase
import TestSupport
import Testing

@Suite struct WordsTests {
  @Test(arguments: [
    ("", []), ("  \t\n ", []), ("a", ["a"]), (" a  b\tc\n", ["a", "b", "c"]),
    ("'a b' c", ["a b", "c"]), (#""a b"c"#, ["a bc"]), ("''", [""]), (#"a "" b"#, ["a", "", "b"]),
    (#"a\ b"#, ["a b"]), (#"\\ \' \""#, [#"\"#, "'", "\""]), (#"'\'"#, [#"\"#]),
    (#""\$ \` \" \\ \a""#, [#"$ ` " \ \a"#]), ("a\\\nb", ["ab"]), ("\"a\\\nb\"", ["ab"]),
    ("\\\n", []), (#"x'$ip'"y $ip"\$z"#, ["x$ipy $ip$z"]), ("a;b|c&d>e#f *", ["a;b|c&d>e#f", "*"]),
    ("'it'\\''s'", ["it's"]), ("\u{E9} \u{FF}", ["\u{E9}", "\u{FF}"]),
  ])
  func `words are parted as POSIX quoting says`(input: String, expected: [String]) throws {
    var result = Text()
    let count = try Words.split(Array(input.utf8).span, into: &result)
    let words = String(decoding: result.bytes, as: UTF8.self)
      .split(separator: "\0", omittingEmptySubsequences: false).dropLast()
    #expect(words == expected.map { $0[...] }[...])
    #expect(count == expected.count)
    #expect(result.bytes.count <= input.utf8.count + 1)
  }

  @Test(arguments: [
    ("'a", WordError.unclosedQuote(UInt8(ascii: "'"))),
    ("a \"b", .unclosedQuote(UInt8(ascii: "\""))), ("\"a\\", .unclosedQuote(UInt8(ascii: "\""))),
    ("\"a\\\"", .unclosedQuote(UInt8(ascii: "\""))), ("a\\", .trailingBackslash),
  ])
  func `what is not closed is an error`(input: String, expected: WordError) {
    var result = Text()
    #expect(throws: expected) { try Words.split(Array(input.utf8).span, into: &result) }
  }
}
