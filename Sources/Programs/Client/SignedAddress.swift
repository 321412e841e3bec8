import KnockBase

/// What a knock opens or closes access for, as `-S` says.
struct SignedAddress {
  enum Kind {
    /// The source address of the datagram.
    case source
    /// What the server sees as the source address. The unspecified address stands for it.
    case observed
    /// The one that `-S` names.
    case address
    /// Our public address in each family.
    case publicAddress
  }

  let kind: Kind
  /// What is signed over IPv4, and over IPv6; nil for the source address, and if it is not known.
  var inet: Address?
  var inet6: Address?

  static let source = SignedAddress(kind: .source)
  static let observed = SignedAddress(
    kind: .observed, inet: .inet(0), inet6: .inet6(high: 0, low: 0))
  static let unknownPublic = SignedAddress(kind: .publicAddress)

  static func address(_ address: Address) -> SignedAddress {
    SignedAddress(kind: .address, inet: address, inet6: address)
  }

  static var accepted: Literal {
    "auto, observed, an IPv4 address such as 192.0.2.1, or an IPv6 address"
  }

  /// - Parameter source: the source address of the datagram.
  /// - Returns: nil if nothing can be signed in its family.
  @inline(never)
  func address(from source: Address) -> Address? {
    kind == .source ? source : source.family == .inet ? inet : inet6
  }
}
