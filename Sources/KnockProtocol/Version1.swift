import KnockBase

/// The datagram of version 1: little-endian, no padding. Offsets and sizes in bytes.
///
///     offset  size    field
///     0       32      HMAC-SHA256(key, bytes 32 to the end)
///     32      1       command: 1 open, 2 close
///     33      8       time stamp: IEEE 754 double, seconds since the Unix epoch
///     41      4       address family, the number that the sender's system has for it
///     45      4, 16   address in network order
///
/// Source: `HDR_FMT` of the Python original, pyknock 0.4.3.
public enum Packet {
  public static let macSize = 32
  public static let inetSize = 49
  public static let inet6Size = 61
  public static let commandOffset = 32
  public static let timeOffset = 33
  public static let familyOffset = 41
  public static let addressOffset = 45

  /// What Linux calls AF_INET and AF_INET6, which is what we send on every system.
  static let inet: UInt8 = 2
  static let inet6: UInt8 = 10

  /// Whether a datagram of this length (bytes) can be one of ours.
  public static func isSize(_ count: Int) -> Bool { count == inetSize || count == inet6Size }

  /// The command, time stamp and family of a datagram whose length has been checked. They may be out of range.
  /// The time stamp is in microseconds since the Unix epoch, or nil if it is NaN or infinite.
  public static func fields(
    of datagram: Span<UInt8>
  ) -> (command: UInt8, timeStamp: Int64?, family: Int32) {
    let time = datagram.littleEndian(at: timeOffset, count: 8)
    let family = UInt32(truncatingIfNeeded: datagram.littleEndian(at: familyOffset, count: 4))
    return (
      datagram[commandOffset], microseconds(fromDoubleBits: time), Int32(bitPattern: family)
    )
  }

  /// The length of the address (bytes) that goes with a family number, or nil for a number that no
  /// system uses: 2 everywhere; 10 Linux, 30 macOS, 28 FreeBSD, 24 NetBSD and OpenBSD, 23 Windows.
  public static func addressLength(ofFamily family: Int32) -> Int? {
    switch family {
    case 2: 4
    case 10, 23, 24, 28, 30: 16
    default: nil
    }
  }
}

/// What a client may ask for.
public enum Command: UInt8, BitwiseCopyable, Sendable {
  case open = 1
  case close = 2

  /// What the templates call `$cmd`.
  public var name: StaticString {
    switch self {
    case .open: "open"
    case .close: "close"
    }
  }
}

/// What a client asks for: that a value exists means that each field is in range.
public struct Knock: Equatable, BitwiseCopyable, Sendable {
  public let command: Command
  public let address: Address

  public init(command: Command, address: Address) {
    self.command = command
    self.address = address
  }

  /// Reads a datagram whose MAC has been verified. Its content is still hostile: whoever has the
  /// key may send anything.
  ///
  /// - Throws: `wrongLength`, `unknownCommand`, `unknownFamily`, `familyLengthMismatch`,
  ///   `timeNotFinite`.
  public init(parsing datagram: Span<UInt8>) throws(Refusal) {
    guard Packet.isSize(datagram.count) else { throw .wrongLength }
    let fields = Packet.fields(of: datagram)
    guard let command = Command(rawValue: fields.command) else { throw .unknownCommand }
    guard let length = Packet.addressLength(ofFamily: fields.family) else { throw .unknownFamily }
    let bytes = datagram.extracting(Packet.addressOffset...)
    guard bytes.count == length, let address = Address(networkBytes: bytes) else {
      throw .familyLengthMismatch
    }
    guard fields.timeStamp != nil else { throw .timeNotFinite }
    self.init(command: command, address: address)
  }
}

/// The key, as far as the protocol needs it: HMAC-SHA256 (RFC 2104, FIPS 180-4).
public protocol MAC: ~Copyable {
  /// Whether `tag` (32 bytes) is the MAC of `message`, found out in constant time.
  func verify(_ tag: Span<UInt8>, of message: Span<UInt8>) -> Bool
  /// The MAC of `message`: 32 bytes.
  func tag(of message: Span<UInt8>) -> InlineArray<32, UInt8>
}

/// A datagram ready to send: 49 or 61 bytes.
public struct Datagram: ~Copyable {
  private var storage = InlineArray<61, UInt8>(repeating: 0)
  private let count: Int

  /// Writes and signs what asks for `knock`.
  ///
  /// - Parameter timeStamp: microseconds since the Unix epoch.
  public init(
    _ knock: Knock, timeStamp: Int64, signedWith key: borrowing some MAC & ~Copyable
  ) {
    let family = knock.address.family
    let address = knock.address.networkBytes
    count = Packet.addressOffset + family.byteCount
    for index in 0..<family.byteCount { storage[Packet.addressOffset + index] = address[index] }
    storage[Packet.commandOffset] = knock.command.rawValue
    let time = Packet.doubleBits(fromMicroseconds: timeStamp)
    for index in 0..<8 {
      storage[Packet.timeOffset + index] = UInt8(truncatingIfNeeded: time >> (8 * index))
    }
    storage[Packet.familyOffset] = family == .inet ? Packet.inet : Packet.inet6
    let tag = key.tag(of: storage.span.extracting(Packet.macSize..<count))
    for index in 0..<Packet.macSize { storage[index] = tag[index] }
  }

  public func withBytes<Result, Failure: Error>(
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(storage.span.extracting(first: count))
  }
}

extension TextSink where Self: ~Copyable {
  /// `open 192.0.2.1`.
  public mutating func append(_ knock: Knock) {
    append(knock.command.name)
    append(" ")
    append(knock.address)
  }
}
