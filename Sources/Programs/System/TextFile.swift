import CSystem
import KnockBase

/// A file of text in memory as a whole.
struct TextFile: ~Copyable {
  let bytes: Storage<UInt8>
  /// Of the text, in bytes. Behind it there is at least one more that is zero.
  let count: Int

  /// One that only we and root can have written.
  ///
  /// - Throws: what open(2) and read(2) do, EACCES where others may write to it, EFBIG where it has more than 64 KiB.
  init(ours path: Argument) throws(SystemError) {
    try self.init(
      owning: try SystemError.check(unsafe csys_open_configuration(path.pointer)), limit: 65_536)
  }

  /// One of the system.
  ///
  /// - Throws: what open(2) and read(2) do, EFBIG where it has more than 4 MiB.
  init(systems path: Argument) throws(SystemError) {
    try self.init(
      owning: try SystemError.check(unsafe csys_open_to_read(path.pointer)), limit: 4 << 20)
  }

  private init(owning number: Int32, limit: Int) throws(SystemError) {
    let file = Descriptor(owning: number)
    guard let bytes = Storage<UInt8>.mapped(limit + 1), let base = unsafe bytes.baseAddress
    else { throw SystemError(number: ENOMEM) }
    var count = 0
    while count < bytes.count {
      let piece = Int(
        try SystemError.check(unsafe csys_read(file.number, base + count, bytes.count - count)))
      if piece == 0 { break }
      count += piece
    }
    guard count <= limit else { throw SystemError(number: EFBIG) }
    self.bytes = bytes
    self.count = count
  }

  /// Calls `body` with the place of each line, without its end, until it returns false.
  ///
  /// - Returns: whether it never did.
  func visitLines(_ body: (Range<Int>) -> Bool) -> Bool {
    var start = 0
    for index in 0...count where index == count || bytes[index] == UInt8(ascii: "\n") {
      guard body(start..<index) else { return false }
      start = index + 1
    }
    return true
  }

  /// Makes a string of a part of it, whose end is overwritten.
  func string(_ range: Range<Int>) -> Argument {
    bytes[range.upperBound] = 0
    guard let base = unsafe bytes.baseAddress else { return .empty }
    return unsafe Argument(
      UnsafeMutableRawPointer(base + range.lowerBound).assumingMemoryBound(to: CChar.self))
  }
}
