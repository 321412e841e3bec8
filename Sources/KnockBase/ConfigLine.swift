/// A line of a configuration file: a keyword and its value, as in ssh_config(5). Blanks or `=` separate them. The
/// value may be in double quotes. A word that begins with `#` begins a comment, unless it is quoted. Quotes inside of
/// a value are those of the shell, since the value may be a command.
public struct ConfigLine {
  /// Where they are in the line. Both are empty if it is blank or a comment, which begins with `#`.
  public private(set) var keyword = 0..<0
  public private(set) var value = 0..<0

  /// Why a line is malformed.
  public enum Failure: Error, Equatable, Sendable {
    case noValue
    case openQuote
    /// Text follows the closing quote.
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
      guard let close = line.firstIndex(of: quote, from: index + 1), close < end else {
        throw .openQuote
      }
      var rest = close + 1
      while rest < end, Self.isBlank(line[rest]) { rest += 1 }
      let isComment = rest > close + 1 && rest < end && line[rest] == UInt8(ascii: "#")
      guard rest == end || isComment else { throw .innerQuote }
      value = index + 1..<close
    } else {
      end = try Self.comment(in: line, index..<end) ?? end
      while end > index, Self.isBlank(line[end - 1]) { end -= 1 }
      value = index..<end
    }
    guard !value.isEmpty else { throw .noValue }
  }

  /// Where a comment begins.
  private static func comment(in line: Span<UInt8>, _ range: Range<Int>) throws(Failure) -> Int? {
    var quote: UInt8 = 0
    var isWordStart = true
    var isInQuote = false
    var index = range.lowerBound
    while index < range.upperBound {
      let byte = line[index]
      if byte == UInt8(ascii: "#"), isWordStart {
        if quote == 0 { return index }
        isInQuote = true
      }
      isWordStart = isBlank(byte)
      if byte == UInt8(ascii: "\\"), quote != UInt8(ascii: "'") {
        index += 1
      } else if quote != 0 {
        if byte == quote { (quote, isInQuote) = (0, false) }
      } else if byte == UInt8(ascii: "'") || byte == UInt8(ascii: "\"") {
        quote = byte
      }
      index += 1
    }
    // Perhaps an apostrophe before a comment.
    guard !isInQuote else { throw .openQuote }
    return nil
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: "\r")
  }
}
