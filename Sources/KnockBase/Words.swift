/// Why a command cannot be split into words.
public enum WordError: Error, Equatable, Sendable {
  case unclosedQuote(UInt8)
  case trailingBackslash
}

/// Splits a command into words, with the quoting of POSIX (Shell Command Language, section 2.2). Blanks, tabs and
/// line feeds separate words. `'...'` keeps all bytes. In `"..."` a backslash quotes `$`, a back-quote, `"`, a
/// backslash and a line feed; outside quotes it quotes any byte. There are no operators, variables, patterns or
/// comments.
public enum Words {
  /// Writes each word and a NUL byte after it: at most one byte more than `text` has.
  ///
  /// - Returns: the number of words.
  public static func split(
    _ text: Span<UInt8>, into sink: inout some TextSink & ~Copyable
  ) throws(WordError) -> Int {
    var count = 0
    var inWord = false
    var quote: UInt8 = 0
    var index = 0
    while index < text.count {
      let byte = text[index]
      index += 1
      switch byte {
      case quote where quote != 0: quote = 0
      case UInt8(ascii: "\\") where quote != UInt8(ascii: "'"):
        guard index < text.count else {
          throw quote == 0 ? .trailingBackslash : .unclosedQuote(quote)
        }
        let next = text[index]
        index += 1
        if next == UInt8(ascii: "\n") { continue }
        if quote != 0, !isEscapableInDoubleQuotes(next) { sink.append(byte: byte) }
        sink.append(byte: next)
        inWord = true
      case UInt8(ascii: "'") where quote == 0, UInt8(ascii: "\"") where quote == 0:
        quote = byte
        inWord = true
      case UInt8(ascii: " ") where quote == 0, UInt8(ascii: "\t") where quote == 0,
        UInt8(ascii: "\n") where quote == 0:
        if inWord {
          sink.append(byte: 0)
          count += 1
        }
        inWord = false
      default:
        sink.append(byte: byte)
        inWord = true
      }
    }
    guard quote == 0 else { throw .unclosedQuote(quote) }
    if inWord {
      sink.append(byte: 0)
      count += 1
    }
    return count
  }

  private static func isEscapableInDoubleQuotes(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "$"), UInt8(ascii: "`"), UInt8(ascii: "\""), UInt8(ascii: "\\"): true
    default: false
    }
  }
}
