import KnockBase
import KnockProtocol
import Testing

@testable import Programs

@Suite struct RefusalLogTests {
  @Test func `refusals get 60 lines at once and then one a second`() throws {
    var refusals = RefusalLog(try Tally())
    let start = 1000 * Microseconds.second
    func lines(_ count: Int, at time: Int64) -> Int {
      (0..<count).count { _ in refusals.count(.replayed, isWanted: true, now: time) }
    }
    #expect(lines(1000, at: start) == 60)
    #expect(lines(1000, at: start + 999_999) == 0)
    #expect(lines(1000, at: start + 1_000_000) == 1)
    #expect(lines(1000, at: start + 3_500_000) == 2)
    #expect(lines(1000, at: start + 4_000_000) == 1)
    #expect(lines(1000, at: start + 10_000 * Microseconds.second) == 60)
  }

  @Test func `what nobody wants to read costs no line of what is wanted`() throws {
    var refusals = RefusalLog(try Tally())
    for _ in 0..<1000 { #expect(!countUnwanted(&refusals)) }
    let isLogged = refusals.count(.queueFull, isWanted: true, now: 5)
    #expect(isLogged)
    #expect(refusals.nextDeadline == .max)
  }

  private func countUnwanted(_ refusals: inout RefusalLog) -> Bool {
    refusals.count(.replayed, isWanted: false, now: 5)
  }

  @Test func `what is not authentic is due for a report`() throws {
    for refusal in [Refusal.wrongLength, .badMAC] {
      var refusals = RefusalLog(try Tally())
      #expect(refusals.nextDeadline == .max)
      refusals.count(unauthentic: refusal)
      #expect(refusals.nextDeadline < .max)
    }
  }

  @Test func `reports are a minute apart`() throws {
    var refusals = RefusalLog(try Tally())
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
