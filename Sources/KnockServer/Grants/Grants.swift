import KnockBase
import KnockProtocol

/// The addresses that access is open for, and when each is to be closed: the journal of `--close-after`.
///
/// A grant is in the journal before its open command runs, and leaves it when its close command has
/// succeeded; so whatever ends the process, a later one can close what is left. What changes in a grant is
/// written to a second record before the first is erased: there is always one that is whole.
///
/// Times in the records are by the clock of the system (microseconds since the Unix epoch), since they must
/// mean something to a later process. A running one goes by deadlines in monotonic milliseconds.
///
/// Bounded. A grant is found through a hash table; the next one to be closed is the first of a binary heap.
public struct Grants: ~Copyable {
  /// A close that fails is tried again after a minute, three times, and then each hour for a day
  /// (milliseconds).
  static let quickRetries: UInt8 = 3
  static let retries: UInt8 = 27
  static let quickInterval: Int64 = 60_000
  static let slowInterval: Int64 = 3_600_000
  /// The longest that one may last (microseconds): the longest duration of an option.
  private static let longest = 366 * 86_400 * Microseconds.perSecond
  /// The latest time by the wall clock that is believed (microseconds since the Unix epoch): the year 2286.
  private static let latest = 10_000_000_000 * Microseconds.perSecond

  /// 64 bytes. All zero where there is none.
  public struct Record: BitwiseCopyable {
    @LittleEndian private var family: UInt64
    @LittleEndian private var high: UInt64
    @LittleEndian private var low: UInt64
    /// When access was opened, and when it was last asked for.
    @LittleEndian public private(set) var since: Int64
    @LittleEndian private(set) var asked: Int64
    /// When it is to be closed.
    @LittleEndian public private(set) var ends: Int64
    /// Counts from 1. Of two records for one address the later one is true.
    @LittleEndian private(set) var sequence: UInt64
    @LittleEndian private var checksum: UInt64

    fileprivate init() {
      (family, high, low, since, asked, ends, sequence, checksum) = (0, 0, 0, 0, 0, 0, 0, 0)
    }

    init(_ address: Address, since: Int64, asked: Int64, ends: Int64, sequence: UInt64) {
      switch address {
      case .inet(let bits): (family, high, low) = (4, 0, UInt64(bits))
      case .inet6(let high, let low): (family, self.high, self.low) = (6, high, low)
      }
      self.since = since
      self.asked = asked
      self.ends = ends
      self.sequence = sequence
      checksum = 0
      checksum = expectedChecksum
    }

    private var expectedChecksum: UInt64 {
      var sum = Checksum()
      sum.add(family)
      sum.add(high)
      sum.add(low)
      sum.add(UInt64(bitPattern: since))
      sum.add(UInt64(bitPattern: asked))
      sum.add(UInt64(bitPattern: ends))
      sum.add(sequence)
      return sum.value
    }

    var isEmpty: Bool {
      family | high | low | UInt64(bitPattern: since | asked | ends) | sequence | checksum == 0
    }

    /// Nil where the record was not written to its end, or means nothing.
    public var address: Address? {
      guard checksum == expectedChecksum, sequence > 0, sequence < 1 << 63,
        since >= 0, since <= asked, asked <= ends, asked <= Grants.latest,
        ends - asked <= Grants.longest
      else { return nil }
      let address: Address
      switch family {
      case 4:
        guard high == 0, let bits = UInt32(exactly: low) else { return nil }
        address = .inet(bits)
      case 6: address = .inet6(high: high, low: low)
      default: return nil
      }
      return address.refusal == nil ? address : nil
    }

    /// How long it still lasts (microseconds). If the clock has gone back since, nobody can tell: not at all.
    func rest(now: Int64) -> Int64 { now < asked ? 0 : max(0, ends - now) }
  }

  /// A grant as this process has it. The records are only written, and read by a later one.
  public struct State: BitwiseCopyable {
    let address: Address
    /// As in the record.
    var since: Int64
    var asked: Int64
    var ends: Int64
    fileprivate var sequence: UInt64 = 0
    /// When it is to be closed; `.max` while it is being closed.
    var deadline: Int64
    /// Where it stands in the heap.
    fileprivate var place: UInt32 = 0
    /// Close commands that wait or run.
    var closing: UInt16 = 0
    /// How often closing has failed, and whether a part of it has this time.
    var failures: UInt8 = 0
    var hasFailed = false
    /// Whether it ends with what is being closed, whatever becomes of that.
    var isForgotten = false

    init(_ address: Address, since: Int64, asked: Int64, ends: Int64, deadline: Int64) {
      self.address = address
      self.since = since
      self.asked = asked
      self.ends = ends
      self.deadline = deadline
    }
  }

  private let records: Storage<Record>
  private let states: Storage<State>
  /// Positions in `records`: first those of the grants, as a heap, then those that are free again.
  private let heap: Storage<UInt32>
  /// By address.
  private let index: PositionIndex
  /// How many grants there are.
  public private(set) var count = 0
  /// How many records were ever used.
  private var usedCount = 0
  private var nextSequence: UInt64 = 1
  /// Close commands that wait or run, of all grants.
  public private(set) var closingCount = 0

  /// The size of a file for a number of grants, in bytes: a header, a record each, and one to write to.
  public static func fileSize(forGrants capacity: Int) -> Int {
    FileHeader.pageSize + (capacity + 1) * MemoryLayout<Record>.stride
  }

  /// Begins a file that is all zero.
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
  ///   - records: one more than there may be grants; all zero.
  ///   - states, heap: as many.
  ///   - index: for as many.
  public init(
    records: consuming Storage<Record>, states: consuming Storage<State>,
    heap: consuming Storage<UInt32>, index: consuming PositionIndex
  ) {
    precondition(records.count >= 2 && records.count <= 1 << 30)
    precondition(states.count == records.count && heap.count == records.count)
    self.records = records
    self.states = states
    self.heap = heap
    self.index = index
  }

  private var capacity: Int { records.count - 1 }

  // What an earlier process has left

  /// What `adopt` has found.
  public struct Found {
    /// Grants.
    public var count = 0
    /// Those whose end has passed.
    public var overdueCount = 0
    /// Records that are not whole. One may be of a process that was killed over it, for a command that
    /// then never ran.
    public var damagedCount = 0
    /// Whether all had room.
    public var fits = true

    public init() {}
  }

  /// Takes over what is in the records of another process, which may still be writing them.
  ///
  /// - Parameters:
  ///   - wallNow: microseconds since the Unix epoch.
  ///   - now: monotonic milliseconds.
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
      if let old = self.position(of: address) {
        guard states[old].sequence < record.sequence else { continue }
        remove(old)
        found.count -= 1
      }
      found.count += 1
      guard count < capacity else {
        found.fits = false
        continue
      }
      let rest = record.rest(now: wallNow) / 1000
      let position = write(
        State(
          address, since: record.since, asked: record.asked, ends: record.ends,
          deadline: now + rest), inPlaceOf: nil)
      // For the comparison with another record of the same address; in the new file they are numbered anew.
      states[position].sequence = record.sequence
    }
    for place in 0..<count where deadline(at: place) <= now { found.overdueCount += 1 }
    return found
  }

  // Changes

  /// Notes that access is about to be opened, or is asked for again. False where there is no room.
  ///
  /// - Parameters:
  ///   - seconds: how long it lasts from now on.
  ///   - wallNow, now: as for `adopt`.
  public mutating func open(
    _ address: Address, seconds: Int64, wallNow: Int64, now: Int64
  ) -> Bool {
    let wallNow = Self.sane(wallNow)
    let old = position(of: address)
    guard old != nil || count < capacity else { return false }
    var state = State(
      address, since: wallNow, asked: wallNow, ends: wallNow + seconds * Microseconds.perSecond,
      deadline: now + seconds * 1000)
    if let old {
      state.closing = states[old].closing
      if states[old].deadline < .max { state.since = min(wallNow, states[old].since) }
    }
    _ = write(state, inPlaceOf: old)
    return true
  }

  /// Notes that access is about to be closed before its time. False where it is not open; its end must then
  /// not be noted.
  public mutating func beginClose(_ address: Address, wallNow: Int64) -> Bool {
    guard let old = position(of: address) else { return false }
    var state = states[old]
    state.ends = min(state.ends, max(Self.sane(wallNow), state.asked))
    state.deadline = .max
    state.closing += 1
    closingCount += 1
    _ = write(state, inPlaceOf: old)
    return true
  }

  /// Takes a grant whose time is over, to be closed. Nil where there is none.
  public mutating func takeDue(wallNow: Int64, now: Int64) -> Address? {
    guard count > 0 else { return nil }
    let position = Int(heap[0])
    guard states[position].deadline <= now else { return nil }
    let address = states[position].address
    guard states[position].ends <= Self.sane(wallNow) else {
      _ = beginClose(address, wallNow: wallNow)
      return address
    }
    closingCount += 1
    states[position].deadline = .max
    states[position].closing += 1
    siftDown(from: 0)
    return address
  }

  /// Notes that a part of an attempt to close has failed; `endClose` comes later.
  public mutating func noteFailure(_ address: Address) {
    if let position = position(of: address) { states[position].hasFailed = true }
  }

  /// What has become of an attempt to close.
  public enum Closing { case done, retriedSoon, retriedLater, givenUp }

  /// Notes how an attempt to close has ended that `beginClose` or `takeDue` began. Nothing is changed where
  /// access was opened again meanwhile.
  public mutating func endClose(_ address: Address, succeeded: Bool, now: Int64) -> Closing {
    guard let position = position(of: address), states[position].closing > 0 else { return .done }
    closingCount -= 1
    states[position].closing -= 1
    guard states[position].closing == 0, states[position].deadline == .max else { return .done }
    guard !succeeded || states[position].hasFailed, !states[position].isForgotten else {
      remove(position)
      return .done
    }
    guard states[position].failures < Self.retries else {
      remove(position)
      return .givenUp
    }
    states[position].failures += 1
    states[position].hasFailed = false
    let isSoon = states[position].failures <= Self.quickRetries
    states[position].deadline = now + (isSoon ? Self.quickInterval : Self.slowInterval)
    siftUp(from: Int(states[position].place))
    return isSoon ? .retriedSoon : .retriedLater
  }

  /// Forgets a grant that is no longer to end.
  public mutating func forget(_ address: Address) {
    guard let position = position(of: address) else { return }
    guard states[position].closing > 0 else { return remove(position) }
    states[position].isForgotten = true
    states[position].deadline = .max
    siftDown(from: Int(states[position].place))
  }

  /// Has all grants end now.
  public mutating func endAll(now: Int64) {
    // The order of the heap stays: those that are being closed are behind all others, and their order
    // among themselves matters to nobody.
    for place in 0..<count where states[Int(heap[place])].deadline < .max {
      states[Int(heap[place])].deadline = now
    }
  }

  /// When `takeDue` has something to give, in monotonic milliseconds.
  public var nextDeadline: Int64? {
    guard count > 0, states[Int(heap[0])].deadline < .max else { return nil }
    return states[Int(heap[0])].deadline
  }

  /// Takes out the grant that ends first, and gives its record.
  public mutating func removeFirst() -> Record? {
    guard count > 0 else { return nil }
    let position = Int(heap[0])
    let record = records[position]
    remove(position)
    return record
  }

  /// Records hold times that later processes can read, whatever the clock says.
  private static func sane(_ wallNow: Int64) -> Int64 { min(max(wallNow, 0), latest) }

  // Records

  /// Writes a record, which is whole before the old one is erased. Returns where.
  private mutating func write(_ state: State, inPlaceOf old: Int?) -> Int {
    let position = free()
    records[position] = Record(
      state.address, since: state.since, asked: state.asked, ends: state.ends,
      sequence: nextSequence)
    nextSequence += 1
    if let old { remove(old) }
    enter(position, state)
    return position
  }

  /// A position whose record is empty: that behind the heap.
  private mutating func free() -> Int {
    if count == usedCount {
      heap[count] = UInt32(count)
      usedCount += 1
    }
    return Int(heap[count])
  }

  private mutating func enter(_ position: Int, _ state: State) {
    // It may have moved when another was removed.
    var place = count
    while Int(heap[place]) != position { place += 1 }
    heap[place] = heap[count]
    heap[count] = UInt32(position)
    states[position] = state
    states[position].place = UInt32(count)
    count += 1
    siftUp(from: count - 1)
    index.enter(position, hash: Self.hash(of: state.address))
  }

  private mutating func remove(_ position: Int) {
    index.leave(position, hash: Self.hash(of: states[position].address)) {
      Self.hash(of: states[$0].address)
    }
    let place = Int(states[position].place)
    count -= 1
    if place != count {
      put(heap[count], at: place)
      heap[count] = UInt32(position)
      siftDown(from: place)
      siftUp(from: place)
    }
    records[position] = Record()
  }

  private func position(of address: Address) -> Int? {
    index.first(hash: Self.hash(of: address)) { states[$0].address == address }
  }

  private static func hash(of address: Address) -> UInt64 {
    var sum = Checksum()
    switch address {
    case .inet(let bits): sum.add(UInt64(bits))
    case .inet6(let high, let low):
      sum.add(high)
      sum.add(low)
    }
    return sum.value
  }

  // The heap: none ends before the one that it stands under.

  private func deadline(at place: Int) -> Int64 { states[Int(heap[place])].deadline }

  private func isBefore(_ place: Int, _ other: Int) -> Bool {
    let (deadline, otherDeadline) = (deadline(at: place), deadline(at: other))
    guard deadline == otherDeadline else { return deadline < otherDeadline }
    return states[Int(heap[place])].ends < states[Int(heap[other])].ends
  }

  private mutating func put(_ position: UInt32, at place: Int) {
    heap[place] = position
    states[Int(position)].place = UInt32(place)
  }

  private mutating func swap(_ first: Int, _ second: Int) {
    let position = heap[first]
    put(heap[second], at: first)
    put(position, at: second)
  }

  private mutating func siftUp(from start: Int) {
    var place = start
    while place > 0, isBefore(place, (place - 1) / 2) {
      swap(place, (place - 1) / 2)
      place = (place - 1) / 2
    }
  }

  private mutating func siftDown(from start: Int) {
    var place = start
    while true {
      var first = place
      for child in 2 * place + 1...2 * place + 2 where child < count {
        if isBefore(child, first) { first = child }
      }
      guard first != place else { return }
      swap(place, first)
      place = first
    }
  }
}
