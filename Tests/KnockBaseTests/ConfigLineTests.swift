import Testing

@testable import KnockBase

private func parse(_ text: String) throws -> [String] {
  let bytes = Array(text.utf8)
  let line = try ConfigLine(bytes.span)
  return [line.keyword, line.value].map { String(decoding: bytes[$0], as: UTF8.self) }
}

@Suite struct ConfigLineTests {
  @Test(arguments: [
    ("Port 7", "Port", "7"), ("\t Port \t7 \r", "Port", "7"), ("Port=7", "Port", "7"),
    ("Port = 7", "Port", "7"), ("Port \"7 8\"", "Port", "7 8"), ("Host a b  c", "Host", "a b  c"),
    ("a=b=c", "a", "b=c"), ("a b\"", "a", "b\""), ("a \"#\"", "a", "#"), ("=x", "", "x"),
    // A comment behind a value.
    ("Port 7 # x", "Port", "7"), ("Port 7\t#", "Port", "7"), ("Port = \"7\" # \"x\"", "Port", "7"),
    ("Host a # b", "Host", "a"), ("a b#c", "a", "b#c"), ("a b #c # d", "a", "b"),
    ("a b # it's", "a", "b"), ("a 'b' # 'c", "a", "'b'"),
    // No comment, since it is quoted.
    ("a \"b # c\"", "a", "b # c"), ("a echo 'b # c' d", "a", "echo 'b # c' d"),
    ("a echo \"b # c\" # d", "a", "echo \"b # c\""), ("a b \\# c", "a", "b \\# c"),
    ("a \"b\\\" # c", "a", "b\\"), ("a 'b\\' # c", "a", "'b\\'"), ("a it's#so", "a", "it's#so"),
  ])
  func `a keyword and its value`(line: String, keyword: String, value: String) throws {
    #expect(try parse(line) == [keyword, value])
  }

  @Test(arguments: ["", " ", "\t\r", "#", "  # Port 7"])
  func `a comment or nothing`(line: String) throws {
    #expect(try parse(line) == ["", ""])
  }

  @Test(arguments: [
    ("Port", ConfigLine.Failure.noValue), ("Port =", .noValue), ("Port \"\"", .noValue),
    ("Port \"", .openQuote), ("Port \"7", .openQuote), ("Port \"7\" 8", .innerQuote),
    ("Port \"7\"8\"", .innerQuote), ("Port \"7\"# 8", .innerQuote), ("Port # 7", .noValue),
    ("Port #", .noValue), ("Port=#7", .noValue), ("a it's # so", .openQuote),
    ("Po\0rt 7", .holdsNUL), ("\0", .holdsNUL),
  ])
  func `what is no line`(line: String, failure: ConfigLine.Failure) {
    #expect(throws: failure) { try parse(line) }
  }

  @Test(arguments: [
    ("box  other\tthird", ["box", "other", "third"], ["bo", "boxx", "", "Box"]),
    ("a *", ["a", "anything", ""], []), ("*", [""], []),
    ("box,other", ["box", "other"], ["box,other"]),
    ("*.example.org", ["a.example.org", "a.b.example.org", ".example.org"], ["example.org"]),
    ("b?x", ["box", "b?x"], ["bx", "boox"]), ("a*b*c", ["abc", "axxbxbc"], ["ab", "abcd", "cba"]),
    ("*box", ["box", "bobox"], ["boxer"]), ("* !box", ["other", "boxx"], ["box"]),
    ("!b* *x !ax", ["cx"], ["box", "ax", "c"]), ("!box", [], ["box", "other"]),
    ("!", [], ["", "a"]),
    ("**a**", ["a", "bab"], ["b"]),
  ])
  func `patterns are those of ssh_config`(patterns: String, matching: [String], others: [String]) {
    let bytes = Array(patterns.utf8)
    for name in matching + others {
      let isMatching = Array(name.utf8).span.matches(patterns: bytes.span)
      #expect(isMatching == matching.contains(name), "\(name)")
    }
  }

  @Test(arguments: [("box", false), ("*", true), ("b?x", true), ("!box", true), ("a.b-c", false)])
  func `a pattern is no name`(word: String, isPattern: Bool) {
    #expect(Array(word.utf8).span.isPattern == isPattern)
  }

  @Test(arguments: [
    ("PORT", true), ("port", true), ("Port", true), ("Por", false), ("Portx", false), ("", false),
    ("Pors", false), ("P\u{4F}rt", true), ("P\u{2F}rt", false), ("P/rt", false),
  ])
  func `the case of a keyword does not matter`(word: String, isEqual: Bool) {
    #expect(areEqual(word, "port") == isEqual)
    #expect(areEqual(word, "PORT") == isEqual)
  }

  @Test func `only letters have two cases`() {
    #expect(areEqual("AZ@[`{", "az@[`{"))
    #expect(!areEqual("@", "`"))
    #expect(!areEqual("[", "{"))
  }

  private func areEqual(_ word: String, _ text: Literal) -> Bool {
    let bytes = Array(word.utf8)
    return bytes.span.equalsIgnoringCase(text)
  }

  @Test(arguments: [
    ("", []), (" \t", []), ("a", ["a"]), (" a  b\tc ", ["a", "b", "c"]), ("ab c", ["ab", "c"]),
    ("a,b, c", ["a", "b", "c"]),
  ])
  func `blanks part words`(text: String, expected: [String]) {
    var words: [String] = []
    let bytes = Array(text.utf8)
    bytes.span.visitWords { word in
      words.append(String(decoding: word.indices.map { word[$0] }, as: UTF8.self))
    }
    #expect(words == expected)
  }
}
