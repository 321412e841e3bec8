import KnockBase
import KnockServer
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

extension FirewallSet {
  /// From the name that a grant has: `inet/filter/knock4` or `ipset/knock4`. It must stay in memory.
  @inline(never)
  init?(name text: Span<UInt8>, addresses: AddressFamily) {
    if text.hasPrefix("ipset/") {
      let name = SetName(text.extracting(6...), limit: SetName.ipsetLimit)
      guard let name else { return nil }
      self = .ipset(IPSet(name: name, addresses: addresses))
    } else {
      var start = 0
      guard let table = NftTable(prefixOf: text, end: &start),
        let name = SetName(text.extracting(start...), limit: SetName.nftLimit)
      else { return nil }
      self = .nft(NftSet(table: table, name: name, addresses: addresses))
    }
  }

  /// The number of its name. Nil if there is no room for that.
  func number(in names: borrowing SetNames) -> UInt16? {
    var text = TextBuffer<520>()
    switch self {
    case .nft(let set):
      text.append(set.table.family.name)
      text.append("/")
      text.append(set.table.name)
      text.append("/")
    case .ipset: text.append("ipset/")
    }
    text.append(name)
    return text.withBytes { names.number(of: $0) }
  }
}

extension NftTable {
  /// The table in `FAMILY/TABLE/NAMES`. Nil if the text has another form.
  ///
  /// - Parameter end: becomes the offset at which the names begin.
  init?(prefixOf text: Span<UInt8>, end: inout Int) {
    guard let familyEnd = text.firstIndex(of: UInt8(ascii: "/")),
      let tableEnd = text.firstIndex(of: UInt8(ascii: "/"), from: familyEnd + 1),
      let family = NftTable.Family(text.extracting(first: familyEnd)),
      let name = SetName(text.extracting(familyEnd + 1..<tableEnd), limit: SetName.nftLimit)
    else { return nil }
    end = tableEnd + 1
    self.init(family: family, name: name)
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
