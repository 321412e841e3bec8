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
    ("Port \"7\"8\"", .innerQuote), ("Po\0rt 7", .holdsNUL), ("\0", .holdsNUL),
  ])
  func `what is no line`(line: String, failure: ConfigLine.Failure) {
    #expect(throws: failure) { try parse(line) }
  }

  @Test func `words are found whole`() {
    let words = Array("box  other\tthird".utf8)
    for (name, isThere) in [("box", true), ("third", true), ("bo", false), ("", false)] {
      let bytes = Array(name.utf8)
      let isFound = words.span.holdsWord(bytes.span)
      #expect(isFound == isThere)
    }
    let all = Array("a *".utf8)
    let name = Array("anything".utf8)
    let isFound = all.span.holdsWord(name.span)
    #expect(isFound)
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

  private func areEqual(_ word: String, _ text: StaticString) -> Bool {
    let bytes = Array(word.utf8)
    return bytes.span.equalsIgnoringCase(text)
  }

  @Test(arguments: [
    ("", []), (" \t", []), ("a", ["a"]), (" a  b\tc ", ["a", "b", "c"]), ("ab c", ["ab", "c"]),
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
