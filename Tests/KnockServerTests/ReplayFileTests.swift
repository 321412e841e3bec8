import KnockBase
import KnockProtocol
import TestSupport
import Testing

@testable import KnockServer

private let placeCount = 8
private let drift: Int64 = 60
private let boot: UInt64 = 7

/// The file on the disk, as the process writes it.
private struct Disk {
  var bytes: [UInt8]
  /// All bytes that were written, in order.
  var writes: [(offset: Int, byte: UInt8)] = []
  var isFull = false

  struct Full: Error {}

  init(capacity: Int = placeCount) {
    bytes = [UInt8](repeating: 0, count: ReplayFile.size(forRecords: capacity))
  }

  mutating func save(
    _ file: inout ReplayFile, all: Bool = false, isLast: Bool = false, at now: Int64
  ) throws(Full) {
    try file.save(all: all, isLast: isLast, now: now) { span, offset throws(Full) in
      if isFull { throw Full() }
      for index in 0..<span.byteCount {
        let byte = unsafe span.unsafeLoad(fromByteOffset: index, as: UInt8.self)
        bytes[offset + index] = byte
        writes.append((offset + index, byte))
      }
    }
  }

  private func storage<Element: BitwiseCopyable>(_ range: Range<Int>, _: Element.Type)
    -> Storage<Element>
  {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: range.count, alignment: 16)
    copy.copyBytes(from: bytes[range])
    return Storage(adopting: copy.bindMemory(to: Element.self))
  }

  /// What a server that starts makes of it.
  func restored(
    at now: Int64, wall: Int64? = nil, boot: UInt64 = boot, capacity: Int = placeCount,
    isWhole: Bool = true, drift: Int64 = drift
  ) -> Started {
    var file = ReplayFile.empty(capacity: capacity, boot: boot, drift: drift)
    let moment = Moment(wall: wall ?? now, monotonic: now)
    let found = file.restore(
      storage(0..<4096, UInt64.self), storage(4096..<bytes.count, ReplayFile.Record.self),
      isWhole: isWhole, at: moment)
    var memory = replayMemory(capacity)
    file.fill(&memory, at: moment)
    return Started(file: file, memory: memory, found: found)
  }

  /// Changes a number of the first mark, which is at 1024.
  mutating func setMark(_ changed: Int, to value: Int64) {
    var sum = Checksum()
    for number in 0..<9 {
      let start = 1024 + 8 * number
      let old = bytes[start..<start + 8].span.littleEndian(at: 0, count: 8)
      let new = number == changed ? UInt64(bitPattern: value) : number == 8 ? sum.value : old
      sum.add(new)
      for index in 0..<8 { bytes[start + index] = UInt8(truncatingIfNeeded: new >> (8 * index)) }
    }
  }

  /// The numbers of the mark that counts.
  var mark: [UInt64] {
    let marks = [512, 1024].map { start in
      (0..<9).map { number in
        bytes[(start + 8 * number)..<(start + 8 * number + 8)].span
          .littleEndian(at: 0, count: 8)
      }
    }
    return marks[0][0] > marks[1][0] ? marks[0] : marks[1]
  }
}

extension ReplayFile {
  fileprivate static func empty(
    capacity: Int = placeCount, boot: UInt64 = boot, drift: Int64 = drift
  ) -> ReplayFile {
    ReplayFile(
      page: storage(512, of: UInt64.self), records: storage(capacity, of: Record.self), boot: boot,
      drift: drift)
  }

  fileprivate mutating func append(_ number: UInt8, at now: Int64, wall: Int64? = nil) {
    append(fingerprint(number, at: wall ?? now), at: Moment(wall: wall ?? now, monotonic: now))
  }
}

/// A server after its start. Times are the same by both clocks if not said otherwise.
private struct Started: ~Copyable {
  var file: ReplayFile
  var memory: ReplayMemory
  let found: ReplayFile.Found

  /// Whether a knock is accepted, by the reason why not.
  mutating func refusal(
    of number: UInt8, stamped stamp: Int64, at now: Int64, wall: Int64? = nil
  ) -> Refusal? {
    do throws(Refusal) {
      let datagram = fingerprint(number, at: stamp)
      let moment = Moment(wall: wall ?? now, monotonic: now)
      try memory.check(datagram, at: moment, drift: drift)
      try memory.remember(datagram, of: nil, at: moment, drift: drift)
      return nil
    } catch { return error }
  }
}

private func fingerprint(_ number: UInt8, at stamp: Int64) -> Fingerprint {
  Fingerprint(mac: [UInt8](repeating: number, count: 32).span, timeStamp: stamp)
}

private func remember(
  _ disk: inout Disk, _ numbers: ClosedRange<UInt8>, at now: Int64 = 1000, isLast: Bool = false
) throws {
  var file = ReplayFile.empty()
  for number in numbers { file.append(number, at: now) }
  try disk.save(&file, all: true, isLast: isLast, at: now)
}

@Suite struct ReplayFileTests {
  @Test func `wherever the process is killed nothing is forgotten`() throws {
    // Also at the start of the ring, and where it turns.
    for old in [0, 1, 5, 7, 8, 11] as [UInt8] {
      var disk = Disk()
      var file = ReplayFile.empty()
      if old > 0 { for number in 1...old { file.append(number, at: 1000) } }
      try disk.save(&file, all: true, at: 1000)
      let before = disk.bytes
      disk.writes = []
      file.append(99, at: 1001)
      try disk.save(&file, at: 1001)
      let writes = disk.writes
      #expect(writes.count == 56 + 72)
      for count in 0...writes.count {
        disk.bytes = before
        for write in writes.prefix(count) { disk.bytes[write.offset] = write.byte }
        var started = disk.restored(at: 1002)
        #expect(started.found.state == .complete, "\(old) \(count)")
        // The oldest of a full ring makes room: the receiver had forgotten it.
        for number in UInt8(max(0, Int(old) - 7))..<old {
          let refusal = started.refusal(of: number + 1, stamped: 1000, at: 1002)
          #expect(refusal == .replayed)
        }
      }
    }
  }

  @Test func `every damaged byte is found or harmless`() throws {
    var disk = Disk()
    try remember(&disk, 1...6)
    let good = disk.bytes
    let places = [512..<584, 1024..<1096, 4096..<4096 + 8 * 56]
    for offset in places.joined() {
      disk.bytes = good
      disk.bytes[offset] ^= 0x55
      var started = disk.restored(at: 1001)
      guard started.found.state == .complete else { continue }
      for number in 1...6 as ClosedRange<UInt8> {
        let refusal = started.refusal(of: number, stamped: 1000, at: 1001)
        #expect(refusal == .replayed, "byte \(offset)")
      }
    }
  }

  @Test func `a record that is gone is missed`() throws {
    for held in [1, 6, 8, 11] as [UInt8] {
      var disk = Disk()
      try remember(&disk, 1...held)
      let good = disk.bytes
      for place in 0..<min(Int(held), placeCount) {
        disk.bytes = good
        disk.bytes.replaceSubrange(
          4096 + 56 * place..<4152 + 56 * place, with: [UInt8](repeating: 0, count: 56))
        let started = disk.restored(at: 1001)
        #expect(started.found.state == .damaged, "\(held) \(place)")
      }
    }
  }

  @Test func `the ring goes on where it was across restarts`() throws {
    var disk = Disk()
    try remember(&disk, 1...1)
    for number in 2...200 as ClosedRange<UInt8> {
      let now = 1000 + 13 * Int64(number)
      var started = disk.restored(at: now)
      #expect(started.found.state == .complete)
      #expect(!started.found.needsAll)
      // The last of them are still fresh, whichever turn the ring has made.
      for old in UInt8(max(2, Int(number) - 4))..<max(2, number) {
        let refusal = started.refusal(of: old, stamped: 1000 + 13 * Int64(old), at: now)
        #expect(refusal == .replayed)
      }
      started.file.append(number, at: now)
      try disk.save(&started.file, at: now)
    }
  }

  @Test func `the file has the same form in each version`() throws {
    #expect(ReplayFile.size(forRecords: 10) == 4096 + 10 * 56)
    var disk = Disk()
    try remember(&disk, 7...7, at: 1000, isLast: true)
    func number(_ offset: Int) -> UInt64 {
      disk.bytes[offset..<offset + 8].span.littleEndian(at: 0, count: 8)
    }
    let none = UInt64(bitPattern: Int64.min)
    #expect(disk.mark[..<8] == [1, 1, none, 1000, boot, 1000, none, 60 << 1 | 1])
    let mac: UInt64 = 0x0707_0707_0707_0707
    #expect((0..<6).map { number(4096 + 8 * $0) } == [mac, mac, mac, mac, 1000, 1])
    #expect(disk.bytes[32..<1024].allSatisfy { $0 == 0 })
    #expect(disk.bytes[1096..<4096].allSatisfy { $0 == 0 })
    #expect(disk.bytes[4152...].allSatisfy { $0 == 0 })
  }

  @Test func `a header says what is wrong with it`() throws {
    let page = storage(512, of: UInt64.self)
    FileHeader.write(.replay, capacity: 7, to: page)
    #expect(try ReplayFile.capacity(of: page) == 7)
    page[2] = 8
    #expect(throws: FileHeader.Failure.damagedHeader) { try ReplayFile.capacity(of: page) }
    page[1] = 2
    #expect(throws: FileHeader.Failure.older) { try ReplayFile.capacity(of: page) }
    page[1] = 4
    #expect(throws: FileHeader.Failure.newer(version: 4)) { try ReplayFile.capacity(of: page) }
    page[0] = 0
    #expect(throws: FileHeader.Failure.foreign) { try ReplayFile.capacity(of: page) }
  }
}

@Suite struct ReplayFileCompletenessTests {
  @Test func `only a server that ended in order, or was killed just now, leaves a complete file`()
    throws
  {
    let interval = ReplayFile.markInterval
    for (isLast, otherBoot, age, expected) in [
      (true, false, 0, .complete), (true, false, 100 * interval, .complete),
      (true, true, 0, .complete), (false, false, 2 * interval, .complete),
      (false, false, 2 * interval + 1, .unfinished), (false, true, 0, .unfinished),
      // The clock that counts from the boot cannot go back.
      (false, false, -1, .unfinished),
    ] as [(Bool, Bool, Int64, ReplayFile.Found.State)] {
      var disk = Disk()
      try remember(&disk, 1...3, isLast: isLast)
      let started = disk.restored(
        at: 1000 + age, wall: 1000, boot: otherBoot ? boot + 1 : boot)
      #expect(started.found.state == expected, "\(isLast) \(otherBoot) \(age)")
    }
  }

  @Test func `without a number for the boot only an end in order counts`() throws {
    var disk = Disk()
    var file = ReplayFile.empty(boot: 0)
    try disk.save(&file, all: true, at: 1000)
    #expect(disk.restored(at: 1000, boot: 0).found.state == .unfinished)
    try disk.save(&file, isLast: true, at: 1000)
    #expect(disk.restored(at: 1000, boot: 0).found.state == .complete)
  }

  @Test func `when knocks may be missing nothing up to the start and the drift is accepted`() throws
  {
    var disk = Disk()
    try remember(&disk, 1...3, at: 1000)
    // By whichever clock: it was right, or ahead or behind and is corrected later.
    for wrong in [0, 1_000_000, -900] as [Int64] {
      var started = disk.restored(at: 1100, wall: 1100 + wrong, boot: boot + 1)
      for now in 1100...1300 as ClosedRange<Int64> {
        for stamp in [1159, 1160] + [now + 60] where (stamp - now).magnitude <= 60 {
          let refusal = started.refusal(of: 9, stamped: stamp, at: now)
          guard stamp > 1160 else {
            #expect(refusal == .olderThanMemory, "\(wrong) \(now) \(stamp)")
            continue
          }
          #expect(refusal == nil, "\(wrong) \(now) \(stamp)")
          return
        }
      }
    }
  }

  @Test func `a doubt lasts over a restart and ends with the first knock`() throws {
    var disk = Disk()
    try remember(&disk, 1...3, at: 1000)
    var first = disk.restored(at: 1100, boot: boot + 1)
    try disk.save(&first.file, isLast: true, at: 1110)
    // It has not begun again.
    var second = disk.restored(at: 1150, boot: boot + 1)
    #expect(second.found.state == .complete)
    let early = second.refusal(of: 9, stamped: 1160, at: 1150)
    let late = second.refusal(of: 9, stamped: 1161, at: 1150)
    #expect(early == .olderThanMemory && late == nil)
    second.file.append(fingerprint(9, at: 1161), at: Moment(wall: 1150, monotonic: 1150))
    try disk.save(&second.file, isLast: true, at: 1150)
    // From now on the floor is a time, also in another boot.
    var third = disk.restored(at: 5, wall: 1150, boot: boot + 2)
    #expect(third.found.state == .complete)
    let old = third.refusal(of: 8, stamped: 1160, at: 5, wall: 1150)
    let new = third.refusal(of: 8, stamped: 1162, at: 5, wall: 1150)
    #expect(old == .olderThanMemory && new == nil)
  }

  @Test func `a floor that no server writes is damage`() throws {
    for (floor, expected) in [
      (1060, .complete), (1061, .damaged), (.max, .damaged),
    ] as [(Int64, ReplayFile.Found.State)] {
      var disk = Disk()
      var file = ReplayFile.empty()
      file.append(1, at: 1000)
      try disk.save(&file, all: true, isLast: true, at: 1000)
      disk.setMark(2, to: floor)
      var started = disk.restored(at: 1000)
      #expect(started.found.state == expected)
      // It locks nobody out for longer than a damage does.
      let refusal = started.refusal(of: 2, stamped: 1170, at: 1170)
      #expect(refusal == nil)
    }
  }

  @Test func `a mark with times that no clock tells is damage`() throws {
    for (number, time) in [(5, -1), (5, .min), (6, -1), (6, 1001), (6, .max)] as [(Int, Int64)] {
      var disk = Disk()
      try remember(&disk, 1...2, isLast: true)
      disk.setMark(number, to: time)
      var started = disk.restored(at: 1000)
      #expect(started.found.state == .damaged, "\(number): \(time)")
      let known = started.refusal(of: 2, stamped: 1000, at: 1000)
      #expect(known != nil)
      let late = started.refusal(of: 3, stamped: 1170, at: 1170)
      #expect(late == nil)
    }
  }

  @Test func `a receiver that was taken over cannot lock others out`() throws {
    var disk = Disk()
    var file = ReplayFile.empty()
    for number in 1...20 as ClosedRange<UInt8> {
      file.append(
        fingerprint(number, at: number % 2 == 0 ? .max : .min),
        at: Moment(wall: 1000, monotonic: 1000))
    }
    try disk.save(&file, all: true, isLast: true, at: 1000)
    var started = disk.restored(at: 1121)
    let refusal = started.refusal(of: 99, stamped: 1122, at: 1122)
    #expect(started.found.state == .complete && refusal == nil)
  }

  @Test func `what could not be written is made good`() throws {
    var disk = Disk()
    var file = ReplayFile.empty()
    file.append(1, at: 1000)
    try disk.save(&file, all: true, at: 1000)
    disk.isFull = true
    for number in 2...12 as ClosedRange<UInt8> {
      file.append(number, at: 1000)
      #expect(throws: Disk.Full.self) { try disk.save(&file, all: true, at: 1000) }
    }
    disk.isFull = false
    disk.bytes = [UInt8](repeating: 0, count: disk.bytes.count)
    try disk.save(&file, all: true, at: 1001)
    var started = disk.restored(at: 1002)
    #expect(started.found.state == .complete && started.found.count == 8)
    for number in 5...12 as ClosedRange<UInt8> {
      let refusal = started.refusal(of: number, stamped: 1000, at: 1002)
      #expect(refusal == .replayed)
    }
  }

  @Test func `a smaller drift shuts nobody out`() throws {
    var disk = Disk()
    var file = ReplayFile.empty(drift: 600)
    file.append(fingerprint(1, at: 1590), at: Moment(wall: 1000, monotonic: 1000))
    try disk.save(&file, all: true, isLast: true, at: 1000)
    var now: Int64 = 1000
    // Also if the first server after the change accepts nothing.
    for _ in 1...2 {
      now += 1
      var started = disk.restored(at: now)
      #expect(started.found.state == .complete)
      #expect(started.found.timeBehind == 590 && started.found.drift == 600)
      let refusal = started.refusal(of: 2, stamped: now, at: now)
      #expect(refusal == nil)
      try disk.save(&started.file, isLast: true, at: now)
    }
    // An accepted knock makes the time one of the smaller drift.
    var started = disk.restored(at: 1003)
    started.file.append(2, at: 1003)
    try disk.save(&started.file, isLast: true, at: 1003)
    #expect(disk.mark[3] == 1053 && disk.mark[7] == 60 << 1 | 1)
    var next = disk.restored(at: 1004)
    let slow = next.refusal(of: 3, stamped: 995, at: 1004)
    #expect(next.found.drift == 60 && slow == nil)
  }

  @Test func `a smaller drift brings nothing back that the larger one let in`() throws {
    var disk = Disk()
    var file = ReplayFile.empty(drift: 600)
    file.append(1, at: 1000)
    try disk.save(&file, all: true, at: 1000)
    var first = disk.restored(at: 1100, boot: boot + 1)
    #expect(first.found.state == .unfinished && first.found.drift == 600)
    let early = first.refusal(of: 9, stamped: 1700, at: 1650)
    #expect(early == .olderThanMemory)
    try disk.save(&first.file, isLast: true, at: 1650)
    // What it has written is no damage, and goes on.
    var second = disk.restored(at: 1655, boot: boot + 1)
    #expect(second.found.state == .complete)
    let again = second.refusal(of: 9, stamped: 1700, at: 1655)
    let late = second.refusal(of: 9, stamped: 1701, at: 1655)
    #expect(again == .olderThanMemory && late == nil)
  }

  @Test func `another capacity keeps what is fresh`() throws {
    var disk = Disk()
    var file = ReplayFile.empty()
    for number in 1...11 as ClosedRange<UInt8> { file.append(number, at: 1000 + Int64(number)) }
    try disk.save(&file, all: true, isLast: true, at: 1011)
    for (other, fits) in [(7, false), (8, true), (20, true)] {
      var started = disk.restored(at: 1012, capacity: other)
      #expect(started.found.fits == fits && started.found.count == 8)
      #expect(started.found.needsAll == (other != placeCount))
      guard fits else { continue }
      for number in 4...11 as ClosedRange<UInt8> {
        let refusal = started.refusal(of: number, stamped: 1000 + Int64(number), at: 1012)
        #expect(refusal == .replayed)
      }
      let forgotten = started.refusal(of: 3, stamped: 1003, at: 1012)
      #expect(forgotten == .olderThanMemory)
    }
    // What is stale by the clock and by what knocks have confirmed is left out.
    #expect(disk.restored(at: 1066, capacity: 7).found.count == 6)
    #expect(disk.restored(at: 1012, wall: 99_999, capacity: 7).found.count == 8)
  }
}

@Suite struct ReplayFileClockTests {
  @Test func `only an accepted knock raises the time`() throws {
    var disk = Disk()
    var file = ReplayFile.empty()
    try disk.save(&file, all: true, at: 1000)
    #expect(disk.mark[3] == UInt64(bitPattern: .min))
    // The client's clock is behind.
    file.append(fingerprint(1, at: 950), at: Moment(wall: 1000, monotonic: 2000))
    try disk.save(&file, at: 2000)
    #expect(disk.mark[3] == 950)
    try disk.save(&file, at: 2007)
    #expect(disk.mark[3] == 957)
    // An older one does not lower it.
    file.append(fingerprint(2, at: 940), at: Moment(wall: 1000, monotonic: 2008))
    try disk.save(&file, at: 2008)
    #expect(disk.mark[3] == 958)
    // But it is never further ahead than our clock, confirmed, explains.
    file.append(fingerprint(3, at: 500), at: Moment(wall: 500, monotonic: 2009))
    try disk.save(&file, at: 2009)
    #expect(disk.mark[3] == 560)
  }

  @Test func `a clock that is ahead at a start locks nobody out`() throws {
    var disk = Disk()
    try remember(&disk, 1...1, at: 1000)
    for now in 1010..<1013 as Range<Int64> {
      var ahead = disk.restored(at: now, wall: 1_000_000 * now)
      #expect(ahead.found.state == .complete && ahead.found.count == 1)
      let stale = ahead.refusal(of: 1, stamped: 1000, at: now)
      #expect(stale == .replayed)
      try disk.save(&ahead.file, at: now)
    }
    var right = disk.restored(at: 1013)
    let old = right.refusal(of: 1, stamped: 1000, at: 1013)
    let new = right.refusal(of: 2, stamped: 1013, at: 1013)
    #expect(old == .replayed && new == nil)
  }

  @Test func `a clock that is behind lets in nothing that a server may have met`() throws {
    var disk = Disk()
    try remember(&disk, 1...1, at: 1000, isLast: true)
    var behind = disk.restored(at: 5, wall: 100, boot: boot + 1)
    #expect(behind.found.timeBehind == 900)
    for stamp in [100, 940] as [Int64] {
      let refusal = behind.refusal(of: 9, stamped: stamp, at: 6, wall: stamp)
      #expect(refusal == .olderThanMemory)
    }
    let replay = behind.refusal(of: 1, stamped: 1000, at: 7, wall: 1000)
    let new = behind.refusal(of: 9, stamped: 1000, at: 7, wall: 1000)
    #expect(replay == .replayed && new == nil)
  }

  @Test func `when the clock goes back while it runs nothing comes back`() {
    var started = Disk().restored(at: 0, isWhole: false)
    // The file was damaged, and the drift has passed.
    let first = started.refusal(of: 1, stamped: 200, at: 200)
    let second = started.refusal(of: 2, stamped: 300, at: 300)
    #expect(first == nil && second == nil)
    let forgotten = started.refusal(of: 1, stamped: 200, at: 301, wall: 200)
    #expect(forgotten == .olderThanMemory)
    let beforeTheStart = started.refusal(of: 3, stamped: 60, at: 302, wall: 60)
    #expect(beforeTheStart == .olderThanMemory)
    let held = started.refusal(of: 2, stamped: 300, at: 303, wall: 300)
    #expect(held == .replayed)
  }
}
