import KnockBase

/// The whole text of a file, in memory.
struct TextFile: ~Copyable {
  let bytes: Storage<UInt8>
  /// The length of the text in bytes. At least one zero byte follows it.
  let count: Int

  /// Reads a file that only we or root can write to.
  ///
  /// - Throws: `accessDenied` if others can, `fileTooLarge` for more than 64 KiB, and what open(2) and read(2) say.
  init(private path: Argument) throws(SystemError) {
    try self.init(try Descriptor(readingPrivate: path), limit: 65_536)
  }

  /// Reads a file. Anyone may have been able to write to it.
  ///
  /// - Throws: `fileTooLarge` for more than 4 MiB, and what open(2) and read(2) say.
  init(public path: Argument) throws(SystemError) {
    try self.init(try Descriptor(reading: path), limit: 4 << 20)
  }

  private init(_ file: consuming Descriptor, limit: Int) throws(SystemError) {
    guard let bytes = Storage<UInt8>.mapped(limit + 1) else { throw .outOfMemory }
    try self.init(file, into: bytes)
  }

  /// Reads a file into memory of the caller.
  ///
  /// - Throws: `fileTooLarge` if there is no room for it and a zero byte, and what read(2) says.
  init(
    _ file: borrowing Descriptor, into bytes: consuming Storage<UInt8>
  ) throws(SystemError) {
    var count = 0
    while count < bytes.count {
      guard let piece = try file.read(into: bytes, from: count), piece > 0 else { break }
      count += piece
    }
    guard count < bytes.count else { throw .fileTooLarge }
    bytes[count] = 0
    self.bytes = bytes
    self.count = count
  }

  /// The line that begins at `start`, without its end.
  func line(from start: Int) -> Range<Int> {
    bytes.withElements(0..<count) {
      start..<($0.firstIndex(of: UInt8(ascii: "\n"), from: start) ?? count)
    }
  }

  /// Calls `body` with the position of each line, without its end, until it returns false.
  ///
  /// - Returns: false if it did.
  @inline(never)
  func visitLines(_ body: (Range<Int>) -> Bool) -> Bool {
    var start = 0
    for index in 0...count where index == count || bytes[index] == UInt8(ascii: "\n") {
      guard body(start..<index) else { return false }
      start = index + 1
    }
    return true
  }

  /// Makes a string of a part of the text. A NUL replaces the byte after it.
  func string(_ range: Range<Int>) -> Argument {
    bytes[range.upperBound] = 0
    guard let base = unsafe bytes.baseAddress else { return .empty }
    return unsafe Argument(
      UnsafeMutableRawPointer(base + range.lowerBound).assumingMemoryBound(to: CChar.self))
  }
}
