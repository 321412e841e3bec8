import KnockBase

extension Version2 {
  /// Why a text that is meant as a key of version 2 is none. In the order of the checks.
  public enum KeyTextFault: Error, Equatable, Sendable {
    /// There is something before `pk2.`.
    case notAlone
    /// It begins with `PK2.`, so the capitals of the rest are lost.
    case capitals
    case length
    /// A character that base64url does not have.
    case alphabet
    /// The last character has bits that belong to no byte.
    case lastBits
    /// The key does not fit its check bytes. `KeyBytes.isWhole` finds that.
    case check
  }

  /// What HMAC-SHA256 derives from a key. Each has a label, so that no two are the same.
  public enum Label: UInt8, Sendable {
    /// Its first 4 bytes are the check bytes.
    case check
    /// Its first 8 bytes are the id.
    case id
    case tag, mask, answerTag, answerMask
    /// These two are derived from the server id alone.
    case idMask, server

    fileprivate var text: Literal {
      switch self {
      case .check: "pyknock 2 key"
      case .id: "pyknock 2 id"
      case .tag: "pyknock 2 tag"
      case .mask: "pyknock 2 mask"
      case .answerTag: "pyknock 2 answer tag"
      case .answerMask: "pyknock 2 answer mask"
      case .idMask: "pyknock 2 id mask"
      case .server: "pyknock server id fingerprint"
      }
    }
  }

  /// The bytes of a key: the server id (16), the secret (32) and the check bytes (4).
  ///
  /// The owner wipes the value, also after a fault.
  public struct KeyBytes: ~Copyable {
    public static let size = 52
    public static var serverID: Range<Int> { 0..<16 }
    public static var secret: Range<Int> { 16..<48 }
    public static var check: Range<Int> { 48..<size }

    public var bytes = InlineArray<52, UInt8>(repeating: 0)

    public init() {}

    /// Whether a text is meant as a key of version 2, and so never becomes one of version 1.
    public static func isMeant(by text: Span<UInt8>) -> Bool { text.contains(prefix) }

    private static var prefix: Literal { "pk2." }

    /// Reads `pk2.` and 70 characters of base64url (RFC 4648, section 5) without padding.
    ///
    /// - Parameter text: one that `isMeant` takes.
    /// - Throws: all but `check`.
    public mutating func read(_ text: Span<UInt8>) throws(KeyTextFault) {
      let start = Self.prefix.count
      guard text.hasPrefix(Self.prefix) else {
        throw Self.isMeant(by: text.extracting(first: start)) ? .capitals : .notAlone
      }
      guard text.count == Version2.keyTextSize else { throw .length }
      // The bits that are not in `bytes` yet: at the end 4, all of them 0.
      var rest: UInt32 = 0
      var restCount: UInt32 = 0
      var count = 0
      for index in start..<text.count {
        guard let bits = base64URLBits(text[index]) else { throw .alphabet }
        rest = rest << 6 | bits
        restCount += 6
        if restCount >= 8 {
          restCount -= 8
          bytes[count] = UInt8(truncatingIfNeeded: rest >> restCount)
          count += 1
          rest &= 1 << restCount - 1
        }
      }
      guard rest == 0 else { throw .lastBits }
    }

    /// Whether no character of the key was mistyped or lost.
    ///
    /// - Parameter key: the one that `derive` takes.
    public func isWhole(by key: borrowing some MACKey & ~Copyable) -> Bool {
      let check = derive(.check, by: key)
      return bytes.span.extracting(Self.check).equals(check.span.extracting(first: 4))
    }

    /// The fingerprint that the key is found by: its bytes as a little-endian number. It is no secret.
    ///
    /// - Parameter key: the one that `derive` takes.
    public func id(by key: borrowing some MACKey & ~Copyable) -> UInt64 {
      derive(.id, by: key).span.littleEndian(at: 0, count: 8)
    }

    /// - Parameter key: makes MACs with the secret; for `idMask` and `server`, with the server id.
    @inline(never)
    public func derive(
      _ label: Label, by key: borrowing some MACKey & ~Copyable
    ) -> InlineArray<32, UInt8> {
      var message = TextBuffer<40>()
      message.append(label.text)
      if label != .idMask, label != .server { message.append(bytes.span.extracting(Self.serverID)) }
      return message.withBytes { key.mac(of: $0) }
    }
  }
}

private func base64URLBits(_ character: UInt8) -> UInt32? {
  switch character {
  case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - UInt8(ascii: "A"))
  case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - UInt8(ascii: "a")) + 26
  case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character - UInt8(ascii: "0")) + 52
  case UInt8(ascii: "-"): 62
  case UInt8(ascii: "_"): 63
  default: nil
  }
}
