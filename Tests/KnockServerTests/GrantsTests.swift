import KnockBase
import TestSupport
import Testing

@testable import KnockServer

private let capacity = 6
private let second = Microseconds.second
private let now = 1_700_000_000 * second
/// In monotonic microseconds.
private let minute = 60 * second

/// The size of a record in bytes.
private let size = 128

/// A file in memory, that outlives the grants that use it.
private struct Image {
  let bytes: UnsafeMutableRawBufferPointer

  init(capacity: Int = capacity) {
    bytes = .allocate(byteCount: (capacity + 1) * size, alignment: 64)
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
  }

  var records: Storage<Grants.Record> {
    Storage(adopting: bytes.bindMemory(to: Grants.Record.self))
  }

  /// As a server has them: in this file, which is empty.
  func grants(place: UInt64 = 7) -> Grants {
    let count = bytes.count / size
    return Grants(
      records: records, changed: storage(count / 64 + 1, of: UInt64.self),
      names: SetNames(storage(SetNames.size, of: UInt8.self)),
      states: storage(count, of: Grants.State.self),
      heap: storage(count, of: UInt32.self),
      index: PositionIndex(storage(PositionIndex.count(forRecords: count), of: UInt32.self)),
      areas: storage(count, of: UInt32.self), place: place, secret: 7)
  }

  /// What a server makes of it that starts now.
  func adopted(at wall: Int64 = now) -> (
    found: Grants.Found, ends: [UInt32: Int64], due: Set<UInt32>
  ) {
    let other = Image(capacity: bytes.count / size - 1)
    var grants = other.grants()
    let found = grants.adopt(records, names: noNames(), wallNow: wall, now: 0)
    var ends: [UInt32: Int64] = [:]
    for record in other.bytes.bindMemory(to: Grants.Record.self) {
      if let grant = record.grant, case .inet(let bits) = grant.address { ends[bits] = grant.ends }
    }
    var due: Set<UInt32> = []
    while case .inet(let bits) = grants.beginNextClose(wallNow: wall, now: 0)?.grant.address {
      due.insert(bits)
    }
    return (found, ends, due)
  }
}

private func noNames() -> SetNames { SetNames(storage(SetNames.size, of: UInt8.self)) }

/// Opens by a command that succeeds. Returns false if there is no room.
private func open(
  _ grants: inout Grants, _ address: Address, for seconds: Int64, at wall: Int64 = now,
  now: Int64 = 0
) -> Bool {
  let opening = Grants.Opening(
    user: .none, key: .none, set: 0, prefixLength: address.family.addressBits, setDuration: nil,
    duration: seconds * second, closesCommand: true, hasCloseCommand: true)
  let runs = try? grants.open(
    address, opening, isRepeat: false, isShared: false, wallNow: wall, now: now)
  guard let runs else { return false }
  if runs == .runs { _ = grants.endOpen(address, succeeded: true, isWantedAgain: false) }
  return true
}

private func open(
  _ grants: inout Grants, _ number: UInt32, for seconds: Int64 = 60, at wall: Int64 = now
) -> Bool {
  open(&grants, .inet(number), for: seconds, at: wall, now: wall - now)
}

/// As a server without --close-after opens.
private func leaveOpen(_ grants: inout Grants, _ number: UInt32) {
  let opening = Grants.Opening(
    user: .none, key: .none, set: 0, prefixLength: 32, setDuration: nil, duration: nil,
    closesCommand: false,
    hasCloseCommand: true)
  _ = try? grants.open(
    .inet(number), opening, isRepeat: false, isShared: false, wallNow: now, now: 0)
}

private func beginNextClose(_ grants: inout Grants, at time: Int64) -> UInt32? {
  guard case .inet(let bits) = grants.beginNextClose(wallNow: now + time, now: time)?.grant.address
  else {
    return nil
  }
  return bits
}

private func endClose(
  _ grants: inout Grants, _ number: UInt32, succeeded: Bool = true, at time: Int64 = 0
) -> Grants.Closing {
  grants.endClose(.inet(number), succeeded: succeeded, now: time)
}

@Test func grantsEndInTheOrderOfTheirEnds() {
  var grants = Image().grants()
  for (number, seconds) in [(1, 50), (2, 10), (3, 40), (4, 20)] as [(UInt32, Int64)] {
    let isOpen = open(&grants, number, for: seconds)
    #expect(isOpen)
  }
  // Asked for again, it lasts longer.
  let isOpen = open(&grants, 2, for: 30)
  #expect(isOpen)
  #expect(grants.nextDeadline == 20 * second)
  var order: [UInt32] = []
  while let number = beginNextClose(&grants, at: minute) { order.append(number) }
  #expect(order == [4, 2, 3, 1])
  #expect(grants.nextDeadline == nil)
  #expect(grants.closingCount == 4)
  for number in order {
    let closing = endClose(&grants, number)
    #expect(closing == .done)
  }
  #expect(grants.count == 0)
  #expect(grants.closingCount == 0)
}

@Test func nothingIsDueBeforeItsTime() {
  var grants = Image().grants()
  _ = open(&grants, 1)
  let early = beginNextClose(&grants, at: minute - 1)
  #expect(early == nil)
  let inTime = beginNextClose(&grants, at: minute)
  #expect(inTime == 1)
  // It is being closed, and is not taken twice.
  let again = beginNextClose(&grants, at: .max / 2)
  #expect(again == nil)
}

@Test func whatHasNoRoomIsNotOpenedButWhatIsOpenMayLastLonger() {
  var grants = Image().grants()
  for number in 1...UInt32(capacity) {
    let isOpen = open(&grants, number)
    #expect(isOpen)
  }
  let tooMany = open(&grants, 99)
  #expect(!tooMany)
  for number in 1...UInt32(capacity) {
    let isOpen = open(&grants, number, for: 90)
    #expect(isOpen)
  }
  #expect(grants.count == capacity)
  #expect(grants.nextDeadline == 90 * second)
}

@Test func whatIsOpenedAgainWhileItIsClosedStaysOpen() {
  var grants = Image().grants()
  _ = open(&grants, 1)
  _ = grants.beginClose(.inet(1), of: .none, wallNow: now)
  #expect(grants.nextDeadline == nil)
  _ = open(&grants, 1)
  let first = endClose(&grants, 1)
  #expect(first == .done)
  #expect(grants.count == 1)
  #expect(grants.nextDeadline == minute)
  // Two closes with an open between them: the end of the first says nothing.
  _ = grants.beginClose(.inet(1), of: .none, wallNow: now)
  _ = open(&grants, 1)
  _ = grants.beginClose(.inet(1), of: .none, wallNow: now)
  _ = endClose(&grants, 1)
  #expect(grants.count == 1)
  _ = endClose(&grants, 1)
  #expect(grants.count == 0)
}

@Test func aCloseThatFailsIsTriedAgainUntilItSucceeds() {
  var grants = Image().grants()
  _ = open(&grants, 1)
  var time = minute
  for attempt in 0...300 {
    let due = beginNextClose(&grants, at: time)
    #expect(due == 1)
    let closing = endClose(&grants, 1, succeeded: false, at: time)
    #expect(closing == (attempt < 3 ? .retriedSoon : .retriedLater))
    time += (attempt < 3 ? minute : 60 * minute) - 1
    let early = beginNextClose(&grants, at: time)
    #expect(early == nil)
    time += 1
  }
  #expect(grants.count == 1)
  let due = beginNextClose(&grants, at: time)
  #expect(due == 1)
  #expect(endClose(&grants, 1, at: time) == .done)
  #expect(grants.count == 0)
}

@Test func whatIsForgottenWhileItIsClosedIsNotClosedAgain() {
  var grants = Image().grants()
  _ = open(&grants, 1)
  _ = open(&grants, 2, for: 90)
  let due = beginNextClose(&grants, at: minute)
  #expect(due == 1)
  leaveOpen(&grants, 1)
  #expect(grants.nextDeadline == 90 * second)
  #expect(grants.count == 2)
  #expect(grants.closingCount == 1)
  let closing = endClose(&grants, 1, succeeded: false)
  #expect(closing == .done)
  #expect(grants.count == 1)
  #expect(grants.closingCount == 0)
}

@Test func allCanEndAtOnce() {
  var grants = Image().grants()
  for number in 1...5 as ClosedRange<UInt32> { _ = open(&grants, number, for: Int64(number)) }
  _ = grants.beginClose(.inet(3), of: .none, wallNow: now)
  grants.expireAll(now: 7)
  var due: Set<UInt32> = []
  while let number = beginNextClose(&grants, at: 7) { due.insert(number) }
  #expect(due == [1, 2, 4, 5])
}

@Test func whatIsNoGrantCanBeClosedAndForgotten() {
  var grants = Image().grants()
  let isGrant = grants.beginClose(.inet(1), of: .none, wallNow: now)
  #expect(!isGrant)
  leaveOpen(&grants, 1)
  let closing = endClose(&grants, 1)
  #expect(closing == .done)
  _ = open(&grants, 1)
  leaveOpen(&grants, 1)
  #expect(grants.count == 0)
}

// What is left behind

@Test func aLaterServerGoesByTheClock() {
  let image = Image()
  var grants = image.grants()
  _ = open(&grants, 1, for: 10)
  _ = open(&grants, 2, for: 100)
  #expect(image.adopted(at: now + 50 * second).due == [1])
  #expect(image.adopted(at: now + 50 * second).found.overdueCount == 1)
  #expect(image.adopted(at: now + 99_900_000).due == [1])
  #expect(image.adopted(at: now + 100 * second).due == [1, 2])
  // When they end cannot be known: they end now.
  #expect(image.adopted(at: now - second).due == [1, 2])
  #expect(image.adopted(at: .min).due == [1, 2])
  #expect(image.adopted(at: .max).due == [1, 2])
  // What was being closed is closed.
  _ = grants.beginClose(.inet(2), of: .none, wallNow: now + second)
  #expect(image.adopted(at: now + second).due == [2])
}

@Test func aClockThatHasBeenLaterTellsNoEnd() {
  let image = Image()
  var grants = image.grants()
  let isOpen = open(&grants, 1)
  #expect(isOpen)
  for (latest, deadline) in [
    (.min, 50), (now + 10 * second, 50), (now + 10 * second + 1, 0), (.max, 0),
  ] as [(Int64, Int64)] {
    var later = Image().grants()
    _ = later.adopt(
      image.records, names: noNames(), wallNow: now + 10 * second, now: 0, latest: latest)
    #expect(later.nextDeadline == deadline * second, "\(latest)")
  }
}

@Test func grantsOfAnEarlierServerEndSoonerOnceTheClockIsRight() {
  let image = Image()
  var earlier = image.grants()
  let areOpen = open(&earlier, 1) && open(&earlier, 2, for: 600) && open(&earlier, 4, for: 600)
  #expect(areOpen)
  var grants = Image().grants()
  _ = grants.adopt(image.records, names: noNames(), wallNow: now, now: 0)
  let isOpen = open(&grants, 3, for: 90) && open(&grants, 4, for: 700)
  #expect(isOpen)
  // It goes back, then on, and then it is set. It was behind by five minutes.
  for (wall, monotonic, deadline) in [
    (now - 300 * second, 0, 60), (now + 5 * second, 5 * second, 60),
    (now + 311 * second, 11 * second, 11), (now + 300 * second, 12 * second, 11),
  ] as [(Int64, Int64, Int64)] {
    grants.followClock(wallNow: wall, now: monotonic)
    #expect(grants.nextDeadline == deadline * second)
  }
  #expect(beginNextClose(&grants, at: 11 * second) == 1)
  // Only the grant of this server lasts as before.
  for (number, seconds) in [(3, 90), (2, 300), (4, 700)] as [(UInt32, Int64)] {
    #expect(grants.nextDeadline == seconds * second)
    #expect(beginNextClose(&grants, at: seconds * second) == number)
  }
  grants.followClock(wallNow: .max, now: 700 * second)
  grants.followClock(wallNow: .min, now: 700 * second)
  #expect(grants.nextDeadline == nil)
}

@Test func aServerWithoutOlderGrantsSeesThatTheClockIsSet() {
  var grants = Image().grants()
  _ = open(&grants, 1)
  let looks = [
    (now, 0), (now + second, second), (now + 3602 * second, 2 * second),
    (now + 3603 * second, 3 * second),
  ]
  let results = looks.map { grants.followClock(wallNow: $0, now: $1) }
  #expect(results == [false, false, true, false])
  #expect(grants.nextDeadline == minute)
}

@Test func noClockMakesARecordThatNobodyCanRead() {
  for wall in [.min, -1, 0, 1, 10_000_000_000 * second, .max] as [Int64] {
    let image = Image()
    var grants = image.grants()
    let isOpen = open(&grants, .inet(1), for: 366 * 86_400, at: wall)
    #expect(isOpen)
    let again = open(&grants, .inet(1), for: 5)
    #expect(again)
    _ = grants.beginClose(.inet(1), of: .none, wallNow: wall)
    #expect(image.adopted().found.count == 1, "\(wall)")
    #expect(image.adopted().found.damagedCount == 0, "\(wall)")
  }
}

@Test func recordsAreNumberedAnew() {
  // Of two for one address the later one is true, whichever comes first; and there is always a next number.
  for order in [[1, 1 << 62], [1 << 62, 1]] as [[UInt64]] {
    let image = Image()
    for (position, sequence) in order.enumerated() {
      image.records[position] = Grants.Record(
        grant(.inet(1), since: now, asked: now, ends: now + (sequence == 1 ? 10 : 20) * second),
        sequence: sequence, place: 7)
    }
    let other = Image()
    var grants = other.grants()
    let found = grants.adopt(image.records, names: noNames(), wallNow: now, now: 0)
    #expect(found.count == 1)
    #expect(grants.nextDeadline == 20 * second)
    let isOpen = open(&grants, 2)
    #expect(isOpen)
    #expect(other.adopted().found.count == 2)
  }
}

@Test func moreThanThereIsRoomForIsSaid() {
  let image = Image(capacity: 9)
  var grants = image.grants()
  for number in 1...9 as ClosedRange<UInt32> { _ = open(&grants, number) }
  var smaller = Image().grants()
  let found = smaller.adopt(image.records, names: noNames(), wallNow: now, now: 0)
  #expect(!found.fits)
  #expect(found.count == 9)
  #expect(smaller.count == capacity)
  var equal = Image(capacity: 9).grants()
  let all = equal.adopt(image.records, names: noNames(), wallNow: now, now: 0)
  #expect(all.fits)
  #expect(equal.count == 9)
}

/// What a process may be killed over, with the grants that are there before.
private let changes: [(String, @Sendable (inout Grants) -> Void)] = [
  ("open", { _ = open(&$0, 9, for: 70) }),
  ("open again", { _ = open(&$0, 2, for: 80, at: now + second) }),
  ("begin to close", { _ = $0.beginClose(.inet(2), of: .none, wallNow: now + second) }),
  (
    "close",
    {
      _ = $0.beginNextClose(wallNow: now + 60 * second, now: minute)
      _ = $0.endClose(.inet(1), succeeded: true, now: minute)
    }
  ),
]

@Test func whereverTheProcessIsKilledNoGrantIsLost() {
  for (what, change) in changes {
    let image = Image()
    var grants = image.grants()
    for number in 1...3 as ClosedRange<UInt32> {
      _ = open(&grants, number, for: 57 + Int64(number))
    }
    let before = Array(image.bytes)
    change(&grants)
    let after = Array(image.bytes)
    // The new record is written before the old one is erased: first what was empty.
    let isNew = { (offset: Int) in
      before[offset / size * size..<offset / size * size + size].allSatisfy { $0 == 0 }
    }
    let changed = after.indices.filter { before[$0] != after[$0] }
    let order = changed.filter(isNew) + changed.filter { !isNew($0) }
    #expect(order.count > 20)
    for count in 0...order.count {
      image.bytes.copyBytes(from: before)
      for offset in order.prefix(count) { image.bytes[offset] = after[offset] }
      let (found, ends, _) = image.adopted(at: now)
      let comment: Comment = "\(what): \(count) of \(order.count) bytes"
      #expect(found.damagedCount <= 1, comment)
      #expect(what == "close" || ends[1] == now + 58 * second, comment)
      #expect(ends[3] == now + 60 * second, comment)
      switch what {
      case "open again":
        #expect(ends[2] == now + 59 * second || ends[2] == now + 81 * second, comment)
      case "begin to close":
        #expect(ends[2] == now + 59 * second || ends[2] == now + second, comment)
      default: #expect(ends[2] == now + 59 * second, comment)
      }
    }
  }
}

@Test func noByteThatIsOtherMakesAnotherGrant() {
  let image = Image()
  var grants = image.grants()
  for number in 1...3 as ClosedRange<UInt32> { _ = open(&grants, number) }
  let good = Array(image.bytes)
  for offset in good.indices
  where !good[offset / size * size..<(offset / size + 1) * size].allSatisfy({ $0 == 0 }) {
    image.bytes.copyBytes(from: good)
    image.bytes[offset] ^= 0x55
    let (found, ends, _) = image.adopted()
    #expect(found.damagedCount == 1, "byte \(offset)")
    #expect(ends.count == 2, "byte \(offset)")
  }
}

@Test func randomChangesAreThoseOfAModel() {
  struct Model {
    var deadline: Int64
    var closing = 0
  }
  for seed in 0..<20 as Range<UInt64> {
    var generator = Generator(seed: seed)
    let image = Image(capacity: 20)
    var grants = image.grants()
    var model: [UInt32: Model] = [:]
    var running: [UInt32] = []
    var time: Int64 = 0
    for _ in 0..<2000 {
      time += Int64.random(in: 0...500, using: &generator) * Microseconds.millisecond
      let wall = now + time
      let number = UInt32.random(in: 1...30, using: &generator)
      switch Int.random(in: 0..<5, using: &generator) {
      case 0, 1:
        let seconds = Int64.random(in: 1...20, using: &generator)
        let isOpen = open(&grants, number, for: seconds, at: wall)
        #expect(isOpen == (model[number] != nil || model.count < 20))
        guard isOpen else { break }
        let old = model[number]?.deadline ?? .max
        model[number] = Model(
          deadline: max(time + seconds * second, old < .max ? old : 0),
          closing: model[number]?.closing ?? 0)
      case 2:
        _ = grants.beginClose(.inet(number), of: .none, wallNow: wall)
        if model[number] != nil {
          model[number]?.deadline = .max
          model[number]?.closing += 1
          running.append(number)
        }
      case 3:
        guard !running.isEmpty else { break }
        let ended = running.remove(at: Int.random(in: 0..<running.count, using: &generator))
        _ = endClose(&grants, ended, at: time)
        model[ended]?.closing -= 1
        if let left = model[ended], left.closing == 0, left.deadline == .max { model[ended] = nil }
      default:
        let due = beginNextClose(&grants, at: time)
        let first = model.values.map(\.deadline).min() ?? .max
        #expect((due != nil) == (first <= time))
        guard let due else { break }
        #expect(model[due]?.deadline == first)
        model[due]?.deadline = .max
        model[due]?.closing += 1
        running.append(due)
      }
      #expect(grants.count == model.count)
      #expect(grants.closingCount == running.count)
      let first = model.values.map(\.deadline).filter { $0 < .max }.min()
      #expect(grants.nextDeadline == first)
    }
    let (found, ends, _) = image.adopted(at: now + time)
    #expect(found.count == model.count)
    #expect(Set(ends.keys) == Set(model.keys))
    for (number, grant) in model where grant.deadline < .max {
      #expect(ends[number] == now + grant.deadline)
    }
  }
}

@Test func anOpenNeverShortensWhatIsOpen() {
  let image = Image()
  var grants = image.grants()
  let address = Address.inet(1)
  func opening(_ seconds: Int64?) -> Grants.Opening {
    let duration = seconds.map { $0 * second }
    return Grants.Opening(
      user: .none, key: .none, set: 8, prefixLength: 32, setDuration: duration, duration: duration,
      closesCommand: false, hasCloseCommand: false)
  }
  func open(for seconds: Int64?, at time: Int64, wall: Int64) {
    _ = try? grants.open(
      address, opening(seconds), isRepeat: false, isShared: false, wallNow: wall, now: time)
  }
  func grant() -> Grant? {
    for record in image.bytes.bindMemory(to: Grants.Record.self) {
      if let grant = record.grant { return grant }
    }
    return nil
  }
  open(for: 60, at: 0, wall: now)
  // The clock is set meanwhile.
  open(for: 10, at: second, wall: now + 1000 * second)
  #expect(grants.count == 1)
  #expect(grants.nextDeadline == 60 * second)
  #expect(grant()?.asked == now + 1000 * second)
  #expect(grant()?.ends == now + 1059 * second)
  #expect(grant()?.setEnds == now + 1059 * second)
  #expect(grants.setTime(address, opening(10), now: second) == 59 * second)
  open(for: 70, at: 2 * second, wall: now + 1001 * second)
  #expect(grants.nextDeadline == 72 * second)
  #expect(grant()?.setEnds == now + 1071 * second)
  open(for: nil, at: 3 * second, wall: now + 1002 * second)
  open(for: 10, at: 4 * second, wall: now + 1003 * second)
  #expect(grants.nextDeadline == nil)
  #expect(grant()?.ends == Grant.never)
  #expect(grant()?.setEnds == Grant.never)
  #expect(grants.setTime(address, opening(10), now: 4 * second) == nil)
}

@Test func anOpenDuringACloseBeginsAnew() {
  let image = Image()
  var grants = image.grants()
  func since() -> Int64? {
    image.bytes.bindMemory(to: Grants.Record.self).lazy.compactMap(\.grant)
      .first { $0.address == .inet(1) }?.since
  }
  _ = open(&grants, 1)
  // Asked for again, it is open since it was opened first.
  _ = open(&grants, 1, at: now + 5 * second)
  #expect(since() == now)
  _ = grants.beginClose(.inet(1), of: .none, wallNow: now + 6 * second)
  #expect(since() == now)
  _ = open(&grants, 1, at: now + 7 * second)
  #expect(since() == now + 7 * second)
}

private func grant(
  _ address: Address, of user: UserName = .none, key: KeyFingerprint = .none, since: Int64 = 5,
  asked: Int64 = 6, ends: Int64 = 7
) -> Grant {
  Grant(
    address, user: user, key: key, command: .succeeded, hasCloseCommand: true, since: since,
    asked: asked, ends: ends)
}

/// The sixteen numbers of a record, with the right checksum.
private func words(
  family: UInt64 = 4, prefix: UInt64 = 32, set: UInt64 = 0, command: UInt64 = 0x82,
  high: UInt64 = 0,
  low: UInt64 = 1, since: Int64 = 5, asked: Int64 = 6, ends: Int64 = 7, setEnds: Int64 = .max,
  sequence: UInt64 = 1, user: [UInt64] = [0, 0, 0, 0], key: [UInt64] = [0, 0]
) -> [UInt64] {
  let times = [since, asked, ends, setEnds].map { UInt64(bitPattern: $0) }
  let what = family | prefix << 8 | set << 16 | command << 32
  let words = [what, high, low] + times + [sequence, 3] + user + key
  var sum = Checksum()
  for word in words { sum.add(word) }
  return words + [sum.value]
}

private func record(_ words: [UInt64]) -> Grants.Record {
  words.withUnsafeBytes { $0.load(as: Grants.Record.self) }
}

@Test func aRecordHasTheSameFormInEachVersion() {
  let inet6 = Address.inet6(high: 0x2001_0DB8 << 32, low: 1)
  for (address, words) in [
    (Address.inet(1), words()), (inet6, words(family: 6, prefix: 128, high: 0x2001_0DB8 << 32)),
  ] {
    let image = Image(capacity: 1)
    image.records[0] = Grants.Record(grant(address), sequence: 1, place: 3)
    #expect(Array(image.bytes.bindMemory(to: UInt64.self).prefix(16)) == words)
    #expect(record(words).grant?.address == address)
  }
}

@Test func aRecordNamesItsUser() {
  let image = Image(capacity: 1)
  let longest = String(repeating: "abcd0123", count: 4)
  for (name, word) in [
    ("bob", [0x62_6F62, 0, 0, 0]), (longest, Array(repeating: 0x3332_3130_6463_6261, count: 4)),
  ]
    as [(String, [UInt64])]
  {
    let key = KeyFingerprint(low: 5, high: 6)
    image.records[0] = Grants.Record(
      grant(.inet(1), of: userName(name), key: key), sequence: 1, place: 3)
    let words = words(user: word, key: [5, 6])
    #expect(Array(image.bytes.bindMemory(to: UInt64.self).prefix(16)) == words)
    let grant = record(words).grant
    #expect(grant?.user == userName(name))
    #expect(grant?.key == key)
  }
}

@Test func aNameThatNoUserCanHaveIsDamage() {
  for user in [
    [0x62_6F42, 0, 0, 0], [0, 0x62_6F62, 0, 0], [0, 0, 0, 1], [0x62_6F62, 1, 0, 0],
    [0x6200_6F62, 0, 0, 0], [0x2F62_6F62, 0, 0, 0], [0x2D, 0, 0, 0], [.max, .max, .max, .max],
    [0x6262_6262_6262_6262, 0, 0x62, 0],
  ] as [[UInt64]] {
    #expect(record(words(user: user)).grant == nil, "\(user)")
  }
}

@Test func aRecordThatMeansNothingIsNoGrant() {
  let longest = 366 * 86_400 * second
  let latest = 10_000_000_000 * second
  for (words, isGrant) in [
    (words(family: 3), false), (words(family: 5), false), (words(family: 7), false),
    (words(high: 1), false), (words(low: 0), false), (words(low: 0xFFFF_FFFE), true),
    (words(low: 1 << 32), false), (words(family: 6, prefix: 128, low: 0), false),
    (words(family: 6, prefix: 48, low: 2), true), (words(family: 6, prefix: 47, low: 2), false),
    (words(family: 6, prefix: 129, low: 2), false),
    (words(prefix: 16), true), (words(prefix: 15), false), (words(prefix: 33), false),
    (words(command: 0), false), (words(command: 0x80), false), (words(command: 1), true),
    (words(command: 4), true), (words(command: 5), false), (words(set: 8, command: 0), true),
    (words(since: 0), true), (words(since: -1), false), (words(since: .min), false),
    (words(since: 6), true), (words(since: 7), false),
    (words(ends: 6), true), (words(ends: 5), false), (words(ends: .max), true),
    (words(ends: 6 + longest), true), (words(ends: 7 + longest), false),
    (words(setEnds: 6), true), (words(setEnds: 5), false), (words(setEnds: 7 + longest), false),
    (words(asked: latest, ends: latest + longest), true),
    (words(asked: latest + 1, ends: latest + 1), false),
    (words(asked: .max, ends: .max), false),
    (words(sequence: 0), false), (words(sequence: 1 << 63 - 1), true),
    (words(sequence: 1 << 63), false), (words(sequence: .max), false),
  ] {
    #expect((record(words).grant != nil) == isGrant, "\(words)")
  }
}

@Test func onlyARecordThatIsAllZeroIsEmpty() {
  var words = [UInt64](repeating: 0, count: 16)
  #expect(record(words).isEmpty)
  for index in words.indices {
    words[index] = 1
    #expect(!record(words).isEmpty, "\(index)")
    words[index] = 0
  }
}

// Found by Tests/Mutants

extension Image {
  /// The record of a grant.
  fileprivate func record(of number: UInt32) -> Grants.Record? {
    bytes.bindMemory(to: Grants.Record.self).first { $0.grant?.address == .inet(number) }
  }

  fileprivate func grant(of number: UInt32) -> Grant? { record(of: number)?.grant }
}

@Test func theFileHasARecordMoreThanThereMayBeGrants() {
  #expect(Grants.fileSize(forGrants: 10) == 4096 + 11 * 128)
}

@Test func recordsAreNumberedFrom1() {
  let image = Image()
  var grants = image.grants()
  _ = open(&grants, 1)
  _ = open(&grants, 2)
  // Each is written before its command runs, and when that has ended.
  #expect(image.record(of: 1)?.sequence == 2)
  #expect(image.record(of: 2)?.sequence == 4)
}

@Test func grantsOfIPv6OutliveTheServer() {
  let image = Image()
  var grants = image.grants()
  let address = Address.inet6(high: 0x2001_0DB8 << 32, low: 1)
  _ = open(&grants, address, for: 60)
  _ = open(&grants, .inet6(high: 0x2001_0DB8 << 32, low: 2), for: 90)
  var later = Image().grants()
  let found = later.adopt(image.records, names: noNames(), wallNow: now, now: 0)
  #expect(found.count == 2)
  let due = later.beginNextClose(wallNow: now + 60 * second, now: minute)
  #expect(due?.grant.address == address)
  let none = later.beginNextClose(wallNow: now + 60 * second, now: minute)
  #expect(none == nil)
}

@Test func ofTwoRecordsWithOneNumberTheFirstCounts() {
  let image = Image()
  for (position, ends) in [now + 10 * second, now + 20 * second].enumerated() {
    image.records[position] = Grants.Record(
      grant(.inet(1), since: now, asked: now, ends: ends), sequence: 1, place: 7)
  }
  var grants = Image().grants()
  let found = grants.adopt(image.records, names: noNames(), wallNow: now, now: 0)
  #expect(found.count == 1)
  #expect(grants.nextDeadline == 10 * second)
}

@Test func aClockThatGoesBackMakesNoDamagedRecord() {
  let image = Image()
  var grants = image.grants()
  _ = open(&grants, 1, at: now)
  _ = open(&grants, 1, at: now - 10 * second)
  #expect(image.grant(of: 1)?.since == now - 10 * second)
  // It ends no earlier than it was last asked for.
  _ = grants.beginClose(.inet(1), of: .none, wallNow: now - 20 * second)
  #expect(image.grant(of: 1)?.ends == now - 10 * second)
}

@Test func aCloseOfWhatWasOpenForYearsIsInARecordThatCanBeRead() {
  let image = Image()
  var grants = image.grants()
  _ = openSet(&grants, .inet(1), for: nil)
  let yearsLater = now + 800 * 86_400 * second
  _ = grants.beginClose(.inet(1), of: .none, wallNow: yearsLater)
  if let found = grants.nextSet(of: .inet(1)) {
    grants.recordSet(at: found.position, isClosed: false)
  }
  let closing = grants.endSets(of: .inet(1), now: 0)
  #expect(closing == .retriedSoon)
  let ends = image.grant(of: 1)?.ends
  #expect(ends.map { $0 <= yearsLater } == true)
}

@Test func aCloseIsInTheRecordAtOnce() {
  let image = Image()
  var grants = image.grants()
  _ = open(&grants, 1)
  let isGrant = grants.beginClose(.inet(1), of: .none, wallNow: now + 5 * second)
  #expect(isGrant)
  #expect(image.grant(of: 1)?.ends == now + 5 * second)
  // A second one does not make it last longer.
  _ = grants.beginClose(.inet(1), of: .none, wallNow: now + 7 * second)
  #expect(image.grant(of: 1)?.ends == now + 5 * second)
}

@Test func whatIsDueEndsByTheClockAsWell() {
  let image = Image()
  var grants = image.grants()
  _ = open(&grants, 1)
  _ = open(&grants, 2)
  // The clock was put back by half a minute.
  let first = grants.beginNextClose(wallNow: now + 30 * second, now: minute)
  #expect(first?.grant.address == .inet(1))
  #expect(image.grant(of: 1)?.ends == now + 30 * second)
  // Where both clocks agree, nothing needs to be written.
  let before = Array(image.bytes)
  let second = grants.beginNextClose(wallNow: now + 60 * second, now: minute)
  #expect(second?.grant.address == .inet(2))
  #expect(Array(image.bytes) == before)
}

@Test func whatIsNotBeingClosedCannotHaveBeenClosed() {
  var grants = Image().grants()
  _ = open(&grants, 1)
  let closing = endClose(&grants, 1)
  #expect(closing == .done)
  #expect(grants.count == 1)
  #expect(grants.closingCount == 0)
}

@Test func grantsAreTakenOutInTheOrderOfTheirEnds() {
  var grants = Image().grants()
  // The first two have one deadline.
  _ = open(&grants, .inet(1), for: 60, at: now + 5 * second)
  _ = open(&grants, .inet(2), for: 60)
  _ = open(&grants, .inet(3), for: 50)
  for expected in [3, 2, 1] as [UInt32] {
    let grant = grants.removeFirst()
    #expect(grant?.address == .inet(expected))
  }
  let none = grants.removeFirst()
  #expect(none == nil)
}

@Test func theEpochIsATimeLikeOthers() {
  for wall in [0, 1, 2] as [Int64] {
    let image = Image()
    var grants = image.grants()
    let isOpen = open(&grants, 1, at: wall)
    #expect(isOpen)
    #expect(image.grant(of: 1)?.since == wall)
  }
}

@Test func theOrderOfTheDeadlinesStaysWhateverHappens() {
  for seed in 0..<200 as Range<UInt64> {
    var generator = Generator(seed: seed)
    var grants = Image(capacity: 40).grants()
    for number in 1...40 as ClosedRange<UInt32> {
      _ = open(&grants, number, for: Int64.random(in: 1...1000, using: &generator))
    }
    for _ in 0..<60 {
      let number = UInt32.random(in: 1...40, using: &generator)
      let time = Int64.random(in: 1...1000, using: &generator)
      switch Int.random(in: 0..<3, using: &generator) {
      case 0: leaveOpen(&grants, number)
      case 1: _ = open(&grants, number, for: time)
      default:
        guard grants.beginClose(.inet(number), of: .none, wallNow: now) else { break }
        _ = endClose(&grants, number, succeeded: false, at: second * time - minute)
      }
    }
    var deadlines: [Int64] = []
    while let deadline = grants.nextDeadline {
      deadlines.append(deadline)
      _ = grants.removeFirst()
    }
    #expect(deadlines == deadlines.sorted(), "\(seed)")
    #expect(grants.count == 0)
  }
}

// Users

private let (alice, bob) = (userName("alice"), userName("bob"))

private func opening(
  _ user: UserName, for seconds: Int64 = 60, set: UInt16 = 0, closesCommand: Bool = true
) -> Grants.Opening {
  Grants.Opening(
    user: user, key: .none, set: set, prefixLength: 32, setDuration: nil,
    duration: seconds * second, closesCommand: closesCommand, hasCloseCommand: closesCommand)
}

/// The address of most of these tests.
private let shared = Address.inet(1)

private func open(
  _ grants: inout Grants, by user: UserName, for seconds: Int64 = 60, set: UInt16 = 0,
  isRepeat: Bool = false, now time: Int64 = 0
) -> Action.Run? {
  try? grants.open(
    shared, opening(user, for: seconds, set: set), isRepeat: isRepeat, isShared: false,
    wallNow: now + time,
    now: time)
}

private func endOpen(_ grants: inout Grants, succeeded: Bool = true) -> Bool {
  grants.endOpen(shared, succeeded: succeeded, isWantedAgain: false)
}

/// Whether the end of what a user opened runs the command.
private func close(_ grants: inout Grants, by user: UserName) -> Bool {
  let needsCommand = grants.beginClose(shared, of: user, wallNow: now)
  let closing = grants.endSets(of: shared, now: 0)
  #expect(closing == .done)
  guard needsCommand else { return false }
  let end = grants.endClose(shared, succeeded: true, now: 0)
  #expect(end == .done)
  return true
}

@Test func usersHaveGrantsOfTheirOwn() {
  let image = Image()
  var grants = image.grants()
  for (user, seconds) in [(alice, 60), (bob, 90), (.none, 30)] as [(UserName, Int64)] {
    let opening = opening(user, for: seconds, set: 8, closesCommand: false)
    let run = try? grants.open(
      shared, opening, isRepeat: false, isShared: false, wallNow: now, now: 0)
    #expect(run == .runs)
  }
  #expect(grants.count == 3)
  #expect((0...capacity).filter { image.records[$0].grant != nil }.count == 3)
  let due = grants.beginNextClose(wallNow: now, now: 30 * second)
  #expect(due?.grant.user == UserName.none)
  _ = grants.beginClose(shared, of: alice, wallNow: now)
  let set = grants.nextSet(of: shared)
  #expect(set?.grant.user == alice)
  #expect(needs(grants, shared, bits: 32).map(\.seconds) == [90])
  if let set { grants.recordSet(at: set.position, isClosed: true) }
  #expect(grants.nextSet(of: shared) == nil)
  _ = grants.endSets(of: shared, now: 0)
  let areThere = [
    grants.hasGrant(shared, of: alice), grants.hasGrant(shared, of: bob),
    grants.hasGrant(.inet(2), of: bob),
  ]
  #expect(areThere == [false, true, false])
}

@Test func theFirstOpensAndTheLastCloses() {
  var grants = Image().grants()
  #expect(open(&grants, by: alice) == .runs)
  _ = endOpen(&grants)
  #expect(open(&grants, by: bob) == .openAlready)
  #expect(open(&grants, by: bob, isRepeat: true) == .repeated)
  #expect(open(&grants, by: .none) == .openAlready)
  #expect(!close(&grants, by: bob))
  #expect(!close(&grants, by: bob))
  // The state of the command goes on.
  #expect(!close(&grants, by: alice))
  #expect(open(&grants, by: bob) == .openAlready)
  #expect(!close(&grants, by: .none))
  #expect(close(&grants, by: bob))
  #expect(grants.count == 0)
  #expect(grants.closingCount == 0)
}

@Test func whatSomeoneElseOpensRunsAgainForThoseWhoRelyOnIt() {
  var grants = Image().grants()
  #expect(open(&grants, by: alice) == .runs)
  #expect(open(&grants, by: bob) == .openAlready)
  #expect(!close(&grants, by: alice))
  var runsAgain = endOpen(&grants, succeeded: false)
  #expect(runsAgain)
  runsAgain = endOpen(&grants, succeeded: false)
  #expect(!runsAgain)
  // It has failed, so whoever comes next opens.
  #expect(open(&grants, by: alice) == .runs)
  #expect(open(&grants, by: .none) == .openAlready)
  _ = endOpen(&grants)
  #expect(!close(&grants, by: bob))
  #expect(!close(&grants, by: .none))
  #expect(close(&grants, by: alice))
  #expect(grants.count == 0)
}

@Test func whoOpensDuringACloseOpensAnew() {
  for set in [0, 8] as [UInt16] {
    var grants = Image().grants()
    _ = open(&grants, by: alice, set: set)
    _ = endOpen(&grants)
    let needsCommand = grants.beginClose(shared, of: alice, wallNow: now)
    #expect(needsCommand)
    // The set cannot be changed.
    if let set = grants.nextSet(of: shared) { grants.recordSet(at: set.position, isClosed: false) }
    _ = grants.endSets(of: shared, now: 0)
    #expect(open(&grants, by: bob, set: set) == .runs)
    let closing = grants.endClose(shared, succeeded: true, now: 0)
    #expect(closing == .done)
    _ = endOpen(&grants)
    #expect(open(&grants, by: .none, set: set) == .openAlready)
    guard set != 0 else {
      #expect(grants.count == 2)
      continue
    }
    // Closing the set is tried again.
    #expect(grants.count == 3)
    #expect(grants.nextDeadline == minute)
  }
}

@Test func expiredGrantsOfUsersEndOneByOne() {
  var grants = Image().grants()
  for (user, seconds) in [(alice, 10), (bob, 30), (.none, 20)] as [(UserName, Int64)] {
    _ = open(&grants, by: user, for: seconds)
  }
  _ = endOpen(&grants)
  for (user, seconds) in [(alice, 10), (.none, 20), (bob, 30)] as [(UserName, Int64)] {
    let due = grants.beginNextClose(wallNow: now, now: seconds * second)
    #expect(due?.grant.user == user)
    #expect(due?.needsCommand == (user == bob))
    let early = grants.beginNextClose(wallNow: now, now: seconds * second)
    #expect(early == nil)
  }
}

@Test func aCommandOnItsWayToAnotherGrantIsThereOnce() {
  let image = Image()
  var earlier = image.grants()
  _ = open(&earlier, by: alice)
  _ = endOpen(&earlier)
  _ = open(&earlier, by: bob)
  let before = Array(image.bytes)
  _ = earlier.beginClose(shared, of: alice, wallNow: now)
  let after = Array(image.bytes)
  let places = before.indices.filter { before[$0] != after[$0] }.map { $0 / size }
  // New records are written first.
  let isNew = { (place: Int) in before[place * size..<(place + 1) * size].allSatisfy { $0 == 0 } }
  let order = Set(places).filter(isNew).sorted() + Set(places).filter { !isNew($0) }.sorted()
  #expect(order.count > 1)
  for count in 0...order.count {
    for isReversed in [false, true] {
      image.bytes.copyBytes(from: before)
      for place in order.prefix(count) {
        for offset in place * size..<(place + 1) * size { image.bytes[offset] = after[offset] }
      }
      let records = storage(capacity + 1, of: Grants.Record.self)
      for index in 0...capacity {
        records[isReversed ? capacity - index : index] = image.records[index]
      }
      var grants = Image().grants()
      let found = grants.adopt(records, names: noNames(), wallNow: now, now: 0)
      let comment: Comment = "\(count) of \(order.count), \(isReversed)"
      #expect(found.damagedCount == 0, comment)
      let aliceCloses = close(&grants, by: alice)
      #expect(!aliceCloses, comment)
      let bobCloses = close(&grants, by: bob)
      #expect(bobCloses, comment)
      #expect(grants.count == 0, comment)
    }
  }
}

@Test func aCommandWhoseRecordIsLostMayHaveRun() {
  let image = Image()
  for (position, user) in [alice, bob].enumerated() {
    let grant = Grant(
      shared, user: user, key: .none, command: .shared, since: now, asked: now,
      ends: now + Int64(position) * second)
    image.records[position] = Grants.Record(grant, sequence: 1, place: 7)
  }
  var grants = Image().grants()
  let found = grants.adopt(image.records, names: noNames(), wallNow: now, now: 0)
  #expect(found.count == 2)
  // It runs again, and is closed once.
  #expect(open(&grants, by: alice) == .runs)
  #expect(!close(&grants, by: alice))
  #expect(close(&grants, by: bob))
  #expect(grants.count == 0)
}

@Test func oneUserOfSeveralMayHaveAQuarterOfTheRoom() {
  var grants = Image(capacity: 8).grants()
  func open(_ number: UInt32, by user: UserName, isShared: Bool = true) -> Grants.Full? {
    do throws(Grants.Full) {
      _ = try grants.open(
        .inet(number), opening(user), isRepeat: false, isShared: isShared, wallNow: now, now: 0)
      return nil
    } catch { return error }
  }
  let results = [
    open(1, by: alice), open(2, by: alice), open(3, by: alice), open(1, by: alice),
    open(4, by: bob), open(5, by: bob), open(1, by: bob), open(6, by: .none),
    open(7, by: .none), open(8, by: .none), open(3, by: alice, isShared: false),
    open(4, by: alice, isShared: false), open(9, by: .none), open(9, by: .none, isShared: false),
  ]
  let (noRoom, noShare) = (Grants.Full.noRoom(count: 8), Grants.Full.noShare(count: 2))
  #expect(
    results == [
      nil, nil, noShare, nil, nil, nil, noShare, nil, nil, noShare, nil, nil, noRoom, noRoom,
    ])
}

@Test func whatIsRevokedEndsAtOnceAndWhatIsShortenedEndsEarlier() {
  let image = Image()
  var grants = image.grants()
  for number in 1...4 as ClosedRange<UInt32> {
    let opening = Grants.Opening(
      user: .none, key: .none, set: 8, prefixLength: 32,
      setDuration: number == 3 ? nil : 60 * second, duration: 60 * second, closesCommand: false,
      hasCloseCommand: false)
    _ = try? grants.open(
      .inet(number), opening, isRepeat: false, isShared: false, wallNow: now, now: 0)
  }
  grants.revise(keepsPlace: false, wallNow: now + second, now: second) {
    switch $0.address {
    case .inet(1): .close
    case .inet(4): .end(at: now + 60 * second, isInPlace: true)
    default: .end(at: now + 20 * second, isInPlace: true)
    }
  }
  // What is still to be shortened is needed until its new end, also before the set is changed.
  #expect(needs(grants, .inet(2), bits: 32).map(\.seconds) == [20])
  #expect(image.grant(of: 2)?.ends == now + 60 * second)
  var shortened: Set<UInt32> = []
  var revoked: [Address] = []
  while grants.nextDeadline == second {
    if let (grant, rest) = grants.shortenNext(now: second) {
      #expect(rest == 19 * second)
      guard case .inet(let number) = grant.address else { return }
      shortened.insert(number)
      #expect(image.grant(of: number)?.ends == now + 20 * second)
      #expect(image.grant(of: number)?.setEnds == (number == 3 ? .max : now + 20 * second))
    } else if let due = grants.beginNextClose(wallNow: now + second, now: second) {
      #expect(due.isRevoked)
      revoked.append(due.grant.address)
    }
  }
  #expect(shortened == [2, 3])
  #expect(revoked == [.inet(1)])
  #expect(image.grant(of: 1)?.ends == now + second)
  // Nothing more to do.
  grants.revise(keepsPlace: false, wallNow: now + second, now: second) { _ in
    .end(at: now + 60 * second, isInPlace: true)
  }
  #expect(grants.nextDeadline == 20 * second)
  let due = grants.beginNextClose(wallNow: now, now: 20 * second)
  #expect(due?.isRevoked == false)
}

@Test func whatIsToBeShortenedCanBeOpenedAgainAndClosed() {
  for ending in 0..<3 {
    let image = Image()
    var grants = image.grants()
    _ = openSet(&grants, shared, bits: 32, for: 60)
    grants.revise(keepsPlace: false, wallNow: now, now: 0) { _ in
      .end(at: now + 20 * second, isInPlace: true)
    }
    switch ending {
    case 0:
      // The set has it for longer than the knock asks for.
      _ = openSet(&grants, shared, bits: 32, for: 30)
      let next = grants.shortenNext(now: 0)
      #expect(next?.rest == 30 * second)
      #expect(grants.nextDeadline == 30 * second)
    case 1:
      _ = grants.beginClose(shared, of: .none, wallNow: now)
      let next = grants.shortenNext(now: .max)
      #expect(next == nil)
    default:
      grants.expireAll(now: 5)
      let next = grants.shortenNext(now: 5)
      #expect(next == nil)
      #expect(beginNextClose(&grants, at: 5) == 1)
    }
  }
}

@Test(arguments: [365, 367, 1000, 100_000])
func aRecordCanSayWhenALongGrantEnds(days: Int64) {
  let day = 86_400 * second
  let image = Image()
  var grants = image.grants()
  _ = openSet(&grants, .inet(1), bits: 32, for: nil)
  // Its user gets an end, long after that.
  let wall = now + 300 * day
  let end = now + days * day
  grants.revise(keepsPlace: false, wallNow: wall, now: 0) { _ in .end(at: end, isInPlace: true) }
  let rest = grants.shortenNext(now: 0)?.rest
  let longest = 366 * day
  #expect(rest == min(end - wall, longest))
  #expect(image.grant(of: 1)?.ends == min(end, wall + longest))
}

/// No server writes such a record: it has no end, but the kernel should have ended it long ago.
@Test func aRecordCanSayWhenALongTimedGrantEnds() {
  let day = 86_400 * second
  let others = Image()
  others.records[0] = Grants.Record(
    Grant(
      .inet(1), user: .none, key: .none, command: .succeeded, since: now, asked: now,
      ends: Grant.never, setEnds: now + minute),
    sequence: 1, place: 7)
  let image = Image()
  var grants = image.grants()
  let found = grants.adopt(others.records, names: noNames(), wallNow: now, now: 0)
  #expect(found.count == 1)
  let wall = now + 300 * day
  grants.revise(keepsPlace: false, wallNow: wall, now: 300 * day) { _ in
    .end(at: now + 1000 * day, isInPlace: true)
  }
  let next = grants.shortenNext(now: 300 * day)
  #expect(next?.rest == 0)
  // The record must not say that the kernel ended it before it was asked for.
  #expect(image.grant(of: 1)?.ends == wall + 366 * day)
  #expect(image.grant(of: 1)?.setEnds == wall)
  #expect(image.adopted(at: wall).found.damagedCount == 0)
}

@Test func whatIsOutOfPlaceAtTheStartStaysThere() {
  var grants = Image().grants()
  _ = openSet(&grants, .inet(1), bits: 32)
  grants.revise(keepsPlace: true, wallNow: now, now: 0) { _ in .end(at: .max, isInPlace: false) }
  _ = openSet(&grants, .inet(2), bits: 32)
  grants.revise(keepsPlace: false, wallNow: now, now: 0) { _ in .end(at: .max, isInPlace: false) }
  #expect(beginNextClose(&grants, at: 0) == 2)
  #expect(beginNextClose(&grants, at: 0) == nil)
}

@Test func aRevokedCommandGoesToThoseWhoShareIt() {
  var grants = Image().grants()
  _ = open(&grants, by: alice)
  _ = open(&grants, by: bob)
  grants.revise(keepsPlace: false, wallNow: now, now: 0) {
    $0.user == alice ? .close : .end(at: .max, isInPlace: true)
  }
  let due = grants.beginNextClose(wallNow: now, now: 0)
  #expect(due?.grant.user == alice)
  #expect(due?.needsCommand == false)
  #expect(grants.nextDeadline == minute)
  #expect(close(&grants, by: bob))
}

@Test func grantsAreRevisedByWhatTheirUserMayDo() {
  var users = emptyUsers()
  var limits = policy()
  limits.inet = Policy.Place(set: 8, prefixLength: 24)
  _ = users.insert(alice, key: KeyFingerprint(low: 1, high: 2), limits)
  func revision(
    _ user: UserName = alice, key: KeyFingerprint = KeyFingerprint(low: 1, high: 2),
    set: UInt16 = 8, bits: UInt8 = 24, isNarrowed: Bool = false,
    change: (inout Policy) -> Void = { _ in }
  ) -> Int64? {
    var changed = limits
    change(&changed)
    users.setPolicy(changed, at: 0)
    let grant = Grant(
      range, user: user, key: key, prefixLength: bits, isNarrowed: isNarrowed, set: set,
      command: .succeeded, since: now, asked: now, ends: .max)
    switch users.revision(of: grant, wallNow: now + second) {
    case .close: return nil
    case .end(let end, let isInPlace): return isInPlace ? end : -1
    }
  }
  #expect(revision() == .max)
  #expect(revision(key: KeyFingerprint(low: 1, high: 3)) == nil)
  #expect(revision(bob) == nil)
  #expect(revision(.none) == nil)
  #expect(revision { $0.mayOpen = false } == nil)
  #expect(revision { $0.mayClose = false } == .max)
  #expect(revision { $0.duration = 9 * second } == now + 9 * second)
  #expect(revision { $0.expires = now + 2 * second } == now + 2 * second)
  #expect(revision { $0.expires = now + second } == nil)
  let allow = { (bits: Int) in
    { (policy: inout Policy) in _ = policy.allow(AddressRange(range, prefixLength: bits)) }
  }
  #expect(revision(change: allow(24)) == .max)
  #expect(revision(change: allow(25)) == nil)
  #expect(revision(set: 0, bits: 32, change: allow(25)) == .max)
  // Another set or prefix.
  for (set, bits) in [(9, 24), (8, 32), (8, 25)] as [(UInt16, UInt8)] {
    #expect(revision(set: set, bits: bits) == -1)
  }
  #expect(revision(bits: 32, isNarrowed: true) == .max)
  #expect(revision(set: 9, bits: 32, isNarrowed: true) == -1)
}

@Test func whatIsLeftOpenIsLeftOpenForAll() {
  var grants = Image().grants()
  _ = open(&grants, by: alice)
  _ = open(&grants, by: bob)
  let run = try? grants.open(
    shared, opening(bob, closesCommand: false), isRepeat: false, isShared: false, wallNow: now,
    now: 0)
  #expect(run == .runs)
  #expect(grants.count == 0)
}

@Test func whatIsLeftOpenDuringACloseHasNoRecord() {
  let image = Image()
  var grants = image.grants()
  func leaveOpen() -> Bool {
    _ = try? grants.open(
      shared, opening(bob, closesCommand: false), isRepeat: false, isShared: false, wallNow: now,
      now: 0)
    return image.bytes.allSatisfy { $0 == 0 }
  }
  for isOpenAgain in [false, true] {
    _ = open(&grants, by: alice)
    _ = endOpen(&grants)
    let closed = grants.beginNextClose(wallNow: now + minute, now: minute)
    #expect(closed?.needsCommand == true)
    if isOpenAgain {
      let run = open(&grants, by: alice, now: minute)
      #expect(run == .runs)
    }
    let isForgotten = leaveOpen()
    #expect(isForgotten)
    // The grant that is open again ends before the command does. No server can read a record of it.
    _ = grants.beginClose(shared, of: alice, wallNow: now + minute)
    let isStillForgotten = image.bytes.allSatisfy { $0 == 0 }
    #expect(isStillForgotten)
    #expect(grants.closingCount == 1)
    let end = grants.endClose(shared, succeeded: true, now: minute)
    #expect(end == .done)
    #expect(grants.closingCount == 0)
    #expect(grants.count == 0)
  }
  // It does not end.
  _ = open(&grants, by: alice)
  _ = endOpen(&grants)
  _ = grants.beginNextClose(wallNow: now + minute, now: minute)
  _ = open(&grants, by: alice, now: minute)
  _ = leaveOpen()
  _ = grants.endClose(shared, succeeded: true, now: minute)
  #expect(grants.count == 0)
}

// What grants open

private let range = Address.inet(0xC000_0207)
private let neighbour = Address.inet(0xC000_0208)

private func openSet(
  _ grants: inout Grants, _ address: Address, bits: Int = 24, for seconds: Int64? = 60,
  set: UInt16 = 8, closesCommand: Bool = false
) -> Grants.Opening {
  let duration = seconds.map { $0 * second }
  let opening = Grants.Opening(
    user: .none, key: .none, set: set, prefixLength: bits, setDuration: duration,
    duration: duration,
    closesCommand: closesCommand, hasCloseCommand: closesCommand)
  _ = try? grants.open(address, opening, isRepeat: false, isShared: false, wallNow: now, now: 0)
  return opening
}

/// Until when others need what an address opened, part by part: seconds since boot, -1 for ever, nil not at all.
private func needs(
  _ grants: borrowing Grants, _ address: Address, bits: Int = 24, set: UInt16 = 8,
  onlySame: Bool = false
) -> [(count: Int, seconds: Int64?)] {
  let range = AddressRange(address, prefixLength: bits)
  var parts: [(Int, Int64?)] = []
  var first = range.first
  while true {
    let need = grants.need(for: range, from: first, in: set, near: address, onlySame: onlySame)
    let seconds = need.deadline.map { $0 == .max ? -1 : $0 / second }
    parts.append((Int(need.last.low - first.low) + 1, seconds))
    guard need.last < range.last else { return parts }
    first = need.last.next
  }
}

@Test func aRangeIsNeededUntilTheLatestEndOfItsGrants() {
  var grants = Image().grants()
  _ = openSet(&grants, range, for: 60)
  _ = openSet(&grants, neighbour, for: 90)
  _ = openSet(&grants, .inet(0xC000_0307), for: nil)
  #expect(needs(grants, range).map(\.seconds) == [90])
  _ = grants.beginClose(neighbour, of: .none, wallNow: now)
  #expect(needs(grants, neighbour).map(\.seconds) == [60])
  #expect(needs(grants, neighbour, set: 9).map(\.seconds) == [nil])
  #expect(needs(grants, .inet(0xC000_0301)).map(\.seconds) == [-1])
  _ = grants.beginClose(range, of: .none, wallNow: now)
  #expect(needs(grants, range).map(\.seconds) == [nil])
}

@Test func grantsOfOtherPrefixesNeedTheirPartOfARange() {
  var grants = Image().grants()
  _ = openSet(&grants, range, bits: 24, for: 60)
  _ = openSet(&grants, .inet(0xC000_0204), bits: 30, for: 90)
  _ = openSet(&grants, .inet(0xC000_0206), bits: 32, for: 30)
  _ = grants.beginClose(range, of: .none, wallNow: now)
  let parts = needs(grants, range)
  #expect(parts.map(\.count) == [4, 2, 1, 1, 248])
  #expect(parts.map(\.seconds) == [nil, 90, 90, 90, nil])
  // In ipset each has an element of its own.
  #expect(needs(grants, range, onlySame: true).map(\.seconds) == [nil])
  #expect(needs(grants, .inet(0xC000_0205), bits: 30, onlySame: true).map(\.seconds) == [90])
}

@Test func eachPartOfAGrantIsClosedOnce() {
  for setFails in [false, true] {
    var grants = Image().grants()
    _ = openSet(&grants, range, closesCommand: true)
    _ = grants.endOpen(range, succeeded: true, isWantedAgain: false)
    let needsCommand = grants.beginClose(range, of: .none, wallNow: now)
    #expect(needsCommand)
    let found = grants.nextSet(of: range)
    #expect(found?.grant.set == 8)
    if let found { grants.recordSet(at: found.position, isClosed: !setFails) }
    #expect(grants.nextSet(of: range) == nil)
    let early = grants.endSets(of: range, now: 0)
    #expect(early == .done)
    let closing = grants.endClose(range, succeeded: setFails, now: 0)
    #expect(closing == .retriedSoon)
    // What has succeeded is not tried again.
    let again = grants.beginNextClose(wallNow: now, now: minute)
    #expect(again?.needsCommand == !setFails)
    #expect((grants.nextSet(of: range) != nil) == setFails)
  }
}

@Test func afterAnOpenThatFailedOneFailedCloseIsTheEnd() {
  var grants = Image().grants()
  let opening = openSet(&grants, range, closesCommand: true)
  grants.recordUnchangedSet(range, opening, .unknown)
  _ = grants.endOpen(range, succeeded: false, isWantedAgain: false)
  _ = grants.beginClose(range, of: .none, wallNow: now)
  if let found = grants.nextSet(of: range) { grants.recordSet(at: found.position, isClosed: false) }
  let closing = grants.endClose(range, succeeded: false, now: 0)
  #expect(closing == .endedUnopened)
  #expect(grants.count == 0)
}

@Test func whatWasOpenBeforeAnOpenThatFailedIsClosedUntilThatSucceeds() {
  var grants = Image().grants()
  _ = openSet(&grants, range)
  let opening = openSet(&grants, range)
  grants.recordUnchangedSet(range, opening, .unknown)
  _ = grants.beginClose(range, of: .none, wallNow: now)
  if let found = grants.nextSet(of: range) { grants.recordSet(at: found.position, isClosed: false) }
  let closing = grants.endSets(of: range, now: 0)
  #expect(closing == .retriedSoon)
  #expect(grants.count == 1)
}

@Test func anAddressThatIsOpenedAloneAgainAndAgainIsOneGrant() {
  let image = Image()
  var grants = image.grants()
  for _ in 0...capacity {
    let opening = openSet(&grants, range)
    grants.recordOnlyHost(range, opening)
    #expect(grants.count == 1)
  }
  #expect(needs(grants, range).map(\.count) == [7, 1, 248])
  let written = (0...capacity).filter { image.records[$0].grant != nil }
  #expect(written.count == 1)
}

@Test(arguments: [false, true])
func anAddressThatIsOpenedAloneKeepsItsLaterEnd(isNarrowed: Bool) {
  let image = Image()
  var grants = image.grants()
  // An earlier server may have opened only addresses.
  let first = openSet(&grants, range, bits: isNarrowed ? 24 : 32, for: 60)
  if isNarrowed { grants.recordOnlyHost(range, first) }
  for (seconds, end) in [(5, 60), (90, 90), (5, 90)] as [(Int64, Int64)] {
    let opening = openSet(&grants, range, for: seconds)
    grants.recordOnlyHost(range, opening)
    #expect(grants.count == 1)
    #expect(grants.nextDeadline == end * second)
    let written = (0...capacity).compactMap { image.records[$0].grant }
    #expect(written.map(\.ends) == [now + end * second])
    #expect(written.map(\.setEnds) == [now + end * second])
    #expect(written.first?.isNarrowed == true)
  }
}

@Test func anAddressThatIsOpenedAloneNeedsNoSecondPlace() {
  var grants = Image().grants()
  let opening = openSet(&grants, range)
  grants.recordOnlyHost(range, opening)
  for number in 2...UInt32(capacity) { _ = openSet(&grants, .inet(number), bits: 32, for: 120) }
  #expect(grants.count == capacity)
  _ = openSet(&grants, range, for: 90)
  #expect(grants.count == capacity)
  #expect(grants.nextDeadline == 90 * second)
  // By then the set holds the range, too.
  #expect(needs(grants, range).map(\.count) == [256])
}

@Test func whatIsToBeShortenedKeepsTheLatestEnd() {
  var grants = Image().grants()
  _ = openSet(&grants, range, bits: 32, for: 60)
  grants.revise(keepsPlace: true, wallNow: now, now: 0) { _ in
    .end(at: now + 20 * second, isInPlace: true)
  }
  let opening = openSet(&grants, range, for: 5)
  grants.recordOnlyHost(range, opening)
  #expect(grants.shortenNext(now: 0)?.rest == 20 * second)
  #expect(grants.nextDeadline == 20 * second)
  grants.revise(keepsPlace: true, wallNow: now, now: 0) { _ in
    .end(at: now + 10 * second, isInPlace: true)
  }
  // What lasts for ever from now on is not due.
  _ = openSet(&grants, range, for: nil)
  #expect(grants.nextDeadline == nil)
}

@Test func aCommandThatSucceededDoesNotRunAgainWhereItRan() {
  for (place, isHere) in [(7, true), (8, false), (0, false)] as [(UInt64, Bool)] {
    let image = Image()
    var old = image.grants()
    _ = open(&old, 1)
    var grants = Image().grants(place: place)
    _ = grants.adopt(image.records, names: noNames(), wallNow: now, now: 0)
    let opening = Grants.Opening(
      user: .none, key: .none, set: 0, prefixLength: 32, setDuration: nil, duration: 60 * second,
      closesCommand: true,
      hasCloseCommand: true)
    let runs = try? grants.open(
      .inet(1), opening, isRepeat: false, isShared: false, wallNow: now, now: 0)
    #expect(runs == (isHere ? .repeated : .runs))
    // While it runs, and after it, others rely on it.
    let again = try? grants.open(
      .inet(1), opening, isRepeat: false, isShared: false, wallNow: now, now: 0)
    #expect(again == .repeated)
  }
}

@Test func theNamesOfSetsAreFoundByNumber() {
  let bytes = storage(SetNames.size, of: UInt8.self)
  let names = SetNames(Storage(adopting: .init(start: bytes.baseAddress, count: bytes.count)))
  func isWhole() -> Bool { names.isWhole }
  #expect(isWhole())
  let texts = ["inet/filter/knock4", "ipset/knock4", String(repeating: "n", count: 515)]
  let numbers = texts.map { text in names.number(of: Array(text.utf8).span) }
  for (text, number) in zip(texts, numbers) {
    let again = names.number(of: Array(text.utf8).span)
    #expect(again == number)
    let length = names.withName(number ?? 0) { $0.count }
    #expect(length == text.utf8.count)
  }
  for number in [0, 7, 9, 4000, 4064, .max] as [UInt16] {
    let length = names.withName(number) { $0.count }
    #expect(length == nil, "\(number)")
  }
  #expect(isWhole())
  let long = String(repeating: "n", count: 500)
  var count = 0
  while names.number(of: Array("\(count)\(long)".utf8).span) != nil {
    count += 1
  }
  #expect(count == 6)
  for byte in [0x1B, 0x20, 0x22, 0x5C, 0x7F, 0xE4] as [UInt8] {
    let number = names.number(of: (Array("inet/a/b".utf8) + [byte]).span)
    #expect(number == nil, "\(byte)")
  }
  bytes[20] ^= 1
  #expect(!isWhole())
}

@Test func theNamesOfSetsThatNobodyNeedsAreForgotten() {
  let names = noNames()
  func number(_ text: String) -> UInt16? { names.number(of: Array(text.utf8).span) }
  func text(_ number: UInt16) -> String? {
    names.withName(number) { name in
      String(decoding: name.indices.map { name[$0] }, as: UTF8.self)
    }
  }
  func keep(_ kept: Set<UInt16?>) {
    names.removeAll { kept.contains($0) }
    let isWhole = names.isWhole
    #expect(isWhole)
  }
  let first = (0..<6).map { number("ipset/name\($0)") }
  #expect(first == [8, 20, 32, 44, 56, 68])
  keep([20, 56])
  #expect(text(20) == "ipset/name1" && text(56) == "ipset/name4")
  // The last is gone, and one that fits goes where there is room.
  #expect(number("ipset/other") == 8)
  #expect(number("ipset/abcdefghijk") == 32)
  // The room that is left has 5 bytes and a NUL: one that would leave a NUL alone goes to the end.
  #expect(number("abcd") == 68)
  #expect(number("abc") == 50)
  #expect(number("a") == 54)
  #expect(number("b") == 73)
  #expect(text(20) == "ipset/name1" && text(56) == "ipset/name4")
  keep([])
  #expect(text(8) == nil)
  #expect(number("ipset/name5") == 8)
  // As often as one likes.
  for round in 0..<200 {
    let long = String(repeating: "n", count: 400)
    let numbers = (0..<4).map { number("\(round)/\($0)/\(long)") }
    #expect(!numbers.contains(nil))
    keep([numbers[round % 4]])
    #expect(text(numbers[round % 4] ?? 0) == "\(round)/\(round % 4)/\(long)")
  }
}
