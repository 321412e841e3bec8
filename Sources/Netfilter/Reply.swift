import KnockBase

/// An answer of the kernel that is not well formed.
public struct MalformedReply: Error, Equatable, Sendable {
  public init() {}
}

/// A message from the kernel. Source: linux/netlink.h.
public enum Reply: Equatable, Sendable {
  /// What was asked for. Its attributes come with it.
  case data
  /// The end of the answer, with an error number, 0 for success.
  case end(Int32)
  /// Ignored.
  case other
}

extension Span<UInt8> {
  /// Calls `body` for each message in a datagram from the kernel.
  ///
  /// - Parameter body: gets the message, its sequence number, whether the listed elements have changed meanwhile
  ///   (NLM_F_DUMP_INTR), and the attributes.
  public func visitMessages(
    _ body: (Reply, UInt32, Bool, Span<UInt8>) throws(MalformedReply) -> Void
  ) throws(MalformedReply) {
    var start = 0
    while start < count {
      guard count - start >= 16 else { throw MalformedReply() }
      let length = Int(clamping: native(at: start, count: 4))
      guard length >= 16, length <= count - start else { throw MalformedReply() }
      let type = native(at: start + 4, count: 2)
      let isInterrupted = native(at: start + 6, count: 2) & 0x10 != 0
      let sequence = UInt32(truncatingIfNeeded: native(at: start + 8, count: 4))
      let payload = extracting(start + 16..<start + length)
      switch type {
      case 2, 3:  // NLMSG_ERROR, which also means success, and NLMSG_DONE, the end of a list
        guard type == 3 || payload.count >= 4 else { throw MalformedReply() }
        let number = payload.count >= 4 ? payload.native(at: 0, count: 4) : 0
        let error = Int32(truncatingIfNeeded: number)
        guard error <= 0, error > .min else { throw MalformedReply() }
        try body(.end(-error), sequence, isInterrupted, payload.extracting(first: 0))
      case 0x100...:
        guard payload.count >= 4 else { throw MalformedReply() }
        try body(.data, sequence, isInterrupted, payload.extracting(4...))
      default: try body(.other, sequence, isInterrupted, payload.extracting(first: 0))
      }
      start += (length + 3) & ~3
    }
  }

  /// Calls `body` with the type and the value of each attribute.
  @inline(never)
  func visitAttributes(
    _ body: (UInt64, Span<UInt8>) throws(MalformedReply) -> Void
  ) throws(MalformedReply) {
    var start = 0
    while start < count {
      guard count - start >= 4 else { throw MalformedReply() }
      let length = Int(native(at: start, count: 2))
      guard length >= 4, length <= count - start else { throw MalformedReply() }
      // The two upper bits are flags: it holds attributes, and its byte order.
      let type = native(at: start + 2, count: 2) & 0x3FFF
      try body(type, extracting(start + 4..<start + length))
      start += (length + 3) & ~3
    }
  }

  /// The value as a number in network order, of `size` bytes (1 to 8).
  @inline(never)
  func number(size: Int) throws(MalformedReply) -> UInt64 {
    guard count == size else { throw MalformedReply() }
    return bigEndian(at: 0, count: size)
  }

  /// The value as an address.
  @inline(never)
  func address(of family: AddressFamily) throws(MalformedReply) -> AddressNumber {
    guard count == family.addressBits / 8 else { throw MalformedReply() }
    guard family == .inet6 else { return AddressNumber(low: bigEndian(at: 0, count: 4)) }
    return AddressNumber(high: bigEndian(at: 0, count: 8), low: bigEndian(at: 8, count: 8))
  }
}
