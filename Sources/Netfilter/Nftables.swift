import KnockBase

/// A set of nftables, by name. Source of all numbers here: linux/netfilter/nf_tables.h.
public struct NftSet: BitwiseCopyable, Sendable {
  public let table: NftTable
  public let name: SetName
  /// What it is to hold.
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

    public var name: StaticString {
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

/// What a set of nftables is, as the kernel tells.
public struct NftSetKind: Equatable, Sendable {
  private let flags: UInt64
  /// What nft(8) calls the type of the elements: 7 `ipv4_addr`, 8 `ipv6_addr`.
  private let keyType: UInt64
  private let keySize: UInt64
  /// Whether elements without a time get one from the set.
  public let hasDefaultTimeout: Bool

  public init(attributes: Span<UInt8>) throws(MalformedReply) {
    var hasDefaultTimeout = false
    var flags: UInt64 = 0
    var keyType: UInt64 = 0
    var keySize: UInt64 = 0
    try attributes.visitAttributes { type, value throws(MalformedReply) in
      switch type {
      case 3: flags = try value.number(size: 4)
      case 4: keyType = try value.number(size: 4)
      case 5: keySize = try value.number(size: 4)
      case 11: hasDefaultTimeout = try value.number(size: 8) > 0
      default: break
      }
    }
    self.hasDefaultTimeout = hasDefaultTimeout
    self.flags = flags
    self.keyType = keyType
    self.keySize = keySize
  }

  public func holds(_ family: AddressFamily) -> Bool {
    switch family {
    case .inet: keyType == 7 && keySize == 4
    case .inet6: keyType == 8 && keySize == 16
    }
  }

  /// Whether it may be changed while rules use it.
  public var isConstant: Bool { flags & 0x02 != 0 }
  public var hasIntervals: Bool { flags & 0x04 != 0 }
  /// A map of any kind: its elements need values.
  public var isMap: Bool { flags & 0x48 != 0 }
  public var hasTimeouts: Bool { flags & 0x10 != 0 }
}

/// Neighbouring addresses that a set holds.
public struct SetElement: Equatable, BitwiseCopyable, Sendable {
  public let first: UInt128
  public var last: UInt128
  /// How long it stays, in milliseconds; `forever` for no end.
  public let milliseconds: UInt64

  public static let forever = UInt64.max

  public init(first: UInt128, last: UInt128, milliseconds: UInt64) {
    self.first = first
    self.last = last
    self.milliseconds = milliseconds
  }
}

extension Request {
  private static let subsystem: UInt16 = 10

  public mutating func getTable(_ table: NftTable) {
    message(subsystem: Self.subsystem, 1, Flags.acknowledge, family: table.family.rawValue) {
      $0.attribute(1, table.name)
    }
  }

  /// Asks for the number of the last transaction.
  public mutating func getGeneration() {
    message(subsystem: Self.subsystem, 16, Flags.acknowledge, family: 0)
  }

  public mutating func getSet(_ set: NftSet) { message(about: set, 10, Flags.acknowledge) }

  /// Asks for a list of all elements.
  public mutating func getElements(_ set: NftSet) { message(about: set, 13, Flags.dump) }

  /// Asks for the element of a set that is an address, or where the one begins that holds it.
  public mutating func getElement(_ address: UInt128, of set: NftSet) {
    elements(of: set, 13, Flags.acknowledge) { $0.host(address, in: set, timeout: nil) }
  }

  /// Asks for the end of the element with intervals that holds the address before. The kernel finds
  /// it only where no element begins at `address`.
  public mutating func getEnd(from address: UInt128, of set: NftSet) {
    elements(of: set, 13, Flags.acknowledge) {
      $0.element(address, isEnd: true, in: set, timeout: nil)
    }
  }

  /// Writes a transaction: all that `changes` writes is done at once, or nothing.
  ///
  /// - Parameter generation: of the last transaction before; if there was one since, this one fails
  ///   with ERESTART.
  public mutating func transaction(generation: UInt32, _ changes: (inout Request) -> Void) {
    // NFNL_MSG_BATCH_BEGIN with NFNL_BATCH_GENID, and NFNL_MSG_BATCH_END.
    message(subsystem: 0, 0x10, 0, family: 0, resource: Self.subsystem) {
      $0.attribute(1, UInt64(generation), size: 4)
    }
    changes(&self)
    message(subsystem: 0, 0x11, 0, family: 0, resource: Self.subsystem)
  }

  /// Adds elements in a transaction, which fails with EEXIST where one is there, or overlaps with one
  /// that is.
  public mutating func add(to set: NftSet, elements: (inout Request) -> Void) {
    self.elements(of: set, 12, Flags.create | Flags.exclusive | Flags.acknowledge, elements)
  }

  /// Deletes elements in a transaction, which fails with ENOENT where one is not there.
  public mutating func delete(from set: NftSet, elements: (inout Request) -> Void) {
    self.elements(of: set, 14, Flags.acknowledge, elements)
  }

  private mutating func elements(
    of set: NftSet, _ type: UInt16, _ flags: UInt16, _ elements: (inout Request) -> Void
  ) {
    message(about: set, type, flags) { $0.nested(3, attributes: elements) }
  }

  private mutating func message(
    about set: NftSet, _ type: UInt16, _ flags: UInt16,
    attributes: (inout Request) -> Void = { _ in }
  ) {
    message(subsystem: Self.subsystem, type, flags, family: set.table.family.rawValue) {
      // The same numbers in NFTA_SET_ and NFTA_SET_ELEM_LIST_.
      $0.attribute(1, set.table.name)
      $0.attribute(2, set.name)
      attributes(&$0)
    }
  }

  /// One address as an element of a set without intervals.
  ///
  /// - Parameter timeout: how long it stays, in milliseconds, 0 for ever; nil for a set without
  ///   timeouts, and to name the element only.
  public mutating func host(_ address: UInt128, in set: NftSet, timeout: UInt64?) {
    element(address, isEnd: false, in: set, timeout: timeout)
  }

  /// An element of a set with intervals: where it begins, and where it has ended.
  ///
  /// - Parameter timeout: as for `host`.
  public mutating func interval(_ element: SetElement, in set: NftSet, timeout: UInt64?) {
    self.element(element.first, isEnd: false, in: set, timeout: timeout)
    // The last of all intervals may have no end.
    guard element.last < AddressRange.greatest(of: set.addresses) else { return }
    self.element(element.last + 1, isEnd: true, in: set, timeout: nil)
  }

  private mutating func element(_ key: UInt128, isEnd: Bool, in set: NftSet, timeout: UInt64?) {
    nested(1) { element in
      element.nested(1) { $0.attribute(1, address: key, of: set.addresses) }
      if isEnd { element.attribute(3, 1, size: 4) }
      if let timeout { element.attribute(4, timeout, size: 8) }
    }
  }
}

extension Span<UInt8> {
  /// Whether a table belongs to a program, which alone may change it, from the answer to `getTable`.
  public func isOwnedTable() throws(MalformedReply) -> Bool {
    var isOwned = false
    try visitAttributes { type, value throws(MalformedReply) in
      if type == 2 { isOwned = try value.number(size: 4) & 0x02 != 0 }
    }
    return isOwned
  }

  /// The number of the last transaction, from the answer to `getGeneration`.
  public func generation() throws(MalformedReply) -> UInt32? {
    var generation: UInt32?
    try visitAttributes { type, value throws(MalformedReply) in
      if type == 1 { generation = UInt32(truncatingIfNeeded: try value.number(size: 4)) }
    }
    return generation
  }

  /// Calls `body` for each boundary in an answer to `getElements` or `getElement`.
  public func visitBoundaries(
    of family: AddressFamily, _ body: (Boundary) -> Void
  ) throws(MalformedReply) {
    try visitAttributes { type, elements throws(MalformedReply) in
      guard type == 3 else { return }
      try elements.visitAttributes { _, element throws(MalformedReply) in
        if let boundary = try element.boundary(of: family) { body(boundary) }
      }
    }
  }

  /// Nil for the element that stands for all other addresses (`*`).
  private func boundary(of family: AddressFamily) throws(MalformedReply) -> Boundary? {
    var address: UInt128?
    var flags: UInt64 = 0
    var milliseconds = SetElement.forever
    try visitAttributes { type, value throws(MalformedReply) in
      switch type {
      case 1:
        try value.visitAttributes { type, key throws(MalformedReply) in
          if type == 1 { address = try key.address(of: family) }
        }
      case 3: flags = try value.number(size: 4)
      case 5: milliseconds = try value.number(size: 8)
      default: break
      }
    }
    guard let address else { return nil }
    return Boundary(address: address, isEnd: flags & 1 != 0, milliseconds: milliseconds)
  }
}
