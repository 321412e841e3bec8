/// Consecutive addresses of one family, as numbers. A grant is for such a range.
public struct AddressRange: Equatable, BitwiseCopyable, Sendable {
  public let family: AddressFamily
  public let first: UInt128
  /// The last address in the range.
  public let last: UInt128

  /// The addresses whose first `prefixLength` bits are those of `address`.
  public init(_ address: Address, prefixLength: Int) {
    let number: UInt128
    switch address {
    case .inet(let bits): number = UInt128(bits)
    case .inet6(let high, let low): number = UInt128(high) << 64 | UInt128(low)
    }
    family = address.family
    let below = Self.greatest(of: family) >> UInt128(prefixLength)
    first = number & ~below
    last = number | below
  }

  /// A part of another range, from an address to another.
  public init(_ first: UInt128, to last: UInt128, of range: AddressRange) {
    precondition(range.first <= first && first <= last && last <= range.last)
    family = range.family
    self.first = first
    self.last = last
  }

  /// The greatest address of a family.
  public static func greatest(of family: AddressFamily) -> UInt128 {
    family == .inet ? UInt128(UInt32.max) : UInt128.max
  }
}

extension TextSink where Self: ~Copyable {
  /// `192.0.2.0/24`. The range must be a prefix.
  public mutating func append(_ range: AddressRange) {
    let high = UInt64(truncatingIfNeeded: range.first >> 64)
    let low = UInt64(truncatingIfNeeded: range.first)
    append(range.family == .inet ? Address.inet(UInt32(low)) : .inet6(high: high, low: low))
    append("/")
    append(range.family.addressBits - (range.last - range.first).nonzeroBitCount)
  }
}
