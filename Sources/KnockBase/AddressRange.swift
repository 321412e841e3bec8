/// Consecutive addresses of one family, as numbers. A grant is for such a range.
public struct AddressRange: Equatable, BitwiseCopyable, Sendable {
  public let family: AddressFamily
  public let first: AddressNumber
  /// The last address in the range.
  public let last: AddressNumber

  /// The addresses whose first `prefixLength` bits are those of `address`.
  public init(_ address: Address, prefixLength: Int) {
    let number: AddressNumber
    switch address {
    case .inet(let bits): number = AddressNumber(low: UInt64(bits))
    case .inet6(let high, let low): number = AddressNumber(high: high, low: low)
    }
    family = address.family
    let below = AddressNumber(ones: family.addressBits - prefixLength)
    first = number & ~below
    last = number | below
  }

  /// A part of another range, from an address to another.
  public init(_ first: AddressNumber, to last: AddressNumber, of range: AddressRange) {
    precondition(range.first <= first && first <= last && last <= range.last)
    family = range.family
    self.first = first
    self.last = last
  }

  /// How many bits all addresses of the range have in common. The range must be a prefix.
  public var prefixLength: Int { family.addressBits - (first ^ last).nonzeroBitCount }

  /// Whether all addresses of another range are in this one.
  public func contains(_ other: AddressRange) -> Bool {
    family == other.family && first <= other.first && other.last <= last
  }

  /// The greatest address of a family.
  public static func greatest(of family: AddressFamily) -> AddressNumber {
    AddressNumber(ones: family.addressBits)
  }
}

extension TextSink where Self: ~Copyable {
  /// `192.0.2.0/24`. The range must be a prefix.
  @inline(never)
  public mutating func append(_ range: AddressRange) {
    append(Address(range.first, of: range.family))
    append("/")
    append(range.prefixLength)
  }
}
