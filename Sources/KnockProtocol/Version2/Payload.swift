import KnockBase

extension Version2 {
  /// What a request or an answer has inside. Numbers are little-endian, offsets and sizes in bytes:
  ///
  ///     offset  size    request                                   answer
  ///     0       1       command: 1 open, 2 close, 3 check         result
  ///     1       1       flags: bit 0, an answer is wanted         ignored
  ///     2       1       door: 0                                   ignored
  ///     3       1       0                                         ignored
  ///     4       4       seconds that it shall stay open           seconds that it stays open
  ///     8       8       time: microseconds since the Unix epoch   the same
  ///     16      16      address in network order, IPv4 as ::ffff:a.b.c.d; or zeros
  ///
  /// It is not trusted, even if its tag is right: a key holder may send anything.
  public struct Payload: BitwiseCopyable {
    static var size: Int { 32 }

    /// The command, or the result.
    public let code: UInt8
    let flags: UInt8
    var door: UInt8 = 0
    var reserved: UInt8 = 0
    let seconds: UInt32
    /// Microseconds since the Unix epoch; what does not fit is `.max`.
    public let time: Int64
    /// Nil for 16 zeros.
    public let address: Address?
  }

  static var payloadOffset: Int { requestSize - Payload.size }

  /// The id of the key of a request, its bytes as a little-endian number. Anyone may have made it up.
  ///
  /// - Parameter request: a datagram of `requestSize`.
  public static func id(
    in request: Span<UInt8>, by idMaskKey: borrowing some MACKey & ~Copyable
  ) -> UInt64 {
    masked(request, from: tagSize, by: idMaskKey).span.littleEndian(at: 0, count: 8)
  }

  /// Masks what follows from `start` on, up to 32 bytes, or removes its mask: the MAC of the tag, by exclusive or.
  @inline(never)
  static func masked(
    _ datagram: Span<UInt8>, from start: Int, by key: borrowing some MACKey & ~Copyable
  ) -> InlineArray<32, UInt8> {
    var bytes = key.mac(of: datagram.extracting(first: tagSize))
    for index in 0..<min(bytes.count, datagram.count - start) {
      bytes[index] ^= datagram[start + index]
    }
    return bytes
  }
}

extension Version2.Payload {
  /// Opens a request: step 3 of the server. Nil if the tag is wrong.
  ///
  /// - Parameters:
  ///   - request: a datagram of `requestSize`.
  ///   - tagKey: of the key whose id is in the datagram.
  public init?(
    opening request: Span<UInt8>, tagKey: borrowing some MACKey & ~Copyable,
    maskKey: borrowing some MACKey & ~Copyable
  ) {
    let bytes = Version2.masked(request, from: Version2.payloadOffset, by: maskKey)
    guard tagKey.verify(request.extracting(first: Version2.tagSize), of: bytes.span) else {
      return nil
    }
    self.init(bytes.span)
  }

  /// - Parameter bytes: of `size`.
  init(_ bytes: Span<UInt8>) {
    let time = bytes.littleEndian(at: 8, count: 8)
    let address = Address(networkBytes: bytes.extracting(16...))
    self.init(
      code: bytes[0], flags: bytes[1], door: bytes[2], reserved: bytes[3],
      seconds: UInt32(truncatingIfNeeded: bytes.littleEndian(at: 4, count: 4)),
      time: Int64(clamping: time), address: address == .inet6(high: 0, low: 0) ? nil : address)
  }
}

extension Datagram {
  mutating func put(_ payload: Version2.Payload, at start: Int) {
    put(UInt64(payload.code) | UInt64(payload.flags) << 8, count: 4, at: start)
    put(UInt64(payload.seconds), count: 4, at: start + 4)
    put(UInt64(bitPattern: payload.time), count: 8, at: start + 8)
    guard let address = payload.address else { return }
    let bytes = address.networkBytes
    let byteCount = address.family.byteCount
    put(bytes.span.extracting(first: byteCount), at: start + Version2.Payload.size - byteCount)
    if address.family == .inet { put(0xFFFF, count: 2, at: start + 26) }
  }
}
