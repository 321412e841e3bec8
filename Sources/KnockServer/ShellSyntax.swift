import KnockBase

/// What only a shell understands, in a command that runs without one.
public enum ShellSyntax {
  /// The first such character outside of quotes that keep it from a shell; nil if there is none. The placeholders of
  /// `Template` are no syntax. Source: POSIX, Shell Command Language, section 2.2.
  public static func first(in text: Span<UInt8>) -> UInt8? {
    var quote: UInt8 = 0
    var isWordStart = true
    var index = 0
    while index < text.count {
      let byte = text[index]
      index += 1
      let startsWord = isWordStart
      isWordStart = false
      switch byte {
      case quote where quote != 0: quote = 0
      case _ where quote == UInt8(ascii: "'"): break
      case UInt8(ascii: "\\"): index += 1
      case UInt8(ascii: "`"): return byte
      case UInt8(ascii: "$"):
        guard let end = Template.placeholderEnd(in: text, from: index) else { return byte }
        index = end
      case _ where quote != 0: break
      case UInt8(ascii: "'"), UInt8(ascii: "\""): quote = byte
      case UInt8(ascii: "|"), UInt8(ascii: "&"), UInt8(ascii: ";"), UInt8(ascii: "<"),
        UInt8(ascii: ">"), UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "*"):
        return byte
      case UInt8(ascii: "~") where startsWord, UInt8(ascii: "#") where startsWord: return byte
      case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\n"): isWordStart = true
      default: break
      }
    }
    return nil
  }
}
