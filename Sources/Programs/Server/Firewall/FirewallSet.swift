import KnockBase
import Netfilter

/// A set of the kernel that knocks of one address family change.
enum FirewallSet {
  case nft(NftSet)
  case ipset(IPSet)

  var name: SetName {
    switch self {
    case .nft(let set): set.name
    case .ipset(let set): set.name
    }
  }

  var addresses: AddressFamily {
    switch self {
    case .nft(let set): set.addresses
    case .ipset(let set): set.addresses
    }
  }
}

extension FirewallSet: MessageConvertible {
  /// `set knock4 of table inet filter` or `ipset knock4`.
  var message: Message {
    switch self {
    case .nft(let set): "set \(set.name) of table \(set.table)"
    case .ipset(let set): "ipset \(set.name)"
    }
  }
}

extension NftTable: MessageConvertible {
  /// `inet filter`.
  var message: Message { "\(family.name) \(name)" }
}

extension Message.Parts {
  @inline(never)
  mutating func appendInterpolation(_ name: SetName) { write { $0.append(name) } }
}
