import KnockBase

/// The name of a user: the name of the file with the key. The user whose key `-k` or PSK gives has no name.
public struct UserName: Equatable, Comparable, BitwiseCopyable, Sendable {
  /// The longest name, in bytes.
  public static let limit = 32
  public static let none = UserName()
  /// What a name may be, for messages.
  public static var rule: Literal {
    "a name of at most 32 characters from a-z 0-9 _ @ - . that begins with a letter or digit"
  }

  // The bytes as little-endian numbers, then zeros.
  private var word0: UInt64 = 0
  private var word1: UInt64 = 0
  private var word2: UInt64 = 0
  private var word3: UInt64 = 0

  private init() {}

  /// Nil if a user cannot have this name.
  @inline(never)
  public init?(_ text: Span<UInt8>) {
    guard text.count >= 1, text.count <= Self.limit, Self.isFirst(text[0]) else { return nil }
    for index in text.indices {
      guard Self.isInner(text[index]) else { return nil }
      self[index / 8] |= UInt64(text[index]) << UInt64(index % 8 * 8)
    }
  }

  /// The name in a record. Nil if no name looks like this; four zeros are the user without a name.
  @inline(never)
  init?(word: (Int) -> UInt64) {
    for index in 0..<4 { self[index] = word(index) }
    var bytes = InlineArray<32, UInt8>(repeating: 0)
    for index in 0..<Self.limit { bytes[index] = self[byte: index] }
    guard self != .none else { return }
    guard let name = UserName(bytes.span.extracting(first: count)), name == self else { return nil }
  }

  subscript(index: Int) -> UInt64 {
    get {
      switch index {
      case 0: word0
      case 1: word1
      case 2: word2
      default: word3
      }
    }
    set {
      switch index {
      case 0: word0 = newValue
      case 1: word1 = newValue
      case 2: word2 = newValue
      default: word3 = newValue
      }
    }
  }

  fileprivate subscript(byte index: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: self[index / 8] >> UInt64(index % 8 * 8))
  }

  /// By their bytes.
  public static func < (left: UserName, right: UserName) -> Bool {
    for index in 0..<4 where left[index] != right[index] {
      return left[index].byteSwapped < right[index].byteSwapped
    }
    return false
  }

  public var isEmpty: Bool { word0 == 0 }

  /// The length in bytes.
  public var count: Int {
    var count = 0
    while count < Self.limit, self[byte: count] != 0 { count += 1 }
    return count
  }

  var hash: UInt64 {
    var sum = Checksum()
    for index in 0..<4 { sum.add(self[index]) }
    return sum.value
  }

  private static func isFirst(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
      || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }

  private static func isInner(_ byte: UInt8) -> Bool {
    isFirst(byte) || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "@")
      || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
  }
}

extension UserName {
  /// Whether a file with this name is no user: editors and package managers leave such files behind.
  @inline(never)
  public static func isSkipped(_ name: Span<UInt8>) -> Bool {
    guard name.count > 0 else { return true }
    if name[0] == UInt8(ascii: ".") || name[0] == UInt8(ascii: "#") { return true }
    return name.hasSuffix("~") || name.hasSuffix(".swp") || name.hasSuffix(".bak")
      || name.hasSuffix(".orig") || name.hasSuffix(".new") || name.hasSuffix("-opkg")
      || name.hasSuffix(".apk-new") || name.hasExtension(beginning: ".dpkg-")
      || name.hasExtension(beginning: ".ucf-") || name.hasExtension(beginning: ".rpm")
  }
}

extension Span<UInt8> {
  @inline(never)
  fileprivate func hasSuffix(_ suffix: Literal) -> Bool {
    let size = suffix.count
    return count >= size && extracting((count - size)...).equals(suffix)
  }

  /// Whether the part from the last dot on begins like this.
  @inline(never)
  fileprivate func hasExtension(beginning prefix: Literal) -> Bool {
    var dot = count - 1
    while dot >= 0, self[dot] != UInt8(ascii: ".") { dot -= 1 }
    return dot >= 0 && extracting(dot...).hasPrefix(prefix)
  }
}

extension TextSink where Self: ~Copyable {
  public mutating func append(_ name: UserName) {
    for index in 0..<name.count { append(byte: name[byte: index]) }
  }
}
