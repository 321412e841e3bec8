import KnockBase

/// The names of the sets that grants are in. A grant holds the number of one.
///
/// In the journal they follow the header, in its page. Offsets in bytes:
///
///     offset  size  field
///     0       8     checksum of the other bytes, little-endian
///     8             the names, each followed by a NUL; the rest is zero. A name of bytes 1 is free room
public struct SetNames: ~Copyable {
  /// In bytes.
  public static let size = FileHeader.pageSize - FileHeader.size
  private static let start = 8
  private static let free: UInt8 = 1

  private let bytes: Storage<UInt8>

  /// - Parameter bytes: `size` bytes, all zero or those of another `SetNames`.
  public init(_ bytes: consuming Storage<UInt8>) {
    precondition(bytes.count == Self.size)
    self.bytes = bytes
  }

  /// The number of a name, which is added if it is new. It is the offset of the name. Nil if there is no room, and if no
  /// set has such a name: whoever owns a journal must not write to the terminal of root.
  ///
  /// - Parameter name: not empty.
  public func number(of name: Span<UInt8>) -> UInt16? {
    for index in name.indices
    where name[index] <= 0x20 || name[index] >= 0x7F || name[index] == UInt8(ascii: "\"")
      || name[index] == UInt8(ascii: "\\")
    { return nil }
    var next = Self.start
    var place: Int?
    while let range = range(from: next) {
      if bytes.withElements(range, { $0.equals(name) }) { return UInt16(next) }
      // What is left needs room for one byte and a NUL.
      let rest = range.count - name.count
      if bytes[next] == Self.free, rest == 0 || rest > 1 { place = place ?? next }
      next = range.upperBound + 1
    }
    guard place != nil || name.count < Self.size - next else { return nil }
    let start = place ?? next
    for index in name.indices { bytes[start + index] = name[index] }
    bytes[start + name.count] = 0
    writeChecksum()
    return UInt16(start)
  }

  /// Forgets names. The others keep their numbers.
  public func removeAll(unless isUsed: (UInt16) -> Bool) {
    var next = Self.start
    // Behind the last name that stays.
    var end = next
    while let range = range(from: next) {
      let isFree = end < next
      next = range.upperBound + 1
      if bytes[range.lowerBound] != Self.free, isUsed(UInt16(range.lowerBound)) {
        end = next
      } else {
        // With the NUL of free room before it, they are one.
        for index in (isFree ? range.lowerBound - 1 : range.lowerBound)..<range.upperBound {
          bytes[index] = Self.free
        }
      }
    }
    for index in end..<next { bytes[index] = 0 }
    writeChecksum()
  }

  /// See `Storage.alias`.
  public func alias() -> SetNames { SetNames(bytes.alias()) }

  /// Calls `body` with a name. Its bytes stay where they are. Returns nil if there is none with the number.
  public func withName<Result>(_ number: UInt16, _ body: (Span<UInt8>) -> Result?) -> Result? {
    let start = Int(number)
    guard start >= Self.start, start < Self.size, start == Self.start || bytes[start - 1] == 0,
      let range = range(from: start)
    else { return nil }
    return bytes.withElements(range) { body($0) }
  }

  /// Whether no byte was changed or lost. True if there are no names.
  public var isWhole: Bool {
    let stored = bytes.withElements(0..<8) { $0.littleEndian(at: 0, count: 8) }
    return stored == checksum || stored == 0 && range(from: Self.start) == nil
  }

  private func writeChecksum() {
    let checksum = checksum
    for index in 0..<8 { bytes[index] = UInt8(truncatingIfNeeded: checksum >> (8 * index)) }
  }

  private var checksum: UInt64 {
    var sum = Checksum()
    for index in Self.start..<bytes.count { sum.add(UInt64(bytes[index])) }
    return sum.value
  }

  /// The range of the name that begins at `start`; nil after the last.
  private func range(from start: Int) -> Range<Int>? {
    var end = start
    while end < bytes.count, bytes[end] != 0 { end += 1 }
    return end > start && end < bytes.count ? start..<end : nil
  }
}
