import Foundation
import KnockBase
import KnockServer
import TestSupport
import Testing

@testable import Programs

@Suite struct MetricsTests {
  private let path = FileManager.default.temporaryDirectory.appendingPathComponent(
    "pyknock-\(UUID()).prom")
  private let start = 1_800_000_000 * Microseconds.second

  private func users(_ count: Int = Users.slotCount) -> Users {
    func index() -> PositionIndex {
      PositionIndex(storage(PositionIndex.count(forRecords: count), of: UInt32.self))
    }
    return Users(storage(count, of: User.Record.self), names: index(), keys: index())
  }

  private func name(_ text: String) -> UserName { UserName(Array(text.utf8).span) ?? .none }

  /// Adds a user with a key of their own. Returns their number.
  private func insert(_ text: String, to users: inout Users) -> UserNumber {
    let key = KeyFingerprint(of: TestKey(Array("\(text)'s key".utf8)))
    let nowhere = Policy.Place(set: 0, prefixLength: 32)
    let policy = Policy(
      inet: nowhere, inet6: nowhere, families: AddressFamilies { _ in true },
      allowsObservedSource: false)
    return users.insert(name(text), key: key, policy).flatMap { users[$0]?.number } ?? 0
  }

  private func counters(running: Int = 0, tally: Tally? = nil) throws -> Counters {
    Counters(
      tally: try tally ?? Tally(), setsChanged: 0, setsNotChanged: 0, repeats: 0,
      commands: CommandRunner.Counters(), running: running, queued: 0, open: 0, notOpened: 0,
      filesBehind: 0)
  }

  private func value(_ name: String) throws -> Int? {
    let lines = try String(contentsOf: path, encoding: .utf8).split(separator: "\n")
    return lines.first { $0.hasPrefix("\(name) ") }.flatMap { Int($0.dropFirst(name.count + 1)) }
  }

  @Test func `only a receiver that makes rounds moves the last round`() throws {
    defer { try? FileManager.default.removeItem(at: path) }
    var metrics = try Metrics(argument(path.path), wallNow: start)
    let counters = try counters()
    let users = users()
    // Beats, and seconds since the start with what the file then says of the last round.
    let rounds: [(beat: UInt32, at: Int64, shown: Int)] = [
      (0, 1, 0), (1, 16, 0), (2, 31, 0), (3, 46, 0), (4, 61, 61), (4, 76, 61), (4, 91, 61),
      (4, 106, 61), (4, 121, 61), (4, 200, 61), (5, 260, 260),
    ]
    for round in rounds {
      let time = round.at * Microseconds.second
      try metrics.update(counters, users, beat: round.beat, wallNow: start + time, now: time)
      let shown = try value("pyknock_last_round_time_seconds")
      #expect(shown == 1_800_000_000 + round.shown)
      let started = try value("pyknock_start_time_seconds")
      #expect(started == 1_800_000_000)
    }
  }

  @Test func `a counter that changes is written at once`() throws {
    defer { try? FileManager.default.removeItem(at: path) }
    var metrics = try Metrics(argument(path.path), wallNow: start)
    let users = users()
    for number in 0..<3 {
      let time = Int64(number) * 15 * Microseconds.second
      try metrics.update(
        try counters(running: number), users, beat: UInt32(number), wallNow: start + time,
        now: time)
      #expect(metrics.nextDeadline == time + 15 * Microseconds.second)
      let written = try value("pyknock_running")
      let shown = try value("pyknock_last_round_time_seconds")
      #expect(written == number && shown == 1_800_000_000 + 15 * number)
    }
  }

  /// The lines about users, without those that explain them.
  private func userLines() throws -> [String] {
    try String(contentsOf: path, encoding: .utf8).split(separator: "\n").map(String.init)
      .filter { $0.hasPrefix("pyknock_user_") }
  }

  @Test func `each user who has knocked has two counters`() throws {
    defer { try? FileManager.default.removeItem(at: path) }
    var metrics = try Metrics(argument(path.path), wallNow: start)
    let tally = try Tally()
    let counters = try counters(tally: tally)
    var users = users(8)
    var now: Int64 = 0
    func lines() throws -> [String] {
      now += Metrics.interval
      try metrics.update(counters, users, beat: 1, wallNow: start, now: now)
      return try userLines()
    }
    let unnamed = insert("", to: &users)
    let alice = insert("alice", to: &users)
    _ = insert("bob", to: &users)
    #expect(try lines() == [])
    tally.countAccepted(by: alice)
    tally.countAccepted(by: alice)
    tally.count(.stale, of: unnamed)
    let both = [
      #"pyknock_user_accepted_total{user=""} 0"#, #"pyknock_user_accepted_total{user="alice"} 2"#,
      #"pyknock_user_refused_total{user=""} 1"#, #"pyknock_user_refused_total{user="alice"} 0"#,
    ]
    #expect(try lines() == both)
    #expect(tally.accepted == 2 && tally.refused(.stale) == 1)

    // The next user in the slot begins at 0, and is not shown before they knock.
    users.remove(at: Users.slot(of: alice))
    let dave = insert("dave", to: &users)
    #expect(Users.slot(of: dave) == Users.slot(of: alice))
    tally.count(.replayed, of: unnamed)
    let one = [
      #"pyknock_user_accepted_total{user=""} 0"#, #"pyknock_user_refused_total{user=""} 2"#,
    ]
    #expect(try lines() == one)
    tally.count(.replayed, of: dave)
    let again = [
      #"pyknock_user_accepted_total{user=""} 0"#, #"pyknock_user_accepted_total{user="dave"} 0"#,
      #"pyknock_user_refused_total{user=""} 2"#, #"pyknock_user_refused_total{user="dave"} 1"#,
    ]
    #expect(try lines() == again)
  }

  @Test func `the first thousand have names and the rest are summed`() throws {
    defer { try? FileManager.default.removeItem(at: path) }
    var metrics = try Metrics(argument(path.path), wallNow: start)
    let tally = try Tally()
    let counters = try counters(tally: tally)
    var users = users()
    let numbers = (0..<1002).map { insert("user\($0)", to: &users) }
    // In another order than that of the slots.
    for number in numbers.reversed() { tally.countAccepted(by: number) }
    tally.countAccepted(by: numbers[0])
    tally.count(.stale, of: numbers[1])
    try metrics.update(counters, users, beat: 1, wallNow: start, now: 0)
    let lines = try userLines()
    let accepted = lines.filter { $0.hasPrefix("pyknock_user_accepted_total{") }
    #expect(accepted.count == 1001 && lines.count == 2002)
    #expect(accepted.first == #"pyknock_user_accepted_total{user="user2"} 1"#)
    #expect(accepted.last == #"pyknock_user_accepted_total{user="(others)"} 3"#)
    #expect(lines.last == #"pyknock_user_refused_total{user="(others)"} 1"#)
  }
}
