import KnockBase

/// Messages to the netfilter part of the kernel, in one buffer of a fixed size.
///
/// A message has a header (length, type, flags, sequence number), the address family, and attributes. An attribute
/// has a length, a type and a value, and is padded to 4 bytes. Values are in network order. Everything else is in
/// the machine's order. Sources: linux/netlink.h, linux/netfilter/nfnetlink.h.
public struct Request: ~Copyable {
  /// Flags of a message.
  struct Flags {
    static let request: UInt16 = 0x001
    static let acknowledge: UInt16 = 0x004
    static let dump: UInt16 = 0x300
    static let exclusive: UInt16 = 0x200
    static let create: UInt16 = 0x400
  }

  private var text: StorageText
  private var isTooLong = false
  private var sequence: UInt32 = 0
  /// The sequence numbers of the first message in the buffer and of the last that the kernel answers.
  public private(set) var sequences: ClosedRange<UInt32> = 0...0

  public init(_ bytes: consuming Storage<UInt8>) { text = StorageText(bytes) }

  /// The start and the number of the bytes to send. Nil if the buffer was too small.
  public var bytes: (start: UnsafeMutablePointer<UInt8>, count: Int)? {
    guard !isTooLong, text.count < text.bytes.count, let start = unsafe text.bytes.baseAddress
    else { return nil }
    return unsafe (start, text.count)
  }

  /// Forgets all messages. Their sequence numbers are not used again for a long time.
  public mutating func removeAll() {
    text.removeAll()
    isTooLong = false
    // It starts again long before it would overflow.
    sequence = sequence < .max / 2 ? sequence + 1 : 1
    sequences = sequence...sequence
  }

  // What takes a closure is inlined, so that nothing is left of the closure. The rest is in the program once.

  /// Writes a message.
  ///
  /// - Parameters:
  ///   - subsystem: NFNL_SUBSYS_ of the type.
  ///   - flags: without any, the kernel answers only with an error.
  ///   - resource: the number that follows the family, mostly 0.
  @inline(__always)
  mutating func message(
    subsystem: UInt16, _ type: UInt16, _ flags: UInt16, family: UInt8, resource: UInt16 = 0,
    attributes: (inout Request) -> Void = { _ in }
  ) {
    let start = begin(subsystem: subsystem, type, flags, family: family, resource: resource)
    attributes(&self)
    end(start)
  }

  @inline(never)
  mutating func end(_ message: Int) { setLength(at: message, size: 4) }

  /// - Returns: where the message begins.
  @inline(never)
  mutating func begin(
    subsystem: UInt16, _ type: UInt16, _ flags: UInt16, family: UInt8, resource: UInt16
  ) -> Int {
    let start = text.count
    if start > 0 { sequence += 1 }
    if flags != 0 { sequences = sequences.lowerBound...sequence }
    append(native: 0, size: 4)
    append(native: UInt64(subsystem << 8 | type), size: 2)
    append(native: UInt64(flags | Flags.request), size: 2)
    append(native: UInt64(sequence), size: 4)
    append(native: 0, size: 4)
    append(big: UInt64(family), size: 1)
    append(big: 0, size: 1)
    append(big: UInt64(resource), size: 2)
    return start
  }

  /// Writes an attribute that holds other attributes.
  @inline(__always)
  mutating func nested(_ type: UInt16, attributes: (inout Request) -> Void) {
    attribute(type | 0x8000, value: attributes)
  }

  @inline(never)
  mutating func attribute(_ type: UInt16, _ name: SetName) {
    attribute(type) { request in
      name.withBytes { request.text.append($0) }
      request.text.append(byte: 0)
    }
  }

  /// Writes a number in network order, of `size` bytes (1 to 8).
  @inline(never)
  mutating func attribute(_ type: UInt16, _ number: UInt64, size: Int) {
    attribute(type) { $0.append(big: number, size: size) }
  }

  /// Writes an address: 4 or 16 bytes.
  @inline(never)
  mutating func attribute(_ type: UInt16, address: AddressNumber, of family: AddressFamily) {
    attribute(type) { request in
      switch family {
      case .inet: request.append(big: address.low, size: 4)
      case .inet6:
        request.append(big: address.high, size: 8)
        request.append(big: address.low, size: 8)
      }
    }
  }

  @inline(__always)
  private mutating func attribute(_ type: UInt16, value: (inout Request) -> Void) {
    let start = begin(type)
    value(&self)
    endAttribute(at: start)
  }

  @inline(never)
  private mutating func begin(_ type: UInt16) -> Int {
    let start = text.count
    append(native: 0, size: 2)
    append(native: UInt64(type), size: 2)
    return start
  }

  @inline(never)
  private mutating func endAttribute(at start: Int) {
    setLength(at: start, size: 2)
    while text.count % 4 != 0, text.count < text.bytes.count { text.append(byte: 0) }
  }

  @inline(never)
  private mutating func setLength(at start: Int, size: Int) {
    let length = text.count - start
    if length >> (8 * size) != 0 || start + size > text.count { isTooLong = true }
    guard !isTooLong else { return }
    for index in 0..<size {
      text.bytes[start + index] = nativeByte(index, of: UInt64(length), size: size)
    }
  }

  private mutating func append(native number: UInt64, size: Int) {
    for index in 0..<size { text.append(byte: nativeByte(index, of: number, size: size)) }
  }

  /// A byte of a number of `size` bytes, as the machine stores it.
  private func nativeByte(_ index: Int, of number: UInt64, size: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: number >> (8 * (ByteOrder.isBigEndian ? size - 1 - index : index)))
  }

  private mutating func append(big number: UInt64, size: Int) {
    for index in (0..<size).reversed() {
      text.append(byte: UInt8(truncatingIfNeeded: number >> (8 * index)))
    }
  }
}
