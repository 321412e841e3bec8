import KnockBase
import Netfilter

/// Which sets of the kernel a knock changes, and how.
struct FirewallSettings {
  enum Sets {
    case nft(NftTable)
    case ipset
  }

  private(set) var sets: Sets?
  private var inetName: SetName?
  private var inet6Name: SetName?
  /// How long a grant lasts; nil until it is closed.
  var seconds: Int64?
  /// Whether the kernel can end what is in the sets.
  var inetHasTimeouts = false
  var inet6HasTimeouts = false
  private(set) var inetPrefixLength = AddressFamily.inet.addressBits
  private(set) var inet6PrefixLength = AddressFamily.inet6.addressBits

  var optionName: Literal {
    if case .ipset = sets { "--ipset" } else { "--nft" }
  }

  /// Whether a knock for an address of this family can be acted on.
  func covers(_ family: AddressFamily) -> Bool { sets == nil || set(for: family) != nil }

  /// The set that knocks of a family change, if there is one.
  @inline(never)
  func set(for family: AddressFamily) -> FirewallSet? {
    guard let name = family == .inet ? inetName : inet6Name else { return nil }
    return switch sets {
    case .nft(let table): .nft(NftSet(table: table, name: name, addresses: family))
    case .ipset: .ipset(IPSet(name: name, addresses: family))
    case nil: nil
    }
  }

  /// What a knock of a family does: `grants a /32 in set knock4 of table inet filter for 60 s`.
  ///
  /// - Parameter duration: how long the kernel keeps it (microseconds); nil for ever.
  @inline(never)
  func grant(of family: AddressFamily, duration: Int64?) -> Message {
    guard let set = set(for: family) else {
      return "no set for \(family.name), its knocks are refused"
    }
    return "grants a /\(prefixLength(for: family)) in \(set)\(text(duration))"
  }

  private func text(_ duration: Int64?) -> Message {
    guard let duration else { return " until it is closed" }
    return " for \(seconds: duration) s\(seconds == nil ? " (the set's own time)" : "")"
  }

  func prefixLength(for family: AddressFamily) -> Int {
    family == .inet ? inetPrefixLength : inet6PrefixLength
  }

  /// Whether the set must hold more than single addresses.
  func grantsPrefixes(for family: AddressFamily) -> Bool {
    prefixLength(for: family) < family.addressBits
  }

  /// Takes `FAMILY/TABLE/SET4[,SET6]`. Returns false if the text has another form.
  mutating func setNft(_ text: Span<UInt8>) -> Bool {
    var start = 0
    guard let table = NftTable(prefixOf: text, end: &start),
      setNames(text.extracting(start...), limit: SetName.nftLimit)
    else { return false }
    sets = .nft(table)
    return true
  }

  /// Takes `SET4[,SET6]`. Returns false if the text has another form.
  mutating func setIPSet(_ text: Span<UInt8>) -> Bool {
    guard setNames(text, limit: SetName.ipsetLimit) else { return false }
    sets = .ipset
    return true
  }

  mutating func removeSets() { (sets, inetName, inet6Name) = (nil, nil, nil) }

  /// Either name may be empty, but not both.
  private mutating func setNames(_ text: Span<UInt8>, limit: Int) -> Bool {
    let comma = text.firstIndex(of: UInt8(ascii: ","))
    let inet = text.extracting(first: comma ?? text.count)
    let inet6 = text.extracting((comma.map { $0 + 1 } ?? text.count)...)
    inetName = SetName(inet, limit: limit)
    inet6Name = SetName(inet6, limit: limit)
    let isComplete = (inetName != nil || inet.isEmpty) && (inet6Name != nil || inet6.isEmpty)
    return isComplete && (inetName != nil || inet6Name != nil)
  }

  /// Takes the length of a prefix, in bits. Returns false if it is out of range.
  mutating func setPrefixLength(_ text: Span<UInt8>, for family: AddressFamily) -> Bool {
    guard let number = Numbers.integer(text) else { return false }
    switch family {
    case .inet:
      guard number >= 16, number <= 32 else { return false }
      inetPrefixLength = Int(number)
    case .inet6:
      guard number >= 48, number <= 128 else { return false }
      inet6PrefixLength = Int(number)
    }
    return true
  }
}
