/// The order in which this machine stores the bytes of a number. The standard library's `littleEndian` and
/// `bigEndian` are not used: on some machines that library was compiled for the other order.
public enum ByteOrder {
  public static var isBigEndian: Bool {
    #if _endian(big)
      true
    #else
      false
    #endif
  }

  /// Turns a number of this machine into a little-endian one, or back.
  fileprivate static func littleEndian<Number: FixedWidthInteger>(_ number: Number) -> Number {
    isBigEndian ? number.byteSwapped : number
  }
}

/// A field of a file: little-endian, whatever the machine.
@propertyWrapper
public struct LittleEndian<Number: FixedWidthInteger & BitwiseCopyable>: BitwiseCopyable {
  private var stored: Number

  public init(wrappedValue: Number) { stored = ByteOrder.littleEndian(wrappedValue) }

  public var wrappedValue: Number {
    get { ByteOrder.littleEndian(stored) }
    set { stored = ByteOrder.littleEndian(newValue) }
  }
}

extension Storage<UInt64> {
  /// A number that is little-endian in memory, whatever the machine.
  public subscript(littleEndian index: Int) -> UInt64 {
    get { ByteOrder.littleEndian(self[index]) }
    nonmutating set { self[index] = ByteOrder.littleEndian(newValue) }
  }
}

extension Span<UInt8> {
  /// Up to 8 bytes as one number, the first the most significant.
  public func bigEndian(at start: Int, count: Int) -> UInt64 {
    var number: UInt64 = 0
    for index in start..<start + count { number = number << 8 | UInt64(self[index]) }
    return number
  }

  /// Up to 8 bytes as one number, the first the least significant.
  public func littleEndian(at start: Int, count: Int) -> UInt64 {
    var number: UInt64 = 0
    for index in (start..<start + count).reversed() { number = number << 8 | UInt64(self[index]) }
    return number
  }

  /// Up to 8 bytes as one number, in the order of this machine.
  public func native(at start: Int, count: Int) -> UInt64 {
    ByteOrder.isBigEndian
      ? bigEndian(at: start, count: count) : littleEndian(at: start, count: count)
  }

  /// The first position of a byte, not before `start`.
  public func firstIndex(of byte: UInt8, from start: Int = 0) -> Int? {
    for index in start..<Swift.max(start, count) where self[index] == byte { return index }
    return nil
  }

  /// Where the last part of a path begins.
  public var fileNameStart: Int {
    var start = 0
    for index in indices where self[index] == UInt8(ascii: "/") { start = index + 1 }
    return start
  }

  @inline(never)
  public func equals(_ text: Literal) -> Bool { text.withBytes { equals($0) } }

  @inline(never)
  public func hasPrefix(_ text: Literal) -> Bool { text.withBytes { $0.isPrefix(of: self) } }

  public func isPrefix(of text: Literal) -> Bool { text.withBytes { isPrefix(of: $0) } }

  private func isPrefix(of other: Span<UInt8>) -> Bool {
    count <= other.count && equals(other.extracting(first: count))
  }

  /// Ignores the case of ASCII letters.
  @inline(never)
  public func equalsIgnoringCase(_ text: Literal) -> Bool {
    text.withBytes { bytes in
      guard count == bytes.count else { return false }
      for index in indices where lowered(self[index]) != lowered(bytes[index]) { return false }
      return true
    }
  }

  /// Whether the text is somewhere in it. Ignores the case of ASCII letters.
  @inline(never)
  public func contains(_ text: Literal) -> Bool {
    let size = text.count
    for start in 0..<Swift.max(count - size + 1, 0)
    where extracting(start..<start + size).equalsIgnoringCase(text) {
      return true
    }
    return false
  }

  /// Whether a name matches a list of patterns as in ssh_config(5): one of them, and none of those that begin with
  /// `!`. Blanks or commas separate patterns.
  public func matches(patterns: Span<UInt8>) -> Bool {
    var (isNamed, isExcluded) = (false, false)
    patterns.visitWords { word in
      let isNegated = word.hasPrefix("!")
      guard matches(pattern: word.extracting((isNegated ? 1 : 0)...)) else { return }
      if isNegated { isExcluded = true } else { isNamed = true }
    }
    return isNamed && !isExcluded
  }

  /// `*` stands for any text, `?` for one byte.
  private func matches(pattern: Span<UInt8>) -> Bool {
    var (index, place) = (0, 0)
    // The last `*`, and where the text that it stands for ends so far.
    var star: Int?
    var end = 0
    while index < count {
      if place < pattern.count, pattern[place] == UInt8(ascii: "*") {
        (star, end) = (place, index)
        place += 1
      } else if place < pattern.count,
        pattern[place] == UInt8(ascii: "?") || pattern[place] == self[index]
      {
        index += 1
        place += 1
      } else if let star {
        end += 1
        (index, place) = (end, star + 1)
      } else {
        return false
      }
    }
    while place < pattern.count, pattern[place] == UInt8(ascii: "*") { place += 1 }
    return place == pattern.count
  }

  /// Whether it is a pattern for several names, or excludes some.
  public var isPattern: Bool {
    for index in indices where self[index] == UInt8(ascii: "*") || self[index] == UInt8(ascii: "?")
    {
      return true
    }
    return hasPrefix("!")
  }

  /// Calls `body` with each word. Blanks or commas separate words.
  public func visitWords(_ body: (Span<UInt8>) -> Void) {
    var start = 0
    for index in 0...count {
      let isEnd =
        index == count || self[index] == UInt8(ascii: " ") || self[index] == UInt8(ascii: "\t")
        || self[index] == UInt8(ascii: ",")
      guard isEnd else { continue }
      if index > start { body(extracting(start..<index)) }
      start = index + 1
    }
  }

  @inline(never)
  public func equals(_ other: Span<UInt8>) -> Bool {
    guard count == other.count else { return false }
    for index in indices where self[index] != other[index] { return false }
    return true
  }
}

func lowered(_ byte: UInt8) -> UInt8 {
  byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte + 32 : byte
}
