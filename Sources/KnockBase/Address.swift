/// The address that a knock opens or closes access for.
///
/// A host has exactly one value: an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2)
/// becomes the IPv4 address, because packet filters see that one.
public enum Address: Equatable, BitwiseCopyable, Sendable {
  /// The four bytes as one number, the first byte the most significant.
  case inet(UInt32)
  /// The sixteen bytes as two numbers, the first byte the most significant of `high`.
  case inet6(high: UInt64, low: UInt64)

  /// - Parameter bytes: 4 or 16 bytes in network order. For any other number, the result is nil.
  public init?(networkBytes bytes: Span<UInt8>) {
    switch bytes.count {
    case 4: self = .inet(UInt32(truncatingIfNeeded: bytes.bigEndian(at: 0, count: 4)))
    case 16:
      let high = bytes.bigEndian(at: 0, count: 8)
      let low = bytes.bigEndian(at: 8, count: 8)
      if high == 0, low >> 32 == 0xFFFF {
        self = .inet(UInt32(truncatingIfNeeded: low))
      } else {
        self = .inet6(high: high, low: low)
      }
    default: return nil
    }
  }

  /// The bytes in network order, then zeros.
  public var networkBytes: InlineArray<16, UInt8> {
    let (high, low): (UInt64, UInt64) =
      switch self {
      case .inet(let bits): (UInt64(bits) << 32, 0)
      case .inet6(let high, let low): (high, low)
      }
    var bytes = InlineArray<16, UInt8>(repeating: 0)
    for index in 0..<8 {
      bytes[index] = UInt8(truncatingIfNeeded: high >> (56 - 8 * index))
      bytes[8 + index] = UInt8(truncatingIfNeeded: low >> (56 - 8 * index))
    }
    return bytes
  }

  public var family: AddressFamily {
    switch self {
    case .inet: .inet
    case .inet6: .inet6
    }
  }

  /// Whether no public server ever sees it as a source: it is private, local, or for a special purpose. The addresses
  /// for documentation count as public. Source: the IANA registries of special-purpose addresses (RFC 6890), and of
  /// IPv6 addresses, where only 2000::/3 is public.
  public var isPrivate: Bool {
    switch self {
    case .inet(let bits):
      switch bits >> 24 {
      case 0, 10, 127, 240...: true
      case 100: bits >> 22 == 0x191  // RFC 6598: carrier NAT
      case 169: bits >> 16 == 0xA9FE  // link-local
      case 172: bits >> 20 == 0xAC1
      // 192.0.0.0/24 has the addresses behind NAT64 and DS-Lite (RFC 7335).
      case 192: bits >> 16 == 0xC0A8 || bits >> 8 == 0xC0_0000
      case 198: bits >> 17 == 0x6309  // benchmarks
      default: false
      }
    case .inet6(let high, _):
      // Benchmarks, and ORCHID.
      high >> 61 != 1 || high >> 16 == 0x2001_0002_0000 || high >> 36 == 0x200_1001
    }
  }

  /// Whether it stands for an IPv4 address behind NAT64 (RFC 6052 and RFC 8215).
  public var isTranslated: Bool {
    switch self {
    case .inet: false
    case .inet6(let high, let low):
      high == 0x0064_FF9B_0000_0000 && low >> 32 == 0 || high >> 16 == 0x0064_FF9B_0001
    }
  }
}

/// IPv4 or IPv6.
public enum AddressFamily: BitwiseCopyable, Sendable {
  case inet, inet6

  /// The value of `$af` in templates.
  public var name: Literal {
    switch self {
    case .inet: "inet"
    case .inet6: "inet6"
    }
  }

  /// How many bits an address has.
  public var addressBits: Int { self == .inet ? 32 : 128 }

  /// How many bytes an address has.
  public var byteCount: Int { self == .inet ? 4 : 16 }
}

/// A set of address families.
public struct AddressFamilies: Equatable, BitwiseCopyable, Sendable {
  private let hasInet: Bool
  private let hasInet6: Bool

  public init(where isMember: (AddressFamily) -> Bool) {
    hasInet = isMember(.inet)
    hasInet6 = isMember(.inet6)
  }

  public func contains(_ family: AddressFamily) -> Bool { family == .inet ? hasInet : hasInet6 }
}

extension TextSink where Self: ~Copyable {
  /// Dotted decimal, or IPv6 text by RFC 5952: lower case without leading zeros. `::` stands for the longest run of
  /// two or more zero groups, the first if several are equally long.
  @inline(never)
  public mutating func append(_ address: Address) {
    switch address {
    case .inet(let bits):
      for index in 0..<4 {
        if index > 0 { append(byte: UInt8(ascii: ".")) }
        append((bits >> UInt32(24 - 8 * index)) & 255)
      }
    case .inet6(let high, let low): append(inet6High: high, low: low)
    }
  }

  private mutating func append(inet6High high: UInt64, low: UInt64) {
    func group(_ index: Int) -> UInt64 {
      (index < 4 ? high : low) >> UInt64(48 - 16 * (index % 4)) & 0xFFFF
    }
    var zeros = 0..<0
    var index = 0
    while index < 8 {
      let start = index
      while index < 8, group(index) == 0 { index += 1 }
      if index - start > max(zeros.count, 1) { zeros = start..<index }
      index += 1
    }
    index = 0
    while index < 8 {
      if index == zeros.lowerBound, !zeros.isEmpty {
        append("::")
        index = zeros.upperBound
        continue
      }
      if index > 0, index != zeros.upperBound || zeros.isEmpty {
        append(byte: UInt8(ascii: ":"))
      }
      append(digitsOf: group(index), base: 16)
      index += 1
    }
  }
}
