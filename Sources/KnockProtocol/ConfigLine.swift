/// A line of a configuration file: a keyword and its value, as in ssh_config(5). Blanks around both are
/// left out, and `=` may stand between; the value may stand between double quotes.
public struct ConfigLine {
  /// Where they stand in the line; both empty where there is nothing but a comment, which begins with `#`.
  public private(set) var keyword = 0..<0
  public private(set) var value = 0..<0

  /// Why it is none.
  public enum Failure: Error, Equatable, Sendable {
    case noValue
    case openQuote
    /// The value ends behind a quote that is not its last byte.
    case innerQuote
    case holdsNUL
  }

  public init(_ line: Span<UInt8>) throws(Failure) {
    var end = line.count
    for index in line.indices where line[index] == 0 { throw .holdsNUL }
    while end > 0, Self.isBlank(line[end - 1]) { end -= 1 }
    var start = 0
    while start < end, Self.isBlank(line[start]) { start += 1 }
    guard start < end, line[start] != UInt8(ascii: "#") else { return }

    var index = start
    while index < end, !Self.isBlank(line[index]), line[index] != UInt8(ascii: "=") { index += 1 }
    keyword = start..<index
    while index < end, Self.isBlank(line[index]) { index += 1 }
    if index < end, line[index] == UInt8(ascii: "=") {
      index += 1
      while index < end, Self.isBlank(line[index]) { index += 1 }
    }
    let quote = UInt8(ascii: "\"")
    if index < end, line[index] == quote {
      var close = index + 1
      while close < end, line[close] != quote { close += 1 }
      guard close < end else { throw .openQuote }
      guard close == end - 1 else { throw .innerQuote }
      value = index + 1..<close
    } else {
      value = index..<end
    }
    guard !value.isEmpty else { throw .noValue }
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: "\r")
  }
}

extension Span<UInt8> {
  /// Without regard to the case of ASCII letters.
  public func equalsIgnoringCase(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    return text.withUTF8Buffer { bytes in
      for index in indices where unsafe lowered(self[index]) != lowered(bytes[index]) {
        return false
      }
      return true
    }
  }

  /// Whether one of the words, which blanks part, is `name` or `*`.
  public func holdsWord(_ name: Span<UInt8>) -> Bool {
    var found = false
    visitWords { word in found = found || word.equals("*") || word.equals(name) }
    return found
  }

  /// Calls `body` with each word; blanks part them.
  public func visitWords(_ body: (Span<UInt8>) -> Void) {
    var start = 0
    for index in 0...count {
      let isEnd =
        index == count || self[index] == UInt8(ascii: " ") || self[index] == UInt8(ascii: "\t")
      guard isEnd else { continue }
      if index > start { body(extracting(start..<index)) }
      start = index + 1
    }
  }

  public func equals(_ other: Span<UInt8>) -> Bool {
    guard count == other.count else { return false }
    for index in indices where self[index] != other[index] { return false }
    return true
  }
}

private func lowered(_ byte: UInt8) -> UInt8 {
  byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte + 32 : byte
}
