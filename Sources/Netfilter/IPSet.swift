import KnockBase

/// A set of ipset, by name. Source of the numbers in this file: linux/netfilter/ipset/ip_set.h.
public struct IPSet: BitwiseCopyable, Sendable {
  public let name: SetName
  /// The family of its elements.
  public let addresses: AddressFamily

  /// The longest timeout in seconds. Source: IPSET_MAX_TIMEOUT in the kernel's own ip_set.h, and ipset(8).
  public static let maximumSeconds: Int64 = 2_147_483

  public init(name: SetName, addresses: AddressFamily) {
    self.name = name
    self.addresses = addresses
  }

  /// Error numbers that errno(3) does not have.
  public enum ErrorNumber {
    /// The answer to `test` if the set does not have the element.
    public static let exist: Int32 = 4103
    public static let timeout: Int32 = 4107
    public static let full: Int32 = 4352
  }
}

/// What a set of ipset is, from the answer to `getHeader`.
public struct IPSetKind: Equatable, Sendable {
  public private(set) var isHashIP = false
  public private(set) var isHashNet = false
  /// How long elements stay that get no timeout of their own, in seconds; 0 for ever. Nil if it has no timeouts.
  public private(set) var defaultTimeout: UInt64?
  /// Whether it masks addresses before it stores them.
  public private(set) var hasMask = false
  /// NFPROTO_IPV4 or NFPROTO_IPV6.
  private var family: UInt64 = 0

  public init(attributes: Span<UInt8>) throws(MalformedReply) {
    var kind = IPSetKind()
    try attributes.visitAttributes { type, value throws(MalformedReply) in
      switch type {
      case 3:
        kind.isHashIP = value.isString("hash:ip")
        kind.isHashNet = value.isString("hash:net")
      case 5: kind.family = try value.number(size: 1)
      case 7:
        try value.visitAttributes { type, value throws(MalformedReply) in
          if type == 6 { kind.defaultTimeout = try value.number(size: 4) }
          // IPSET_ATTR_BITMASK, IPSET_ATTR_NETMASK
          if type == 12 || type == 20 { kind.hasMask = true }
        }
      default: break
      }
    }
    self = kind
  }

  private init() {}

  public func holds(_ family: AddressFamily) -> Bool {
    (isHashIP || isHashNet) && self.family == (family == .inet ? 2 : 10)
  }
}

extension Request {
  /// Asks for everything about a set except its elements.
  public mutating func getHeader(_ set: IPSet) {
    command(7, Flags.dump, set) { $0.attribute(6, 1 << 2, size: 4) }
  }

  /// Asks for a list of all elements.
  public mutating func getElements(_ set: IPSet) { command(7, Flags.dump, set) }

  /// Asks whether a prefix is in a set. A single address also is if a prefix in the set has it.
  public mutating func test(_ range: AddressRange, prefixLength: Int, of set: IPSet) {
    command(11, Flags.acknowledge, set) { request in
      request.nested(7) { $0.prefix(range, prefixLength) }
    }
  }

  /// Adds a prefix. If it is there, it gets the new timeout.
  ///
  /// - Parameter seconds: how long it stays, 0 for no timeout. Nil if the set has no timeouts.
  public mutating func add(_ range: AddressRange, prefixLength: Int, to set: IPSet, seconds: Int64?)
  {
    command(9, Flags.acknowledge, set) { request in
      request.nested(7) { data in
        data.prefix(range, prefixLength)
        if let seconds { data.attribute(6 | 0x4000, UInt64(seconds), size: 4) }
      }
    }
  }

  /// Deletes a prefix. It is no error if the set does not have it.
  public mutating func delete(_ range: AddressRange, prefixLength: Int, from set: IPSet) {
    command(10, Flags.acknowledge, set) { request in
      request.nested(7) { $0.prefix(range, prefixLength) }
    }
  }

  @inline(never)
  private mutating func prefix(_ range: AddressRange, _ length: Int) {
    nested(1) {
      $0.attribute(
        (range.family == .inet ? 1 : 2) | 0x4000, address: range.first, of: range.family)
    }
    // A set of single addresses accepts no prefix length.
    if length < range.family.addressBits { attribute(3, UInt64(length), size: 1) }
  }

  @inline(__always)
  private mutating func command(
    _ type: UInt16, _ flags: UInt16, _ set: IPSet, attributes: (inout Request) -> Void = { _ in }
  ) {
    let message = begin(type, flags, set)
    attributes(&self)
    end(message)
  }

  @inline(never)
  private mutating func begin(_ type: UInt16, _ flags: UInt16, _ set: IPSet) -> Int {
    let start = begin(
      subsystem: 6, type, flags, family: set.addresses == .inet ? 2 : 10, resource: 0)
    // The version of the protocol that every kernel since 2.6.39 speaks.
    attribute(1, 6, size: 1)
    attribute(2, set.name)
    return start
  }
}

extension Span<UInt8> {
  /// Calls `body` for each element in a part of the answer to `getElements`.
  public func visitElements(
    of family: AddressFamily, _ body: (SetElement) -> Void
  ) throws(MalformedReply) {
    try visitAttributes { type, elements throws(MalformedReply) in
      guard type == 8 else { return }
      try elements.visitAttributes { _, element throws(MalformedReply) in
        if let element = try element.element(of: family) { body(element) }
      }
    }
  }

  /// Nil for an exception (`nomatch`), which the set does not hold.
  private func element(of family: AddressFamily) throws(MalformedReply) -> SetElement? {
    var first: AddressNumber?
    var length = UInt64(family.addressBits)
    var seconds: UInt64 = 0
    var flags: UInt64 = 0
    try visitAttributes { type, value throws(MalformedReply) in
      switch type {
      case 1:
        try value.visitAttributes { _, value throws(MalformedReply) in
          first = try value.address(of: family)
        }
      case 3: length = try value.number(size: 1)
      case 6: seconds = try value.number(size: 4)
      case 8: flags = try value.number(size: 4)
      default: break
      }
    }
    // IPSET_FLAG_NOMATCH
    guard let first, length <= UInt64(family.addressBits), flags & 4 == 0 else { return nil }
    let range = AddressRange(Address(first, of: family), prefixLength: Int(length))
    return SetElement(
      first: range.first, last: range.last,
      milliseconds: seconds > 0 ? seconds * 1000 : SetElement.forever)
  }
}

extension Span<UInt8> {
  /// Whether it is a text and the NUL after it.
  fileprivate func isString(_ text: Literal) -> Bool {
    hasPrefix(text) && count == text.count + 1 && self[count - 1] == 0
  }
}
