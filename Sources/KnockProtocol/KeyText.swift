import KnockBase

/// The bytes of a key: its text, encoded as Latin-1.
///
/// The Python original does this with the PSK argument (`bytes(value, 'latin-1')`). So `é` is the one
/// byte E9, although it is two bytes in UTF-8.
public enum KeyText {
  /// - Returns: false if `text` is not UTF-8, or has a character above U+00FF. The caller then discards what
  ///   the sink has got.
  public static func encode(
    utf8 text: Span<UInt8>, into sink: inout some TextSink & ~Copyable
  ) -> Bool {
    var index = 0
    while index < text.count {
      let byte = text[index]
      index += 1
      switch byte {
      case 0..<0x80: sink.append(byte: byte)
      case 0xC2, 0xC3:
        guard index < text.count, text[index] & 0xC0 == 0x80 else { return false }
        sink.append(byte: (byte & 3) << 6 | text[index] & 0x3F)
        index += 1
      default: return false
      }
    }
    return true
  }
}
