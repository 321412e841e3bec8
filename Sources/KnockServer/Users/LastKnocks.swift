import KnockBase
import KnockProtocol

/// When each user last knocked, and from where: the file `users` in the state directory, as this process has it in its
/// memory. Numbers are little-endian, offsets and sizes in bytes:
///
///     offset  size     field
///     0       32       see `FileHeader`
///     4096    64 each  records, see `Record`
///
/// The record of a user is at the place of their slot. The next server, where slots are others, moves it.
public struct LastKnocks: ~Copyable {
  /// A user's last knock: 64 bytes, all zero if the place was never used. Offsets in bytes:
  ///
  ///     offset  size  field
  ///     0       32    name, then zeros
  ///     32      8     microseconds since the Unix epoch, by the system's clock
  ///     40      16    source: the upper and the lower half of IPv6, or IPv4 as ::ffff:192.0.2.1; zero if unknown
  ///     56      8     checksum of the other fields
  public struct Record: BitwiseCopyable {
    private var words = InlineArray<8, LittleEndian<UInt64>>(
      repeating: LittleEndian(wrappedValue: 0))

    /// An empty record.
    fileprivate init() {}

    fileprivate init(_ name: UserName, _ knock: LastKnock) {
      for index in 0..<4 { self[index] = name[index] }
      self[4] = UInt64(bitPattern: knock.time)
      switch knock.source {
      case .inet(let bits): self[6] = Self.mappedInet | UInt64(bits)
      case .inet6(let high, let low): (self[5], self[6]) = (high, low)
      case nil: break
      }
      self[7] = expectedChecksum
    }

    /// What the lower half of IPv4 begins with.
    private static let mappedInet: UInt64 = 0xFFFF << 32

    private subscript(index: Int) -> UInt64 {
      get { words[index].wrappedValue }
      set { words[index].wrappedValue = newValue }
    }

    private var expectedChecksum: UInt64 {
      var sum = Checksum()
      for index in 0..<7 { sum.add(self[index]) }
      return sum.value
    }

    public var isEmpty: Bool {
      var bits: UInt64 = 0
      for index in 0..<8 { bits |= self[index] }
      return bits == 0
    }

    /// Nil if the record is empty or damaged.
    fileprivate var name: UserName? {
      self[7] == expectedChecksum ? UserName { self[$0] } : nil
    }

    fileprivate var knock: LastKnock {
      let isInet = self[5] == 0 && self[6] >> 32 == Self.mappedInet >> 32
      let address =
        isInet
        ? Address.inet(UInt32(truncatingIfNeeded: self[6])) : .inet6(high: self[5], low: self[6])
      return LastKnock(
        time: Int64(bitPattern: self[4]), source: address.refusal == nil ? address : nil)
    }
  }

  /// How many records a file can have. It has a multiple of `step`.
  public static let capacity = (Users.slotCount + step - 1) / step * step
  /// As many records as fit into a page.
  private static let step = 64

  private let header: Storage<UInt64>
  private let records: Storage<Record>
  /// How many records the file has.
  private var count = step
  /// The record that has changed.
  private var changed = 0

  /// - Parameters:
  ///   - header: 4 numbers.
  ///   - records: `capacity`, all zero. Only those of users who knock are touched.
  public init(header: consuming Storage<UInt64>, records: consuming Storage<Record>) {
    precondition(header.count == FileHeader.size / 8 && records.count == Self.capacity)
    self.header = header
    self.records = records
  }

  /// How many records an existing file has.
  public static func capacity(
    of header: borrowing Storage<UInt64>
  ) throws(FileHeader.Failure) -> Int {
    try FileHeader.capacity(of: header, .users)
  }

  /// Takes over the records of the users. Those of others are dropped. Returns false if one is damaged.
  public mutating func adopt(_ old: borrowing Storage<Record>, _ users: borrowing Users) -> Bool {
    var isWhole = true
    for place in 0..<old.count where !old[place].isEmpty {
      let record = old[place]
      guard let name = record.name else {
        isWhole = false
        continue
      }
      // A user may have come again in another slot while the file could not be written.
      if let slot = users.slot(named: name),
        records[slot].isEmpty || records[slot].knock.time <= record.knock.time
      {
        set(record, at: slot)
      }
    }
    return isWhole
  }

  /// Records an accepted knock. Then `save` comes.
  public mutating func record(_ knock: LastKnock, of user: User) {
    set(Record(user.name, knock), at: user.slot)
  }

  /// Forgets the last knock of the user in a slot. Returns whether there was one. Then `save` comes.
  public mutating func remove(at slot: Int) -> Bool {
    guard !records[slot].isEmpty else { return false }
    set(Record(), at: slot)
    return true
  }

  private mutating func set(_ record: Record, at slot: Int) {
    records[slot] = record
    changed = slot
    count = max(count, (slot / Self.step + 1) * Self.step)
  }

  /// The last knock of the user in a slot of the table; nil if there was none.
  public func knock(of user: User) -> LastKnock? {
    let record = records[user.slot]
    return record.name == user.name ? record.knock : nil
  }

  /// The size of the file. If it has grown, all must be written.
  public var fileSize: Int { FileHeader.pageSize + count * MemoryLayout<Record>.stride }

  /// Calls `write` with the record that has changed, or with all of the file, and the offset.
  public func save<Failure>(
    all: Bool, _ write: (RawSpan, Int) throws(Failure) -> Void
  ) throws(Failure) {
    if all {
      FileHeader.write(.users, capacity: count, to: header)
      try header.withElements(0..<header.count) { header throws(Failure) in
        try write(unsafe header.bytes, 0)
      }
    }
    let places = all ? 0..<count : changed..<changed + 1
    try records.withElements(places) { records throws(Failure) in
      let offset = FileHeader.pageSize + places.lowerBound * MemoryLayout<Record>.stride
      try write(unsafe records.bytes, offset)
    }
  }
}

/// A user's last accepted knock.
public struct LastKnock: Equatable, BitwiseCopyable, Sendable {
  /// Microseconds since the Unix epoch, by the system's clock.
  public let time: Int64
  /// Where it came from; nil if unknown.
  public let source: Address?

  public init(time: Int64, source: Address?) {
    self.time = time
    self.source = source
  }
}
