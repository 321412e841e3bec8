import KnockBase
import Netfilter

/// Why a set cannot be used, or was not changed.
struct FirewallError: Error {
  enum Reason: Error, Equatable {
    case noTable, ownedTable, noSet
    case otherType, map, constant, noTimeouts, noIntervals, defaultTimeout, mask
    case full
    /// Somebody else has added the address without a timeout, so it stays.
    case permanent
    case netfilter(NetfilterSocket.Failure)

    static func system(_ error: SystemError) -> Reason { .netfilter(.system(error)) }
  }

  let reason: Reason
  let set: FirewallSet
  let needsTimeouts: Bool
  let needsPrefixes: Bool
  /// Whether the set was found at the start. Until then, its name may be the key in the wrong place.
  let wasFound: Bool
}

extension FirewallError: MessageConvertible {
  var message: Message {
    switch reason {
    case .noTable: "there is no \(table)\(remedy)"
    case .ownedTable: "\(table) belongs to another program (flags owner), which alone can change it"
    case .noSet: "there is no \(name)\(remedy)"
    case .otherType: "\(name) does not hold \(elementType)\(remedy)"
    case .map: "\(name) is a map\(remedy)"
    case .constant: "\(name) is constant\(remedy)"
    case .noTimeouts: "\(name) has no timeouts, which --ttl needs\(remedy)"
    case .noIntervals:
      "\(name) does not hold prefixes, which --grant-prefix\(set.addresses == .inet ? "4" : "6") needs\(remedy)"
    case .defaultTimeout:
      "\(name) has intervals and a timeout of its own, which is not safe before Linux 6.2\(remedy)"
    case .mask: "\(name) has a mask, so it would hold more addresses than those that knock\(remedy)"
    case .full: "\(name) is full"
    case .permanent: "\(name) holds it without a timeout, so it is not from a knock with --ttl"
    case .netfilter(let failure): "\(name): \(failure)"
    }
  }

  private var name: Message {
    switch set {
    case .nft: "\(set)"
    case .ipset: "ipset \(ipsetName)"
    }
  }

  /// The names of nftables are always shown: a key does not look like FAMILY/TABLE/SET.
  private var ipsetName: Message {
    if wasFound || log.showsArguments { "\(set.name)" } else { "(not shown, it may be the key)" }
  }

  private var table: Message {
    if case .nft(let set) = set { "table \(set.table)" } else { "" }
  }

  private var elementType: Message {
    switch set {
    case .nft: set.addresses == .inet ? "ipv4_addr" : "ipv6_addr"
    case .ipset(let set): "addresses of family \(set.addresses.name) as hash:ip or hash:net do"
    }
  }

  /// The command of the system that makes the set as it must be.
  private var remedy: Message {
    switch set {
    case .nft(let set):
      "; to make it: nft '\(removal)add set \(set.table) \(set.name) { type \(elementType);\(flags) }'"
    case .ipset(let set):
      "; to make it: \(removal)ipset create \(ipsetName) \(needsPrefixes ? "hash:net" : "hash:ip") family \(set.addresses.name)\(needsTimeouts ? " timeout 0" : "")"
    }
  }

  /// What comes before a set can be made.
  private var removal: Message {
    switch (set, reason) {
    case (.nft(let set), .noTable): "add table \(set.table); "
    case (_, .noSet): ""
    case (.nft(let set), _): "delete set \(set.table) \(set.name); "
    case (.ipset, _): "ipset destroy \(ipsetName); "
    }
  }

  private var flags: Message {
    switch (needsTimeouts, needsPrefixes) {
    case (true, true): " flags timeout, interval;"
    case (true, false): " flags timeout;"
    case (false, true): " flags interval;"
    case (false, false): ""
    }
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

  private static func hint(about error: SystemError) -> StaticString {
    switch error {
    case .notPermitted: " (the capability CAP_NET_ADMIN is needed)"
    // Returned for a part of netfilter that the kernel lacks.
    case .invalid, .protocolNotSupported: " (does the kernel have nf_tables or ip_set?)"
    default: ""
    }
  }
}
