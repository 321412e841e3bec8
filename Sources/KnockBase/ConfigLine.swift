/// A line of a configuration file: a keyword and its value, as in ssh_config(5). Blanks or `=` separate them. The
/// value may be in double quotes.
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
