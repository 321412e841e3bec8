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
public enum Version1 {
  public static let macSize = 32
  public static let commandOffset = 32
  public static let timeOffset = 33
  public static let familyOffset = 41
  public static let addressOffset = 45

  /// AF_INET and AF_INET6 of Linux. We send these on every system.
  static let inet: UInt8 = 2
  static let inet6: UInt8 = 10

  /// Whether a datagram can have this length (bytes).
  public static func isSize(_ count: Int) -> Bool { Cases<Form>.first { $0.size == count } != nil }

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

  /// The length of an address (bytes) of a family, or nil for a number that no system uses.
  public static func addressLength(ofFamily family: Int32) -> Int? {
    Cases<Form>.first { $0.hasFamily(family) }.map { $0.size - addressOffset }
  }

  /// The forms of datagrams. This is the only place that lists them: the gate, the kernel's filter and the
  /// printed rules come from it. Tests compare the packages with the printed rules.
  public enum Form: UInt8 {
    case inet, inet6

    /// The length of a datagram (bytes).
    public var size: Int {
      switch self {
      case .inet: 49
      case .inet6: 61
      }
    }

    /// The numbers that systems have for the address family, as bits: 2 everywhere; 10 Linux, 23 Windows,
    /// 24 NetBSD and OpenBSD, 28 FreeBSD, 30 macOS.
    private var families: UInt32 {
      switch self {
      case .inet: 1 << 2
      case .inet6: 1 << 10 | 1 << 23 | 1 << 24 | 1 << 28 | 1 << 30
      }
    }

    public func hasFamily(_ number: Int32) -> Bool {
      0..<32 ~= number && families >> UInt32(number) & 1 == 1
    }
  }
}

extension Knock {
  /// Reads a datagram whose MAC has been verified. It is not trusted: a key holder may send anything.
  ///
  /// - Throws: `wrongLength`, `unknownCommand`, `unknownFamily`, `familyLengthMismatch`,
  ///   `timeNotFinite`.
  public init(parsing datagram: Span<UInt8>) throws(Refusal) {
    guard Version1.isSize(datagram.count) else { throw .wrongLength }
    let fields = Version1.fields(of: datagram)
    guard let command = Command(rawValue: fields.command) else { throw .unknownCommand }
    guard let length = Version1.addressLength(ofFamily: fields.family) else { throw .unknownFamily }
    let bytes = datagram.extracting(Version1.addressOffset...)
    guard bytes.count == length, let address = Address(networkBytes: bytes) else {
      throw .familyLengthMismatch
    }
    guard fields.timeStamp != nil else { throw .timeNotFinite }
    self.init(command: command, address: address)
  }
}

extension Datagram {
  /// Writes the datagram of a knock and signs it.
  ///
  /// - Parameter timeStamp: microseconds since the Unix epoch.
  public init(
    _ knock: Knock, timeStamp: Int64, signedWith key: borrowing some MACKey & ~Copyable
  ) {
    let family = knock.address.family
    let address = knock.address.networkBytes
    self.init(count: Version1.addressOffset + family.byteCount)
    put(UInt64(knock.command.rawValue), count: 1, at: Version1.commandOffset)
    put(
      Version1.doubleBits(fromMicroseconds: timeStamp), count: 8, at: Version1.timeOffset)
    put(
      UInt64(family == .inet ? Version1.inet : Version1.inet6), count: 4,
      at: Version1.familyOffset)
    put(address.span.extracting(first: family.byteCount), at: Version1.addressOffset)
    sign(from: Version1.macSize, with: key)
  }
}
