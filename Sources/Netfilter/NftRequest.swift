import KnockBase

/// Requests about sets of nftables. Source of the numbers: linux/netfilter/nf_tables.h.
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

  /// Asks for the element that is an address. In a set with intervals, asks where the element begins that holds it.
  ///
  /// - Parameter isEnd: asks, in a set with intervals, for the end of the element that holds the address before. The
  ///   kernel finds it only if no element begins at `address`.
  @inline(never)
  public mutating func getElement(_ address: AddressNumber, isEnd: Bool = false, of set: NftSet) {
    elements(of: set, 13, Flags.acknowledge) {
      $0.element(address, isEnd: isEnd, in: set, timeout: nil)
    }
  }

  /// Writes a transaction. The kernel makes all the changes at once, or none.
  ///
  /// - Parameter generation: the number of the last transaction. If there was another one since, this one fails with
  ///   ERESTART.
  @inline(__always)
  public mutating func transaction(generation: UInt32, _ changes: (inout Request) -> Void) {
    beginTransaction(generation)
    changes(&self)
    endTransaction()
  }

  /// NFNL_MSG_BATCH_BEGIN with NFNL_BATCH_GENID.
  @inline(never)
  private mutating func beginTransaction(_ generation: UInt32) {
    message(subsystem: 0, 0x10, 0, family: 0, resource: Self.subsystem) {
      $0.attribute(1, UInt64(generation), size: 4)
    }
  }

  /// NFNL_MSG_BATCH_END.
  @inline(never)
  private mutating func endTransaction() {
    message(subsystem: 0, 0x11, 0, family: 0, resource: Self.subsystem)
  }

  /// Adds elements in a transaction. It fails with EEXIST if the set has one of them, or one that overlaps.
  @inline(__always)
  public mutating func add(to set: NftSet, elements: (inout Request) -> Void) {
    self.elements(of: set, 12, Flags.create | Flags.exclusive | Flags.acknowledge, elements)
  }

  /// Deletes elements in a transaction. It fails with ENOENT if the set does not have one of them.
  @inline(__always)
  public mutating func delete(from set: NftSet, elements: (inout Request) -> Void) {
    self.elements(of: set, 14, Flags.acknowledge, elements)
  }

  @inline(__always)
  private mutating func elements(
    of set: NftSet, _ type: UInt16, _ flags: UInt16, _ elements: (inout Request) -> Void
  ) {
    let message = begin(about: set, type, flags)
    nested(3, attributes: elements)
    end(message)
  }

  @inline(never)
  private mutating func message(about set: NftSet, _ type: UInt16, _ flags: UInt16) {
    end(begin(about: set, type, flags))
  }

  @inline(never)
  private mutating func begin(about set: NftSet, _ type: UInt16, _ flags: UInt16) -> Int {
    let start = begin(
      subsystem: Self.subsystem, type, flags, family: set.table.family.rawValue, resource: 0)
    // The same numbers in NFTA_SET_ and NFTA_SET_ELEM_LIST_.
    attribute(1, set.table.name)
    attribute(2, set.name)
    return start
  }

  /// Writes an address, which is an element of a set without intervals.
  ///
  /// - Parameter timeout: how long it stays in milliseconds, 0 for no timeout. Nil if the set has no timeouts, or to
  ///   only name the element.
  public mutating func host(_ address: AddressNumber, in set: NftSet, timeout: UInt64?) {
    element(address, isEnd: false, in: set, timeout: timeout)
  }

  /// Writes an element of a set with intervals: its first address, and the address after its last.
  ///
  /// - Parameter timeout: as for `host`.
  public mutating func interval(_ element: SetElement, in set: NftSet, timeout: UInt64?) {
    self.element(element.first, isEnd: false, in: set, timeout: timeout)
    // No address comes after the greatest one, so the kernel takes no end.
    guard element.last < AddressRange.greatest(of: set.addresses) else { return }
    self.element(element.last.next, isEnd: true, in: set, timeout: nil)
  }

  @inline(never)
  private mutating func element(_ key: AddressNumber, isEnd: Bool, in set: NftSet, timeout: UInt64?)
  {
    nested(1) { element in
      element.nested(1) { $0.attribute(1, address: key, of: set.addresses) }
      if isEnd { element.attribute(3, 1, size: 4) }
      if let timeout { element.attribute(4, timeout, size: 8) }
    }
  }
}
