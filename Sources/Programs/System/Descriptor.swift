import CSystem
import KnockBase

/// A file descriptor of this process, closed when the value ends.
struct Descriptor: ~Copyable {
  /// Negative for none.
  let number: Int32

  init(owning number: Int32) { self.number = number }

  deinit { csys_close(number) }

  /// No descriptor: there is nothing to wait for, and nothing to close.
  static var none: Descriptor { Descriptor(owning: -1) }
  static var standardInput: Descriptor { Descriptor(owning: 0) }
  static var standardOutput: Descriptor { Descriptor(owning: 1) }

  var isOpen: Bool { number >= 0 }

  /// Reads what is there into the bytes from `start` on. Source: read(2).
  ///
  /// - Returns: how many bytes were read, 0 at the end; nil if a descriptor that does not wait has nothing yet.
  func read(
    into bytes: borrowing Storage<UInt8>, from start: Int = 0
  ) throws(SystemError) -> Int? {
    try Self.read(number, into: bytes, in: start..<bytes.count)
  }

  /// Reads from a descriptor that stays open.
  static func read(
    _ number: Int32, into bytes: borrowing Storage<UInt8>, in range: Range<Int>
  ) throws(SystemError) -> Int? {
    let place = unsafe bytes.baseAddress.map { unsafe $0 + range.lowerBound }
    return try SystemError.checkReady(unsafe csys_read(number, place, range.count))
  }

  /// Writes all bytes, and waits for room. Source: write(2).
  @inline(never)
  static func write(_ number: Int32, _ bytes: Span<UInt8>) throws(SystemError) {
    let result = unsafe bytes.withUnsafeBytes {
      unsafe csys_write_all(number, $0.baseAddress, $0.count)
    }
    try SystemError.check(result)
  }

  /// Writes as many of the bytes as there is room for, without waiting. For a descriptor that poll(2) has
  /// said can be written to.
  ///
  /// - Returns: how many bytes were written; nil if there is no room.
  func writeWithoutWaiting(
    _ bytes: borrowing Storage<UInt8>, in range: Range<Int>
  ) throws(SystemError) -> Int? {
    let place = unsafe bytes.baseAddress.map { unsafe $0 + range.lowerBound }
    return try SystemError.checkReady(unsafe csys_write_now(number, place, range.count))
  }

  /// Tells the other end of a connection that nothing more will be sent. Source: shutdown(2).
  func endWriting() { csys_hang_up(number) }
}

extension StorageText {
  /// Writes it, and waits for room.
  func write(to descriptor: Int32) throws(SystemError) {
    try bytes.withElements(0..<count) { text throws(SystemError) in
      try Descriptor.write(descriptor, text)
    }
  }
}
