import KnockBase
import Netfilter

/// Why a set cannot be used, or was not changed.
struct FirewallError: Error {
  enum Reason: Error, Equatable {
    case noTable, ownedTable, noSet
    case otherType, map, constant, noTimeouts, noIntervals, defaultTimeout, mask
    case full
    /// Too many elements overlap with the range to sort them, or to read them in time.
    case tooMany
    /// Somebody else has added the address without a timeout, so it stays.
    case permanent
    case netfilter(NetfilterSocket.Failure)

    static func system(_ error: SystemError) -> Reason { .netfilter(.system(error)) }
  }

  let reason: Reason
  let set: FirewallSet
  /// What the set must have: timeouts, and intervals.
  let needsTimeouts: Bool
  let needsIntervals: Bool
  /// Whether the set was found at the start. Until then, its name may be the key in the wrong place.
  let wasFound: Bool
}

extension FirewallError {
  init(_ reason: Reason, _ set: FirewallSet, _ settings: FirewallSettings, wasFound: Bool) {
    self.init(
      reason: reason, set: set, needsTimeouts: settings.seconds != nil,
      needsIntervals: settings.grantsPrefixes(for: set.addresses), wasFound: wasFound)
  }
}

extension FirewallError: MessageConvertible {
  var message: Message {
    switch reason {
    case .noTable: "there is no table \(table)\(remedy)"
    case .ownedTable:
      "table \(table) belongs to another program (flags owner), which alone can change it"
    case .noSet: "there is no \(name)\(remedy)"
    case .otherType: "\(name) does not hold \(elementType)\(remedy)"
    case .map: "\(name) is a map\(remedy)"
    case .constant: "\(name) is constant\(remedy)"
    case .noTimeouts: "\(name) has no timeouts, which --ttl needs\(remedy)"
    case .noIntervals:
      "\(name) does not hold prefixes, which --grant-prefix\(family == .inet ? "4" : "6") needs\(remedy)"
    case .defaultTimeout:
      "\(name) has intervals and a timeout of its own, which is not safe before Linux 6.2\(remedy)"
    case .mask: "\(name) has a mask, so it would hold more addresses than those that knock\(remedy)"
    case .full: "\(name) is full"
    case .tooMany: "\(name) has too many elements in the range"
    case .permanent: "\(name) holds it without a timeout, so it is not from a knock with --ttl"
    case .netfilter(let failure): "\(name): \(failure)"
    }
  }

  private var family: AddressFamily { self.set.addresses }

  @inline(never)
  private var name: Message {
    switch set {
    case .nft: "\(set)"
    case .ipset(let set): "ipset \(shown(set))"
    }
  }

  /// The name of a set of ipset. Those of nftables are always shown: a key does not look like FAMILY/TABLE/SET.
  @inline(never)
  private func shown(_ set: IPSet) -> Message {
    if wasFound || log.showsArguments { "\(set.name)" } else { "(not shown, it may be the key)" }
  }

  @inline(never)
  private var table: Message {
    if case .nft(let set) = set { "\(set.table)" } else { "" }
  }

  private var elementType: Message {
    switch set {
    case .ipset: "addresses of family \(family.name) as hash:ip or hash:net do"
    default: family == .inet ? "ipv4_addr" : "ipv6_addr"
    }
  }

  /// The command of the system that makes a set that can be used.
  @inline(never)
  private var remedy: Message {
    switch set {
    case .nft(let set):
      "; to make it: nft '\(removal(of: set))add set \(table) \(set.name) { type \(elementType);\(flags) }'"
    case .ipset(let set): "; to make it: \(removal(of: set))ipset create \(shown(set)) \(options)"
    }
  }

  @inline(never)
  private func removal(of set: NftSet) -> Message {
    switch reason {
    case .noTable: "add table \(table); "
    case .noSet: ""
    default: "delete set \(table) \(set.name); "
    }
  }

  private func removal(of set: IPSet) -> Message {
    if reason == .noSet { "" } else { "ipset destroy \(shown(set)); " }
  }

  private var flags: Literal {
    switch (needsTimeouts, needsIntervals) {
    case (true, true): " flags timeout, interval;"
    case (true, false): " flags timeout;"
    case (false, true): " flags interval;"
    case (false, false): ""
    }
  }

  private var options: Message {
    """
    \(needsIntervals ? "hash:net" : "hash:ip") family \(family.name)\
    \(needsTimeouts ? " timeout 0" : "")
    """
  }
}

extension NetfilterSocket.Failure: MessageConvertible {
  var message: Message {
    switch self {
    case .system(let error): "\(error)\(Self.hint(about: error))"
    case .noAnswer: "the kernel does not answer"
    case .malformedAnswer: "the kernel's answer is malformed"
    case .requestTooLong: "the request is too long"
    case .changed: "other programs keep changing the rules"
    }
  }

  private static func hint(about error: SystemError) -> Literal {
    switch error {
    case .notPermitted: " (the capability CAP_NET_ADMIN is needed)"
    // Returned for a part of netfilter that the kernel lacks.
    case .invalid, .protocolNotSupported: " (does the kernel have nf_tables or ip_set?)"
    default: ""
    }
  }
}
