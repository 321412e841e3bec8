import KnockBase

/// What the server remembers of an accepted datagram: its MAC, and its time stamp.
public struct Fingerprint: Equatable, BitwiseCopyable, Sendable {
  public static let size = 40

  // The MAC as little-endian numbers.
  let mac0: UInt64
  let mac1: UInt64
  let mac2: UInt64
  let mac3: UInt64
  /// Microseconds since the Unix epoch, by the sender's clock.
  public let timeStamp: Int64

  init(mac: (UInt64, UInt64, UInt64, UInt64), timeStamp: Int64) {
    (mac0, mac1, mac2, mac3) = mac
    self.timeStamp = timeStamp
  }

  /// - Parameter mac: 32 bytes.
  public init(mac: Span<UInt8>, timeStamp: Int64) {
    self.init(
      mac: (
        mac.littleEndian(at: 0, count: 8), mac.littleEndian(at: 8, count: 8),
        mac.littleEndian(at: 16, count: 8), mac.littleEndian(at: 24, count: 8)
      ), timeStamp: timeStamp)
  }

  var mac: (UInt64, UInt64, UInt64, UInt64) { (mac0, mac1, mac2, mac3) }

  /// Its bytes in a message: the MAC and the time stamp, little-endian.
  init(message bytes: Span<UInt8>) {
    self.init(
      mac: bytes,
      timeStamp: Int64(bitPattern: bytes.littleEndian(at: 32, count: 8)))
  }

  @inline(never)
  public func write(to bytes: inout MutableSpan<UInt8>, at start: Int) {
    for index in 0..<Self.size {
      let number =
        switch index / 8 {
        case 0: mac0
        case 1: mac1
        case 2: mac2
        case 3: mac3
        default: UInt64(bitPattern: timeStamp)
        }
      bytes[start + index] = UInt8(truncatingIfNeeded: number >> UInt64(8 * (index % 8)))
    }
  }
}
