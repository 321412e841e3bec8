/// The bytes of a datagram that we send.
public struct Datagram: ~Copyable {
  private var storage = InlineArray<72, UInt8>(repeating: 0)
  private let count: Int

  /// - Parameter count: at most 72.
  init(count: Int) { self.count = count }

  public func withBytes<Result, Failure: Error>(
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(storage.span.extracting(first: count))
  }

  @inline(never)
  mutating func put(_ bytes: Span<UInt8>, at start: Int) {
    for index in bytes.indices { storage[start + index] = bytes[index] }
  }

  /// Puts the last bytes of a number, the least significant first.
  mutating func put(_ number: UInt64, count: Int, at start: Int) {
    for index in 0..<count {
      storage[start + index] = UInt8(truncatingIfNeeded: number >> (8 * index))
    }
  }

  /// Puts the MAC of the bytes from `start` on at the beginning.
  mutating func sign(from start: Int, with key: borrowing some MACKey & ~Copyable) {
    let mac = key.mac(of: storage.span.extracting(start..<count))
    put(mac.span, at: 0)
  }

  /// Masks bytes as in version 2.
  mutating func mask(_ range: Range<Int>, with key: borrowing some MACKey & ~Copyable) {
    let masked = Version2.masked(storage.span, from: range.lowerBound, by: key)
    put(masked.span.extracting(first: range.count), at: range.lowerBound)
  }
}
