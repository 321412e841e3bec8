import KnockBase
import KnockProtocol

/// The file that keeps the replay memory for later servers, as this process has it in its memory. `save` tells what
/// the file on the disk lacks. Numbers are little-endian, offsets and sizes in bytes:
///
///     offset  size     field
///     0       32       see `FileHeader`
///     512     72       mark, see `Mark`
///     1024    72       mark, as above
///     4096    56 each  records, see `Record`
///
/// The two marks are written in turn; the one with the greater counter is valid. The record with sequence number n
/// is at place n - 1, modulo the number of places.
public struct ReplayFile: ~Copyable {
  /// A remembered datagram: 56 bytes, all zero if the place was never used. Offsets in bytes:
  ///
  ///     offset  size  field
  ///     0       32    MAC
  ///     32      8     time stamp: microseconds since the Unix epoch
  ///     40      8     sequence number, from 1
  ///     48      8     checksum of the other fields
  public struct Record: BitwiseCopyable {
    @LittleEndian private var mac0: UInt64
    @LittleEndian private var mac1: UInt64
    @LittleEndian private var mac2: UInt64
    @LittleEndian private var mac3: UInt64
    @LittleEndian private(set) var timeStamp: Int64
    @LittleEndian private(set) var sequence: UInt64
    @LittleEndian private var checksum: UInt64

    init(_ datagram: Fingerprint, timeStamp: Int64, sequence: UInt64) {
      (mac0, mac1, mac2, mac3) = datagram.mac
      self.timeStamp = timeStamp
      self.sequence = sequence
      checksum = 0
      checksum = expectedChecksum
    }

    var datagram: Fingerprint { Fingerprint(mac: (mac0, mac1, mac2, mac3), timeStamp: timeStamp) }

    private var expectedChecksum: UInt64 {
      var sum = Checksum()
      sum.add(mac0)
      sum.add(mac1)
      sum.add(mac2)
      sum.add(mac3)
      sum.add(UInt64(bitPattern: timeStamp))
      sum.add(sequence)
      return sum.value
    }

    @inline(never)
    public var isEmpty: Bool {
      mac0 | mac1 | mac2 | mac3 | UInt64(bitPattern: timeStamp) | sequence | checksum == 0
    }
    @inline(never)
    var isValid: Bool {
      sequence > 0 && sequence < 1 << 63 && checksum == expectedChecksum
    }
  }

  /// What the records alone do not say: 72 bytes, as numbers of 8 bytes.
  ///
  ///     0  counter
  ///     1  sequence number of the last record
  ///     2  floor: datagrams with a time stamp up to it are refused; the least number for none
  ///     3  time: microseconds since the Unix epoch; the least number for none
  ///     4  the boot in which it was written; 0 if unknown
  ///     5  when it was written, in monotonic microseconds, which count from that boot
  ///     6  when the server started that did not know all earlier knocks, likewise; the least number for none
  ///     7  twice the drift: how far the clock may be behind the time; 0 in older files. Plus 1 if the server has ended
  ///        in order, and nothing is missing
  ///     8  checksum of the other numbers
  ///
  /// The time is the greatest time stamp of a knock that was accepted by our clock, and the time that has passed
  /// since. So no clock that is wrong can raise it, unless a key holder's clock is wrong too.
  struct Mark {
    var counter: UInt64 = 0
    var sequence: UInt64 = 0
    var floor = Int64.min
    var time = Int64.min
    var boot: UInt64 = 0
    var written: Int64 = 0
    var doubt = Int64.min
    var drift: Int64 = 0
    var isClean = false

    /// The time at a moment of the same boot.
    func time(at now: Int64) -> Int64 {
      time == .min ? .min : time.addingSaturated(max(0, now - written))
    }
  }

  /// How often the mark is written if no knock is accepted (microseconds). It tells a later server whether this one
  /// could write until it was killed. Each time costs flash memory at least one page, so not more often.
  public static let markInterval = 300 * Microseconds.second
  /// Offsets of the marks, in numbers of 8 bytes.
  private static let markOffsets = (64, 128)
  private static let markSize = 72

  /// The first page, as numbers.
  private let page: Storage<UInt64>
  private let records: Storage<Record>
  private let boot: UInt64
  /// What the gate allows now (microseconds).
  private let drift: Int64
  private(set) var mark = Mark()
  private var nextSequence: UInt64 = 1
  /// How many of the last records the file lacks.
  private var unwritten = 0

  /// The size of a file for a number of records, in bytes.
  public static func size(forRecords count: Int) -> Int {
    FileHeader.pageSize + count * MemoryLayout<Record>.stride
  }

  /// How many records an existing file has.
  public static func capacity(
    of header: borrowing Storage<UInt64>
  ) throws(FileHeader.Failure) -> Int {
    try FileHeader.capacity(of: header, .replay)
  }

  /// An empty file.
  ///
  /// - Parameters:
  ///   - page: 512 numbers, zero.
  ///   - records: zero.
  ///   - boot: tells this boot from all others; 0 if that is unknown.
  ///   - drift: the drift of the gate (microseconds).
  public init(
    page: consuming Storage<UInt64>, records: consuming Storage<Record>, boot: UInt64, drift: Int64
  ) {
    precondition(page.count * 8 == FileHeader.pageSize && records.count >= 1)
    self.page = page
    self.records = records
    self.boot = boot
    self.drift = drift
    mark.drift = drift
    FileHeader.write(.replay, capacity: self.records.count, to: self.page)
  }

  // What the server does

  /// Records an accepted datagram. Then `save` comes, and then the server acts on the knock.
  ///
  /// The receiver reports it, and an attacker may have taken that over. So it cannot make a time in the file later
  /// than our clock + drift.
  public mutating func append(_ datagram: Fingerprint, at moment: Moment) {
    let limit = moment.wall.addingSaturated(drift)
    let timeStamp = min(datagram.timeStamp, limit)
    // From now on the time minus the new drift counts. With an older, greater one, that stays what it was.
    let time = mark.time(at: moment.monotonic).subtractingSaturated(mark.drift - drift)
    mark.time = min(max(time, timeStamp), limit)
    mark.written = moment.monotonic
    if let doubt {
      mark.floor = max(mark.floor, doubt.floor(at: moment.confirmed(by: timeStamp)))
      mark.doubt = .min
    }
    mark.drift = drift
    append(datagram, timeStamp: timeStamp)
  }

  @inline(never)
  private mutating func append(_ datagram: Fingerprint, timeStamp: Int64) {
    let place = place(of: nextSequence)
    // The receiver has forgotten what was here.
    if !records[place].isEmpty { mark.floor = max(mark.floor, records[place].timeStamp) }
    records[place] = Record(datagram, timeStamp: timeStamp, sequence: nextSequence)
    nextSequence += 1
    unwritten = min(unwritten + 1, records.count)
  }

  /// The place of a record: modulo the number of places.
  private static func place(of sequence: UInt64, among count: Int) -> Int {
    Int((sequence - 1) % UInt64(count))
  }

  private func place(of sequence: UInt64) -> Int { Self.place(of: sequence, among: records.count) }

  private var doubt: Doubt? {
    mark.doubt == .min ? nil : Doubt(since: mark.doubt, drift: mark.drift)
  }

  /// Calls `write` with what the file lacks, and its offset. The records come first, then the mark that counts them.
  /// If `write` throws, the next call must write all.
  ///
  /// - Parameters:
  ///   - all: whether the file has nothing of this yet.
  ///   - isLast: whether the server ends in order.
  ///   - now: monotonic microseconds.
  public mutating func save<Failure>(
    all: Bool, isLast: Bool = false, now: Int64,
    _ write: (RawSpan, Int) throws(Failure) -> Void
  ) throws(Failure) {
    if all { unwritten = Int(min(nextSequence - 1, UInt64(records.count))) }
    if unwritten > 0 {
      let end = place(of: nextSequence - 1) + 1
      // In two parts if the ring turns in between.
      if unwritten > end {
        try save(records.count - (unwritten - end)..<records.count, write)
      }
      try save(max(0, end - unwritten)..<end, write)
    }
    let offset = raiseMark(isLast: isLast, now: now)
    if all {
      try page.withElements(0..<page.count) { page throws(Failure) in
        try write(unsafe page.bytes, 0)
      }
    } else {
      try page.withElements(offset..<offset + Self.markSize / 8) { mark throws(Failure) in
        try write(unsafe mark.bytes, offset * 8)
      }
    }
    unwritten = 0
  }

  private func save<Failure>(
    _ places: Range<Int>, _ write: (RawSpan, Int) throws(Failure) -> Void
  ) throws(Failure) {
    try records.withElements(places) { records throws(Failure) in
      try write(unsafe records.bytes, Self.size(forRecords: places.lowerBound))
    }
  }

  /// Writes the mark into the first page. Returns its offset.
  private mutating func raiseMark(isLast: Bool, now: Int64) -> Int {
    mark.counter &+= 1
    mark.sequence = nextSequence - 1
    mark.time = mark.time(at: now)
    mark.boot = boot
    mark.written = now
    mark.isClean = isLast
    let offset = mark.counter % 2 == 0 ? Self.markOffsets.0 : Self.markOffsets.1
    page[littleEndian: offset] = mark.counter
    page[littleEndian: offset + 1] = mark.sequence
    page[littleEndian: offset + 2] = UInt64(bitPattern: mark.floor)
    page[littleEndian: offset + 3] = UInt64(bitPattern: mark.time)
    page[littleEndian: offset + 4] = mark.boot
    page[littleEndian: offset + 5] = UInt64(bitPattern: mark.written)
    page[littleEndian: offset + 6] = UInt64(bitPattern: mark.doubt)
    page[littleEndian: offset + 7] = UInt64(bitPattern: mark.drift) << 1 | (mark.isClean ? 1 : 0)
    page[littleEndian: offset + 8] = Self.checksum(ofMarkIn: page, at: offset)
    return offset
  }

  @inline(never)
  private static func checksum(ofMarkIn page: borrowing Storage<UInt64>, at offset: Int) -> UInt64 {
    var sum = Checksum()
    for index in offset..<offset + 8 { sum.add(page[littleEndian: index]) }
    return sum.value
  }
}

// What an earlier server has left

extension ReplayFile {
  /// What `restore` has found.
  public struct Found: Equatable, Sendable {
    /// What the file is worth.
    public enum State: Sendable {
      /// It has all knocks that are still fresh.
      case complete
      /// It is whole, but nobody can tell whether it was written to the end.
      case unfinished
      /// Parts of it are missing or make no sense.
      case damaged
    }
    public var state = State.complete
    /// How many knocks are remembered.
    public var count = 0
    /// How far the clock is behind the time when the last server ran (microseconds).
    public var timeBehind: Int64 = 0
    /// The greatest drift that servers have had since they last accepted a knock (microseconds). This server counts.
    public var drift: Int64 = 0
    /// Whether there was room for all.
    public var fits = true
    /// Whether the file on the disk is to be written again from its beginning.
    public var needsAll = false

    public init() {}
  }

  /// Takes over what an earlier server has left. Call this before anything else.
  ///
  /// - Parameters:
  ///   - page: the first page.
  ///   - old: the records.
  ///   - isWhole: whether the file has the size that its first page tells.
  @inline(never)
  public mutating func restore(
    _ page: borrowing Storage<UInt64>, _ old: borrowing Storage<Record>, isWhole: Bool,
    at moment: Moment
  ) -> Found {
    var found = Found()
    let now = moment.monotonic
    var last = Mark()
    Self.readMark(in: page, at: Self.markOffsets.0, after: &last)
    Self.readMark(in: page, at: Self.markOffsets.1, after: &last)
    let isSameBoot = boot != 0 && last.boot == boot && last.written <= now
    let time = isSameBoot ? last.time(at: now) : last.time
    // A smaller drift than that of the last server makes none of its times false.
    found.drift = max(drift, last.drift)
    let hasSoundFloor = last.floor == .min || last.floor <= time.addingSaturated(found.drift)
    let ring = Ring(of: old)
    if !isWhole || last.counter == 0 || !hasSoundFloor || !ring.isWhole
      || last.sequence > ring.lastSequence
    {
      found.state = .damaged
    } else if !last.isClean && !(isSameBoot && now - last.written <= 2 * Self.markInterval) {
      found.state = .unfinished
    }

    mark = last
    mark.time = time
    mark.written = now
    mark.drift = found.drift
    if !hasSoundFloor { mark.floor = .min }
    if time != .min {
      // What is older may be a replay that a clock which has gone back lets in.
      mark.floor = max(mark.floor, time.subtractingSaturated(found.drift))
      found.timeBehind = time.subtractingSaturated(moment.wall)
    }
    // A doubt of this boot goes on. In another boot it begins again.
    if found.state != .complete || mark.doubt != .min && !isSameBoot {
      doubtEarlier(now: now)
    }

    // The same records at the same places, if all is well.
    found.needsAll = found.state == .damaged || old.count != records.count
    for offset in 0..<UInt64(ring.count) {
      let sequence = ring.lastSequence - UInt64(ring.count) + 1 + offset
      let record = old[Self.place(of: sequence, among: old.count)]
      if !found.needsAll { records[place(of: sequence)] = record }
      if isStale(record.timeStamp, at: moment) {
        mark.floor = max(mark.floor, record.timeStamp)
      } else {
        found.count += 1
        if found.needsAll, found.count <= records.count {
          append(record.datagram, timeStamp: record.timeStamp)
        }
      }
    }
    if !found.needsAll { nextSequence = ring.lastSequence + 1 }
    found.fits = found.count <= records.count
    return found
  }

  /// Whether a datagram can be forgotten, by the clock and by what knocks have confirmed: the clock alone may be wrong.
  private func isStale(_ timeStamp: Int64, at moment: Moment) -> Bool {
    min(mark.time, moment.wall).subtractingSaturated(timeStamp) > drift
  }

  /// From now on, refuses what an earlier server may have accepted without a trace in the file.
  public mutating func doubtEarlier(now: Int64) {
    mark.doubt = now
    if mark.time != .min { mark.floor = max(mark.floor, mark.time.addingSaturated(mark.drift)) }
  }

  /// Fills an empty memory with what must be remembered. It has as many places as the file.
  public func fill(_ memory: inout ReplayMemory, at moment: Moment) {
    memory.refuse(upTo: mark.floor, doubt)
    let held = min(nextSequence - 1, UInt64(records.count))
    for sequence in nextSequence - held..<nextSequence {
      let record = records[place(of: sequence)]
      if !isStale(record.timeStamp, at: moment) { _ = memory.append(record.datagram) }
    }
  }

  /// Takes the mark at an offset if it is valid, and later than `last`.
  @inline(never)
  private static func readMark(
    in page: borrowing Storage<UInt64>, at offset: Int, after last: inout Mark
  ) {
    let counter = page[littleEndian: offset]
    guard counter > last.counter,
      page[littleEndian: offset + 8] == checksum(ofMarkIn: page, at: offset)
    else { return }
    let mark = Mark(
      counter: counter, sequence: page[littleEndian: offset + 1],
      floor: Int64(bitPattern: page[littleEndian: offset + 2]),
      time: Int64(bitPattern: page[littleEndian: offset + 3]),
      boot: page[littleEndian: offset + 4],
      written: Int64(bitPattern: page[littleEndian: offset + 5]),
      doubt: Int64(bitPattern: page[littleEndian: offset + 6]),
      drift: Int64(bitPattern: page[littleEndian: offset + 7] >> 1),
      isClean: page[littleEndian: offset + 7] & 1 == 1)
    // No clock that counts from a boot tells other times.
    guard mark.written >= 0, mark.doubt == .min || (0...mark.written).contains(mark.doubt) else {
      return
    }
    last = mark
  }

  /// The records that follow each other up to the last one.
  private struct Ring {
    private(set) var lastSequence: UInt64 = 0
    private(set) var count = 0
    let isWhole: Bool

    @inline(never)
    init(of records: borrowing Storage<Record>) {
      let size = UInt64(records.count)
      var usedCount = 0
      for place in 0..<records.count {
        let record = records[place]
        if !record.isEmpty { usedCount += 1 }
        if record.isValid, record.sequence > lastSequence,
          ReplayFile.place(of: record.sequence, among: records.count) == place
        {
          lastSequence = record.sequence
        }
      }
      var expected = Int(min(lastSequence, size))
      while count < expected {
        let sequence = lastSequence - UInt64(count)
        let record = records[ReplayFile.place(of: sequence, among: records.count)]
        guard record.isValid, record.sequence == sequence else { break }
        count += 1
      }
      // A killed server leaves at most one unfinished record, at the next place. It has not acted on that datagram.
      let next = records[ReplayFile.place(of: lastSequence + 1, among: records.count)]
      let isUnfinished = !next.isEmpty && !next.isValid
      if isUnfinished, lastSequence >= size { expected -= 1 }
      isWhole = count == expected && usedCount == count + (isUnfinished ? 1 : 0)
    }
  }
}
