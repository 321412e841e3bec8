import KnockBase

/// What a set of nftables is, from the answer to `getSet`. Source of the numbers: linux/netfilter/nf_tables.h.
public struct NftSetKind: Equatable, Sendable {
  private let flags: UInt64
  /// The type of the elements: 7 is `ipv4_addr` and 8 is `ipv6_addr`, as nft(8) names them.
  private let keyType: UInt64
  private let keySize: UInt64
  /// How long elements stay that get no timeout of their own, in milliseconds; 0 for ever.
  public let defaultTimeout: UInt64

  public init(attributes: Span<UInt8>) throws(MalformedReply) {
    var defaultTimeout: UInt64 = 0
    var flags: UInt64 = 0
    var keyType: UInt64 = 0
    var keySize: UInt64 = 0
    try attributes.visitAttributes { type, value throws(MalformedReply) in
      switch type {
      case 3: flags = try value.number(size: 4)
      case 4: keyType = try value.number(size: 4)
      case 5: keySize = try value.number(size: 4)
      case 11: defaultTimeout = try value.number(size: 8)
      default: break
      }
    }
    self.defaultTimeout = defaultTimeout
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

  /// Whether it cannot change while rules use it.
  public var isConstant: Bool { flags & 0x02 != 0 }
  public var hasIntervals: Bool { flags & 0x04 != 0 }
  /// Whether it is a map of any kind, whose elements need values.
  public var isMap: Bool { flags & 0x48 != 0 }
  public var hasTimeouts: Bool { flags & 0x10 != 0 }
}

extension Span<UInt8> {
  /// Whether a table belongs to a program, which alone can change it. From the answer to `getTable`.
  public func isOwnedTable() throws(MalformedReply) -> Bool {
    var isOwned = false
    try visitAttributes { type, value throws(MalformedReply) in
      if type == 2 { isOwned = try value.number(size: 4) & 0x02 != 0 }
    }
    return isOwned
  }

  /// The number of the last transaction. From the answer to `getGeneration`.
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

  /// Nil for `*`, the element that stands for all other addresses.
  private func boundary(of family: AddressFamily) throws(MalformedReply) -> Boundary? {
    var address: AddressNumber?
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
