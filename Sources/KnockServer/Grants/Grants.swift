import KnockBase
import KnockProtocol

/// The grants: the addresses that access is open for, and when it is to be closed. They are kept in a file,
/// the journal of `--close-after`.
///
/// A grant is written to the journal before its open command runs. It is erased when its close command has
/// succeeded. So a later process can close what this one leaves open, however this one ends. To change a
/// grant, a second record is written before the first is erased, so that one of them is always whole.
///
/// Records hold times by the system's clock, because a later process must understand them (microseconds since
/// the Unix epoch). This process goes by deadlines in monotonic microseconds.
public struct Grants: ~Copyable {
  /// After a close has failed, it is tried again after a minute, three times, and then every hour for a day.
  static let quickRetries: UInt8 = 3
  static let retries: UInt8 = 27
  static let quickInterval = 60 * Microseconds.second
  static let slowInterval = 60 * quickInterval

  /// The records are only written. A later process reads them.
  private let records: Storage<Record>
  private var table: GrantTable
  private var nextSequence: UInt64 = 1
  /// How many close commands wait or run, for all grants.
  public private(set) var closingCount = 0

  /// The size of a file for a number of grants (bytes): a header, a record each, and one more to write to.
  public static func fileSize(forGrants capacity: Int) -> Int {
    FileHeader.pageSize + (capacity + 1) * MemoryLayout<Record>.stride
  }

  /// Writes the header of a file that is all zero.
  public static func writeHeader(capacity: Int, to page: borrowing Storage<UInt64>) {
    FileHeader.write(.grants, capacity: capacity, to: page)
  }

  /// How many grants an existing file has room for.
  public static func capacity(
    of page: borrowing Storage<UInt64>
  ) throws(FileHeader.Failure) -> Int {
    try FileHeader.capacity(of: page, .grants)
  }

  /// - Parameters:
  ///   - records: one more than the greatest number of grants; all zero.
  ///   - states, heap: as many as `records`.
  ///   - index: for as many.
  public init(
    records: consuming Storage<Record>, states: consuming Storage<State>,
    heap: consuming Storage<UInt32>, index: consuming PositionIndex
  ) {
    precondition(records.count >= 2 && records.count <= 1 << 30)
    precondition(states.count == records.count)
    self.records = records
    table = GrantTable(states: states, heap: heap, index: index)
  }

  /// How many grants there are.
  public var count: Int { table.count }

  private var capacity: Int { records.count - 1 }

  // What an earlier process has left

  /// What `adopt` has found.
  public struct Found {
    /// How many grants.
    public var count = 0
    /// How many of them have expired.
    public var overdueCount = 0
    /// How many records are damaged. One may be unfinished: its process was killed before the command ran.
    public var damagedCount = 0
    /// Whether there was room for all.
    public var fits = true

    public init() {}
  }

  /// Takes over the records of another process, which may still be writing them.
  ///
  /// - Parameters:
  ///   - wallNow: microseconds since the Unix epoch.
  ///   - now: monotonic microseconds.
  public mutating func adopt(
    _ others: borrowing Storage<Record>, wallNow: Int64, now: Int64
  ) -> Found {
    var found = Found()
    for position in 0..<others.count {
      let record = others[position]
      guard let address = record.address else {
        if !record.isEmpty { found.damagedCount += 1 }
        continue
      }
      if let old = table.position(of: address) {
        guard table[old].sequence < record.sequence else { continue }
        remove(at: old)
        found.count -= 1
      }
      found.count += 1
      guard count < capacity else {
        found.fits = false
        continue
      }
      let position = write(
        State(
          address, since: record.since, asked: record.asked, ends: record.ends,
          deadline: now + record.remaining(at: wallNow)), replacing: nil)
      // To be compared with another record for the same address. In the new file the numbers are others.
      table[position].sequence = record.sequence
    }
    for place in 0..<count where table[table.position(at: place)].deadline <= now {
      found.overdueCount += 1
    }
    return found
  }

  // Changes

  /// Records that access is about to be opened, or stays open longer. Returns false if there is no room.
  ///
  /// - Parameters:
  ///   - seconds: how long access is open from now on.
  ///   - wallNow, now: as for `adopt`.
  public mutating func open(
    _ address: Address, seconds: Int64, wallNow: Int64, now: Int64
  ) -> Bool {
    let wallNow = Self.clamped(wallNow)
    let old = table.position(of: address)
    guard old != nil || count < capacity else { return false }
    let duration = seconds * Microseconds.second
    var state = State(
      address, since: wallNow, asked: wallNow, ends: wallNow + duration, deadline: now + duration)
    if let old {
      state.closing = table[old].closing
      if table[old].deadline < .max { state.since = min(wallNow, table[old].since) }
    }
    _ = write(state, replacing: old)
    return true
  }

  /// Records that access is about to be closed before the grant expires. Returns false if there is no grant;
  /// `endClose` is then not called.
  public mutating func beginClose(_ address: Address, wallNow: Int64) -> Bool {
    guard let old = table.position(of: address) else { return false }
    var state = table[old]
    state.ends = min(state.ends, max(Self.clamped(wallNow), state.asked))
    state.deadline = .max
    state.closing += 1
    closingCount += 1
    _ = write(state, replacing: old)
    return true
  }

  /// Records that access is about to be closed for the first grant that has expired. Nil if there is none.
  public mutating func beginNextClose(wallNow: Int64, now: Int64) -> Address? {
    guard let position = table.first, table[position].deadline <= now else { return nil }
    let address = table[position].address
    // If the record says that the grant lasts longer, it must say now that it does not.
    guard table[position].ends <= Self.clamped(wallNow) else {
      _ = beginClose(address, wallNow: wallNow)
      return address
    }
    closingCount += 1
    table[position].deadline = .max
    table[position].closing += 1
    table.deadlineChanged(at: position)
    return address
  }

  /// Records that a part of an attempt to close has failed. `endClose` is still to be called.
  public mutating func recordFailure(_ address: Address) {
    if let position = table.position(of: address) { table[position].hasFailed = true }
  }

  /// The result of an attempt to close.
  public enum Closing { case done, retriedSoon, retriedLater, givenUp }

  /// Records how an attempt to close has ended, after `beginClose` or `beginNextClose`. Changes nothing if access
  /// was opened again meanwhile.
  public mutating func endClose(_ address: Address, succeeded: Bool, now: Int64) -> Closing {
    guard let position = table.position(of: address), table[position].closing > 0 else {
      return .done
    }
    closingCount -= 1
    table[position].closing -= 1
    guard table[position].closing == 0, table[position].deadline == .max else { return .done }
    guard !succeeded || table[position].hasFailed, !table[position].isForgotten else {
      remove(at: position)
      return .done
    }
    guard table[position].failures < Self.retries else {
      remove(at: position)
      return .givenUp
    }
    table[position].failures += 1
    table[position].hasFailed = false
    let isSoon = table[position].failures <= Self.quickRetries
    table[position].deadline = now + (isSoon ? Self.quickInterval : Self.slowInterval)
    table.deadlineChanged(at: position)
    return isSoon ? .retriedSoon : .retriedLater
  }

  /// Removes a grant, so that access stays open. If it is being closed, it is removed after that.
  public mutating func forget(_ address: Address) {
    guard let position = table.position(of: address) else { return }
    guard table[position].closing > 0 else { return remove(at: position) }
    table[position].isForgotten = true
    table[position].deadline = .max
    table.deadlineChanged(at: position)
  }

  /// Makes all grants expire now.
  public mutating func expireAll(now: Int64) {
    // The heap stays in order: grants that are being closed come after all others, in any order.
    for place in 0..<count {
      let position = table.position(at: place)
      if table[position].deadline < .max { table[position].deadline = now }
    }
  }

  /// When the next grant expires, in monotonic microseconds.
  public var nextDeadline: Int64? {
    guard let position = table.first, table[position].deadline < .max else { return nil }
    return table[position].deadline
  }

  /// Removes the grant that expires first, and returns its record.
  public mutating func removeFirst() -> Record? {
    guard let position = table.first else { return nil }
    let record = records[position]
    remove(at: position)
    return record
  }

  /// A time that records can hold, whatever the clock says.
  private static func clamped(_ wallNow: Int64) -> Int64 { min(max(wallNow, 0), Record.latest) }

  /// Writes a grant and its record, and then erases what it replaces. Returns its position.
  private mutating func write(_ state: State, replacing old: Int?) -> Int {
    let position = table.freePosition()
    records[position] = Record(
      state.address, since: state.since, asked: state.asked, ends: state.ends,
      sequence: nextSequence)
    nextSequence += 1
    if let old { remove(at: old) }
    table.insert(state, at: position)
    return position
  }

  private mutating func remove(at position: Int) {
    table.remove(at: position)
    records[position] = Record()
  }
}
