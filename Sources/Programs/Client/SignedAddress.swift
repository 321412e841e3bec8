import KnockBase

/// What a knock opens or closes access for, as `-S` says.
enum SignedAddress {
  /// The source address of the datagram.
  case source
  /// What the server sees as the source address. The unspecified address stands for it.
  case observed
  case address(Address)
  /// Our public address in each family; nil if it is not known.
  case publicAddress(inet: Address?, inet6: Address?)

  static var accepted: StaticString {
    "auto, observed, an IPv4 address such as 192.0.2.1, or an IPv6 address"
  }

  /// - Parameter source: the source address of the datagram.
  /// - Returns: nil if nothing can be signed in its family.
  func address(from source: Address) -> Address? {
    switch self {
    case .source: source
    case .observed: source.family == .inet ? .inet(0) : .inet6(high: 0, low: 0)
    case .address(let address): address
    case .publicAddress(let inet, let inet6): source.family == .inet ? inet : inet6
    }
  }
}
