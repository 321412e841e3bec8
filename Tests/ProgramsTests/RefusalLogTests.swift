import KnockBase
import KnockProtocol
import TestSupport
import Testing

@testable import KnockServer
@testable import Programs

@Suite struct RefusalLogTests {
  private let start = 1000 * Microseconds.second

  private func refusalLog() throws -> RefusalLog {
    RefusalLog(
      try Tally(), UserBuckets(storage(Users.slotCount, of: UserBuckets.Element.self)))
  }

  private func header(_ slot: Int, generation: UserNumber = 1) -> Verdict.Header {
    let nowhere = Policy.Place(set: 0, prefixLength: 32)
    let records = storage(1, of: User.Record.self)
    records[0] = User.Record(
      number: generation << 14 | UserNumber(slot), name: .none, key: .none, version: 1,
      policy: Policy(
        inet: nowhere, inet6: nowhere, families: AddressFamilies { _ in true },
        allowsObservedSource: false))
    return unsafe Verdict.Header(
      user: User(records.address(of: 0)), command: 1, family: 2, length: 49, clockSkew: 0,
      knock: nil)
  }

  /// How many of some refusals get a line.
  private func lines(
    _ count: Int, _ refusal: Refusal, of slot: Int = 0, generation: UserNumber = 1, at time: Int64,
    _ refusals: inout RefusalLog
  ) -> Int {
    var lines = 0
    for _ in 0..<count {
      let header = header(slot, generation: generation)
      if refusals.count(refusal, header, isWanted: true, now: start + time) { lines += 1 }
    }
    return lines
  }

  @Test(arguments: [Refusal.replayed, .olderThanMemory, .stale, .addressNotAllowed, .queueFull])
  func `refusals get 60 lines at once and then one a second`(refusal: Refusal) throws {
    var refusals = try refusalLog()
    func lines(_ count: Int, at time: Int64) -> Int {
      self.lines(count, refusal, at: time, &refusals)
    }
    #expect(lines(1000, at: 0) == 60)
    #expect(lines(1000, at: 999_999) == 0)
    #expect(lines(1000, at: 1_000_000) == 1)
    #expect(lines(1000, at: 3_500_000) == 2)
    #expect(lines(1000, at: 4_000_000) == 1)
    #expect(lines(1000, at: 10_000 * Microseconds.second) == 60)
  }

  @Test func `no user uses up the lines of another`() throws {
    var refusals = try refusalLog()
    for user in 0..<9 { #expect(lines(500, .keyTooFast, of: user, at: 0, &refusals) == 60) }
    #expect(lines(5, .addressNotAllowed, of: 9, at: 0, &refusals) == 5)
    // Another user in the slot of one who has none left.
    #expect(lines(5, .addressNotAllowed, of: 3, generation: 2, at: 0, &refusals) == 5)
  }

  @Test func `all users together get 600 lines at once and then ten a second`() throws {
    var refusals = try refusalLog()
    func lines(at time: Int64) -> Int {
      (0..<100).reduce(0) { $0 + self.lines(100, .queueFull, of: $1, at: time, &refusals) }
    }
    #expect(lines(at: 0) == 600)
    #expect(lines(at: 99_999) == 0)
    #expect(lines(at: 100_000) == 1)
    #expect(lines(at: 1_000_000) == 9)
    #expect(lines(at: 1_000 * Microseconds.second) == 600)
  }

  @Test func `replays and users take no line from each other`() throws {
    var refusals = try refusalLog()
    // All of all users.
    for user in 0..<20 { _ = lines(1000, .replayed, of: user, at: 0, &refusals) }
    for user in 0..<10 { #expect(lines(100, .queueFull, of: user, at: 0, &refusals) == 60) }
    #expect(lines(1, .queueFull, of: 10, at: 0, &refusals) == 0)
    #expect(lines(3, .olderThanMemory, of: 10, at: 2_000_000, &refusals) == 2)
    #expect(lines(3, .replayed, of: 11, at: 2_000_000, &refusals) == 0)
    #expect(lines(3, .queueFull, of: 10, at: 2_000_000, &refusals) == 3)
  }

  @Test func `what the limit for all holds back costs the user no line`() throws {
    var refusals = try refusalLog()
    for user in 0..<10 { _ = lines(60, .stale, of: user, at: 0, &refusals) }
    #expect(lines(1000, .stale, of: 10, at: 0, &refusals) == 0)
    #expect(lines(1000, .stale, of: 10, at: 60_000_000, &refusals) == 60)
  }

  @Test func `what nobody wants to read costs no line of what is wanted`() throws {
    var refusals = try refusalLog()
    for _ in 0..<1000 {
      for refusal in [Refusal.replayed, .stale] {
        let isLogged = refusals.count(refusal, header(0), isWanted: false, now: 5)
        #expect(!isLogged)
      }
    }
    for refusal in [Refusal.replayed, .queueFull] {
      let isLogged = refusals.count(refusal, header(0), isWanted: true, now: 5)
      #expect(isLogged)
    }
    #expect(refusals.nextDeadline == .max)
  }

  @Test func `what is not authentic is due for a report`() throws {
    for refusal in [Refusal.wrongLength, .badMAC] {
      var refusals = try refusalLog()
      #expect(refusals.nextDeadline == .max)
      refusals.count(unauthentic: refusal)
      #expect(refusals.nextDeadline < .max)
    }
  }

  @Test func `reports are a minute apart`() throws {
    var refusals = try refusalLog()
    log.verbosity = .quiet
    defer { log.verbosity = .normal }
    refusals.count(unauthentic: .badMAC)
    refusals.logReport(kernelDropped: nil, now: 5)
    #expect(refusals.nextDeadline == .max)
    refusals.count(unauthentic: .badMAC)
    #expect(refusals.nextDeadline == 60_000_005)
    refusals.logReport(kernelDropped: nil, now: 60_000_004)
    #expect(refusals.nextDeadline == 60_000_005)
    refusals.logReport(kernelDropped: nil, now: 60_000_005)
    #expect(refusals.nextDeadline == .max)
  }
}
