import KnockBase
import KnockProtocol
import TestSupport
import Testing

@testable import KnockServer

private let capacity = 8
private let headerCount = FileHeader.pageSize / 8

/// A file in memory, that outlives the replay memories that use it.
private struct Image {
  let bytes: UnsafeMutableRawBufferPointer

  init() {
    bytes = .allocate(byteCount: ReplayFile.size(forRecords: capacity), alignment: 4096)
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
  }

  private var header: Storage<UInt64> {
    Storage(
      adopting: UnsafeMutableRawBufferPointer(rebasing: bytes[..<4096]).bindMemory(to: UInt64.self))
  }

  func memory(isNew: Bool = false) -> ReplayMemory {
    let file =
      isNew ? ReplayFile(new: header, capacity: capacity, time: 0) : ReplayFile(existing: header)
    let records = UnsafeMutableRawBufferPointer(rebasing: bytes[4096...])
    return ReplayMemory(
      records: Storage(adopting: records.bindMemory(to: ReplayMemory.Record.self)),
      index: PositionIndex(
        storage(PositionIndex.count(forRecords: capacity), of: UInt32.self)), file: file)
  }
}

private func restore(_ memory: inout ReplayMemory) -> Bool { memory.restore() }

private func mac(_ number: UInt8) -> [UInt8] { [UInt8](repeating: number, count: 32) }

/// Whether a knock is accepted, by the reason why not.
private func remember(_ memory: inout ReplayMemory, _ number: UInt8, at now: Int64) -> Refusal? {
  do throws(Refusal) {
    try memory.remember(mac(number).span, timeStamp: now, now: now, drift: 60)
    return nil
  } catch { return error }
}

/// A process writes the record first and then the mark, byte for byte as far as we know.
private let order = [4096..<ReplayFile.size(forRecords: capacity), 0..<4096]

@Test func whereverTheProcessIsKilledNothingIsForgotten() {
  // Also at the start of the ring, and where it turns.
  for old in [0, 1, 5, 7] {
    let image = Image()
    do {
      var memory = image.memory(isNew: true)
      for number in 0..<old {
        let refusal1 = remember(&memory, UInt8(number + 1), at: 100)
        #expect(refusal1 == nil)
      }
    }
    let before = Array(image.bytes)
    do {
      var memory = image.memory()
      let isWhole = restore(&memory)
      #expect(isWhole)
      let refusal2 = remember(&memory, 99, at: 100)
      #expect(refusal2 == nil)
    }
    let after = Array(image.bytes)
    let changes = order.joined().filter { before[$0] != after[$0] }
    #expect(changes.count > 40)
    for count in 0...changes.count {
      image.bytes.copyBytes(from: before)
      for offset in changes.prefix(count) { image.bytes[offset] = after[offset] }
      var memory = image.memory()
      let isWhole = restore(&memory)
      #expect(isWhole, "\(count) of \(changes.count) bytes")
      for number in 0..<old {
        let refusal3 = remember(&memory, UInt8(number + 1), at: 100)
        #expect(refusal3 == .replayed)
      }
      // The new one has either been remembered, or not been acted on.
      let refusal = remember(&memory, 99, at: 100)
      #expect(refusal == nil || refusal == .replayed)
    }
  }
}

@Test func everyDamagedByteIsFoundOrHarmless() {
  let image = Image()
  do {
    var memory = image.memory(isNew: true)
    for number in 1...6 {
      let refusal4 = remember(&memory, UInt8(number), at: 100)
      #expect(refusal4 == nil)
    }
  }
  let good = Array(image.bytes)
  for offset in good.indices where good[offset] != 0 || (4096..<4096 + 6 * 56).contains(offset) {
    image.bytes.copyBytes(from: good)
    image.bytes[offset] ^= 0x55
    guard offset >= 64 else { continue }  // What names the file is not looked at here.
    var memory = image.memory()
    let isWhole = restore(&memory)
    guard isWhole else { continue }
    for number in 1...6 {
      let refusal5 = remember(&memory, UInt8(number), at: 100)
      #expect(refusal5 == .replayed, "byte \(offset)")
    }
  }
}

@Test func aRecordThatIsGoneIsMissed() {
  // Also when the ring has turned.
  for held in [1, 6, 8, 11] {
    let image = Image()
    var memory = image.memory(isNew: true)
    for number in 1...held {
      let refusal = remember(&memory, UInt8(number), at: 100 + 61 * Int64(number / 7))
      #expect(refusal == nil)
    }
    let good = Array(image.bytes)
    for record in 0..<min(held, capacity) {
      image.bytes.copyBytes(from: good)
      for offset in 0..<56 { image.bytes[4096 + 56 * record + offset] = 0 }
      var restored = image.memory()
      let isWhole = restore(&restored)
      #expect(!isWhole, "\(held) \(record)")
    }
  }
}

@Test func theRingGoesOnWhereItWasAcrossRestarts() {
  let image = Image()
  _ = image.memory(isNew: true)
  var now: Int64 = 100
  for number in 1...200 {
    var memory = image.memory()
    let isWhole = restore(&memory)
    #expect(isWhole)
    // The last of them are still fresh, whichever turn the ring has made.
    for old in max(1, number - 4)..<number {
      let refusal6 = remember(&memory, UInt8(old), at: now)
      #expect(refusal6 == .replayed)
    }
    let refusal7 = remember(&memory, UInt8(number), at: now)
    #expect(refusal7 == nil)
    now += 13
  }
}

@Test func aHeaderSaysWhatIsWrongWithIt() throws {
  let header = storage(headerCount, of: UInt64.self)
  _ = ReplayFile(
    new: Storage(
      adopting: UnsafeMutableBufferPointer(start: header.baseAddress, count: headerCount)),
    capacity: 7, time: 1)
  #expect(try ReplayFile.capacity(of: header) == 7)
  header[2] = 8
  #expect(throws: FileHeader.Failure.damagedHeader) { try ReplayFile.capacity(of: header) }
  header[1] = 1
  #expect(throws: FileHeader.Failure.older(version: 1)) { try ReplayFile.capacity(of: header) }
  header[1] = 3
  #expect(throws: FileHeader.Failure.newer(version: 3)) { try ReplayFile.capacity(of: header) }
  header[0] = 0
  #expect(throws: FileHeader.Failure.foreign) { try ReplayFile.capacity(of: header) }
}

@Test func theFloorIsTheGreatestTimeStampThatWasForgotten() {
  func remember(
    _ memory: inout ReplayMemory, _ number: UInt8, stamped timeStamp: Int64, at now: Int64
  ) -> Refusal? {
    do throws(Refusal) {
      try memory.remember(mac(number).span, timeStamp: timeStamp, now: now, drift: 60)
      return nil
    } catch { return error }
  }
  let image = Image()
  var memory = image.memory(isNew: true)
  // The first to be forgotten has the later time stamp.
  let first = remember(&memory, 1, stamped: 150, at: 100)
  let second = remember(&memory, 2, stamped: 100, at: 100)
  #expect(first == nil && second == nil)
  memory.forgetStale(now: 211, drift: 60)
  #expect(memory.count == 0)
  // The clock has gone back.
  let old = remember(&memory, 3, stamped: 150, at: 100)
  #expect(old == .olderThanMemory)
  let new = remember(&memory, 3, stamped: 151, at: 100)
  #expect(new == nil)
  // A later process reads it from the file.
  var later = image.memory()
  let isWhole = restore(&later)
  #expect(isWhole)
  let oldLater = remember(&later, 4, stamped: 150, at: 100)
  #expect(oldLater == .olderThanMemory)
}

@Test func onlyOneDamagedRecordIsTakenForUnfinished() {
  // Also in a file that is full, and with records at places where no process writes them.
  for (sequences, damaged, isExpectedWhole) in [
    ([1, 2, 3, 4, 5, 6], [6], true), ([1, 2, 3, 4, 5, 6], [7], false),
    ([1, 2, 3, 4, 5, 6], [6, 7], false), ([9, 10, 3, 4, 5, 6, 7, 8], [2], true),
    ([9, 10, 3, 4, 5, 6, 7, 8], [4], false), ([9, 10, 3, 4, 5, 6, 7, 8], [2, 3], false),
    ([0, 0, 1, 2, 3], [5], true), ([0, 0, 1, 2, 3], [0, 5], false),
  ] as [([UInt64], [Int], Bool)] {
    let image = Image()
    _ = image.memory(isNew: true)
    let records = image.bytes[4096...].bindMemory(to: ReplayMemory.Record.self)
    for (position, sequence) in sequences.enumerated() where sequence > 0 {
      records[position] = ReplayMemory.Record(
        mac: (sequence, 0, 0, 0), timeStamp: 100, sequence: sequence)
    }
    for position in damaged { image.bytes[4096 + 56 * position] ^= 1 }
    var memory = image.memory()
    let isWhole = restore(&memory)
    #expect(isWhole == isExpectedWhole, "\(sequences) \(damaged)")
  }
}

// Found by Tests/Mutants

extension Image {
  fileprivate var numbers: UnsafeMutableBufferPointer<UInt64> {
    bytes.bindMemory(to: UInt64.self)
  }

  fileprivate var file: ReplayFile { ReplayFile(existing: header) }
}

private func checksum(_ numbers: [UInt64]) -> UInt64 {
  var sum = Checksum()
  for number in numbers { sum.add(number) }
  return sum.value
}

private func record(_ numbers: [UInt64]) -> ReplayMemory.Record {
  numbers.withUnsafeBytes { $0.load(as: ReplayMemory.Record.self) }
}

@Test func theFileHasTheSameFormInEachVersion() {
  #expect(ReplayFile.size(forRecords: 10) == 4096 + 10 * 56)
  let image = Image()
  var memory = image.memory(isNew: true)
  // The first mark is of a new file; the second is that of the first knock.
  let lowest = UInt64(bitPattern: Int64.min)
  let new = [1, 0, 0, lowest]
  #expect(Array(image.numbers[16..<21]) == new + [checksum(new)])
  let refusal = remember(&memory, 7, at: 100)
  #expect(refusal == nil)
  let mark = [2, 100, 1, lowest]
  #expect(Array(image.numbers[8..<13]) == mark + [checksum(mark)])
  let number: UInt64 = 0x0707_0707_0707_0707
  let words = [number, number, number, number, 100, 1]
  #expect(Array(image.numbers[512..<519]) == words + [checksum(words)])
  // Nothing else was written.
  #expect(image.numbers[4..<8].allSatisfy { $0 == 0 })
  #expect(image.numbers[21..<512].allSatisfy { $0 == 0 })
  #expect(image.numbers[519...].allSatisfy { $0 == 0 })
}

@Test func aRecordThatMeansNothingIsNotValid() {
  for (sequence, isValid) in [
    (0, false), (1, true), (1 << 63 - 1, true), (1 << 63, false), (.max, false),
  ] as [(UInt64, Bool)] {
    let words = [1, 2, 3, 4, 5, sequence]
    #expect(record(words + [checksum(words)]).isValid == isValid)
    #expect(!record(words + [checksum(words) + 1]).isValid)
  }
  var words = [UInt64](repeating: 0, count: 7)
  #expect(record(words).isEmpty)
  for index in words.indices {
    words[index] = 1
    #expect(!record(words).isEmpty, "\(index)")
    words[index] = 0
  }
}

@Test func theMarkIsTheLatestTimeThatWas() {
  let image = Image()
  var memory = image.memory(isNew: true)
  #expect(image.file.mark == 0)
  for (time, mark) in [(100, 100), (50, 100), (nil, 100), (200, 200)] as [(Int64?, Int64)] {
    memory.recordTime(time)
    #expect(image.file.mark == mark)
  }
  // The counter counts on from the later of two marks.
  var later = image.memory()
  later.recordTime(300)
  #expect(image.file.mark == 300)
  later.recordTime(400)
  #expect(image.file.mark == 400)
  // Where the last one is damaged, the one before counts.
  let last = image.numbers[8] > image.numbers[16] ? 8 : 16
  image.numbers[last + 1] ^= 1
  #expect(image.file.mark == 300)
  image.numbers[24 - last + 1] ^= 1
  #expect(image.file.mark == nil)
}

@Test func aMarkWithoutACounterIsNone() {
  for (counter, isMark) in [(0, false), (1, true), (.max, true)] as [(UInt64, Bool)] {
    let image = Image()
    let words = [counter, 5, 3, 4]
    for (index, word) in (words + [checksum(words)]).enumerated() {
      image.numbers[8 + index] = word
    }
    #expect(image.file.mark == (isMark ? 5 : nil))
    #expect(image.file.sequence == (isMark ? 3 : 0))
    #expect(image.file.floor == (isMark ? 4 : .min))
  }
}

@Test func afterAMarkThatWasLostTheTimeIsNotMadeUp() {
  let image = Image()
  var memory = image.memory()
  memory.refuse(upTo: 7)
  #expect(image.file.mark == 0)
  #expect(image.file.floor == 7)
  memory.recordTime(-5)
  #expect(image.file.mark == 0)
  let other = Image()
  var early = other.memory()
  early.recordTime(-5)
  #expect(other.file.mark == -5)
}

@Test func whatWasRefusedUpToATimeStaysRefused() {
  let image = Image()
  var memory = image.memory(isNew: true)
  memory.refuse(upTo: 100)
  memory.refuse(upTo: 90)
  let old = remember(&memory, 1, at: 100)
  #expect(old == .olderThanMemory)
  let new = remember(&memory, 1, at: 101)
  #expect(new == nil)
  var later = image.memory()
  let isWhole = restore(&later)
  #expect(isWhole)
  let oldLater = remember(&later, 2, at: 100)
  #expect(oldLater == .olderThanMemory)
}

@Test func aMemoryTakesOverWhatFits() {
  // Another one whose ring begins in the middle.
  let image = Image()
  var other = image.memory(isNew: true)
  for number in 1...8 as ClosedRange<UInt8> { _ = remember(&other, number, at: 100) }
  other.forgetStale(now: 161, drift: 60)
  for number in 11...15 as ClosedRange<UInt8> {
    let refusal = remember(&other, number, at: 170)
    #expect(refusal == nil)
  }
  #expect(other.count == 5)
  for (capacity, fits) in [(4, false), (5, true), (6, true)] {
    var memory = ReplayMemory(
      records: storage(capacity, of: ReplayMemory.Record.self),
      index: PositionIndex(
        storage(PositionIndex.count(forRecords: capacity), of: UInt32.self)))
    let isAdopted = memory.adopt(other)
    #expect(isAdopted == fits)
    #expect(memory.count == (fits ? 5 : 0))
    guard fits else { continue }
    for number in 11...15 as ClosedRange<UInt8> {
      let refusal = remember(&memory, number, at: 170)
      #expect(refusal == .replayed)
    }
    let old = remember(&memory, 1, at: 100)
    #expect(old == .olderThanMemory)
    let again = memory.adopt(other)
    #expect(!again)
    memory.forgetStale(now: 231, drift: 60)
    #expect(memory.count == 0)
  }
}

@Test func whatIsTakenOverOutlivesTheProcess() {
  let image = Image()
  var other = image.memory(isNew: true)
  for number in 1...3 as ClosedRange<UInt8> { _ = remember(&other, number, at: 100) }
  let copy = Image()
  do {
    var memory = copy.memory(isNew: true)
    let isAdopted = memory.adopt(other)
    #expect(isAdopted)
  }
  #expect(copy.file.sequence == 3)
  var later = copy.memory()
  let isWhole = restore(&later)
  #expect(isWhole)
  #expect(later.count == 3)
}

@Test func aRecordThatTheMarkKnowsOfIsMissed() {
  let image = Image()
  do {
    var memory = image.memory(isNew: true)
    for number in 1...3 as ClosedRange<UInt8> { _ = remember(&memory, number, at: 100) }
  }
  // The last one is gone, without a trace of its own.
  for offset in 0..<56 { image.bytes[4096 + 2 * 56 + offset] = 0 }
  var memory = image.memory()
  let isWhole = restore(&memory)
  #expect(!isWhole)
  #expect(memory.count == 2)
}

@Test func aFullMemoryForgetsNothingThatIsFresh() {
  let image = Image()
  var memory = image.memory(isNew: true)
  for number in 1...8 as ClosedRange<UInt8> {
    let refusal = remember(&memory, number, at: 100)
    #expect(refusal == nil)
  }
  let full = remember(&memory, 9, at: 160)
  #expect(full == .replayMemoryFull)
  let room = remember(&memory, 9, at: 161)
  #expect(room == nil)
  #expect(memory.count == 1)
}

@Test func withoutAFileTheFirstPlacesAreUsedAgain() {
  let records = storage(4, of: ReplayMemory.Record.self)
  let elements = UnsafeMutableBufferPointer(start: records.baseAddress, count: 4)
  var memory = ReplayMemory(
    records: records, index: PositionIndex(storage(8, of: UInt32.self)))
  for number in 1...3 as ClosedRange<UInt8> {
    let refusal = remember(&memory, number, at: 100 * Int64(number))
    #expect(refusal == nil)
  }
  #expect(elements[0].sequence == 3)
  #expect(elements[1].isEmpty)
}

@Test func eachByteOfAMACIsRemembered() {
  let image = Image()
  var memory = image.memory(isNew: true)
  let bytes = (1...32).map { UInt8($0) }
  func remember(_ bytes: [UInt8], _ memory: inout ReplayMemory) -> Refusal? {
    do throws(Refusal) {
      try memory.remember(bytes.span, timeStamp: 100, now: 100, drift: 60)
      return nil
    } catch { return error }
  }
  let new = remember(bytes, &memory)
  #expect(new == nil)
  #expect(Array(image.bytes[4096..<4096 + 32]) == bytes)
  for index in [0, 7, 8, 15, 16, 23, 24, 31] {
    memory = image.memory(isNew: true)
    _ = remember(bytes, &memory)
    var other = bytes
    other[index] ^= 0x80
    let isNew = remember(other, &memory)
    #expect(isNew == nil, "\(index)")
  }
}

@Test func aRecordOfTheTurnBeforeIsMissedAsOneThatIsGone() {
  // The machine stopped before the place of record 11 was written to the disk.
  let image = Image()
  _ = image.memory(isNew: true)
  let records = image.bytes[4096...].bindMemory(to: ReplayMemory.Record.self)
  for (position, sequence) in [9, 10, 3, 12, 5, 6, 7, 8].enumerated() {
    records[position] = ReplayMemory.Record(
      mac: (UInt64(sequence), 0, 0, 0), timeStamp: 100, sequence: UInt64(sequence))
  }
  var memory = image.memory()
  let isWhole = restore(&memory)
  #expect(!isWhole)
  #expect(memory.count == 1)
}

@Test func whatWasNotFinishedWasNotActedOn() {
  let image = Image()
  do {
    var memory = image.memory(isNew: true)
    for number in 1...4 as ClosedRange<UInt8> { _ = remember(&memory, number, at: 100) }
  }
  let fourth = 4096 + 3 * 56
  let written = Array(image.bytes[fourth..<fourth + 56])
  let earlier = Image()
  do {
    var memory = earlier.memory(isNew: true)
    for number in 1...3 as ClosedRange<UInt8> { _ = remember(&memory, number, at: 100) }
  }
  // All but the checksum.
  for (offset, byte) in written.prefix(48).enumerated() { earlier.bytes[fourth + offset] = byte }
  var memory = earlier.memory()
  let isWhole = restore(&memory)
  #expect(isWhole)
  let again = remember(&memory, 4, at: 100)
  #expect(again == nil)
  #expect(memory.count == 4)
}

@Test func anEmptyMemoryWithoutAFileIsWhole() {
  var memory = ReplayMemory(
    records: storage(4, of: ReplayMemory.Record.self),
    index: PositionIndex(storage(8, of: UInt32.self)))
  let isWhole = restore(&memory)
  #expect(isWhole)
}
