import KnockBase

/// A set of nftables, by name.
public struct NftSet: BitwiseCopyable, Sendable {
  public let table: NftTable
  public let name: SetName
  /// The family of its elements.
  public let addresses: AddressFamily

  public init(table: NftTable, name: SetName, addresses: AddressFamily) {
    self.table = table
    self.name = name
    self.addresses = addresses
  }
}

/// A table of nftables, by family and name.
public struct NftTable: BitwiseCopyable, Sendable {
  /// Raw values: NFPROTO_, linux/netfilter.h.
  public enum Family: UInt8, BitwiseCopyable, Sendable {
    case inet = 1
    case ip = 2
    case netdev = 5
    case bridge = 7
    case ip6 = 10

    public init?(_ name: Span<UInt8>) {
      if name.equals("inet") {
        self = .inet
      } else if name.equals("ip") {
        self = .ip
      } else if name.equals("ip6") {
        self = .ip6
      } else if name.equals("bridge") {
        self = .bridge
      } else if name.equals("netdev") {
        self = .netdev
      } else {
        return nil
      }
    }

    public var name: Literal {
      switch self {
      case .inet: "inet"
      case .ip: "ip"
      case .ip6: "ip6"
      case .bridge: "bridge"
      case .netdev: "netdev"
      }
    }
  }

  public let family: Family
  public let name: SetName

  public init(family: Family, name: SetName) {
    self.family = family
    self.name = name
  }
}
