import KnockProtocol
import Testing

@testable import Programs

@Suite struct StatisticsTests {
  @Test func `refusals get 60 lines at once and then one a second`() throws {
    var statistics = Statistics(try Tally())
    let start: Int64 = 1_000_000
    func lines(_ count: Int, at time: Int64) -> Int {
      (0..<count).count { _ in statistics.count(.replayed, isWanted: true, now: time) }
    }
    #expect(lines(1000, at: start) == 60)
    #expect(lines(1000, at: start + 999) == 0)
    #expect(lines(1000, at: start + 1000) == 1)
    #expect(lines(1000, at: start + 3500) == 2)
    #expect(lines(1000, at: start + 4000) == 1)
    #expect(lines(1000, at: start + 10_000_000) == 60)
  }

  @Test func `what nobody wants to read costs no line of what is wanted`() throws {
    var statistics = Statistics(try Tally())
    for _ in 0..<1000 { #expect(!countUnwanted(&statistics)) }
    let isLogged = statistics.count(.queueFull, isWanted: true, now: 5)
    #expect(isLogged)
    #expect(statistics.nextDeadline == .max)
  }

  private func countUnwanted(_ statistics: inout Statistics) -> Bool {
    statistics.count(.replayed, isWanted: false, now: 5)
  }

  @Test func `what is not authentic is due for a report`() throws {
    for refusal in [Refusal.wrongLength, .badMAC] {
      var statistics = Statistics(try Tally())
      #expect(statistics.nextDeadline == .max)
      statistics.count(unauthentic: refusal)
      #expect(statistics.nextDeadline < .max)
    }
  }

  @Test func `reports are a minute apart`() throws {
    var statistics = Statistics(try Tally())
    log.verbosity = .quiet
    defer { log.verbosity = .normal }
    statistics.count(unauthentic: .badMAC)
    statistics.logReport(kernelDropped: nil, now: 5)
    #expect(statistics.nextDeadline == .max)
    statistics.count(unauthentic: .badMAC)
    #expect(statistics.nextDeadline == 60_005)
    statistics.logReport(kernelDropped: nil, now: 60_004)
    #expect(statistics.nextDeadline == 60_005)
    statistics.logReport(kernelDropped: nil, now: 60_005)
    #expect(statistics.nextDeadline == .max)
  }
}
