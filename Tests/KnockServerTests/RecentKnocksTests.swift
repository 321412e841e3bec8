import KnockBase
import KnockProtocol
import KnockServer
import TestSupport
import Testing

@Suite struct RecentKnocksTests {
  private func knock(_ number: UInt32, _ command: Command = .open) -> Knock {
    Knock(command: command, address: .inet(number))
  }

  /// Whether each of the knocks is a repeat.
  private func note(_ knocks: [(Knock, at: Int64)], capacity: Int = 4) -> [Bool] {
    var recent = RecentKnocks(storage(capacity, of: RecentKnocks.Entry.self))
    return knocks.map { recent.record($0.0, by: .none, now: $0.at).isRepeat }
  }

  @Test func `the same within two seconds of the last one is a repeat`() {
    let times: [Int64] = [0, 2_000_000, 4_000_000, 6_000_001, 8_000_001, 8_000_001]
    let knocks = times.map { (knock(1), at: $0) }
    #expect(note(knocks) == [false, true, true, false, true, true])
  }

  @Test func `addresses do not matter to each other`() {
    #expect(
      note([(knock(1), 0), (knock(2), 1), (knock(1), 2), (knock(2), 3)])
        == [false, false, true, true])
  }

  @Test func `another command for the address makes a new wish of the next one`() {
    #expect(
      note([(knock(1), 0), (knock(1, .close), 1), (knock(1), 2), (knock(1), 3)])
        == [false, false, false, true])
  }

  @Test func `another time that it shall stay open makes a new wish`() {
    var recent = RecentKnocks(storage(4, of: RecentKnocks.Entry.self))
    let knocks: [(seconds: UInt32, at: Int64)] = [
      (60, 0), (60, 1), (90, 2), (60, 3), (0, 4), (0, 5),
    ]
    let repeats = knocks.map {
      recent.record(knock(1), by: .none, seconds: $0.seconds, now: $0.at).isRepeat
    }
    #expect(repeats == [false, true, false, false, false, true])
  }

  @Test func `users do not repeat each other`() {
    var recent = RecentKnocks(storage(4, of: RecentKnocks.Entry.self))
    let (alice, bob) = (userName("alice"), userName("bob"))
    let first = recent.record(knock(1), by: alice, now: 0)
    let second = recent.record(knock(1), by: bob, now: 1)
    let third = recent.record(knock(1), by: alice, now: 2)
    let fourth = recent.record(knock(1), by: bob, now: 3)
    #expect(
      [first, second, third, fourth].map(\.isRepeat) == [false, false, true, true])
    #expect(first.number != second.number)
    #expect([third.number, fourth.number] == [first.number, second.number])
    // A close undoes what both asked for.
    _ = recent.record(knock(1, .close), by: bob, now: 4)
    let fifth = recent.record(knock(1), by: alice, now: 5)
    #expect(!fifth.isRepeat)
  }

  @Test func `of more than fit the oldest are forgotten`() {
    let knocks = [1, 2, 3, 4, 5, 2, 1].map { (knock($0), at: Int64(0)) }
    #expect(note(knocks) == [false, false, false, false, false, true, false])
  }

  @Test func `what is forgotten is new`() {
    var recent = RecentKnocks(storage(4, of: RecentKnocks.Entry.self))
    let first = recent.record(knock(1), by: .none, now: 0).isRepeat
    recent.forget(.inet(2))
    let second = recent.record(knock(1), by: .none, now: 1).isRepeat
    recent.forget(.inet(1))
    let third = recent.record(knock(1), by: .none, now: 2).isRepeat
    #expect([first, second, third] == [false, true, false])
  }

  /// Records a knock as the server does.
  private func act(_ knock: Knock, at now: Int64, _ recent: inout RecentKnocks) -> Action {
    let (isRepeat, number) = recent.record(knock, by: .none, now: now)
    return Action(
      knock, by: .none, .none, closesGrant: false, isRepeat ? .repeated : .runs, number: number)
  }

  @Test func `what failed is new, and is done once more where a repeat relied on it`() {
    var recent = RecentKnocks(storage(4, of: RecentKnocks.Entry.self))
    let first = act(knock(1), at: 0, &recent)
    let unwanted = recent.recordFailure(first)
    let second = act(knock(1), at: 1, &recent)
    let third = act(knock(1), at: 2, &recent)
    #expect(second.number == third.number)
    let wanted = recent.recordFailure(second)
    let unwantedNow = recent.recordFailure(second)
    #expect([second.run, third.run] == [.runs, .repeated])
    #expect([unwanted, wanted, unwantedNow] == [false, true, false])
  }

  @Test func `a failure of what is no longer wanted changes nothing`() {
    var recent = RecentKnocks(storage(4, of: RecentKnocks.Entry.self))
    let close = act(knock(1, .close), at: 0, &recent)
    _ = act(knock(1), at: 1, &recent)
    let wanted = recent.recordFailure(close)
    let isRepeated = recent.record(knock(1), by: .none, now: 2).isRepeat
    #expect([wanted, isRepeated] == [false, true])
  }

  /// The knocks for one address before the last one, whose failure comes late.
  @Test(arguments: [[.open], [.open, .close], [.open, .close, .open, .close]] as [[Command]])
  func `a late failure of an older one changes nothing about a newer one`(older: [Command]) {
    for isRepeated in [false, true] {
      for order in [older.indices.map { $0 }, older.indices.reversed()] {
        var recent = RecentKnocks(storage(8, of: RecentKnocks.Entry.self))
        let actions = older.map { act(knock(1, $0), at: 0, &recent) }
        let late = 2 * Microseconds.second + 1
        let newest = act(knock(1), at: late, &recent)
        #expect(newest.run == .runs)
        if isRepeated { _ = act(knock(1), at: late, &recent) }
        for index in order {
          let isWanted = recent.recordFailure(actions[index])
          #expect(!isWanted)
        }
        let next = act(knock(1), at: late, &recent)
        #expect(next.run == .repeated && next.number == newest.number)
        // Its own failure counts.
        let isWanted = recent.recordFailure(newest)
        #expect(isWanted)
      }
    }
  }

  @Test func `it is as a list without a limit would have it`() {
    var recent = RecentKnocks(storage(64, of: RecentKnocks.Entry.self))
    let users = ["", "alice", "bob"].map(userName)
    /// For each address and user.
    var last: [UInt32: [Int: (Command, Int64)]] = [:]
    var now = -5 * Microseconds.second
    var differences = 0
    for _ in 0..<20_000 {
      // No more than 64 knocks in any two seconds.
      now += Int64.random(in: 40...300) * Microseconds.millisecond
      let number = UInt32.random(in: 0..<12)
      let command: Command = Bool.random() ? .open : .close
      let user = Int.random(in: 0..<users.count)
      let isExpected =
        last[number]?[user].map { $0.0 == command && now - $0.1 <= 2 * Microseconds.second }
        ?? false
      let isRepeated = recent.record(knock(number, command), by: users[user], now: now).isRepeat
      if isRepeated != isExpected { differences += 1 }
      // A knock for the other command ends the repeats of all users.
      last[number] = (last[number] ?? [:]).filter { $0.value.0 == command }
      last[number]?[user] = (command, now)
    }
    #expect(differences == 0)
  }

  @Test func `a short list touches one place`() {
    let entries = storage(4, of: RecentKnocks.Entry.self)
    let size = 4 * MemoryLayout<RecentKnocks.Entry>.stride
    let bytes = UnsafeRawBufferPointer(start: entries.baseAddress, count: size)
    var recent = RecentKnocks(entries)
    for round in 1...9 as ClosedRange<Int64> {
      let isRepeat = recent.record(knock(1), by: .none, now: 5 * Microseconds.second * round)
        .isRepeat
      #expect(!isRepeat)
    }
    #expect(bytes.prefix(size / 4).contains { $0 != 0 })
    #expect(bytes.dropFirst(size / 4).allSatisfy { $0 == 0 })
  }

  @Test func `a list of one knows the last knock`() {
    let knocks = [1, 1, 2, 2, 1].map { (knock($0), at: Int64(0)) }
    #expect(note(knocks, capacity: 1) == [false, true, false, true, false])
  }

  @Test func `a full list forgets by time as well`() {
    let knocks = [(1, 0), (2, 1000), (3, 1500), (2, 3100)] as [(UInt32, Int64)]
    let isRepeat = note(
      knocks.map { (knock($0.0), at: $0.1 * Microseconds.millisecond) }, capacity: 2)
    #expect(isRepeat == [false, false, false, false])
  }

  @Test func `the only one left is not lost`() {
    let knocks = [(1, 0), (2, 1500), (1, 2100), (2, 2200)] as [(UInt32, Int64)]
    let isRepeat = note(knocks.map { (knock($0.0), at: $0.1 * Microseconds.millisecond) })
    #expect(isRepeat == [false, false, false, true])
  }
}
